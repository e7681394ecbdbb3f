"""Workloads: what must go on, how to find it, and how to carry it over."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema, model_validator

from orchestrator.model.base import Shared, Strict
from orchestrator.model.quantities import Duration
from orchestrator.model.spec.checks import Check
from orchestrator.model.spec.names import AbsolutePath, Argument, Argv, Name, matching

Channel = Literal["auto", "kho", "disk"]
"""What carries the state: "auto" takes kho where both kernels can, else disk, and says why."""


def _regular_expression(text: str) -> str:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"expected a regular expression ({error})") from None
    return text


Regex = Annotated[
    str,
    Field(min_length=1, max_length=1024),
    AfterValidator(_regular_expression),
    WithJsonSchema({"type": "string", "format": "regex", "minLength": 1, "maxLength": 1024}),
]
"""In the syntax of Python's `re`."""


class Find(Strict):
    """How to find the workload's processes: exactly one of the keys."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    pid_file: AbsolutePath | None = None
    """File that holds the process id of the root of the tree."""
    unit: (
        Annotated[
            str,
            matching(
                r"^[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]*\.(service|scope)$",
                "a systemd unit that ends in .service or .scope",
                max_length=255,
            ),
        ]
        | None
    ) = None
    """The systemd unit that runs it."""
    cmdline: Regex | None = None
    """Regular expression searched in the process's arguments joined by spaces; the topmost
    matching process is the root, and two unrelated matches are an error."""
    cgroup: AbsolutePath | None = None
    """Path below /sys/fs/cgroup, e.g. /system.slice/x.service."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Find:
        keys = [k for k in type(self).model_fields if getattr(self, k) is not None]
        if len(keys) != 1:
            found = ", ".join(keys) if keys else "none"
            raise ValueError(f"exactly one of pid_file, unit, cmdline, cgroup (found: {found})")
        return self


class CriuMigrate(Strict):
    """Checkpoint and restore the process tree with CRIU."""

    method: Literal["criu"]
    tcp_established: bool = True
    """Carry open TCP connections; the peer sees a pause."""
    shell_job: bool = False
    """The tree has a terminal of somebody else's session (started from a shell)."""
    file_locks: bool = False
    """Carry file locks; only where no process outside the tree shares them."""
    ext_unix_sockets: bool = False
    """Allow UNIX sockets whose other end is outside the tree; datagrams only."""
    carry: list[AbsolutePath] = []
    """Files on volatile file systems (/run, /tmp, /dev/shm) that travel with the state."""
    trial: bool = True
    """Dump once with the workload left running, before anything is changed."""
    timeout: Duration = 60.0
    """Time for one checkpoint, or one restore."""
    extra: list[Argument] = []
    """Further arguments for `criu dump` and `criu restore`."""


class HooksMigrate(Strict):
    """The workload saves and loads itself: commands get a directory, as $MKUPGRADE_STATE_DIR."""

    method: Literal["hooks"]
    save: Argv
    """Write the state into the directory and stop."""
    load: Argv
    """Start again from the state in the directory."""
    undo: Argv | None = None
    """Run when the save is reverted in the old kernel; default: `load`."""
    timeout: Duration = 60.0
    """Time for one run of one command."""


class RestartMigrate(Strict):
    """No state is carried: stopped before the jump, started after it."""

    method: Literal["restart"]
    stop: Argv | None = None
    """Default for a unit: systemctl stop UNIT; else SIGTERM, then SIGKILL."""
    start: Argv | None = None
    """Default for a unit: systemctl start UNIT. Required otherwise."""
    timeout: Duration = 60.0
    """Time for stopping, and for starting."""


Migrate = Annotated[CriuMigrate | HooksMigrate | RestartMigrate, Field(discriminator="method")]


class Workload(Shared):
    """What must go on: a process tree, a systemd unit, a container."""

    name: Name
    """How steps, reports and `after` call it."""
    instance: Name
    """The instance that it runs in."""
    find: Find
    """How to find its processes."""
    migrate: Migrate
    """How its state is carried over."""
    after: list[Name] = []
    """Workloads that are restored before this one (and checkpointed after it)."""
    channel: Channel = "auto"
    """What carries the state: `auto` takes kho where both kernels can, else disk, and says why."""
    spill: bool = True
    """With channel kho: keep a copy on disk too, for a return through a plain reset."""
    checks: list[Check] = []
    """Tests of this workload; kinds as under `checks` of the document."""

    @model_validator(mode="after")
    def _restart_needs_start(self) -> Workload:
        migrate = self.migrate
        if isinstance(migrate, RestartMigrate) and migrate.start is None and self.find.unit is None:
            raise ValueError("migrate.start is required unless the workload is found by unit")
        return self
