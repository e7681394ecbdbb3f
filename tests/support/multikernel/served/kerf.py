"""The real kerf, unchanged, at the one version whose behaviour the tests name."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from orchestrator.rehearsal.cache import kept
from tests.support.multikernel.served.messages import Ran
from tests.support.multikernel.served.session import Served

_PINNED = Path(__file__).with_name("kerf.txt")
MAIN = "import sys; sys.argv[0] = 'kerf'; from kerf.cli import main; main()"


def installed() -> Path:
    """Directory with kerf and what it needs, apart from our own environment."""
    made_from = _PINNED.read_bytes() + sys.version.encode()
    return kept("kerf", hashlib.sha256(made_from).hexdigest(), "", _install)


class Kerf:
    def __init__(self, served: Served) -> None:
        self._served = served
        self.packages = str(installed())

    def run(self, *arguments: str, stdin: str = "") -> Ran:
        return self.python(MAIN, *arguments, stdin=stdin)

    def python(self, program: str, *arguments: str, stdin: str = "") -> Ran:
        """Any program with kerf's modules."""
        path = f"PYTHONPATH={self.packages}"
        argv = ("env", path, sys.executable, "-c", program, *arguments)
        return self._served.run(*argv, stdin=stdin)


def _install(target: Path, _: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--target", target, "--requirement", _PINNED],
        check=True,
    )  # fmt: skip
