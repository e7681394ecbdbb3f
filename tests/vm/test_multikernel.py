"""A whole upgrade on a real multikernel kernel, where somebody has one (docs/multikernel.md):

    MKUPGRADE_MULTIKERNEL_IMAGE=/path/bzImage pytest -m vm tests/vm/test_multikernel.py -rs

The kernel is the host of a guest, and what its instances boot. Without one, the tests' own parts
are tried with an ordinary kernel, as far as one comes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.drivers.multikernel.images import instance_image
from orchestrator.rehearsal.accelerator import accelerator
from orchestrator.rehearsal.image import LayerFile
from orchestrator.rehearsal.kernels import KernelPair
from orchestrator.rehearsal.machine import Guest, Setup
from orchestrator.rehearsal.qemu import Hardware, Qemu
from orchestrator.system.kernel_image import inspect_instance_image
from tests.support.guests import booted
from tests.support.initrds import NoStaticProgramsError, archive, static_program
from tests.support.multikernel import whole
from tests.support.multikernel.served.messages import Ran
from tests.support.pvh import why_qemu_cannot_start

IMAGE, INITRD = "MKUPGRADE_MULTIKERNEL_IMAGE", "MKUPGRADE_MULTIKERNEL_INITRD"
UP = "MKUPGRADE: this instance is up"
INIT = f"""
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
int main(void)
{{
    mkdir("/dev", 0755);
    mount("none", "/dev", "devtmpfs", 0, "");
    dup2(open("/dev/console", O_RDWR), 1);
    printf("\\n{UP}\\n");
    fflush(stdout);
    for (;;)
        pause();
}}
"""
"""It stays: a kernel whose init ends panics."""
HERE = Path("/root/multikernel")
BOOT_SECONDS = 300.0


@dataclass
class InGuest:
    """A guest as a machine."""

    guest: Guest
    directory: Path = HERE
    mkupgrade: tuple[str, ...] = ("mkupgrade",)
    python: str = "python3"

    def run(self, *argv: str) -> Ran:
        done = self.guest.run(list(argv), timeout=900, check=False)
        return Ran(done.code, done.stdout, done.stderr)

    def put(self, path: Path, data: bytes) -> None:
        self.guest.put(str(path), data)


@contextmanager
def host(kernel: Path, instance_initrd: bytes, initrd: Path | None = None) -> Iterator[InGuest]:
    """A guest of this kernel, with room for the pool, and the kernel and an initrd to boot
    instances with."""
    files = {
        str(HERE / "kernel"): LayerFile(kernel),
        str(HERE / "initrd"): LayerFile(instance_initrd),
    }
    setup = Setup(
        kernel=kernel,
        initrd=initrd,
        handover=False,
        files=files,
        cpus=whole.POOL_CPUS + 2,
        # The pool wants its memory in one piece: q35 puts all but 2 GiB above 4 GiB.
        memory_mib=6144,
        boot_seconds=BOOT_SECONDS,
    )
    with booted(setup) as guest:
        yield InGuest(guest)


@pytest.fixture
def instance_initrd(tmp_path: Path) -> bytes:
    """In which an init says that it is up, and stays."""
    try:
        return archive({"init": (0o755, static_program(INIT, tmp_path))})
    except NoStaticProgramsError as error:
        pytest.skip(str(error))


@pytest.mark.timeout(3600)
def test_a_real_multikernel_host_is_upgraded_and_brought_back(instance_initrd: bytes) -> None:
    named = os.environ.get(IMAGE)
    if not named:
        pytest.skip(
            f"no multikernel kernel at hand: {IMAGE} names the bzImage of one, or its vmlinux if "
            f"that was built with CONFIG_PVH ({INITRD}: an initrd of its host, if virtio and ext4 "
            "are modules there)"
        )
    kernel, initrd = Path(named), os.environ.get(INITRD)
    facts = inspect_instance_image(kernel)
    assert facts.error is None, f"{IMAGE}: {facts.error}"
    assert facts.release is not None, f"{IMAGE}={kernel} says no release"
    assert (why := why_qemu_cannot_start(kernel)) is None, why
    files = whole.Files(
        str(HERE / "kernel"), facts.release, str(HERE / "initrd"),
        ("console=mktty0", "rdinit=/init", "panic=-1"), UP,
    )  # fmt: skip
    with host(kernel, instance_initrd, Path(initrd) if initrd else None) as machine:
        try:
            whole.make_pool(machine)
            found = whole.upgrade(machine, files)
        except (whole.NoPoolError, AssertionError) as error:
            error.add_note(_told(machine))
            raise
        whole.assert_whole(found)
        if machine.run("mkupgrade", "doctor").out.count("AF_VSOCK"):
            assert set(found.answers.values()) <= {"reset", "accepted"}


def test_on_an_ordinary_kernel_the_same_test_says_in_words_what_is_missing(
    kernels: KernelPair, instance_initrd: bytes
) -> None:
    """The guest boots, its CPUs are found, and nothing is asked of a kernel without instances."""
    image = kernels.target.image
    with host(image, instance_initrd) as machine:
        with pytest.raises(whole.NoPoolError, match="was built without CONFIG_MULTIKERNEL"):
            whole.make_pool(machine)
        found = machine.run(
            "python3", str(HERE / "pool.py"), str(whole.POOL_CPUS), str(whole.POOL_MIB)
        ).out
        assert '"cpus": [2, 3, 4, 5]' in found
        assert machine.guest.get(str(HERE / "kernel")) == image.read_bytes()
        assert "one runs at a time" in _told(machine)


@pytest.mark.parametrize("unpacked", [False, True], ids=["bzImage", "vmlinux"])
def test_a_kernel_comes_up_with_the_initrd_of_the_instances(
    kernels: KernelPair, instance_initrd: bytes, tmp_path: Path, unpacked: bool
) -> None:
    """As QEMU's own `-kernel`, packed, and unpacked as an instance gets it."""
    image = kernels.target.image
    if unpacked:
        digest = inspect_instance_image(image).sha256
        assert digest is not None
        with instance_image(image, digest) as fd:
            image = tmp_path / "vmlinux"
            image.write_bytes(Path(f"/proc/self/fd/{fd}").read_bytes())
        if (why := why_qemu_cannot_start(image)) is not None:
            pytest.skip(why)
    (tmp_path / "initrd").write_bytes(instance_initrd)
    hardware = Hardware(
        kernel=image, initrd=tmp_path / "initrd", memory_mib=512,
        cmdline="console=ttyS0 rdinit=/init panic=-1",
    )  # fmt: skip
    qemu = Qemu(hardware, accelerator(kernels.target.image))
    try:
        while UP not in qemu.serial():
            qemu.check_alive()
            time.sleep(0.1)
    finally:
        qemu.close()


def _told(machine: InGuest) -> str:
    """What helps to see why: what the host's kernel says of instances, and they themselves."""
    script = (
        "mkupgrade doctor; dmesg | grep -i -e multikernel -e mk- | tail -n 60; "
        f"for log in $(find {HERE}/state -name 'console.*.log' 2>/dev/null); do "
        'echo "== $log"; tail -n 30 "$log"; done'
    )
    return machine.run("sh", "-c", script).out
