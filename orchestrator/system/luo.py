"""Live Update Orchestrator: /dev/liveupdate and its sessions.

Source: include/uapi/linux/liveupdate.h and kernel/liveupdate/luo_*.c of Linux 7.2 and 7.3.
Three facts that callers must live by:

- The device opens for one process at a time, and systemd needs it at shutdown: open it, make or
  retrieve the session, close it. Closing the device does nothing to sessions.
- A session made here lives while a descriptor of it is open; the last close before the jump
  (exit and SIGKILL included) silently discards everything in it.
- Closing a retrieved session *is* finishing it: what was not retrieved by then is gone.
"""

from __future__ import annotations

import errno
import os

from orchestrator.model.errors import ErrorClass, SystemCallError
from orchestrator.system import _native, call_errors, guard
from orchestrator.system.call_errors import check
from orchestrator.system.descriptor import Descriptor

DEVICE = "/dev/liveupdate"
NAME_BYTES = 63
"""Longest session name, in bytes of UTF-8."""
MAX_TOKEN = 2**64 - 1


class LuoSession(Descriptor):
    """A session: outgoing if made in this kernel, incoming if it came from the previous one."""

    def __init__(self, host: guard.HostGuard, fd: int, name: str | None = None) -> None:
        """Take over an open session, e.g. one out of systemd's fd store. Closes it later."""
        super().__init__(fd)
        self._host = host
        self._label = f"session {name}" if name else f"session fd {fd}"

    def preserve(self, fd: int, token: int) -> None:
        """Hand a memfd to the next kernel under `token`. From now on its size is fixed; what is
        written into it until the jump still goes along.

        Args:
            token: 0 to 2**64-1, once per session.

        Raises:
            ExistsAlreadyError: the token is used, or this file is preserved already.
            SystemCallError: ENOENT: a kind of file that cannot be preserved.
        """
        guard.require(self._host, "preserve state for the next kernel")
        result = _native.lib.liveupdate_session_preserve_fd(self._fd, fd, _token(token))
        check(
            result,
            "LIVEUPDATE_SESSION_PRESERVE_FD",
            call_errors.LUO_PRESERVE,
            f"{self._label}, token {token}",
        )

    def retrieve(self, token: int) -> int:
        """A new descriptor of the file that the previous kernel preserved. The caller closes it.

        Raises:
            NotPreservedError: nothing under this token, or the session is finished.
        """
        guard.require(self._host, "retrieve state of the previous kernel")
        result = _native.lib.liveupdate_session_retrieve_fd(self._fd, _token(token))
        return check(
            result,
            "LIVEUPDATE_SESSION_RETRIEVE_FD",
            call_errors.LUO_RETRIEVE_FD,
            f"{self._label}, token {token}",
        )

    def finish(self) -> None:
        """Give up what was not retrieved. Retrieve all and make it durable first; once is enough,
        twice is fine.

        Raises:
            SystemCallError: EINVAL: a session made in this kernel.
        """
        guard.require(self._host, "finish the session of the previous kernel")
        result = _native.lib.liveupdate_session_finish(self._fd)
        check(result, "LIVEUPDATE_SESSION_FINISH", call_errors.LUO_FINISH, self._label)

    def name(self) -> str:
        """Its name, as the kernel has it (Linux 7.2 on).

        Raises:
            SystemCallError: EINVAL: an older kernel, or not a session.
        """
        guard.require(self._host, "read the name of a session")
        buffer = _native.ffi.new("char[64]")
        result = _native.lib.liveupdate_session_get_name(self._fd, buffer, 64)
        check(result, "LIVEUPDATE_SESSION_GET_NAME", call_errors.LUO_GET_NAME, self._label)
        return _native.ffi.string(buffer, 64).decode("utf-8", "replace")


class LuoDevice(Descriptor):
    """/dev/liveupdate, open. Nobody else can open it meanwhile: close it soon."""

    def __init__(self, host: guard.HostGuard, fd: int) -> None:
        super().__init__(fd)
        self._host = host

    def create_session(self, name: str) -> LuoSession:
        """A new, empty outgoing session. It lives while a descriptor of it is open.

        Raises:
            ExistsAlreadyError: the name is in use. SystemCallError: not 1 to 63 bytes.
        """
        encoded = _session_name(name)
        guard.require(self._host, "create a live-update session")
        result = _native.lib.liveupdate_ioctl_create_session(self._fd, encoded, len(encoded))
        call = "LIVEUPDATE_IOCTL_CREATE_SESSION"
        fd = check(result, call, call_errors.LUO_CREATE, f"session {name}")
        return LuoSession(self._host, fd, name)

    def retrieve_session(self, name: str) -> LuoSession:
        """The session of this name that came from the previous kernel.

        Raises:
            NotPreservedError: there is none, or it was retrieved and closed.
            BusyError: it was retrieved and is still open.
        """
        encoded = _session_name(name)
        guard.require(self._host, "retrieve the session of the previous kernel")
        result = _native.lib.liveupdate_ioctl_retrieve_session(self._fd, encoded, len(encoded))
        call = "LIVEUPDATE_IOCTL_RETRIEVE_SESSION"
        fd = check(result, call, call_errors.LUO_RETRIEVE_SESSION, f"session {name}")
        return LuoSession(self._host, fd, name)


def open_device(host: guard.HostGuard) -> LuoDevice:
    """Open /dev/liveupdate, to be used in a `with` and closed at once.

    Raises:
        GuardError: not this host, or not permitted.
        NoKhoError: the running kernel has none. BusyError: another process has it open.
        SystemCallError: EIO: what the previous kernel left cannot be read until a reboot.
    """
    guard.require(host, f"open {DEVICE}")
    try:
        fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        number = error.errno or errno.EIO
        raise call_errors.call_error(number, "open", call_errors.LUO_OPEN, DEVICE) from error
    return LuoDevice(host, fd)


def _session_name(name: str) -> bytes:
    encoded = name.encode()
    if not 0 < len(encoded) <= NAME_BYTES or b"\0" in encoded:
        raise SystemCallError(
            f"not a session name: {name!r} ({len(encoded)} bytes; 1 to {NAME_BYTES} without NUL)",
            errno=errno.EINVAL,
            error_class=ErrorClass.INVALID,
        )
    return encoded


def _token(token: int) -> int:
    if not 0 <= token <= MAX_TOKEN:
        raise SystemCallError(
            f"not a token: {token}", errno=errno.EINVAL, error_class=ErrorClass.INVALID
        )
    return token
