"""A `Control` of its own, for what is done beside the steps of a transaction."""

from __future__ import annotations

import time


class Limited:
    """So many seconds, from when it is made; nobody stops it, and nobody hears of its progress."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        return self._end - time.monotonic()

    def stopped(self) -> bool:
        return False

    def progress(self, text: str, fraction: float | None = None) -> None:
        """Nobody listens."""
