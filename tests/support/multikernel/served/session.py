"""The served double as tests use it: made once, asked and told by a socket."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

from tests.support.multikernel.double import Double
from tests.support.multikernel.served.messages import KEY, Call, Ran

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[3]
_STRICT = ("-O2", "-Wall", "-Wextra", "-Werror")


def cannot_be_served() -> str | None:
    """What this machine does not have for it; None: nothing is missing."""
    if os.geteuid() != 0:
        return "mounting in a namespace of one's own needs root"
    return None if Path("/dev/fuse").exists() else "this machine has no /dev/fuse"


class Served:
    """A double in another process, and a way into its namespace."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def run(self, *arguments: str, stdin: str = "") -> Ran:
        """A program in the namespace, with the shim."""
        return self._ask("run", list(arguments), stdin)  # type: ignore[no-any-return]

    def reset(self, make: Callable[[], Double]) -> None:
        """Another double; calls are forgotten."""
        self._ask("reset", make)

    def ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """A function of a module, called with the double."""
        return self._ask("ask", question, *arguments)

    def calls(self) -> list[Call]:
        return self._ask("calls")  # type: ignore[no-any-return]

    def let_time_pass(self, speed: float) -> None:
        """The double's time goes by itself, so many times as fast as ours."""
        self._ask("let_time_pass", speed)

    def mount(self) -> None:
        self._ask("mount")

    def _ask(self, verb: str, *arguments: Any) -> Any:
        self._connection.send((verb, arguments))
        good, answer = self._connection.recv()
        if not good:
            raise answer
        return answer


@contextmanager
def served(directory: Path) -> Iterator[Served]:
    """Built, started, mounted; ended and unmounted with its namespace."""
    shim, confine = directory / "shim.so", directory / "confine"
    subprocess.run(["cc", *_STRICT, "-shared", "-fPIC", "-o", shim, _HERE / "shim.c", "-ldl"],
                   check=True)  # fmt: skip
    subprocess.run(["cc", *_STRICT, "-o", confine, _HERE / "confine.c"], check=True)
    said = (directory / "server.log").open("wb")
    module = "tests.support.multikernel.served.server"
    process = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", confine, sys.executable, "-m", module,
         directory, shim],
        cwd=_ROOT, stdout=said, stderr=said,
    )  # fmt: skip
    try:
        with _connected(directory, process) as connection:
            found = Served(connection)
            found.mount()
            yield found
    finally:
        process.kill()
        process.wait()
        said.close()


def connect(path: str) -> Served:
    """From a program in the namespace."""
    return Served(Client(path, authkey=KEY))


def _connected(directory: Path, process: subprocess.Popen[bytes]) -> Connection:
    """As soon as it serves files, too."""
    for _ in range(1200):
        if process.poll() is not None:
            break
        mounted = f" {directory}/face " in Path(f"/proc/{process.pid}/mounts").read_text()
        if mounted:
            return Client(str(directory / "control"), authkey=KEY)
        time.sleep(0.05)
    raise RuntimeError(f"the double is not served:\n{(directory / 'server.log').read_text()}")
