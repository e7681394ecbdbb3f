"""A pretend multikernel host as files and system calls, and `mkupgrade` on it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.drivers.multikernel import scene
from tests.drivers.multikernel.examples import written
from tests.support.multikernel.double import Double
from tests.support.multikernel.served import state
from tests.support.multikernel.served.messages import Ran
from tests.support.multikernel.served.session import Served

SPEED = 20.0
"""How many of its seconds go by in one of ours."""
COMMAND = "tests.support.multikernel.served.command"


class Host:
    """A pretend host with web, api and batch, and `mkupgrade` on it."""

    def __init__(self, double: Served, directory: Path) -> None:
        self.double, self.directory = double, directory
        double.let_time_pass(SPEED)

    def begin(self, make: Callable[[], Double] = scene.three) -> None:
        self.double.reset(make)
        shutil.rmtree(self.directory / "state", ignore_errors=True)
        (self.directory / "log").unlink(missing_ok=True)
        (self.directory / "vmlinux").write_bytes(scene.IMAGE)
        (self.directory / "old").write_bytes(scene.VMLINUX)

    def mkupgrade(
        self,
        *arguments: object,
        killed_after: float | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Ran:
        """Run it to its end, or kill it after so many seconds.

        Args:
            env: added to its environment.
        """
        argv = [sys.executable, "-m", COMMAND, *map(str, arguments)]
        if env:
            argv = ["env", *(f"{name}={value}" for name, value in env.items()), *argv]
        if killed_after is not None:
            argv = ["timeout", "--signal=KILL", f"{killed_after:.3f}", *argv]
        return self.double.run(*argv)

    def apply(self, plan: dict[str, Any], **options: Any) -> Ran:
        return self.mkupgrade("apply", written(plan, self.directory), "--yes", **options)

    def outcome(self) -> dict[str, Any]:
        """The report of the last transaction."""
        told = self.mkupgrade("report", "--state-dir", self.directory / "state", "--json")
        found: dict[str, Any] = json.loads(told.out)
        return found

    def status(self, *arguments: str) -> str:
        return self.mkupgrade("status", "--state-dir", self.directory / "state", *arguments).out

    def picture(self) -> dict[str, Any]:
        return self.double.ask(state.picture)  # type: ignore[no-any-return]

    def states(self) -> dict[str, str]:
        return {name: found[4] for name, found in self.picture()["instances"].items()}
