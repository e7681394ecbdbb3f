"""An open file descriptor as an object: what sessions, devices and watchdogs have in common."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self


class Descriptor:
    """Closed once, at the end of a `with` or by `close`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        """The descriptor; -1 once closed."""
        return self._fd

    def close(self) -> None:
        """Close it; again is fine."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
