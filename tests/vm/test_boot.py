"""The harness itself: a guest boots, answers, forgets nothing over a reset, and ends with us."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import AbstractContextManager

from orchestrator.rehearsal.kernels import KernelPair
from orchestrator.rehearsal.machine import Guest
from orchestrator.rehearsal.package import GUEST_PROGRAMS

Boot = Callable[..., AbstractContextManager[Guest]]

COUNTER = {
    "argv": ["/usr/bin/python3", f"{GUEST_PROGRAMS}/counter.py", "7777", "/var/lib/counter/log"],
    "pid_file": "/var/lib/counter/pid",
}


def test_guest_boots_serves_and_keeps_its_disk_over_a_reset(
    boot: Boot, kernels: KernelPair
) -> None:
    with boot(forwards=(7777,), workloads=(COUNTER,)) as guest:
        assert guest.release() == kernels.source.release
        assert guest.run(["mkupgrade", "--version"]).stdout
        assert guest.run(["criu", "check"]).code == 0
        assert guest.exists("/dev/liveupdate")
        guest.wait_for(["test", "-s", "/var/lib/counter/log"])
        with socket.create_connection(("127.0.0.1", guest.forwarded(7777)), 10) as client:
            number, release = client.recv(200).split()[:2]
        assert int(number) > 0
        assert release.decode() == kernels.source.release
        blob = bytes(range(256)) * 4096
        guest.put("/root/kept", blob, 0o600)
        guest.run(["sync"])
        before = guest.control.status()
        after = guest.reset()
        assert after.release == kernels.source.release
        assert after.boot_id != before.boot_id
        assert guest.get("/root/kept") == blob
