"""file: it is there and, if asked for, holds a text."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator

from orchestrator.checks.results import NotHeldError, shown
from orchestrator.checks.searching import contains
from orchestrator.model.spec.checks import FileCheck

_CHUNK = 1 << 20


def check_file(check: FileCheck, timeout: float) -> str:
    """Only regular files are searched: a pipe could keep us waiting, a device could react.

    Raises:
        NotHeldError: what was seen instead.
    """
    try:
        status = os.stat(check.path)  # noqa: PTH116 -- a pure path has no stat()
        if check.contains is None:
            return "exists"
        if not stat.S_ISREG(status.st_mode):
            raise NotHeldError("is not a regular file")
        fd = os.open(check.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = contains(_chunks(fd, time.monotonic() + timeout), check.contains)
        finally:
            os.close(fd)
    except OSError as error:
        reason = error.strerror or str(error)
        raise NotHeldError(reason[:1].lower() + reason[1:]) from None
    if not found:
        raise NotHeldError(f"no {shown(check.contains)} in it")
    return f"has {shown(check.contains)}"


def _chunks(fd: int, end: float) -> Iterator[bytes]:
    while chunk := os.read(fd, _CHUNK):
        yield chunk
        if time.monotonic() > end:
            raise NotHeldError("too long to be searched in the check's time")
