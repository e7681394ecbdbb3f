"""A `seams.Control` for tests."""

from __future__ import annotations


class Control:
    """A `seams.Control` with all the time in the world, unless told otherwise."""

    def __init__(self, seconds: float = 60.0) -> None:
        self.seconds = seconds
        self.said: list[str] = []

    def remaining(self) -> float:
        return self.seconds

    def stopped(self) -> bool:
        return False

    def progress(self, text: str, fraction: float | None = None) -> None:
        assert fraction is None or 0 <= fraction <= 1
        self.said.append(text)
