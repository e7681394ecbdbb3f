"""A maintenance window: two times of the day, the second one perhaps of the next day."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time

_FORM = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True)
class Window:
    """From `start` until just before `end`, in local time, every day."""

    start: time
    end: time

    @classmethod
    def parse(cls, text: str) -> Window:
        """ "HH:MM-HH:MM". Raises: ValueError: anything else, or a window without length."""
        found = _FORM.fullmatch(text)
        if found is None or found[1] + found[2] == found[3] + found[4]:
            raise ValueError(f'expected a window such as "02:00-05:00", found "{text}"')
        hours = [int(part) for part in found.groups()]
        return cls(time(hours[0], hours[1]), time(hours[2], hours[3]))

    def holds(self, now: time) -> bool:
        """Is this time of the day inside?"""
        if self.start < self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"
