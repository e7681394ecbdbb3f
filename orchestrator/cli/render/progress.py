"""Telling how a transaction goes: live on a terminal, plain lines elsewhere, or JSON lines.

These are the engine's `Reporter`s. None of them raises: a terminal that went away must not stop
a transaction.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from orchestrator.cli.render.events import Line, Narrator
from orchestrator.cli.render.spans import clock, span
from orchestrator.cli.signals import tell_stderr
from orchestrator.cli.terminal import clean, is_terminal, speaks_unicode, wants_colour
from orchestrator.engine import events
from orchestrator.model.steps import Reversibility, Section

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    from orchestrator.cli.render.text import Part
    from orchestrator.engine.events import Envelope
    from orchestrator.model.steps import Step, StepGraph

_PLAIN_SIGNS = {"✓": "+", "✗": "x", "↩": "<", "●": "*", "»": ">", "…": "."}


class Teller(Protocol):
    """A reporter that begins and ends, and hears of signals."""

    def __enter__(self) -> Teller: ...

    def __exit__(self, *_: object) -> None: ...

    def tell(self, message: str) -> None:
        """Inside a signal handler."""
        ...

    def event(self, event: Any) -> None: ...

    def progress(self, step: Step, text: str, fraction: float | None) -> None: ...


class JsonTeller:
    """One JSON object a line on stdout: {"event": …} or {"progress": …}."""

    def __enter__(self) -> JsonTeller:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def tell(self, message: str) -> None:
        """The event that follows says it."""

    def event(self, event: Envelope) -> None:
        self._say({"event": event.as_dict()})

    def progress(self, step: Step, text: str, fraction: float | None) -> None:
        self._say({"progress": {"step": step.id, "text": text, "fraction": fraction}})

    def _say(self, value: Any) -> None:
        with suppress(OSError, ValueError):
            sys.stdout.write(json.dumps(value) + "\n")
            sys.stdout.flush()


class PlainTeller:
    """A line with the time for each event, on stderr."""

    def __init__(self, graph: StepGraph, stream: TextIO) -> None:
        self._narrator = Narrator(graph)
        self._print = _printer(stream)
        self._unicode = speaks_unicode(stream)

    def __enter__(self) -> PlainTeller:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def tell(self, message: str) -> None:
        tell_stderr(message)

    def event(self, event: Envelope) -> None:
        line = self._narrator.line(event, announce=True)
        if line is not None:
            with suppress(OSError, ValueError):
                shown = parts_of(line, unicode=self._unicode)
                self._print([(clock(event.time), "dim"), " ", *shown])

    def progress(self, step: Step, text: str, fraction: float | None) -> None:
        """Lines are for what is done; what is being done would flood a log."""


@dataclass
class _Running:
    step: Step
    since: float
    undoing: bool
    text: str = ""
    fraction: float | None = None


class LiveTeller:
    """What is done scrolls by; what runs stands below it, with a spinner and its time."""

    def __init__(self, graph: StepGraph, stream: TextIO) -> None:
        from orchestrator.cli.render.text import console

        self._graph = graph
        self._narrator = Narrator(graph)
        self._out: Console = console(stream)
        self._unicode = speaks_unicode(stream)
        self._running: dict[str, _Running] = {}
        self._done: set[str] = set()
        self._section = Section.FORWARD
        self._message = ""
        self._live: Live | None = None
        self._begun = time.monotonic()

    def __enter__(self) -> LiveTeller:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def tell(self, message: str) -> None:
        self._message = message

    def event(self, event: Envelope) -> None:
        with suppress(OSError, ValueError):
            self._note(event.event)
            line = self._narrator.line(event, announce=False)
            if line is not None:
                from orchestrator.cli.render.text import text

                self._out.print(text(*parts_of(line, unicode=self._unicode)))
            if self._jumps(event.event):
                # The machine may go away now: leave the terminal as it should be.
                self._stop()
            elif self._live is None and not isinstance(event.event, events.Ended):
                self._start()

    def progress(self, step: Step, text: str, fraction: float | None) -> None:
        running = self._running.get(step.id)
        if running is not None:
            running.text, running.fraction = text, fraction

    def _note(self, event: events.Event) -> None:
        match event:
            case events.StepIntended() | events.RevertIntended():
                step = self._narrator.step(event.step)
                if step is not None:
                    undoing = isinstance(event, events.RevertIntended)
                    self._running[step.id] = _Running(step, time.monotonic(), undoing)
            case events.StepPerformed():
                self._running.pop(event.step, None)
                self._done.add(event.step)
            case events.StepReverted():
                self._running.pop(event.step, None)
                self._done.discard(event.step)
            case events.StepFailed() | events.RevertFailed() | events.StepInspected():
                self._running.pop(event.step, None)
            case events.SectionEntered():
                self._section = event.section
            case events.Interrupted():
                self._running.clear()
            case _:
                pass

    def _jumps(self, event: events.Event) -> bool:
        step = self._narrator.step(event.step) if isinstance(event, events.StepIntended) else None
        return step is not None and step.reversibility is Reversibility.PIVOT

    def _start(self) -> None:
        from rich.live import Live

        self._live = Live(
            console=self._out,
            get_renderable=self._shown,
            refresh_per_second=8,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with suppress(OSError, ValueError):
            self._live.start()

    def _stop(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            with suppress(OSError, ValueError):
                live.stop()

    def _shown(self) -> Group:
        """Called by rich's own thread: reads only, of copies."""
        from rich.console import Group

        from orchestrator.cli.render.text import text

        lines = [self._of_running(r) for r in list(self._running.values())[:12]]
        steps = [s for s in self._graph.steps if s.section is self._section]
        done = sum(s.id in self._done for s in steps)
        total = span(time.monotonic() - self._begun)
        lines.append(text((f"  {self._bar(done, len(steps))} {done}/{len(steps)}  {total}", "dim")))
        if self._message:
            lines.append(text((f"  {self._message}", "bold yellow")))
        return Group(*lines)

    def _of_running(self, running: _Running) -> Text:
        from orchestrator.cli.render.text import text

        now = time.monotonic()
        frames = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if self._unicode else "|/-\\"
        frame = frames[int(now * 10) % len(frames)]
        title = f"undoing: {running.step.title}" if running.undoing else running.step.title
        part = f" {running.fraction:.0%}" if running.fraction is not None else ""
        note = f"  {running.text}{part}" if running.text or part else ""
        style = "magenta" if running.step.reversibility is Reversibility.PIVOT else "cyan"
        line = text((f"  {frame} ", style), title, (f"  {span(now - running.since)}{note}", "dim"))
        line.no_wrap, line.overflow = True, "ellipsis"
        return line

    def _bar(self, done: int, total: int) -> str:
        full, empty = ("━", "─") if self._unicode else ("#", ".")
        filled = round(24 * done / total) if total else 24
        return full * filled + empty * (24 - filled)


def _printer(stream: TextIO) -> Callable[[Sequence[Part]], None]:
    """What prints a line. Without rich where there is neither colour nor width, as at boot:
    workloads would wait for its import."""
    if is_terminal(stream) or wants_colour(stream):
        from orchestrator.cli.render.text import console, text

        out = console(stream)
        return lambda parts: out.print(text(*parts))

    def plain(parts: Sequence[Part]) -> None:
        line = "".join(part if isinstance(part, str) else part[0] for part in parts)
        stream.write(clean(line).rstrip(" ") + "\n")
        stream.flush()

    return plain


def parts_of(line: Line, *, unicode: bool) -> list[Part]:
    """An event's line, for `text`."""
    sign = line.sign if unicode else _PLAIN_SIGNS.get(line.sign, line.sign)
    parts: list[Part] = [(f" {sign} ", line.style), (line.text, "bold" if line.bold else "")]
    return [*parts, (f"  {line.note}", "dim")] if line.note else parts
