"""The policy of a host, `/etc/mkupgrade/policy.yaml`: which plans may be carried out here.

A section that is not there restricts nothing; a list that is empty allows nothing.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from orchestrator.model.base import Strict
from orchestrator.model.spec.names import AbsolutePath, Argument, Argv


class Signatures(Strict):
    """Plans must be signed (`mkupgrade sign`)."""

    allowed_signers: AbsolutePath
    """Whose signature counts: a file as ssh-keygen(1), ALLOWED SIGNERS, describes it."""
    revoked_keys: AbsolutePath | None = None
    """Keys that do not count any more: a list of public keys, or a KRL of ssh-keygen."""


class Images(Strict):
    """Where kernels may come from."""

    directories: list[AbsolutePath]
    """Kernel images, initrds, what appends their secrets, and modules must lie below one of these,
    links followed."""


class CommandRule(Strict):
    """Allows a command: exactly one of the keys."""

    program: AbsolutePath | None = None
    """This program, with any arguments."""
    argv: Argv | None = None
    """This very command: program and arguments."""

    @model_validator(mode="after")
    def _exactly_one(self) -> CommandRule:
        if (self.program is None) == (self.argv is None):
            raise ValueError("exactly one of program, argv")
        if self.argv is not None and not self.argv[0].startswith("/"):
            raise ValueError("argv must begin with the absolute path of a program")
        return self


class Commands(Strict):
    """Which commands of a plan may be run. Programs are named by their absolute paths."""

    hooks: list[CommandRule] | None = None
    """For `run` and `undo` of hooks, and for `initrd_secrets` of kernels."""
    checks: list[CommandRule] | None = None
    """For `run` of checks of kind `command`."""
    workloads: list[CommandRule] | None = None
    """For `save`, `load`, `undo`, `stop` and `start` of workloads."""
    criu_arguments: list[Argument] | None = None
    """What `migrate.extra` may hold, argument by argument (`--action-script` runs a program).
    Without this key: anything, or nothing where `workloads` is given."""


class StateDirectories(Strict):
    """Where the journal and the state of workloads may be kept."""

    directories: Annotated[list[AbsolutePath], Field(min_length=1)]
    """A plan's `host.state_dir` must be one of these."""


class Policy(Strict):
    """What a host demands of plans."""

    api_version: Literal["mkupgrade-policy/v1"]
    """The version of this format."""
    signatures: Signatures | None = None
    """Plans must be signed."""
    images: Images | None = None
    """Where kernels may come from."""
    commands: Commands | None = None
    """Which commands of a plan may be run."""
    state: StateDirectories | None = None
    """Where state may be kept."""
