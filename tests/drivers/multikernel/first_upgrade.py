"""A first upgrade of a multikernel host, drawn: on the served double, by the command line itself.

    python -m tests.drivers.multikernel.first_upgrade [multikernel-surge | multikernel-rolling]

Prints `mkupgrade plan`, and `mkupgrade status` before, during and after `mkupgrade apply` of that
example plan. Needs root and /dev/fuse.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path

from tests.drivers.multikernel import scene
from tests.drivers.multikernel.examples import ROOT, document, written
from tests.drivers.multikernel.served_host import COMMAND, Host
from tests.support.multikernel.served.session import cannot_be_served, served


def show(name: str, directory: Path) -> int:
    """Exit code of the apply."""
    plan = document(name, directory, checks=[])
    during = directory / "during"
    status = shlex.join(
        [sys.executable, "-m", COMMAND, "status", "--state-dir", str(directory / "state")]
    )
    for workload in plan["workloads"]:
        look = f"cd {shlex.quote(str(ROOT))} && {status} >{shlex.quote(str(during))}"
        workload["migrate"]["start"] = ["sh", "-c", look]
    with served(directory) as double:
        host = Host(double, directory)
        host.begin(scene.only_web if name == "multikernel-surge" else scene.three)
        path = written(plan, directory)
        print(host.mkupgrade("plan", path).out)
        print("--- before\n" + host.status())
        done = host.mkupgrade("apply", path, "--yes")
        print("--- during, while the workload moves\n" + during.read_text())
        print(done.err + done.out)
        print("--- after\n" + host.status())
    return done.code


if __name__ == "__main__":
    lack = cannot_be_served()
    if lack is not None:
        sys.exit(lack)
    with tempfile.TemporaryDirectory(prefix="mkupgrade-first-") as room:
        chosen = sys.argv[1] if len(sys.argv) > 1 else "multikernel-surge"
        sys.exit(show(chosen, Path(room)))
