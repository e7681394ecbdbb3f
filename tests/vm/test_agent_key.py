"""A kernel unpacks an agent's key out of the initrd that the multikernel driver adds it to."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from orchestrator.agent.keys import new_key
from orchestrator.drivers.multikernel.images import KEY_FILE, keyed_initrd
from orchestrator.rehearsal.accelerator import accelerator
from orchestrator.rehearsal.kernels import KernelPair
from orchestrator.rehearsal.qemu import Hardware, Qemu

INIT = f"""
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
int main(void)
{{
    struct stat status = {{0}};
    char text[256] = "";
    mkdir("/dev", 0755);
    mount("none", "/dev", "devtmpfs", 0, "");
    dup2(open("/dev/console", O_RDWR), 1);
    stat("{KEY_FILE}", &status);
    int fd = open("{KEY_FILE}", O_RDONLY);
    if (fd >= 0)
        read(fd, text, sizeof text - 1);
    printf("\\nFOUND %o %u %s\\nEND\\n", status.st_mode, status.st_uid, text);
    fflush(stdout);
    for (;;)
        pause();
}}
"""


def entry(name: bytes, mode: int, data: bytes) -> bytes:
    """A file in a cpio archive of form newc."""
    numbers = [1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08x" % number for number in numbers) + name + b"\0"
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_the_kernel_finds_the_key_behind_any_initrd(
    kernels: KernelPair, tmp_path: Path, packed: bool
) -> None:
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    (tmp_path / "init.c").write_text(INIT, encoding="ascii")
    command = ["cc", "-static", "-o", "init", "init.c"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no static programs can be made: {made.stderr[-200:]}")
    archive = entry(b"init", 0o100755, (tmp_path / "init").read_bytes())
    archive += entry(b"TRAILER!!!", 0, b"")
    base = tmp_path / "base"
    base.write_bytes(gzip.compress(archive) if packed else archive)
    key = new_key("t-20260901-ab12cd")
    with keyed_initrd(base, key) as fd:
        (tmp_path / "initrd").write_bytes(Path(f"/proc/self/fd/{fd}").read_bytes())
    image = kernels.target.image
    hardware = Hardware(
        kernel=image, initrd=tmp_path / "initrd", cmdline="console=ttyS0 panic=-1", memory_mib=512
    )
    qemu = Qemu(hardware, accelerator(image))
    try:
        while "END" not in qemu.serial():
            qemu.check_alive()
            time.sleep(0.1)
        (found,) = [line for line in qemu.serial().splitlines() if line.startswith("FOUND")]
    finally:
        qemu.close()
    assert found == f"FOUND 100600 0 {key.text().strip()}"
