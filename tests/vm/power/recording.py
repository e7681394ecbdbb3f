"""A whole update without a cut, with every request that its disk got: any number of cuts of it.

Between two requests nothing changes on a disk, so that a cut after each of them is a cut at any
moment. What the workload had told of by then is known from samples: first the last number told,
then the number of requests that were carried out. At some moments the whole guest is frozen, so
that others can go on from there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.vm.power.write_log import Entry, entries

_PAUSE = 0.02
"""Seconds between two samples."""


@dataclass(frozen=True)
class Frozen:
    """The guest of the recording at one moment: files for `Setup.frozen` and `Setup.disk`."""

    room: Path
    """A directory of its own."""
    after: float
    """Seconds of the update until then."""
    told: int
    """Last number that the workload had told of."""
    boots: frozenset[str]
    """Ids of the boots until then."""

    @property
    def memory(self) -> Path:
        return self.room / "memory"

    @property
    def root(self) -> Path:
        return self.room / "root"

    @property
    def disk(self) -> Path:
        """The disk whose power is cut. It was flushed when the guest was frozen."""
        return self.room / "disk"


@dataclass(frozen=True)
class Recording:
    """An update that went well."""

    first: Path
    """The disk before the guest's first boot."""
    log: Path
    requests: int
    begun: int
    """Requests when its transaction was put on the disk."""
    samples: tuple[tuple[int, int], ...]
    """(requests carried out, last number told by then), in order."""
    boots: frozenset[str]
    seconds: float
    """From when the transaction was put on the disk to the end of the update."""
    frozen: tuple[Frozen, ...]
    """In order; the first when its transaction was put on the disk."""

    def before(self, after: float) -> Frozen:
        """The last frozen guest that comes before so many seconds of the update."""
        return [f for f in self.frozen if f.after <= after][-1]

    def at(self, fraction: float) -> int:
        """So many requests were carried out when this part of the update's were."""
        return self.begun + round((self.requests - self.begun) * fraction)

    def told(self, request: int) -> int:
        """The last number that was told of for sure when so many requests were carried out."""
        return max((told for done, told in self.samples if done <= request), default=0)


class Sampler:
    """Takes samples in a thread of its own."""

    def __init__(self, log: Path, told: Callable[[], int]) -> None:
        self.samples: list[tuple[int, int]] = []
        self._log, self._told = log, told
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Samples are taken inside, and the last one at the end."""
        self._thread.start()
        try:
            yield
        finally:
            self._done.set()
            self._thread.join()

    def _run(self) -> None:
        last: Entry | None = None
        count = 0
        with self._log.open("rb", buffering=0) as log:
            while True:
                over = self._done.is_set()
                told = self._told()
                new = list(entries(log, behind=last))
                count += len(new)
                last = new[-1] if new else last
                self.samples.append((count, told))
                if over:
                    return
                self._done.wait(_PAUSE)
