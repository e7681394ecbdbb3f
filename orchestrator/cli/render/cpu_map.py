"""Whose the CPUs of a multikernel host's pool are, drawn."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

from orchestrator.cli.render.spans import count, moment
from orchestrator.cli.render.text import text
from orchestrator.cli.terminal import speaks_unicode
from orchestrator.model.quantities import format_size

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.model.host import InstanceState, KeptGeneration, SideBySide

_IN_A_ROW = 48
_SHOWN = 12
"""CPUs that are named; of more, the first and the last."""
_LETTERS = string.ascii_uppercase + string.ascii_lowercase
_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "bright_cyan", "bright_magenta")
_AT_REST = {"ready", "loaded", "empty"}


def show_map(out: Console, found: SideBySide, now: float) -> None:
    """A cell for each CPU of the pool, lettered by instance, and a line for each instance.

    Args:
        now: unix seconds.
    """
    pool = found.pool
    if pool is None:
        out.print(text(("Pool     ", "dim"), "none: the host has set nothing aside for instances"))
        return
    free_sign = "·" if speaks_unicode(out.file) else "."  # type: ignore[arg-type]
    cells = dict.fromkeys(pool.cpus, (free_sign, "dim"))
    instances = sorted(found.instances, key=lambda it: (min(it.cpus, default=1 << 32), it.name))
    signs = {it.name: _sign(number, it) for number, it in enumerate(instances)}
    for it in instances:
        cells |= dict.fromkeys(it.cpus, signs[it.name])
    whole = f"{count(len(pool.cpus), 'CPU')}, {format_size(pool.memory_bytes)}"
    free = f"{count(len(pool.free_cpus), 'CPU')}, {format_size(pool.free_memory_bytes)}"
    out.print(text(("Pool     ", "dim"), f"{whole}; free: {free}"))
    ids = sorted(cells)
    for first in range(0, len(ids), _IN_A_ROW):
        out.print(text("         ", *(cells[cpu] for cpu in ids[first : first + _IN_A_ROW])))
    width = max((len(it.name) for it in instances), default=0)
    kept = {it.name: it for it in found.kept}
    for it in instances:
        size = f"{_named(it.cpus)}, {format_size(it.memory_bytes)}"
        status = "bold red" if it.status == "failed" else ""
        until = _until(kept[it.name], now) if it.name in kept else ""
        out.print(
            text("         ", signs[it.name], f" {it.name:<{width}}  ",
                 (f"{it.status:<6}", status), f"  {size}", (until, "dim"))
        )  # fmt: skip


def _sign(number: int, instance: InstanceState) -> tuple[str, str]:
    """An instance that does not run is pale."""
    letter = _LETTERS[number] if number < len(_LETTERS) else "#"
    colour = _COLOURS[number % len(_COLOURS)]
    return letter, f"dim {colour}" if instance.status in _AT_REST else f"bold {colour}"


def _until(kept: KeptGeneration, now: float) -> str:
    """Until when an old generation is kept, and what then."""
    if kept.until <= now:
        return "; kept past its time: mkupgrade clean-up gives it back"
    return f"; kept for mkupgrade rollback until {moment(kept.until)}"


def _named(cpus: list[int]) -> str:
    """ "CPUs 8, 10"."""
    if not cpus:
        return "no CPU"
    word, ids = ("CPU" if len(cpus) == 1 else "CPUs"), [str(cpu) for cpu in sorted(cpus)]
    if len(ids) > _SHOWN:
        return f"{len(ids)} CPUs ({ids[0]} … {ids[-1]})"
    return f"{word} {', '.join(ids)}"
