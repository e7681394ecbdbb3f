"""KVM or not: found out by booting, because /dev/kvm may be there and useless."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from pathlib import Path

from orchestrator.rehearsal.cache import cache_dir, locked
from orchestrator.rehearsal.tools import Progress, find_tool, kill_group, quiet

KVM = ("-accel", "kvm", "-cpu", "host")
# With a thread for each CPU, QEMU before 8.1 can run an int3 that the guest's kernel has already
# patched away again ("Oops: int3" at a static key): the kernel dies of it, mostly in its boot.
# Without what is slow to emulate, as kernels and libc choose by what a CPU has: pages cleared byte
# by byte (erms, fsrm), strings by calls (AVX), the end of a translated block at each copy to and
# from user space (smap), page tables of five levels (la57). A quarter of the processor, and two
# thirds of the first kexec_file_load.
_DEAR = ("erms", "fsrm", "avx", "avx2", "smap", "la57")
TCG = ("-accel", "tcg,thread=single", "-cpu", ",".join(("max", *(f"-{it}" for it in _DEAR))))

_KVM_DEVICE = Path("/dev/kvm")
_PROBE_SECONDS = 6.0


def accelerator(kernel: Path, progress: Progress = quiet) -> tuple[str, ...]:
    """QEMU's arguments for the fastest acceleration that works; asks once per boot of the host.

    Args:
        kernel: any bootable image; it is booted without a disk, where it panics and ends.
    """
    chosen = os.environ.get("MKUPGRADE_ACCEL")
    if chosen in {"kvm", "tcg"}:
        return KVM if chosen == "kvm" else TCG
    if not os.access(_KVM_DEVICE, os.R_OK | os.W_OK):
        return TCG
    answer = cache_dir() / "accelerator.json"
    with locked(cache_dir() / ".accelerator.lock"):
        key = _key()
        try:
            kept = json.loads(answer.read_text())
        except (OSError, ValueError):
            kept = {}
        if not isinstance(kept, dict) or kept.get("key") != key:
            progress("trying KVM")
            kept = {"key": key, "kvm": kvm_boots(kernel)}
            answer.write_text(json.dumps(kept))
    return KVM if kept["kvm"] is True else TCG


def _key() -> str:
    """What the answer depends on: this boot of this host, and QEMU."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    qemu = Path(find_tool("qemu-system-x86_64")).stat()
    return hashlib.sha256(f"{boot} {qemu.st_mtime_ns} {qemu.st_size}".encode()).hexdigest()


def kvm_boots(kernel: Path, seconds: float = _PROBE_SECONDS) -> bool:
    """Does the kernel come as far as its panic for want of a root, in time, under KVM?"""
    with tempfile.TemporaryDirectory(prefix="mkupgrade-kvm-") as room:
        serial = Path(room) / "serial"
        command = [
            find_tool("setpriv"), "--pdeathsig", "KILL", find_tool("qemu-system-x86_64"),
            "-nodefaults", "-display", "none", "-machine", "q35", *KVM, "-m", "256",
            "-no-reboot", "-kernel", str(kernel), "-append", "console=ttyS0 panic=-1",
            "-chardev", f"file,id=s,path={serial}", "-serial", "chardev:s",
        ]  # fmt: skip
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            ended = process.wait(timeout=seconds) == 0
        except subprocess.TimeoutExpired:
            ended = False
        finally:
            kill_group(process)
        said = serial.read_bytes() if serial.exists() else b""
    return ended and b"Linux version" in said and b"Kernel panic" in said
