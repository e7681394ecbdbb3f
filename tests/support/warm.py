"""Real processes that start in milliseconds: forks of one that has imported everything.

`python -m tests.support.warm` serves requests, one JSON line each: it forks, the child runs
`mkupgrade` as its command line would, and may be killed with SIGKILL at a moment that is given.
It has a single thread, so that forking is safe; `Warm` is the side of the test.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import io
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Life:
    """One process, from its start to its end."""

    code: int
    """Exit code, or minus the signal that ended it."""
    seconds: float
    stdout: str
    stderr: str

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


class Warm:
    """`warm.run("apply", spec, "--yes", kill_after=0.03)`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=ROOT,
            env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == {"ready": True}

    def run(
        self, *arguments: object, kill_after: float | None = None, most_bytes: int | None = None
    ) -> Life:
        """One process, to its end.

        Args:
            kill_after: seconds until SIGKILL; None: it may live.
            most_bytes: RLIMIT_FSIZE: no file of it may become larger.
        """
        assert self._process.stdin is not None
        request = {
            "argv": [str(a) for a in arguments],
            "kill_after": kill_after,
            "most_bytes": most_bytes,
        }
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Life(**self._read())

    def close(self) -> None:
        self._process.communicate(timeout=30)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the parent of the forks ended with {self._process.poll()}"
        reply: dict[str, Any] = json.loads(line)
        return reply


@contextlib.contextmanager
def warm() -> Iterator[Warm]:
    made = Warm()
    try:
        yield made
    finally:
        made.close()


# -- the parent of the forks


def serve() -> None:
    """Answer requests until there are no more."""
    requests, replies = sys.stdin, sys.stdout
    _import_everything()
    assert threading.active_count() == 1
    _reply(replies, {"ready": True})
    for line in requests:
        _reply(replies, _live(**json.loads(line)))


def _reply(replies: IO[str], reply: dict[str, Any]) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


SPEC = """\
api_version: mkupgrade/v1
metadata: {{name: warm}}
host: {{driver: simulated, state_dir: "{state}"}}
instances:
  - name: host
    kernel: {{image: "{state}/boot/vmlinuz-7.3.4", release: 7.3.4}}
workloads:
  - {{name: counter, instance: host, find: {{cmdline: counter}}, migrate: {{method: criu}}}}
checks:
  - {{name: answers, kind: tcp, port: 80}}
soak: {{duration: "0s"}}
"""


def _import_everything() -> None:
    """By running the verbs once, and the native library with its tripwire in place."""
    from orchestrator.system import _native
    from tests.support.native import Tripwire

    _native.lib = Tripwire(_native.lib)
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory) / "state"
        spec = Path(directory) / "plan.yaml"
        spec.write_text(SPEC.format(state=state), encoding="utf-8")
        there = ["--state-dir", str(state)]
        for arguments in (
            ["apply", str(spec), "--yes"],
            ["rollback", "--yes", *there],
            ["resume", "nothing", *there],
            ["status", "--json", *there],
            ["history", "--verify", *there],
        ):
            nowhere = io.StringIO()
            with (
                contextlib.redirect_stdout(nowhere),
                contextlib.redirect_stderr(nowhere),
                contextlib.suppress(SystemExit),
            ):
                _mkupgrade(arguments)
    import tenacity  # noqa: F401 - only a retry imports it

    end = time.monotonic() + 10
    while threading.active_count() > 1 and time.monotonic() < end:
        time.sleep(0.01)
    gc.collect()
    gc.freeze()  # or every child copies what its collector walks over


def _mkupgrade(arguments: list[str]) -> None:
    from orchestrator.cli.main import main

    sys.argv = ["mkupgrade", *arguments]
    main()


def _live(argv: list[str], kill_after: float | None, most_bytes: int | None) -> dict[str, Any]:
    out, err = _Pipe(), _Pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(argv, most_bytes, out.write_end, err.write_end)
    if kill_after is not None and not _ends_within(child, kill_after):
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seconds = time.monotonic() - began
    return {"code": code, "seconds": seconds, "stdout": out.text(), "stderr": err.text()}


class _Pipe:
    """What a child says, read once it has ended; no file, so that no limit for files holds it."""

    ROOM = 2**20

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, self.ROOM)
        os.set_blocking(self.write_end, True)

    def text(self) -> str:
        os.close(self.write_end)
        pieces = []
        while piece := os.read(self._read_end, self.ROOM):
            pieces.append(piece)
        os.close(self._read_end)
        return b"".join(pieces).decode("utf-8", "replace")


def _ends_within(child: int, seconds: float) -> bool:
    handle = os.pidfd_open(child)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(handle)


def _child(argv: list[str], most_bytes: int | None, out: int, err: int) -> None:
    """Never returns."""
    code = 70
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        for handle, number in ((nothing, 0), (out, 1), (err, 2)):
            os.dup2(handle, number)
        sys.stdin, sys.stdout, sys.stderr = (
            open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            for number, mode in ((0, "r"), (1, "w"), (2, "w"))
        )
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        _mkupgrade(argv)
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
