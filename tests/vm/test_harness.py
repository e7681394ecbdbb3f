"""QEMU ends with whoever started it, whatever happens to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.model.errors import RehearsalError
from orchestrator.rehearsal.accelerator import kvm_boots
from orchestrator.rehearsal.kernels import KernelPair
from orchestrator.rehearsal.machine import Guest, Setup

STARTER = """
import sys, time
from pathlib import Path
from orchestrator.rehearsal.accelerator import TCG
from orchestrator.rehearsal.qemu import Hardware, Qemu
qemu = Qemu(Hardware(Path(sys.argv[1]), "console=ttyS0"), TCG)
print(qemu.pid, qemu.room, flush=True)
time.sleep(60)
"""


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_qemu_is_left_behind(kernels: KernelPair, number: signal.Signals) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(kernels.source.image)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert starter.stdout is not None
    pid = int(starter.stdout.readline().split()[0])
    assert not gone(pid)
    os.kill(starter.pid, number)
    starter.wait(20)
    deadline = time.monotonic() + 10
    while not gone(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gone(pid)


def test_a_kernel_that_dies_at_boot_is_told_with_its_last_words(kernels: KernelPair) -> None:
    dead = "root=/dev/none-such panic=0"
    setup = Setup(kernel=kernels.source.image, cmdline=dead, boot_seconds=12.0)
    with pytest.raises(RehearsalError, match="did not greet") as caught, Guest.boot(setup):
        pass
    assert any("Kernel panic" in line for line in caught.value.details)
    assert "serial log of the guest" in caught.value.__notes__[0]
    kept = Path(caught.value.__notes__[0].rpartition(": ")[2])
    assert "Kernel panic" in kept.read_text()


def test_the_answer_about_kvm_comes_in_time(kernels: KernelPair) -> None:
    started = time.monotonic()
    assert kvm_boots(kernels.source.image, seconds=4.0) in {True, False}
    assert time.monotonic() - started < 15
