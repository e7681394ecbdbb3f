"""Checks: what must hold before, after, or all through the soak."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.model.base import Shared
from orchestrator.model.quantities import Duration
from orchestrator.model.spec.names import AbsolutePath, Argv, Name, matching

Expected = Annotated[str, Field(min_length=1, max_length=4096)]
"""A text to look for: as it stands, no pattern; compared as UTF-8 bytes."""

Port = Annotated[int, Field(ge=1, le=65535)]

Phase = Literal["before", "after", "soak"]


class _CheckBase(Shared):
    name: Name
    """How reports call it; unique in the document."""
    when: list[Phase] = ["after", "soak"]
    """Phases: before anything is changed, after the restore, and again and again in the soak."""
    timeout: Duration = 10.0
    """Time for one try."""
    within: Duration = 30.0
    """Time in which a try must first succeed (the "after" phase only); tries are repeated."""
    interval: Duration = 1.0
    """Pause between tries."""


class HttpCheck(_CheckBase):
    """An HTTP server answers."""

    kind: Literal["http"]
    url: Annotated[
        str,
        matching(
            r"^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?#][!-~]*)?$",
            "a URL such as http://127.0.0.1:8080/health, without a user name",
            max_length=2048,
        ),
    ]
    """Fetched with GET; redirects are not followed, proxies are not used."""
    status: Annotated[int, Field(ge=100, le=599)] = 200
    """The answer's status must be this one."""
    contains: Expected | None = None
    """Text that must be in the first MiB of the answer's body."""


class TcpCheck(_CheckBase):
    """A TCP server accepts a connection."""

    kind: Literal["tcp"]
    host: Annotated[
        str,
        matching(r"^[A-Za-z0-9_.:%-]{1,255}$", "a host name or an IP address"),
    ] = "127.0.0.1"
    """Name or address to connect to."""
    port: Port
    """Port to connect to."""
    expect: Expected | None = None
    """Text that must arrive after connecting."""


class CommandCheck(_CheckBase):
    """A command succeeds."""

    kind: Literal["command"]
    run: Argv
    """The command; when its time is up, its whole process group is killed."""
    exit_code: Annotated[int, Field(ge=0, le=255)] = 0
    """What it must exit with."""
    stdout_contains: Expected | None = None
    """Text that must be in its standard output."""


class SystemdCheck(_CheckBase):
    """A systemd unit is in a state."""

    kind: Literal["systemd"]
    unit: Annotated[
        str,
        matching(
            r"^[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]*\.[a-z]+$",
            "a systemd unit with its type, such as nginx.service",
            max_length=255,
        ),
    ]
    """The unit, with its type."""
    state: Literal["active", "inactive"] = "active"
    """What `systemctl is-active` must say of it; a unit that does not exist fails either way."""


class KernelCheck(_CheckBase):
    """The running kernel is the wanted one, and well."""

    kind: Literal["kernel"]
    release: str | None = None
    """What `uname -r` must say."""
    system: AbsolutePath | None = None
    """On NixOS: the system that /run/booted-system must lead to."""
    not_tainted: bool = True
    """No taint bit may be set that was not set before."""
    log_excludes: list[Expected] = ["Oops:", "BUG:", "Call Trace:"]
    """Texts that must not be in what the kernel itself logs."""


class FileCheck(_CheckBase):
    """A file exists."""

    kind: Literal["file"]
    path: AbsolutePath
    """The file."""
    contains: Expected | None = None
    """Text that must be in the file."""


Check = Annotated[
    HttpCheck | TcpCheck | CommandCheck | SystemdCheck | KernelCheck | FileCheck,
    Field(discriminator="kind"),
]
