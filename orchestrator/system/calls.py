"""System calls, one wrapper each: arguments through, errno into the error tree, nothing else.

Those that change the host's kernel take a `HostGuard` first and cannot be reached without it.
A wrapper neither retries nor chooses defaults.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NoReturn

from orchestrator.model.errors import ErrorClass, SystemCallError
from orchestrator.system import _native, call_errors, guard
from orchestrator.system.call_errors import check

MFD_CLOEXEC = 0x1
MFD_ALLOW_SEALING = 0x2
SEAL_SEAL = 0x1
SEAL_SHRINK = 0x2
SEAL_GROW = 0x4
SEAL_WRITE = 0x8
SEALED = SEAL_SEAL | SEAL_SHRINK | SEAL_GROW | SEAL_WRITE
"""Neither size nor content nor seals change any more."""

KEXEC_FILE_UNLOAD = 0x1
KEXEC_FILE_NO_INITRAMFS = 0x4

TMPFS_MAGIC = 0x01021994
RAMFS_MAGIC = 0x858458F6
VOLATILE_MAGICS = {TMPFS_MAGIC: "tmpfs", RAMFS_MAGIC: "ramfs"}
"""File systems in memory: what is there does not survive a reset, nor a kexec (statfs(2))."""


def kexec_file_load(
    host: guard.HostGuard, kernel_fd: int, initrd_fd: int | None, cmdline: str, flags: int = 0
) -> None:
    """Load a kernel for the next `reboot_kexec`; replaces one that is loaded already.

    Args:
        kernel_fd, initrd_fd: open for reading; they may be closed afterwards.
        cmdline: complete; nothing is inherited from the running kernel.
        flags: KEXEC_FILE_* besides NO_INITRAMFS, which is set when there is no initrd.

    Raises:
        GuardError: not this host, or not permitted; nothing happened.
        LockdownError, SignatureError, BusyError, NotPermittedError, SystemCallError
    """
    text = os.fsencode(cmdline)
    if b"\0" in text:
        raise SystemCallError(
            "kexec_file_load: NUL in the command line",
            errno=errno.EINVAL,
            error_class=ErrorClass.INVALID,
        )
    guard.require(host, "load a kernel for kexec")
    if initrd_fd is None:
        flags |= KEXEC_FILE_NO_INITRAMFS
    result = _native.lib.sys_kexec_file_load(
        kernel_fd, -1 if initrd_fd is None else initrd_fd, text, len(text) + 1, flags
    )
    if result < 0:
        raise call_errors.kexec_load_error(-result, where=_path_of(kernel_fd))


def kexec_unload(host: guard.HostGuard) -> None:
    """Drop the loaded kernel; none loaded is fine.

    Raises:
        GuardError, BusyError, NotPermittedError, SystemCallError
    """
    guard.require(host, "unload the kernel that is loaded for kexec")
    result = _native.lib.sys_kexec_file_load(-1, -1, _native.ffi.NULL, 0, KEXEC_FILE_UNLOAD)
    if result < 0:
        raise call_errors.kexec_load_error(-result, where=None)


def reboot_kexec(host: guard.HostGuard) -> NoReturn:
    """Jump into the loaded kernel at once: nothing is stopped, synced or unmounted first.

    Raises:
        GuardError, SystemCallError: EINVAL: no kernel is loaded. The host runs on.
    """
    guard.require(host, "jump into the loaded kernel")
    _did_not_happen(_native.lib.sys_reboot_kexec(), "reboot(KEXEC)")


def reboot_reset(host: guard.HostGuard) -> NoReturn:
    """Reset through the firmware at once: nothing is stopped, synced or unmounted first.

    Raises:
        GuardError, SystemCallError: the host runs on.
    """
    guard.require(host, "reset the machine")
    _did_not_happen(_native.lib.sys_reboot_restart(), "reboot(RESTART)")


def _did_not_happen(result: int, call: str) -> NoReturn:
    check(result, call, call_errors.REBOOT)
    raise SystemCallError(f"{call} returned without restarting", errno=0)


def memfd(name: str) -> int:
    """A new, empty memfd that can be sealed, closed on exec. The caller closes it.

    Args:
        name: for people, shown in /proc/PID/fd; up to 249 bytes. It does not survive a handover.
    """
    flags = MFD_CLOEXEC | MFD_ALLOW_SEALING
    return check(_native.lib.sys_memfd_create(_c_string(name), flags), "memfd_create", {}, name)


def seal(fd: int) -> None:
    """Freeze a memfd: size, content and seals (`SEALED`).

    Raises:
        BusyError: mapped writable somewhere. SystemCallError: not made for sealing.
    """
    check(_native.lib.sys_fcntl_add_seals(fd, SEALED), "fcntl(F_ADD_SEALS)", call_errors.SEALS)


def seals(fd: int) -> int:
    """The seals of a memfd, as a set of SEAL_* bits."""
    return check(_native.lib.sys_fcntl_get_seals(fd), "fcntl(F_GET_SEALS)", call_errors.SEALS)


def statfs_magic(path: str | Path | int) -> int:
    """The magic number of the file system that holds a path (or an open file), statfs(2)."""
    if isinstance(path, int):
        result = _native.lib.sys_fstatfs_type(path)
    else:
        result = _native.lib.sys_statfs_type(_c_string(str(path)))
    return check(result, "statfs", call_errors.PATH, str(path))


def pidfd_open(pid: int) -> int:
    """A file descriptor for the process that has this pid now. The caller closes it.

    Raises:
        SystemCallError: ESRCH: there is none.
    """
    result = _native.lib.sys_pidfd_open(pid, 0)
    return check(result, "pidfd_open", call_errors.PROCESS, f"pid {pid}")


def pidfd_send_signal(pidfd: int, signal: int) -> None:
    """Send a signal to the very process of `pidfd_open`, though its pid be used again.

    Raises:
        SystemCallError: ESRCH: it has ended.
    """
    result = _native.lib.sys_pidfd_send_signal(pidfd, signal)
    check(result, "pidfd_send_signal", call_errors.PROCESS)


def _c_string(text: str) -> bytes:
    encoded = os.fsencode(text)
    if b"\0" in encoded:
        raise SystemCallError(
            f"NUL in {text!r}", errno=errno.EINVAL, error_class=ErrorClass.INVALID
        )
    return encoded


def _path_of(fd: int) -> str | None:
    try:
        return str(Path(f"/proc/self/fd/{fd}").readlink())
    except OSError:
        return None
