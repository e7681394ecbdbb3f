"""errno -> the error tree: what it means for this call, and what to do next.

The meanings are the kernel's: kernel/kexec_file.c, kernel/reboot.c, security/lockdown/lockdown.c
and kernel/liveupdate/luo_{core,session,file}.c of Linux 7.2 and 7.3.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from orchestrator.model.errors import ErrorClass, SystemCallError


class LockdownError(SystemCallError):
    """The kernel is locked down, or kexec was switched off until the next reboot."""

    code = "lockdown"
    error_class = ErrorClass.REFUSED


class NotPermittedError(SystemCallError):
    """A capability is missing (EPERM, EACCES)."""

    code = "not-permitted"
    error_class = ErrorClass.REFUSED


class SignatureError(SystemCallError):
    """The kernel does not trust the image's signature."""

    code = "signature"
    error_class = ErrorClass.REFUSED


class BusyError(SystemCallError):
    """Somebody else holds it for a moment (EBUSY, EAGAIN)."""

    code = "busy"
    error_class = ErrorClass.BUSY


class NoKhoError(SystemCallError):
    """The running kernel offers no KHO or LUO."""

    code = "no-kho"
    error_class = ErrorClass.REFUSED


class NotPreservedError(SystemCallError):
    """No session of this name, or no file under this token, came from the previous kernel."""

    code = "not-preserved"
    error_class = ErrorClass.INVALID


class ExistsAlreadyError(SystemCallError):
    """The session name or the token is taken."""

    code = "exists"
    error_class = ErrorClass.INVALID


@dataclass(frozen=True)
class Meaning:
    """What an errno says for one call."""

    text: str
    next_command: str | None = None
    kind: type[SystemCallError] = SystemCallError
    error_class: ErrorClass | None = None


Meanings = dict[int, Meaning]

_DOCTOR = "mkupgrade doctor"
_INVALID = ErrorClass.INVALID
_IO = ErrorClass.IO

COMMON: Meanings = {
    errno.EPERM: Meaning("not permitted", "sudo mkupgrade status", NotPermittedError),
    errno.EACCES: Meaning("not permitted", "sudo mkupgrade status", NotPermittedError),
    errno.EBUSY: Meaning("busy: somebody else is using it", None, BusyError),
    errno.EAGAIN: Meaning("busy for the moment", None, BusyError),
    errno.ENOMEM: Meaning("not enough memory", "free -m", error_class=_IO),
    errno.ENOSPC: Meaning("no space left", "df -h", error_class=_IO),
    errno.EIO: Meaning("input/output error", "journalctl -k -n 50", error_class=_IO),
    errno.EMFILE: Meaning("too many open files in this process", "ulimit -n", error_class=_IO),
    errno.ENFILE: Meaning("too many open files on this host", None, BusyError),
    errno.EINVAL: Meaning("the kernel takes the arguments for wrong", None, error_class=_INVALID),
    errno.EBADF: Meaning("not an open file descriptor", None, error_class=ErrorClass.BUG),
    errno.EFAULT: Meaning("bad address", None, error_class=ErrorClass.BUG),
    errno.ENOSYS: Meaning(
        "this kernel does not have the call", _DOCTOR, error_class=ErrorClass.REFUSED
    ),
    errno.ENODEV: Meaning("no such device", _DOCTOR, error_class=ErrorClass.REFUSED),
}

KEXEC_LOAD: Meanings = {
    errno.EBUSY: Meaning(
        "another kexec call is running", "cat /sys/kernel/kexec_loaded", BusyError
    ),
    errno.ENOEXEC: Meaning(
        "not a kernel image that kexec_file_load takes (x86: bzImage; "
        "arm64: Image), or KEXEC_FILE lacks its format",
        "file IMAGE",
        error_class=_INVALID,
    ),
    errno.EBADMSG: Meaning(
        "the image's signature is damaged or not in a known format",
        "sbverify --list IMAGE",
        SignatureError,
    ),
    errno.ENODATA: Meaning(
        "the image is not signed, and this kernel wants a signature",
        "mokutil --sb-state",
        SignatureError,
    ),
    errno.ENOKEY: Meaning(
        "the image is signed by a key that this kernel does not know",
        "keyctl list %:.builtin_trusted_keys",
        SignatureError,
    ),
    errno.EKEYREJECTED: Meaning(
        "the image's signature does not fit its content, or its key is rejected",
        "sbverify --list IMAGE",
        SignatureError,
    ),
    errno.ENOPKG: Meaning(
        "the signature's hash or key type is not built into this kernel",
        "sbverify --list IMAGE",
        SignatureError,
    ),
    errno.EINVAL: Meaning(
        "the kernel takes image, initrd, command line or flags for wrong; its log says which",
        "journalctl -k -n 20",
        error_class=_INVALID,
    ),
    errno.EADDRNOTAVAIL: Meaning(
        "the image does not fit into the memory set aside (with KHO: the scratch area)",
        "grep -o 'kho_scratch=[^ ]*' /proc/cmdline",
        error_class=_IO,
    ),
    errno.ENOMEM: Meaning("not enough memory to load the image", "free -m", error_class=_IO),
    errno.ENOSYS: Meaning(
        "this kernel was built without CONFIG_KEXEC_FILE", _DOCTOR, error_class=ErrorClass.REFUSED
    ),
}

REBOOT: Meanings = {
    errno.EINVAL: Meaning(
        "no kernel is loaded, or this kernel has no kexec",
        "cat /sys/kernel/kexec_loaded",
        error_class=_INVALID,
    ),
    errno.EBUSY: Meaning("another kexec call is running", None, BusyError),
}

LUO_OPEN: Meanings = {
    errno.ENOENT: Meaning(
        "no /dev/liveupdate: kernel without CONFIG_LIVEUPDATE, or booted "
        "without kho=on liveupdate=on",
        _DOCTOR,
        NoKhoError,
    ),
    errno.ENODEV: Meaning("live update is not active in this kernel", _DOCTOR, NoKhoError),
    errno.ENXIO: Meaning("live update is not active in this kernel", _DOCTOR, NoKhoError),
    errno.EBUSY: Meaning(
        "another process has /dev/liveupdate open", "fuser -v /dev/liveupdate", BusyError
    ),
    errno.EIO: Meaning(
        "the state of the previous kernel could not be read; it stays out of "
        "reach until the next reboot",
        "journalctl -k -g luo",
        error_class=_IO,
    ),
}

LUO_CREATE: Meanings = {
    errno.EEXIST: Meaning(
        "a session of this name is there already", "mkupgrade status", ExistsAlreadyError
    ),
    errno.EINVAL: Meaning("not a session name: 1 to 63 bytes are", None, error_class=_INVALID),
    errno.ENAMETOOLONG: Meaning(
        "not a session name: 1 to 63 bytes are", None, error_class=_INVALID
    ),
}

LUO_RETRIEVE_SESSION: Meanings = {
    errno.ENOENT: Meaning(
        "no session of this name came from the previous kernel, or it was retrieved and closed",
        "mkupgrade status",
        NotPreservedError,
    ),
    errno.EINVAL: Meaning(
        "this session was retrieved already and is open somewhere", "mkupgrade status", BusyError
    ),
    errno.ENAMETOOLONG: Meaning(
        "not a session name: 1 to 63 bytes are", None, error_class=_INVALID
    ),
}

LUO_PRESERVE: Meanings = {
    errno.ENOENT: Meaning(
        "this kind of file cannot be preserved (memfds and unlinked files on "
        "tmpfs can), or the kernel lacks CONFIG_LIVEUPDATE_MEMFD",
        _DOCTOR,
        error_class=_INVALID,
    ),
    errno.EEXIST: Meaning("this token is in use in the session", None, ExistsAlreadyError),
    errno.EBUSY: Meaning(
        "this very file is preserved already, here or in another session", None, ExistsAlreadyError
    ),
    errno.EINVAL: Meaning(
        "not a session to preserve into: one that came from the previous kernel only gives",
        None,
        error_class=_INVALID,
    ),
}

LUO_RETRIEVE_FD: Meanings = {
    errno.ENOENT: Meaning(
        "nothing was preserved under this token, or the session is finished",
        None,
        NotPreservedError,
    ),
    errno.EINVAL: Meaning(
        "not a session to retrieve from: it was made in this kernel", None, error_class=_INVALID
    ),
}

LUO_FINISH: Meanings = {
    errno.EINVAL: Meaning(
        "not a session that came from the previous kernel", None, error_class=_INVALID
    ),
    errno.EBUSY: Meaning("a file of the session is still in use by the kernel", None, BusyError),
}

LUO_GET_NAME: Meanings = {
    errno.EINVAL: Meaning(
        "not a session, or a kernel before 7.2, which cannot tell its name",
        None,
        error_class=_INVALID,
    ),
}

SEALS: Meanings = {
    errno.EPERM: Meaning(
        "the file is sealed against this, or was not made for sealing", None, error_class=_INVALID
    ),
    errno.EBUSY: Meaning(
        "the file is mapped writable somewhere, so that it cannot be sealed", None, BusyError
    ),
    errno.EINVAL: Meaning(
        "not a file that can be sealed (a memfd can)", None, error_class=_INVALID
    ),
}

PATH: Meanings = {
    errno.ENOENT: Meaning("no such file or directory", None, error_class=_INVALID),
    errno.ENOTDIR: Meaning("not a directory on the way", None, error_class=_INVALID),
    errno.ELOOP: Meaning("a link where none is followed", None, error_class=_INVALID),
}

PROCESS: Meanings = {
    errno.ESRCH: Meaning("no such process", None, error_class=_INVALID),
    errno.EINVAL: Meaning(
        "not a process id, or of a thread that leads no group", None, error_class=_INVALID
    ),
}

WATCHDOG: Meanings = {
    errno.ENOENT: Meaning("no such watchdog device", "wdctl", error_class=ErrorClass.REFUSED),
    errno.EBUSY: Meaning(
        "another process holds the watchdog (systemd, with RuntimeWatchdogSec= "
        "or RebootWatchdogSec=?)",
        "wdctl",
        BusyError,
    ),
    errno.EOPNOTSUPP: Meaning(
        "this watchdog cannot do that", "wdctl", error_class=ErrorClass.REFUSED
    ),
    errno.ENOTTY: Meaning("not a watchdog device", "wdctl", error_class=_INVALID),
    errno.EINVAL: Meaning(
        "a time limit that this watchdog cannot keep", "wdctl", error_class=_INVALID
    ),
}


def check(result: int, call: str, meanings: Meanings, where: str | None = None) -> int:
    """`result` if it is no error.

    Raises:
        SystemCallError: or the subclass that `meanings` names; `errno` is kept.
    """
    if result >= 0:
        return result
    raise call_error(-result, call, meanings, where)


def call_error(
    number: int, call: str, meanings: Meanings, where: str | None = None
) -> SystemCallError:
    """The error for errno `number` of `call`, e.g. for an OSError that Python raised."""
    meaning = meanings.get(number) or COMMON.get(number)
    name = errno.errorcode.get(number, str(number))
    if meaning is None:
        return SystemCallError(f"{call}: {os.strerror(number)} ({name})", errno=number, where=where)
    return meaning.kind(
        f"{call}: {meaning.text} ({name})",
        errno=number,
        where=where,
        next_command=_for(meaning.next_command, where),
        error_class=meaning.error_class,
    )


def _for(command: str | None, where: str | None) -> str | None:
    return command.replace("IMAGE", where) if command and where else command


def kexec_load_error(number: int, where: str | None, root: Path = Path("/")) -> SystemCallError:
    """As `call_error`, and for EPERM which of the kernel's refusals it was.

    Args:
        root: where /sys and /proc are; not "/" in tests only.
    """
    if number == errno.EPERM:
        reason = _why_kexec_is_refused(root)
        if reason is not None:
            return LockdownError(
                f"kexec_file_load: {reason} (EPERM)",
                errno=number,
                where=where,
                next_command="cat /sys/kernel/security/lockdown",
            )
    return call_error(number, "kexec_file_load", KEXEC_LOAD, where)


def _why_kexec_is_refused(root: Path) -> str | None:
    if _first_line(root / "proc/sys/kernel/kexec_load_disabled") == "1":
        return "kexec is switched off until the next reboot (kernel.kexec_load_disabled=1)"
    if _first_line(root / "proc/sys/kernel/kexec_load_limit_reboot") == "0":
        return "no more kernels may be loaded (kernel.kexec_load_limit_reboot=0)"
    lockdown = _first_line(root / "sys/kernel/security/lockdown")
    if lockdown and "[none]" not in lockdown:
        return f"the kernel is locked down ({lockdown}): it takes signed images only"
    return None


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").split("\n", 1)[0].strip()
    except OSError:
        return ""
