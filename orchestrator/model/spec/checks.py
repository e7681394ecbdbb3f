"""Checks: what must hold before, after, or all through the soak."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.model.base import Strict
from orchestrator.model.quantities import Duration
from orchestrator.model.spec.names import AbsolutePath, Argv, Name

Port = Annotated[int, Field(ge=1, le=65535)]


class _CheckBase(Strict):
    name: Name
    when: list[Literal["before", "after", "soak"]] = ["after", "soak"]
    timeout: Duration = 10.0
    """Time for one try."""
    within: Duration = 30.0
    """Time in which a try must first succeed (the "after" phase only); tries are repeated."""
    interval: Duration = 1.0
    """Pause between tries."""


class HttpCheck(_CheckBase):
    kind: Literal["http"]
    url: Annotated[str, Field(pattern=r"^https?://")]
    status: Annotated[int, Field(ge=100, le=599)] = 200
    contains: str | None = None


class TcpCheck(_CheckBase):
    kind: Literal["tcp"]
    host: str = "127.0.0.1"
    port: Port
    expect: str | None = None
    """Text that must arrive after connecting."""


class CommandCheck(_CheckBase):
    kind: Literal["command"]
    run: Argv
    exit_code: int = 0
    stdout_contains: str | None = None


class SystemdCheck(_CheckBase):
    kind: Literal["systemd"]
    unit: str
    state: Literal["active", "inactive"] = "active"


class KernelCheck(_CheckBase):
    kind: Literal["kernel"]
    release: str | None = None
    not_tainted: bool = True
    """No taint bit may be set that was not set before."""
    log_excludes: list[str] = ["Oops:", "BUG:", "Call Trace:"]
    """Texts that must not be in the kernel's log."""


class FileCheck(_CheckBase):
    kind: Literal["file"]
    path: AbsolutePath
    contains: str | None = None


Check = Annotated[
    HttpCheck | TcpCheck | CommandCheck | SystemdCheck | KernelCheck | FileCheck,
    Field(discriminator="kind"),
]
