"""kernel: release, taint, and what the kernel itself logged."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from orchestrator.checks.results import Baseline, NotHeldError, shown
from orchestrator.model.spec.checks import KernelCheck

_RECORD = 8192
"""More than any record has (PRINTK_MESSAGE_MAX and its dictionary)."""
_MOST_RECORDS = 100_000
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")
_TAINTS = "PFSRMBUDAWCIOELKXTNJ"
"""Letter of each bit (Documentation/admin-guide/tainted-kernels.rst)."""


@dataclass(frozen=True)
class Sources:
    """Where the kernel is read from; tests put files in their place."""

    tainted: Path = Path("/proc/sys/kernel/tainted")
    log: Path = Path("/dev/kmsg")


def check_kernel(check: KernelCheck, baseline: Baseline, sources: Sources) -> str:
    """Release as wanted, no new taint, nothing bad in the log.

    What user space writes into the log is not looked at: a unit that logs "BUG:" is no Oops.

    Raises:
        NotHeldError: what was seen instead; a log that cannot be read does not hold either.
    """
    release = os.uname().release
    wrong = []
    if check.release is not None and release != check.release:
        wrong.append(f"release {shown(release)}, wanted {shown(check.release)}")
    if check.not_tainted:
        wrong += _new_taint(sources.tainted, baseline.tainted)
    if check.log_excludes:
        wrong += _bad_lines(sources.log, baseline.log_after, check.log_excludes)
    if wrong:
        raise NotHeldError("; ".join(wrong))
    return f"release {release}"


def baseline_now(sources: Sources | None = None) -> Baseline:
    """The present taint and end of the log: for checks in the kernel that runs already. What
    cannot be read counts as clean, so that a check is never the milder for it."""
    sources = sources or Sources()
    try:
        tainted = int(sources.tainted.read_text(encoding="ascii"))
    except (OSError, ValueError):
        tainted = 0
    try:
        records = _read(sources.log)
    except OSError:
        records = []
    return Baseline(tainted, max((sequence for sequence, _ in records), default=None))


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
        records = _read(path)
    except OSError as error:
        return [f"the kernel's log cannot be read ({error.strerror})"]
    for sequence, text in records:
        if (after is None or sequence > after) and any(bad in text for bad in excludes):
            return [f"the kernel's log says {shown(text)}"]
    return []


def _read(path: Path) -> list[tuple[int, str]]:
    """(sequence, text) of what the kernel itself logged, oldest first."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    found: list[tuple[int, str]] = []
    try:
        for _ in range(_MOST_RECORDS):
            try:
                raw = os.read(fd, _RECORD)
            except BrokenPipeError:
                continue  # overwritten while we read: the next read goes on behind the gap
            except BlockingIOError:
                break
            if not raw:
                break
            found += _parse(raw)
    finally:
        os.close(fd)
    return found


def _parse(raw: bytes) -> list[tuple[int, str]]:
    """`6,339,5140900,-;text`; lines that begin with a space are its dictionary."""
    found = []
    for line in raw.decode("utf-8", "backslashreplace").splitlines():
        prefix, separator, text = line.partition(";")
        fields = prefix.split(",")
        if line.startswith(" ") or not separator or len(fields) < 3:
            continue
        if fields[0].isdigit() and fields[1].isdigit() and int(fields[0]) >> 3 == 0:
            readable = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
            found.append((int(fields[1]), readable))
    return found
