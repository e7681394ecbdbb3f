"""kernel: release, taint, and what the kernel itself logged."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from orchestrator.checks.results import Baseline, NotHeldError, shown
from orchestrator.model.spec.checks import KernelCheck
from orchestrator.system import kernel_log

_KERNEL = 0
"""Facility of what the kernel itself logs."""
_TAINTS = "PFSRMBUDAWCIOELKXTNJ"
"""Letter of each bit (Documentation/admin-guide/tainted-kernels.rst)."""


@dataclass(frozen=True)
class Sources:
    """Where the kernel is read from; tests put files in their place."""

    tainted: Path = Path("/proc/sys/kernel/tainted")
    log: Path = Path("/dev/kmsg")
    system: Path = Path("/run/booted-system")


def check_kernel(check: KernelCheck, baseline: Baseline, sources: Sources) -> str:
    """Release and NixOS system as wanted, no new taint, nothing bad in the log.

    What user space writes into the log is not looked at: a unit that logs "BUG:" is no Oops.

    Raises:
        NotHeldError: what was seen instead; a log that cannot be read does not hold either.
    """
    release = os.uname().release
    wrong = [] if check.system is None else _other_system(sources.system, str(check.system))
    if check.release is not None and release != check.release:
        wrong.append(f"release {shown(release)}, wanted {shown(check.release)}")
    if check.not_tainted:
        wrong += _new_taint(sources.tainted, baseline.tainted)
    if check.log_excludes:
        wrong += _bad_lines(sources.log, baseline.log_after, check.log_excludes)
    if wrong:
        raise NotHeldError("; ".join(wrong))
    return f"release {release}" + (f", system {check.system}" if check.system is not None else "")


def _other_system(link: Path, wanted: str) -> list[str]:
    """Both with all links followed: a system may be named by a link to it."""
    try:
        booted, there = os.path.realpath(link, strict=True), os.path.realpath(wanted, strict=True)
    except OSError as error:
        return [f"{error.filename}: {error.strerror}, wanted system {shown(wanted)}"]
    return [] if booted == there else [f"system {shown(booted)}, wanted {shown(wanted)}"]


def baseline_now(sources: Sources | None = None) -> Baseline:
    """The present taint and end of the log: for checks in the kernel that runs already. What
    cannot be read counts as clean, so that a check is never the milder for it."""
    sources = sources or Sources()
    try:
        tainted = int(sources.tainted.read_text(encoding="ascii"))
    except (OSError, ValueError):
        tainted = 0
    try:
        records = kernel_log.read(sources.log)
    except OSError:
        records = []
    return Baseline(tainted, max((r.sequence for r in records), default=None))


def _new_taint(path: Path, before: int) -> list[str]:
    try:
        now = int(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        return [f"taint cannot be read ({error})"]
    new = now & ~before
    if not new:
        return []
    letters = "".join(letter for bit, letter in enumerate(_TAINTS) if new >> bit & 1)
    return [f"newly tainted: {letters or '?'} (bits {new:#x})"]


def _bad_lines(path: Path, after: int | None, excludes: list[str]) -> list[str]:
    try:
        records = kernel_log.read(path)
    except OSError as error:
        return [f"the kernel's log cannot be read ({error.strerror})"]
    for record in records:
        new = after is None or record.sequence > after
        if new and record.facility == _KERNEL and any(bad in record.text for bad in excludes):
            return [f"the kernel's log says {shown(record.text)}"]
    return []
