"""Calls of the command line in a guest without paying for each start: tests/vm/guest/verbs.py."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.rehearsal.machine import Guest

PORT = 7799
"""In the guest; must be among the guest's forwards."""
STATE_DIR = "/var/lib/mkupgrade"
_SERVER = Path(__file__).parents[1] / "vm/guest/verbs.py"


@dataclass(frozen=True)
class Done:
    """A call that ended."""

    code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def error(self) -> dict[str, Any]:
        """What a call with --json that ended in an error said last."""
        said: dict[str, Any] = json.loads(self.stderr.splitlines()[-1])
        assert said["exit_code"] == self.code
        found: dict[str, Any] = said["error"]
        return found

    @property
    def report(self) -> dict[str, Any]:
        """The report with which an apply --json ended."""
        found: dict[str, Any] = json.loads(self.stdout.splitlines()[-1])["report"]
        return found


class Verbs:
    """`mkupgrade` in the guest."""

    def __init__(self, connection: socket.socket) -> None:
        self._stream = connection.makefile("rwb")

    def run(self, *argv: str, **how: Any) -> Done:
        """Call it and wait for the end. `how`: user=, damage=."""
        return self.wait(self.start(*argv, **how))

    def start(self, *argv: str, **how: Any) -> int:
        """Call it; the number is for `wait`."""
        return int(self.ask(argv=list(argv), **how)["call"])

    def wait(self, number: int) -> Done:
        """The end of a call that was started."""
        return Done(**self.ask(wait=number))

    def facts(self, state_dir: str = STATE_DIR) -> dict[str, Any]:
        """What a refused upgrade must leave as it was."""
        return self.ask(facts=state_dir)

    def ask(self, **request: Any) -> dict[str, Any]:
        """One request, one answer; see the program in the guest.

        Raises:
            ConnectionError: the guest went away, as by a jump.
        """
        self._stream.write(json.dumps(request).encode() + b"\n")
        self._stream.flush()
        line = self._stream.readline()
        if not line:
            raise ConnectionError("the guest went away")
        reply: dict[str, Any] = json.loads(line)
        assert "error" not in reply, reply
        return reply


@contextmanager
def verbs(guest: Guest) -> Iterator[Verbs]:
    """Start the program in the guest and connect to it."""
    guest.put("/root/verbs.py", _SERVER.read_bytes())
    guest.spawn(["/usr/bin/python3", "/root/verbs.py", str(PORT)], "/var/log/verbs.log")
    guest.wait_for(["sh", "-c", "grep -q ready /var/log/verbs.log"])
    with socket.create_connection(("127.0.0.1", guest.forwarded(PORT)), 300.0) as connection:
        yield Verbs(connection)
