"""A kernel unpacks an agent's key out of the initrd that the multikernel driver adds it to."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import pytest

from orchestrator.agent.keys import new_key
from orchestrator.drivers.multikernel.images import KEY_FILE, keyed_initrd
from orchestrator.rehearsal.accelerator import accelerator
from orchestrator.rehearsal.kernels import KernelPair
from orchestrator.rehearsal.qemu import Hardware, Qemu
from tests.support.initrds import NoStaticProgramsError, archive, static_program

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


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_the_kernel_finds_the_key_behind_any_initrd(
    kernels: KernelPair, tmp_path: Path, packed: bool
) -> None:
    try:
        init = static_program(INIT, tmp_path)
    except NoStaticProgramsError as error:
        pytest.skip(str(error))
    files = archive({"init": (0o755, init)})
    base = tmp_path / "base"
    base.write_bytes(gzip.compress(files) if packed else files)
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
