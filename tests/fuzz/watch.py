"""The property that every target is held to, for one input.

- Nothing but a `MkupgradeError` comes out.
- Python's memory stays below the target's bound; the command also bounds the whole process.
- It takes no longer than the target says, a second as a rule, and for more than `AT_ONCE` bytes so
  much longer as there are more of them. The processor's clock, not the wall's: a machine that is
  busy with other things is no finding.
- Nothing is written but by targets that say so, and then below the directory they were given;
  no program is started but by those that say so.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.model.errors import MkupgradeError
from tests.fuzz.target import Target

AT_ONCE = 64 << 10
_CHANGES = (
    "os.chmod", "os.chown", "os.link", "os.mkdir", "os.putenv", "os.remove", "os.rename",
    "os.rmdir", "os.symlink", "os.truncate", "os.utime",
)  # fmt: skip
_RUNS = ("os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system", "socket.connect",
         "subprocess.Popen")  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class BrokenError(AssertionError):
    """An input that a target does not stand."""


class _Auditor:
    """Python's audit hooks cannot be taken away again: there is one, off between inputs."""

    def __init__(self) -> None:
        self.directory: str | None = None
        self.may_write = False
        self.may_run = False
        self.seen: list[str] = []
        self._added = False

    def begin(self, target: Target, directory: Path) -> None:
        if not self._added:
            sys.addaudithook(self._hook)
            self._added = True
        self.seen = []
        self.may_write = target.writes
        self.may_run = target.runs
        self.directory = str(directory)

    def end(self) -> list[str]:
        self.directory = None
        return self.seen

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.directory is None:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITING and not self._allowed(path):
                self.seen.append(f"opens {path!r} for writing")
        elif event in _CHANGES and not self._allowed(arguments[0]):
            self.seen.append(f"{event} {arguments[0]!r}")
        elif event in _RUNS and not self.may_run:
            self.seen.append(f"{event} {arguments[:2]!r}")

    def _allowed(self, path: Any) -> bool:
        if path == os.devnull:
            return True
        if not self.may_write or self.directory is None:
            return False
        # Relative to a directory's descriptor: where it ended up is looked at afterwards.
        text = os.fsdecode(path) if isinstance(path, str | bytes | Path) else ""
        return not text.startswith("/") or text.startswith(self.directory + "/")


_AUDITOR = _Auditor()


_WARM: set[str] = set()
_SEEDS_TO_WARM = 8


def _warm_up(target: Target) -> None:
    """Read some valid examples, from the first to the last, unwatched and once: modules that are
    imported late, their bytecode and validators that are built at their first use are no input's
    doing."""
    if target.name in _WARM:
        return
    _WARM.add(target.name)
    seeds = target.seeds()
    for data in seeds[:: -(-len(seeds) // _SEEDS_TO_WARM)]:
        with tempfile.TemporaryDirectory(prefix="mkupgrade-fuzz-") as room, suppress(Exception):
            target.run(data, Path(room))


def hold(target: Target, data: bytes, directory: Path, patience: float = 1.0) -> None:
    """Run one input.

    Args:
        directory: an empty directory that the target may read and, if it says so, write.
        patience: times the target's seconds, where something else slows it down.

    Raises:
        BrokenError: the property does not hold; its cause is what came out.
    """
    _warm_up(target)
    tracing = tracemalloc.is_tracing()
    if not tracing:
        tracemalloc.start(1)
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    # Whatever is imported even later must not look as if the input wrote it.
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    _AUDITOR.begin(target, directory)
    began = time.thread_time()
    try:
        with suppress(MkupgradeError):
            target.run(data, directory)
    except Exception as error:
        raise BrokenError(f"{target.name}: {type(error).__name__}: {error}") from error
    finally:
        took = time.thread_time() - began
        written = _AUDITOR.end()
        sys.dont_write_bytecode = bytecode
        peak = tracemalloc.get_traced_memory()[1] - before
        if not tracing:
            tracemalloc.stop()
    if written:
        raise BrokenError(f"{target.name}: {written[0]}")
    if took > patience * target.seconds * max(1.0, len(data) / AT_ONCE):
        raise BrokenError(f"{target.name}: {took:.2f} s for {len(data)} bytes")
    if peak > target.memory:
        raise BrokenError(f"{target.name}: {peak >> 20} MiB for {len(data)} bytes")
