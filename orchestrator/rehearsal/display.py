"""The rehearsal on a terminal: live where it is one, line by line where it is not."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from types import TracebackType
from typing import IO, TYPE_CHECKING

from orchestrator.rehearsal.client import Client, Seen
from orchestrator.rehearsal.result import Rehearsal

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

_TOLD_EVERY = 2.0
"""Seconds between two lines about the client, where there is no terminal."""
_SILENT = 0.5
"""Seconds without a message that count as a gap worth showing."""
_LINES = 14


def clean(text: str) -> str:
    """Text from the guest without what could steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)[:200]


class Display:
    """Shows a rehearsal while it happens. A context manager; a `performance.Watcher`."""

    def __init__(self, stream: IO[str] = sys.stderr) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._lock = threading.Lock()
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._release = "-"
        self._client: Client | None = None
        self._last: Seen | None = None
        self._started = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="display", daemon=True)

    def __enter__(self) -> Display:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(5.0)

    def say(self, text: str) -> None:
        self._line(f"==> {text}")

    def output(self, text: str) -> None:
        if text.strip():
            self._line(f"    {clean(text)}")

    def kernel(self, release: str) -> None:
        self._release = release
        self._line(f"==> guest: Linux {clean(release)} is running")

    def client(self, client: Client | None) -> None:
        if client is None and self._client is not None:
            self._last = self._client.seen()
        self._client = client
        if client is not None:
            self._line("==> client outside the guest: connected, one TCP connection")

    def _line(self, text: str) -> None:
        stamped = f"{time.monotonic() - self._started:6.1f} {text}"
        with self._lock:
            self._lines.append(stamped)
            if not self._live:
                print(stamped, file=self._stream, flush=True)

    def _loop(self) -> None:
        if self._live:
            self._loop_live()
        else:
            while not self._stop.wait(_TOLD_EVERY):
                client = self._client
                if client is not None:
                    self._line(f"    client: {_said(client)}")

    def _loop_live(self) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(file=self._stream, markup=False, highlight=False)
        with Live(console=console, refresh_per_second=8, transient=False) as live:
            while not self._stop.wait(0.12):
                live.update(self._picture())
            live.update(self._picture())

    def _picture(self) -> RenderableType:
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        with self._lock:
            text = Text("\n".join(self._lines), no_wrap=True, overflow="ellipsis")
        return Group(
            Panel(text, title="mkupgrade in the guest", border_style="dim"),
            Panel(self._client_table(), title="client outside the guest", border_style="cyan"),
        )

    def _client_table(self) -> Table:
        from rich.table import Table

        table = Table.grid(padding=(0, 3))
        client = self._client
        seen = client.seen() if client is not None else self._last
        silence = client.silence() if client is not None else 0.0
        table.add_row("guest's kernel", self._release, "connection", _connection(seen))
        number = f"{seen.last}" if seen else "-"
        gap = f"{max(seen.longest_gap, silence):.2f} s" if seen else "-"
        table.add_row("number", number, "longest gap", gap)
        state = f"silent for {silence:.1f} s" if silence > _SILENT else "ticking"
        releases = clean(" -> ".join(seen.releases)) if seen else "-"
        table.add_row("now", state if client is not None else "-", "kernels seen", releases)
        return table


def _connection(seen: Seen | None) -> str:
    if seen is None:
        return "-"
    return "1, alive" if seen.ended is None else f"ended: {clean(seen.ended)}"


def _said(client: Client) -> str:
    seen, silence = client.seen(), client.silence()
    state = f"silent for {silence:.1f} s" if silence > _SILENT else "ticking"
    release = clean(seen.releases[-1]) if seen.releases else "-"
    return f"number {seen.last}, {state}, longest gap {seen.longest_gap:.2f} s, kernel {release}"


def show_result(result: Rehearsal, console: Console) -> None:
    """The summary: steps, blackout per workload, and everything that had to hold."""
    from rich.table import Table

    steps = Table("step", "seconds", "state", title="Steps", title_justify="left")
    for title, seconds, state in _step_rows(result):
        steps.add_row(clean(title), seconds, clean(state))
    if steps.row_count:
        console.print(steps)
    summary = Table("what", "value", title="Rehearsal", title_justify="left")
    for what, value in _summary_rows(result):
        summary.add_row(what, clean(value))
    console.print(summary)
    held = Table("had to hold", "", "seen", title="Checks", title_justify="left")
    for finding in result.findings():
        held.add_row(clean(finding.what), "yes" if finding.held else "NO", clean(finding.seen))
    console.print(held)
    console.print("Everything held." if result.held else "NOT everything held.")


def _step_rows(result: Rehearsal) -> list[tuple[str, str, str]]:
    rows = []
    for step in result.report.get("steps", []):
        spent = [a["seconds"] for a in step.get("attempts", []) if a.get("seconds") is not None]
        if step.get("attempts"):
            rows.append((str(step["title"]), f"{sum(spent):.2f}", str(step["state"])))
    return rows


def _summary_rows(result: Rehearsal) -> list[tuple[str, str]]:
    rows = [("kernel before", result.source), ("kernel after", result.release_after)]
    if result.seen is not None:
        seen = result.seen
        rows += [
            ("messages", str(seen.messages)),
            ("missing", str(seen.missing)),
            ("longest gap", f"{seen.longest_gap:.2f} s, between {seen.gap_between}"),
        ]
    for name, workload in result.report.get("workloads", {}).items():
        blackout = f"{workload.get('blackout_seconds', 0.0):.2f} s, {workload.get('how', '?')}"
        rows.append((f"blackout of {clean(name)}", blackout))
    rows += [("note", note) for note in result.notes]
    rows.append(("serial log", result.serial_log))
    rows.append(("whole rehearsal", f"{result.seconds:.1f} s"))
    return rows
