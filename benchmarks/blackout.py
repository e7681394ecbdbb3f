"""Blackout of a live update against the bare jump that no update can be shorter than.

    python benchmarks/blackout.py [--rounds N] [--plan plans/live-update.yaml]

In each round, one after the other and each in a guest of its own with the same two kernels:

- *bare jump*: kexec_file_load and reboot(KEXEC) with nothing carried over; from the moment
  before reboot(2) until the guest's agent greets from the new kernel, seen from outside.
- *live update*: the plan rehearsed; the blackout of each workload from mkupgrade's own report
  (start of its checkpoint to end of its restore), and the longest silence that the client
  outside heard.

Prints a table with the ratio to the bare jump of the same round. Seconds are those of this
machine (software emulation where there is no KVM); the ratio is what can be compared.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

from orchestrator.cli.journals import last_report
from orchestrator.loading import load_spec_file
from orchestrator.rehearsal.control import GuestRestartedError
from orchestrator.rehearsal.machine import Guest
from orchestrator.rehearsal.performance import Watcher, perform
from orchestrator.rehearsal.scene import Channel, Request, Scene, make_scene

_JUMP = """
import os, sys
from orchestrator.system import calls, guard
host = guard.HostGuard.open()
image = os.open(sys.argv[1], os.O_RDONLY)
calls.kexec_file_load(host, image, None, open("/proc/cmdline").read().strip())
os.sync()
print("jumping", flush=True)
calls.reboot_kexec(host)
"""


class Quiet:
    """A watcher that says on stderr what a waiting person wants to know, and no more."""

    def say(self, text: str) -> None:
        print(f"  {text}", file=sys.stderr)

    def output(self, text: str) -> None: ...

    def kernel(self, release: str) -> None:
        print(f"  kernel: {release}", file=sys.stderr)

    def client(self, client: object) -> None: ...


def bare_jump(scene: Scene) -> float:
    """Seconds from reboot(KEXEC) to the first word from the new kernel's userland."""
    jumped = 0.0

    def note(_stream: str, data: bytes) -> None:
        nonlocal jumped
        if b"jumping" in data:
            jumped = time.monotonic()

    with Guest.boot(scene.setup) as guest:
        argv = ["python3", "-c", _JUMP, f"/boot/vmlinuz-{scene.target.release}"]
        try:
            done = guest.run(argv, on_output=note, check=False)
        except GuestRestartedError:
            guest.next_kernel()
            return time.monotonic() - jumped
        raise SystemExit(f"the bare jump did not happen:\n{done.output}")


def live_update(scene: Scene, watcher: Watcher) -> dict[str, float]:
    """Measured silences in seconds, by what was measured."""
    result = perform(scene, watcher, last_report)
    if not result.held:
        failed = [f"{f.what}: {f.seen}" for f in result.findings() if not f.held]
        raise SystemExit("the live update did not hold: " + "; ".join(failed))
    workloads = result.report["workloads"]
    found = {f"blackout of {name}": w["blackout_seconds"] for name, w in workloads.items()}
    if result.seen is not None:
        found["longest silence at the client"] = result.seen.longest_gap
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plan", type=Path, default=Path("plans/live-update.yaml"))
    parser.add_argument("--channel", choices=["auto", "kho", "disk"], default="auto")
    arguments = parser.parse_args()
    watcher = Quiet()
    channel: Channel = arguments.channel
    spec = load_spec_file(arguments.plan)
    rows: dict[str, list[tuple[float, float]]] = {}
    for number in range(1, arguments.rounds + 1):
        print(f"round {number} of {arguments.rounds}", file=sys.stderr)
        scene = make_scene(Request(arguments.plan, channel=channel), spec, watcher.say)
        jump = bare_jump(scene)
        rows.setdefault("bare jump", []).append((jump, 1.0))
        for name, seconds in live_update(scene, watcher).items():
            rows.setdefault(name, []).append((seconds, seconds / jump))
    print(f"{'measured':<34} {'median s':>9} {'min s':>7} {'max s':>7} {'x bare jump':>12}")
    for name, pairs in rows.items():
        seconds = [s for s, _ in pairs]
        ratio = statistics.median(r for _, r in pairs)
        middle = statistics.median(seconds)
        print(f"{name:<34} {middle:>9.2f} {min(seconds):>7.2f} {max(seconds):>7.2f} {ratio:>12.2f}")


if __name__ == "__main__":
    main()
