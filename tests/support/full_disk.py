"""What a disk that fills up does to an upgrade: `unshare -rm python -m tests.support.full_disk`.

In a mount namespace of its own it makes a file system of a few MiB, fills it at a moment drawn
from a seed, sees how the apply takes it, makes room again, and resumes. Prints one line of JSON
for each go.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from tests.support.pretend import Host
from tests.support.warm import warm

SIZE = "8m"
PIECE = 16 * 2**10


def fill(ballast: Path) -> None:
    """Write until no more can be written."""
    with suppress(OSError), ballast.open("ab", buffering=0) as file:
        while file.write(bytes(PIECE)) == PIECE:
            pass
    with suppress(OSError), ballast.open("ab", buffering=0) as file:
        while file.write(b"x"):
            pass


def go(host: Host, random: Random, seconds: float) -> dict[str, Any]:
    """Before it starts in one of four, else while it runs."""
    ballast = host.directory / "ballast"
    ballast.unlink(missing_ok=True)
    change = {"failing_checks": {"answers": "7.3.4"}} if random.random() < 0.5 else {}
    host.start_over(**change)
    after = 0.0 if random.random() < 0.25 else random.uniform(0.0, seconds)
    timer = threading.Timer(after, fill, [ballast])
    if after:
        timer.start()
    else:
        fill(ballast)
    full = host.run("apply", "--json")
    timer.cancel()
    if after:
        timer.join()
    ballast.unlink(missing_ok=True)
    life, tries = full, 0
    while life.code not in {0, 3} and tries < 3:
        tries += 1
        life = host.run("resume", *host.transactions(), "--json")
    return {
        "after": after,
        "full": {"code": full.code, "stderr": full.stderr[-2000:]},
        "resumed": {"code": life.code, "stderr": life.stderr[-2000:], "tries": tries},
        "outcome": host.outcome(),
        "reason": host.reason(),
        "left_behind": host.left_behind(),
        "whole": host.verified(),
    }


def main(goes: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", directory]
        subprocess.run(mount, check=True)
        with warm() as parent:
            host = Host(parent, Path(directory))
            host.make()
            host.start_over()
            seconds = host.run("apply").seconds
            for number in range(goes):
                print(json.dumps(go(host, Random(f"{seed}/{number}"), seconds)), flush=True)
        subprocess.run(["umount", directory], check=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
