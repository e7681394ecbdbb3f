"""What an agent answers: that it lives, in which kernel, and whether it is ready."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, ValidationError

from orchestrator import __version__
from orchestrator.agent.errors import ProtocolError
from orchestrator.model.base import Deferred
from orchestrator.model.errors import MkupgradeError
from orchestrator.system import files, proc

_Text = Annotated[str, Field(max_length=256)]
LEAST_FREE = 64 << 20
"""Bytes below which nothing worth while can be taken."""


class Status(Deferred):
    """Unknown fields are kept: a newer minor version wrote them."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    version: _Text
    """Of mkupgrade."""
    transaction: _Text
    release: _Text
    """Of the kernel, as `uname -r` says."""
    boot_id: _Text
    tainted: Annotated[int, Field(ge=0, lt=1 << 64)]
    """/proc/sys/kernel/tainted."""
    ready: bool
    """It can take state, and what it was told to wait for is there."""
    works: bool = False
    """It checkpoints and restores workloads, too (WORK)."""
    problems: Annotated[list[_Text], Field(max_length=32)] = []
    """Why it is not ready."""

    def encode(self) -> bytes:
        return self.model_dump_json().encode()

    @classmethod
    def decode(cls, data: bytes, where: str) -> Status:
        """
        Raises:
            ProtocolError: this is none.
        """
        try:
            return cls.model_validate(json.loads(data))
        except (ValidationError, ValueError, RecursionError) as error:
            raise ProtocolError("the agent's status cannot be read", where=where) from error


def status(
    transaction: str, directory: Path, ready_files: tuple[Path, ...], *, works: bool = False
) -> Status:
    """Of this kernel, now.

    Args:
        directory: where state is taken.
        ready_files: it is not ready before all of them are there.
        works: as told.
    """
    problems = []
    try:
        files.require_private_directory(directory)
        free = files.free_bytes(directory)
        if free < LEAST_FREE:
            problems.append(f"{directory}: {free} bytes are free")
    except MkupgradeError as error:
        problems.append(str(error)[:256])
    problems += [f"{path} is not there yet" for path in ready_files if not path.exists()]
    return Status(
        version=__version__,
        transaction=transaction,
        release=proc.release(),
        boot_id=proc.boot_id(),
        tainted=proc.tainted(),
        ready=not problems,
        works=works,
        problems=[problem[:256] for problem in problems],
    )
