"""errno -> the error tree, for the multikernel kernel's files and calls.

The meanings are those of kernel/multikernel/ in Linux 7.0-mk2 and later; facts 1.5 to 1.7.
"""

from __future__ import annotations

import errno
from pathlib import Path

from orchestrator.model.errors import ErrorClass, SystemCallError
from orchestrator.system import call_errors
from orchestrator.system.call_errors import BusyError, Meaning, Meanings

ROOT = Path("/sys/fs/multikernel")

_INVALID = ErrorClass.INVALID


class GoneError(SystemCallError):
    """The instance or transaction is not there (any more)."""

    code = "gone"
    error_class = ErrorClass.INVALID


FILES: Meanings = {
    errno.ENOENT: Meaning("not there (any more)", "ls /sys/fs/multikernel/instances", GoneError),
    errno.ENODEV: Meaning("not there any more", "ls /sys/fs/multikernel/instances", GoneError),
    errno.EINVAL: Meaning("the kernel takes it for no device tree", None, error_class=_INVALID),
    errno.EBUSY: Meaning("the pool was made already", None, BusyError),
}
LOAD: Meanings = {
    **call_errors.KEXEC_LOAD,
    errno.ENOENT: Meaning("no instance has this id", "ls /sys/fs/multikernel/instances", GoneError),
    errno.EBUSY: Meaning(
        "the instance has an image already, or another kexec call is running",
        "cat /proc/kimage",
        BusyError,
    ),
    errno.ENOEXEC: Meaning(
        "not an image that an instance boots (x86: an ELF vmlinux of a multikernel kernel)",
        "file IMAGE",
        error_class=_INVALID,
    ),
}
UNLOAD: Meanings = {
    **call_errors.KEXEC_LOAD,
    errno.ENOENT: Meaning("the instance has no image", "cat /proc/kimage", GoneError),
}
START: Meanings = {
    errno.ENOENT: Meaning("no instance has this id", "ls /sys/fs/multikernel/instances", GoneError),
    errno.EINVAL: Meaning(
        "the instance has no image or no CPU", "cat IMAGE/status", error_class=_INVALID
    ),
    errno.EBUSY: Meaning(
        "the instance runs, or its CPUs are not at rest yet, or another kexec call is running",
        "cat IMAGE/status",
        BusyError,
    ),
}
HALT: Meanings = {
    errno.ENOENT: Meaning("no instance has this id", "ls /sys/fs/multikernel/instances", GoneError),
    errno.EINVAL: Meaning("the instance does not run", "cat IMAGE/status", error_class=_INVALID),
    errno.ETIMEDOUT: Meaning(
        "the instance did not answer within 30 s, and goes on",
        "cat IMAGE/status",
        error_class=ErrorClass.TIMEOUT,
    ),
    errno.EBUSY: Meaning("another kexec call is running", None, BusyError),
}


def file_error(number: int, path: str, root: Path = ROOT) -> SystemCallError:
    """For an errno of a file operation below the root."""
    return call_errors.call_error(number, "multikernel file system", FILES, str(root / path))


def load_error(number: int, where: str) -> SystemCallError:
    """For an errno of the call that loads; for EPERM which of the kernel's refusals it was."""
    if number == errno.EPERM:
        return call_errors.kexec_load_error(number, where)
    return call_errors.call_error(number, "kexec_file_load", LOAD, where)


def running_error(where: str) -> BusyError:
    """The image of a running kernel cannot be dropped."""
    return BusyError(
        "the instance runs: its image cannot be unloaded under it", errno=errno.EBUSY, where=where,
        state="nothing was changed by this call", next_command=f"cat {where}/status",
    )  # fmt: skip
