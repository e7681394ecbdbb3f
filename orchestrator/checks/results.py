"""What a check says, and what it is held to."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.model.errors import CheckFailedError
from orchestrator.model.spec.checks import (
    Check,
    CommandCheck,
    FileCheck,
    HttpCheck,
    SystemdCheck,
    TcpCheck,
)

_LONGEST = 300


@dataclass(frozen=True)
class CheckResult:
    """One try of one check."""

    name: str
    ok: bool
    detail: str
    """What was seen, on one printable line. Never empty."""
    duration: float
    """Seconds."""

    def as_dict(self) -> dict[str, Any]:
        """For a step's result in the journal."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.name}: {self.detail}"


@dataclass(frozen=True)
class Baseline:
    """What a kernel check compares with."""

    tainted: int = 0
    """Taint bits that may be set: those of the kernel before (/proc/sys/kernel/tainted)."""
    log_after: int | None = None
    """Sequence number of /dev/kmsg up to which the log is not looked at; None: all of it."""


@dataclass(frozen=True)
class Clock:
    """Time, to be replaced in tests."""

    now: Callable[[], float] = time.monotonic
    """Seconds since any moment."""
    sleep: Callable[[float], None] = time.sleep


class NotHeldError(Exception):
    """A check does not hold; the text is what was seen instead."""


def shown(text: str | bytes) -> str:
    """Somebody else's text on one printable line, in quotes, cut if it is long."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    cut = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return json.dumps(cut, ensure_ascii=not cut.isprintable())


def failed(
    results: Sequence[CheckResult], checks: Sequence[Check], *, what: str | None = None
) -> CheckFailedError:
    """The error that names each check that failed and what it saw."""
    wrong = [r for r in results if not r.ok]
    by_name = {check.name: check for check in checks}
    return CheckFailedError(
        what or f"{len(wrong)} of {len(results)} checks failed",
        where=wrong[0].name if wrong else None,
        next_command=by_hand(by_name[wrong[0].name]) if wrong else None,
        details=tuple(str(r) for r in wrong),
    )


def by_hand(check: Check) -> str:
    """A command with which an operator sees what the check saw."""
    if isinstance(check, HttpCheck):
        argv = ["curl", "-i", check.url]
    elif isinstance(check, TcpCheck):
        argv = ["nc", "-v", check.host, str(check.port)]
    elif isinstance(check, CommandCheck):
        argv = check.run
    elif isinstance(check, SystemdCheck):
        argv = ["systemctl", "status", "--", check.unit]
    elif isinstance(check, FileCheck):
        argv = ["ls", "-l", "--", str(check.path)]
    else:
        argv = ["dmesg", "--facility=kern"]
    return shlex.join(argv)
