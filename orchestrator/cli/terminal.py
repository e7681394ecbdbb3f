"""What may reach a terminal: plain characters only, colours only where they are wanted."""

from __future__ import annotations

import io
import os
import re
import sys
from typing import TextIO

import click

# C0 and C1 controls (ECMA-48), and the invisible characters that reorder or hide text
# (UAX #9, "Trojan Source"); lone surrogates stand for bytes of file names that are not UTF-8.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
_UNSAFE_BUT_LINES = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))


def clean(text: object) -> str:
    """One safe line: whatever steers a terminal is shown as an escape such as \\x1b."""
    return _UNSAFE.sub(_escape, str(text))


def clean_block(text: object) -> str:
    """Like `clean`, but lines stay lines."""
    return _UNSAFE_BUT_LINES.sub(_escape, str(text))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    known = {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"}
    if code in known:
        return known[code]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def wants_colour(stream: TextIO) -> bool:
    """Colour: never with NO_COLOR (no-color.org) or TERM=dumb, always with FORCE_COLOR."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return is_terminal(stream) and os.environ.get("TERM") != "dumb"


def is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def styled(text: object, stream: TextIO, **style: object) -> str:
    """`text`, cleaned, with click's style if the stream takes colours."""
    safe = clean(text)
    return click.style(safe, **style) if wants_colour(stream) else safe  # type: ignore[arg-type]


def speaks_unicode(stream: TextIO) -> bool:
    return (getattr(stream, "encoding", None) or "").lower().replace("-", "") == "utf8"


def lenient_streams() -> None:
    """A character that the locale cannot show becomes "?", not a crash."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def abandon(stream: TextIO) -> None:
    """Point a stream whose reader went away at nothing, so that Python's last flush is silent."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError, io.UnsupportedOperation):
        return
