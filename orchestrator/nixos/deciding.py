"""Is another kernel needed to run a system, or is a plain switch enough? With every reason. Pure.

What is compared, after nixpkgs' own auto-upgrade.nix and switch-to-configuration-ng:

- of the booted system: kernel, initrd and parameters of boot.json, the kernel's modules, and those
  keys of reboot-triggers that both systems have. `init` and `toplevel` are not: they differ
  between any two generations.
- of the current system: those keys of switch-inhibitors that both have, and
  init-interface-version: what a switch starts from is what is active, not what was booted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from orchestrator.model.base import Record
from orchestrator.nixos.systems import System

What = Literal[
    "kernel",
    "initrd",
    "parameters",
    "modules",
    "reboot-triggers",
    "switch-inhibitors",
    "init-interface-version",
]
Enough = Literal["nothing", "switch", "kernel-transition"]


class Reason(Record):
    """One thing that only another start of a kernel changes."""

    what: What
    key: str | None = None
    """Of reboot-triggers and switch-inhibitors."""
    before: str | None
    after: str | None

    @property
    def name(self) -> str:
        """ "kernel", "reboot-triggers.dbus"."""
        return self.what if self.key is None else f"{self.what}.{self.key}"

    def __str__(self) -> str:
        return f"{self.name}: {_shown(self.before)} -> {_shown(self.after)}"


class Decision(Record):
    """What it takes to run a system on this host."""

    enough: Enough
    """`nothing`: it is booted and current."""
    booted: str
    current: str
    wanted: str
    reasons: list[Reason] = []
    """Empty unless it is `kernel-transition`."""

    @property
    def transition(self) -> bool:
        return self.enough == "kernel-transition"


def decide(booted: System, current: System, wanted: System) -> Decision:
    """What it takes to get from here to `wanted`."""
    reasons = [*kernel_reasons(booted, wanted), *_switch_reasons(current, wanted)]
    enough: Enough = "kernel-transition" if reasons else "switch"
    if {booted.toplevel, current.toplevel} == {wanted.toplevel}:
        enough = "nothing"
    return Decision(
        enough=enough,
        booted=booted.toplevel,
        current=current.toplevel,
        wanted=wanted.toplevel,
        reasons=reasons,
    )


def kernel_reasons(booted: System, wanted: System) -> Iterator[Reason]:
    """What of `wanted` the running kernel is not, or was not started with."""
    old, new = booted.boot, wanted.boot
    pairs: list[tuple[What, object, object]] = [
        ("kernel", old.kernel, new.kernel),
        ("initrd", old.initrd, new.initrd),
        ("parameters", " ".join(old.kernelParams), " ".join(new.kernelParams)),
        ("modules", booted.modules, wanted.modules),
    ]
    for what, before, after in pairs:
        if before != after:
            yield Reason(what=what, before=_text(before), after=_text(after))
    yield from _in_both("reboot-triggers", booted.triggers, wanted.triggers)


def _switch_reasons(current: System, wanted: System) -> Iterator[Reason]:
    """Why a switch would be refused, or would end with "reboot needed" (exit code 100)."""
    yield from _in_both("switch-inhibitors", current.inhibitors, wanted.inhibitors)
    before, after = current.init_interface, wanted.init_interface
    if before != after:
        yield Reason(what="init-interface-version", before=before, after=after)


def _in_both(
    what: What, old: dict[str, str] | None, new: dict[str, str] | None
) -> Iterator[Reason]:
    """A key that only one system has says nothing: another NixOS has other keys."""
    for key in sorted((old or {}).keys() & (new or {}).keys()):
        before, after = (old or {})[key], (new or {})[key]
        if before != after:
            yield Reason(what=what, key=key, before=before, after=after)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _shown(value: str | None) -> str:
    return "none" if value is None else value or '""'
