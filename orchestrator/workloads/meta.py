"""What travels besides the images: the `meta` of a workload in the manifest.

It comes back through memory or off a disk, so every field is held to its grammar again; unknown
fields of a newer minor version are let through.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from orchestrator.model.base import Deferred
from orchestrator.model.errors import ErrorClass, WorkloadError

Pid = Annotated[int, Field(ge=2, le=1 << 22)]
Port = Annotated[int, Field(ge=1, le=65535)]
Id = Annotated[int, Field(ge=0, lt=1 << 32)]
Mode = Annotated[int, Field(ge=0, le=0o7777)]
Interface = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,14}$")]
"""Of the host's own making; never begins with "-", which `ip` would take for an option."""


def _safe_path(text: str) -> str:
    path = PurePosixPath(text)
    if not path.is_absolute() or ".." in path.parts or "\0" in text or str(path) != text:
        raise ValueError("not a plain absolute path")
    return text


def _ip(text: str) -> str:
    return str(ipaddress.ip_address(text))


def _ip_interface(text: str) -> str:
    return str(ipaddress.ip_interface(text))


def _destination(text: str) -> str:
    return text if text == "default" else str(ipaddress.ip_network(text))


SafePath = Annotated[str, Field(max_length=4096), AfterValidator(_safe_path)]


class _Meta(Deferred):
    model_config = ConfigDict(extra="allow", frozen=True, strict=True)


class Directory(_Meta):
    """A directory on a volatile file system, to be made again."""

    path: SafePath
    mode: Mode
    uid: Id
    gid: Id


class CarriedFile(Directory):
    """A file on a volatile file system; its content is in the payload."""

    stored: Annotated[str, Field(pattern=r"^[0-9]{6}$")]
    """Its name in the payload's `carry` directory."""
    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Carried(_Meta):
    directories: list[Directory] = []
    """Parents before children."""
    files: list[CarriedFile] = []


class WrittenFile(_Meta):
    """A file that the workload had open for writing, as it was when the workload stopped."""

    path: SafePath
    size: Annotated[int, Field(ge=0)]
    mtime_ns: int


class HostAddress(_Meta):
    """An address of an interface, e.g. 10.0.2.15/24 on eth0."""

    interface: Interface
    mac: Annotated[str, Field(pattern=r"^[0-9a-f:]{0,59}$")] = ""
    address: Annotated[str, AfterValidator(_ip_interface)]
    broadcast: Annotated[str, AfterValidator(_ip)] | None = None


class Route(_Meta):
    interface: Interface
    destination: Annotated[str, AfterValidator(_destination)]
    family: Literal[4, 6] = 4
    gateway: Annotated[str, AfterValidator(_ip)] | None = None
    source: Annotated[str, AfterValidator(_ip)] | None = None
    metric: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None
    scope: Literal["global", "link", "host", "site"] = "global"
    onlink: bool = False


class Network(_Meta):
    ports: list[Port] = []
    """Local TCP ports, listening and connected: held until the restore."""
    established: Annotated[int, Field(ge=0)] = 0
    addresses: list[HostAddress] = []
    routes: list[Route] = []


class CriuMeta(_Meta):
    method: Literal["criu"] = "criu"
    pids: Annotated[list[Pid], Field(min_length=1, max_length=1 << 16)]
    """Processes, root first."""
    tasks: Annotated[list[Pid], Field(max_length=1 << 20)]
    """Processes and threads: the ids that a restore needs."""
    session: Annotated[int, Field(ge=0)] = 0
    """Session id that the tree lives in, made free together with the tasks when it is ours."""
    sessions: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=1 << 16)] = []
    """Session of each of `pids`, in their order; empty: not known."""
    cgroup: SafePath | None = None
    unit: Annotated[str, Field(pattern=r"^[A-Za-z0-9:_.@\\-]{1,255}$")] | None = None
    shell_job: bool = False
    journal: Annotated[list[Annotated[int, Field(ge=1, lt=1 << 32)]], Field(max_length=4096)] = []
    """Inodes of its streams to the systemd journal; made anew."""
    network: Network = Network.model_construct()
    carried: Carried = Carried.model_construct()
    argv: list[str] = []
    cwd: str = "/"
    uid: Id = 0
    gid: Id = 0
    groups: list[Id] = []
    taken_monotonic: float = 0.0
    """CLOCK_MONOTONIC of the source kernel when the dump began, seconds."""
    written: Annotated[list[WrittenFile], Field(max_length=1 << 16)] = []
    """Files on disk; those on volatile file systems are carried, or lost."""
    outrun: bool = False
    """It ran on in another kernel after this state was taken: what its connections' peers have
    seen since is not in it, so that the connections are closed instead of restored, and what it
    has written since is not either, so that it is not restored over changed files."""

    @model_validator(mode="after")
    def _sessions_fit(self) -> Self:
        if self.sessions and len(self.sessions) != len(self.pids):
            raise ValueError("sessions: one for each of pids, or none")
        return self


class HooksMeta(_Meta):
    method: Literal["hooks"] = "hooks"
    network: Network = Network.model_construct()
    pids: list[Pid] = []


class RestartMeta(_Meta):
    method: Literal["restart"] = "restart"
    network: Network = Network.model_construct()
    pids: list[Pid] = []


M = TypeVar("M", bound=_Meta)


def parse(model: type[M], value: Any, workload: str) -> M:
    """`value` as a meta of that kind.

    Raises:
        WorkloadError: it is not one; `details` has one line per problem.
    """
    try:
        return model.model_validate(dict(value) if isinstance(value, Mapping) else value)
    except (ValidationError, RecursionError) as error:
        details: tuple[str, ...] = ()
        if isinstance(error, ValidationError):
            details = tuple(
                f"{'.'.join(map(str, p['loc']))}: {p['msg']}"
                for p in error.errors(include_url=False, include_input=False)[:20]
            )
        raise WorkloadError(
            f"what the handover says of {workload} cannot be used",
            where=workload,
            details=details,
            error_class=ErrorClass.INVALID,
        ) from error


def network_of(value: Mapping[str, Any], workload: str) -> Network:
    """The network part of any method's meta; empty where there is none.

    Raises:
        WorkloadError
    """
    return parse(Network, value.get("network", {}), workload)
