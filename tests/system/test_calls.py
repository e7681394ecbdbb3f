"""The harmless calls, for real; the dangerous ones only as far as their arguments and errors."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import subprocess
from pathlib import Path

import pytest

from orchestrator.model.errors import ErrorClass, SystemCallError
from orchestrator.system import _native, call_errors, calls
from orchestrator.system.guard import HostGuard
from tests.support.native import FakeCalls


def test_a_sealed_memfd_takes_no_change() -> None:
    fd = calls.memfd("payload")
    try:
        os.write(fd, b"state")
        assert calls.seals(fd) == 0
        calls.seal(fd)
        assert calls.seals(fd) == calls.SEALED
        for change in (
            lambda: os.pwrite(fd, b"x", 0),
            lambda: os.ftruncate(fd, 0),
            lambda: os.ftruncate(fd, 100),
        ):
            with pytest.raises(PermissionError):
                change()
        assert os.pread(fd, 10, 0) == b"state"
        with pytest.raises(SystemCallError):
            calls.seal(fd)
    finally:
        os.close(fd)


def test_a_memfd_mapped_writable_is_busy_and_not_sealed() -> None:
    fd = calls.memfd("mapped")
    os.ftruncate(fd, 4096)
    with mmap.mmap(fd, 4096):
        with pytest.raises(call_errors.BusyError) as error:
            calls.seal(fd)
        assert error.value.error_class is ErrorClass.BUSY
    assert calls.seals(fd) == 0
    os.close(fd)


def test_a_memfd_is_closed_on_exec_and_named_for_people() -> None:
    fd = calls.memfd("mkupgrade manifest")
    assert not os.get_inheritable(fd)
    assert Path(f"/proc/self/fd/{fd}").readlink().name == "memfd:mkupgrade manifest (deleted)"
    os.close(fd)


def test_an_ordinary_file_cannot_be_sealed(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file, pytest.raises(SystemCallError) as error:
        calls.seal(file.fileno())
    assert error.value.errno in {errno.EINVAL, errno.EPERM}


def test_statfs_tells_memory_from_disk() -> None:
    fd = calls.memfd("x")
    assert calls.VOLATILE_MAGICS[calls.statfs_magic(fd)] == "tmpfs"
    assert calls.statfs_magic("/proc") == 0x9FA0
    assert calls.statfs_magic(Path("/proc/self")) == 0x9FA0
    os.close(fd)


def test_an_error_names_the_path_and_the_errno() -> None:
    with pytest.raises(SystemCallError) as error:
        calls.statfs_magic("/does/not/exist")
    assert error.value.errno == errno.ENOENT
    assert error.value.where == "/does/not/exist"
    assert "ENOENT" in error.value.what


def test_a_nul_in_a_path_is_refused_not_cut_off() -> None:
    with pytest.raises(SystemCallError, match="NUL"):
        calls.statfs_magic("/proc\0/x")


def test_a_pidfd_signals_its_process_and_no_later_one() -> None:
    child = subprocess.Popen(["sleep", "60"])
    pidfd = calls.pidfd_open(child.pid)
    calls.pidfd_send_signal(pidfd, signal.SIGTERM)
    assert child.wait(10) == -signal.SIGTERM
    with pytest.raises(SystemCallError) as error:
        calls.pidfd_send_signal(pidfd, signal.SIGTERM)
    assert error.value.errno == errno.ESRCH
    os.close(pidfd)
    with pytest.raises(SystemCallError):
        calls.pidfd_open(child.pid)


def test_the_command_line_goes_with_its_nul_and_no_initrd_says_so(fake_calls: FakeCalls) -> None:
    calls.kexec_file_load(HostGuard.open(), 7, None, "root=/dev/vda")
    calls.kexec_file_load(HostGuard.open(), 7, 8, "ü", flags=8)
    assert fake_calls.asked == [
        ("sys_kexec_file_load", 7, -1, b"root=/dev/vda", 14, calls.KEXEC_FILE_NO_INITRAMFS),
        ("sys_kexec_file_load", 7, 8, "ü".encode(), 3, 8),
    ]


def test_unload_passes_the_flag_and_no_files(fake_calls: FakeCalls) -> None:
    calls.kexec_unload(HostGuard.open())
    assert fake_calls.asked == [
        ("sys_kexec_file_load", -1, -1, _native.ffi.NULL, 0, calls.KEXEC_FILE_UNLOAD)
    ]


def test_a_reboot_that_returns_is_an_error(fake_calls: FakeCalls) -> None:
    with pytest.raises(SystemCallError, match="without restarting"):
        calls.reboot_kexec(HostGuard.open())
    fake_calls.answers["sys_reboot_kexec"] = -errno.EINVAL
    with pytest.raises(SystemCallError, match="no kernel is loaded"):
        calls.reboot_kexec(HostGuard.open())


@pytest.mark.parametrize(
    ("number", "kind", "error_class"),
    [
        (errno.EBADMSG, call_errors.SignatureError, ErrorClass.REFUSED),
        (errno.ENODATA, call_errors.SignatureError, ErrorClass.REFUSED),
        (errno.ENOKEY, call_errors.SignatureError, ErrorClass.REFUSED),
        (errno.EKEYREJECTED, call_errors.SignatureError, ErrorClass.REFUSED),
        (errno.EBUSY, call_errors.BusyError, ErrorClass.BUSY),
        (errno.ENOMEM, SystemCallError, ErrorClass.IO),
        (errno.ENOEXEC, SystemCallError, ErrorClass.INVALID),
        (errno.EINVAL, SystemCallError, ErrorClass.INVALID),
        (errno.EXDEV, SystemCallError, ErrorClass.FAILED),
    ],
)
def test_each_errno_of_loading_has_its_class(
    number: int, kind: type[SystemCallError], error_class: ErrorClass, fake_calls: FakeCalls
) -> None:
    fake_calls.answers["sys_kexec_file_load"] = -number
    with pytest.raises(SystemCallError) as error:
        calls.kexec_file_load(HostGuard.open(), 7, None, "")
    assert type(error.value) is kind
    assert error.value.error_class is error_class
    assert error.value.errno == number
    assert errno.errorcode[number] in error.value.what
