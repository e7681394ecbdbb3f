"""Booting guests so that a failure tells what the guest said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.model.errors import RehearsalError
from orchestrator.rehearsal.machine import Guest, Setup


@contextmanager
def booted(setup: Setup) -> Iterator[Guest]:
    """A guest that has come up; an error in the block ends with its serial log."""
    with Guest.boot(setup) as guest:
        try:
            yield guest
        except BaseException as error:
            error.add_note("end of the guest's serial log:\n" + guest.serial()[-4000:])
            if isinstance(error, RehearsalError):
                error.add_note("\n".join(error.details))
            raise
