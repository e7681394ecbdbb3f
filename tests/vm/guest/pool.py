"""Runs on a multikernel host: sets CPUs and memory aside for instances, as `kerf init` does.

pool.py CPUS MEBIBYTES

The last CPUs are taken; the host keeps the first ones. Prints one line of JSON: `why_not`, why
there is no pool, or null, and `cpus`, the physical ids that were chosen.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from orchestrator.drivers.multikernel.proc import physical_ids
from orchestrator.drivers.multikernel.trees.forms import Baseline, MemoryRequest
from orchestrator.drivers.multikernel.trees.writing import baseline_tree
from orchestrator.system.multikernel import FileSystem
from orchestrator.system.multikernel_errors import ROOT


def main(count: int, mebibytes: int) -> str | None:
    chosen = physical_ids(Path("/proc/cpuinfo").read_text())[-count:]
    why_not = _pooled(chosen, mebibytes)
    print(json.dumps({"cpus": chosen, "why_not": why_not}))
    return why_not


def _pooled(cpus: list[int], mebibytes: int) -> str | None:
    files = FileSystem()
    if files.why_not() is not None and ROOT.is_dir():
        mount = ["mount", "-t", "multikernel", "none", str(ROOT)]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"the multikernel file system cannot be mounted: {done.stderr.strip()}"
    if (why_not := files.why_not()) is not None:
        return why_not
    tree = baseline_tree(Baseline(tuple(cpus), (MemoryRequest(mebibytes << 20, 0),)))
    try:
        (ROOT / "device_tree").write_bytes(tree)
    except OSError as error:
        return (
            f"the kernel refuses CPUs {cpus} and {mebibytes} MiB for its pool: {error.strerror} "
            "(dmesg says why)"
        )
    return None


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])) is not None)
