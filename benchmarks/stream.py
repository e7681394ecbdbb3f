"""The stream between kernels: what copying ahead costs, and what is left for the pause.

    python benchmarks/stream.py [MIB] [--directory DIR]

Sends a directory of MIB MiB (256) to an agent in this process over a socket pair, then changes one
MiB of it and sends it again. Times are of the processor, both ends together: what else runs on
the machine, and the disk's fsync, count as little as they can. For a comparison, the last line is
SHA-256 of as much, once.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from pathlib import Path

from orchestrator.agent.keys import new_key
from orchestrator.handover.channels import Head, Item
from orchestrator.handover.stream import StreamChannel
from orchestrator.model.steps import Section
from tests.support.agents import Local
from tests.support.control import Control

MIB = 1 << 20
TRANSACTION = "t-20260901-ab12cd"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mib", type=int, nargs="?", default=256)
    parser.add_argument("--directory", type=Path, default=Path("/dev/shm"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        root = Path(name)
        state, target = root / "state", root / "target"
        state.mkdir()
        target.mkdir(mode=0o700)
        with (state / "pages").open("wb") as file:
            for _ in range(options.mib):
                file.write(os.urandom(MIB))
        agent = Local(new_key(TRANSACTION), target)
        channel = StreamChannel(target, TRANSACTION, Section.FORWARD, agent.peer)
        items = [Item("shop", "hooks", {}, state)]
        print(f"{'':8}  {'CPU s':>6}  {'MiB/s':>6}  {'sent MiB':>8}")
        began = time.process_time()
        channel.precopy(items, Control(), rounds=1)
        _line("ahead", began, options.mib, channel.traffic.sent)
        with (state / "pages").open("r+b") as file:
            file.seek(options.mib // 2 * MIB)
            file.write(os.urandom(MIB))
        sent, began = channel.traffic.sent, time.process_time()
        head = Head(TRANSACTION, "ab" * 32, Section.FORWARD, "7.2.13", "boot")
        channel.send(head, items, Control())
        _line("pause", began, options.mib, channel.traffic.sent - sent)
        agent.close()
        began = time.process_time()
        with (state / "pages").open("rb") as file:
            hashlib.file_digest(file, "sha256")
        _line("sha256", began, options.mib, 0)


def _line(name: str, began: float, mib: int, sent: int) -> None:
    took = max(time.process_time() - began, 1e-6)
    print(f"{name:8}  {took:6.2f}  {mib / took:6.0f}  {sent / MIB:8.1f}")


if __name__ == "__main__":
    main()
