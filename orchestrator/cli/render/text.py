"""rich, used so that no text from outside can be taken for markup or control sequences."""

from __future__ import annotations

import re
from typing import Any, TextIO, cast

from rich.console import Console
from rich.text import Text

from orchestrator.cli.terminal import clean, is_terminal, wants_colour

PIPE_WIDTH = 4000
"""Columns where there is no terminal: nothing is wrapped or cut."""

_BLANKS = re.compile(r" +$", re.MULTILINE)

Part = str | tuple[str, str]


def text(*parts: Part) -> Text:
    """One line of cleaned parts; a part is a string or (string, rich style)."""
    line = Text()
    for part in parts:
        body, style = (part, "") if isinstance(part, str) else part
        line.append(clean(body), style=style)
    return line


class SafeConsole(Console):
    """A console that leaves it to us what a lost reader means: rich would end the process, and
    with it a transaction."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class Trimmed:
    """A stream without the blanks that tables leave at the ends of lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(_BLANKS.sub("", text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def console(stream: TextIO, *, width: int | None = None) -> Console:
    """A console on `stream`. Into a pipe, lines are as long as they are."""
    terminal = is_terminal(stream)
    return SafeConsole(
        file=stream if terminal else cast(TextIO, Trimmed(stream)),
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=not terminal,
        no_color=not wants_colour(stream),
        force_terminal=True if wants_colour(stream) else None,
        width=width if width or terminal else PIPE_WIDTH,
    )
