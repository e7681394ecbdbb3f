"""A sheet of SVG: shapes and texts with classes, one style sheet, nothing from outside."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape

_STYLE = """
svg{background:#fff;font-family:system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif}
text{fill:#1e293b;font-size:12px}
.headline{font-size:24px;font-weight:700;letter-spacing:-.3px}
.band{font-size:15px;font-weight:700}
.line{font-size:13px;fill:#334155}
.facts{fill:#64748b;font-size:12px}
.kernel{fill:#94a3b8;font-size:11px;font-weight:600;letter-spacing:.6px;text-anchor:middle}
.ground{stroke:none}
.old{fill:#f1f5f9}
.new{fill:#ecfdf5}
.border{stroke:#ea580c;stroke-width:1.5;stroke-dasharray:2 5;stroke-linecap:round}
.box{fill:#fff;stroke:#cbd5e1;stroke-width:1.2}
.box.pivot{fill:#c2410c;stroke:#9a3412;stroke-width:2}
.box.commit{fill:#15803d;stroke:#166534;stroke-width:2}
.title{font-size:12px;font-weight:600}
.sub{font-size:10.5px;fill:#64748b}
.title.pivot,.title.commit,.sub.pivot,.sub.commit{fill:#fff}
.dark{fill:#f59e0b}
.wire{fill:none;stroke:#94a3b8;stroke-width:1.4}
.way{fill:#c2410c;font-size:11.5px;font-weight:600}
path.way{fill:none;stroke:#c2410c;stroke-width:1.8;stroke-dasharray:6 4}
"""
_MARKERS = """<defs>
<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0 0.6 L8 4 L0 7.4 z" fill="#94a3b8"/></marker>
<marker id="waytip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" \
orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#c2410c"/></marker>
</defs>"""
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 knows no way to write."""

Point = tuple[float, float]


class Svg:
    """Collects shapes; `finish` gives the text."""

    def __init__(self, width: float, height: float, *, title: str) -> None:
        size = f"{width:.0f} {height:.0f}"
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" '
            f'width="{width:.0f}" height="{height:.0f}" role="img">',
            f"<title>{_clean(title)}</title>",
            f"<style>{_STYLE}</style>",
            _MARKERS,
        ]

    def finish(self) -> str:
        return "\n".join([*self._parts, "</svg>", ""])

    def text(self, x: float, y: float, text: str, look: str, *, tip: str | None = None) -> None:
        inner = f"<title>{_clean(tip)}</title>" if tip is not None and tip != text else ""
        self._add(f'<text x="{x:.1f}" y="{y:.1f}" class="{look}">{inner}{_clean(text)}</text>')

    def upright(self, x: float, y: float, text: str) -> None:
        """Text that is read from top to bottom, its middle at (x, y)."""
        turn = f"rotate(90 {x:.1f} {y:.1f})"
        self._add(
            f'<text x="{x:.1f}" y="{y:.1f}" transform="{turn}" class="kernel">{_clean(text)}</text>'
        )

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        look: str,
        *,
        radius: float = 0,
        tip: str | None = None,
    ) -> None:
        inner = f"<title>{_clean(tip)}</title>" if tip else ""
        self._add(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'rx="{radius:g}" class="{look}">{inner}</rect>'
        )

    def lower_part(
        self, x: float, y: float, width: float, height: float, look: str, *, radius: float
    ) -> None:
        """A rectangle with square corners above and round ones below."""
        r, right, bottom = radius, x + width, y + height
        self._add(
            f'<path class="{look}" d="M{x:.1f} {y:.1f} H{right:.1f} V{bottom - r:.1f} '
            f"Q{right:.1f} {bottom:.1f} {right - r:.1f} {bottom:.1f} H{x + r:.1f} "
            f'Q{x:.1f} {bottom:.1f} {x:.1f} {bottom - r:.1f} Z"/>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, look: str) -> None:
        self._add(f'<path class="{look}" d="M{x1:.1f} {y1:.1f} L{x2:.1f} {y2:.1f}"/>')

    def wire(self, points: list[Point]) -> None:
        """From point to point, downwards, in soft bends."""
        (x, y), *rest = points
        path = [f"M{x:.1f} {y:.1f}"]
        for nx, ny in rest:
            bend = (ny - y) / 2
            path.append(f"C{x:.1f} {y + bend:.1f} {nx:.1f} {ny - bend:.1f} {nx:.1f} {ny:.1f}")
            x, y = nx, ny
        self._add(f'<path class="wire" marker-end="url(#tip)" d="{" ".join(path)}"/>')

    def way(self, points: list[Point]) -> None:
        """From point to point with corners: the way from one section into another."""
        path = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self._add(f'<path class="way" marker-end="url(#waytip)" d="M{path}"/>')

    def _add(self, part: str) -> None:
        self._parts.append(part)


def cut(text: str, room: float, per_character: float) -> str:
    """The text, or its beginning and an ellipsis, in `room` pixels."""
    longest = max(1, int(room / per_character))
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def _clean(text: str) -> str:
    return escape(_NOT_XML.sub("�", text.replace("\n", " ")))
