"""The image that an instance boots: the bytes that were planned with, unpacked where needed."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import subprocess
from pathlib import Path

import pytest

from orchestrator.drivers.multikernel.images import instance_image
from orchestrator.model.errors import ErrorClass, MkupgradeError
from orchestrator.system.decompress import DecompressError
from tests.support.images import bz_image

VMLINUX = b"\x7fELF vmlinux" * 100


def written(tmp_path: Path, data: bytes) -> tuple[Path, str]:
    path = tmp_path / "vmlinuz"
    path.write_bytes(data)
    return path, hashlib.sha256(data).hexdigest()


def content(fd: int) -> bytes:
    return os.pread(fd, 1 << 20, 0)


def test_a_vmlinux_is_loaded_as_it_is(tmp_path: Path) -> None:
    with instance_image(*written(tmp_path, VMLINUX)) as fd:
        assert content(fd) == VMLINUX
        assert os.lseek(fd, 0, os.SEEK_CUR) == 0
        assert Path(f"/proc/self/fd/{fd}").readlink() == tmp_path / "vmlinuz"


def test_the_vmlinux_inside_a_bzimage_is_loaded(tmp_path: Path) -> None:
    with instance_image(*written(tmp_path, bytes(bz_image(gzip.compress(VMLINUX))))) as fd:
        assert content(fd) == VMLINUX
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_what_was_unpacked_takes_no_change_and_nobody_has_it_open_for_writing(
    tmp_path: Path,
) -> None:
    """execve(2) denies writing as kexec_file_load(2) does: it would say ETXTBSY."""
    program = Path("/bin/true").read_bytes()
    with instance_image(*written(tmp_path, bytes(bz_image(gzip.compress(program))))) as fd:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(fd, b"x")
        again = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY)
        with pytest.raises(PermissionError):
            os.write(again, b"x")
        os.close(again)
        subprocess.run([f"/proc/self/fd/{fd}"], pass_fds=(fd,), check=True)


def test_an_arm64_image_is_loaded_as_it_is(tmp_path: Path) -> None:
    image = bytearray(4096)
    image[56:60] = b"ARM\x64"
    struct.pack_into("<Q", image, 16, 4096)
    with instance_image(*written(tmp_path, bytes(image))) as fd:
        assert content(fd) == bytes(image)


def test_another_file_than_was_planned_with_is_refused(tmp_path: Path) -> None:
    path, _ = written(tmp_path, VMLINUX)
    with (
        pytest.raises(MkupgradeError, match="the plan was made for") as caught,
        instance_image(path, "0" * 64),
    ):
        pass
    assert caught.value.error_class is ErrorClass.INVALID
    assert caught.value.next_command == "mkupgrade plan"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty file"),
        (b"nothing" * 400, "no kernel image"),
        (bytes(bz_image(gzip.compress(b"raw" * 99))), "no ELF file"),
    ],
)
def test_what_no_instance_boots_is_refused(tmp_path: Path, data: bytes, says: str) -> None:
    with (
        pytest.raises(MkupgradeError, match=says) as caught,
        instance_image(*written(tmp_path, data)),
    ):
        pass
    assert caught.value.state == "nothing was loaded"


def test_what_cannot_be_unpacked_is_refused(tmp_path: Path) -> None:
    damaged = bytearray(gzip.compress(VMLINUX))
    damaged[20] ^= 0xFF
    image = bytes(bz_image(bytes(damaged)))
    with pytest.raises(DecompressError), instance_image(*written(tmp_path, image)):
        pass
