"""The multikernel kernel's file system and its system calls, guarded; arguments through, errno into
the error tree.

Hazard: on an ordinary kernel since 6.17 the flags of these calls are valid and mean other things:
one would replace the image that the host has staged for kexec, another drop it. So whatever changes
anything asks, right before the call, the host guard, the magic number of the file system (which a
kernel without these calls cannot have), and that the instance of this name has this id.

Documentation/multikernel/ of Linux 7.0-mk2 and later; facts 1.2, 1.5 and 1.7.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.model.errors import ErrorClass, NotSupportedError, SystemCallError
from orchestrator.system import _native, call_errors, calls, guard
from orchestrator.system.multikernel_errors import (
    HALT,
    ROOT,
    START,
    UNLOAD,
    GoneError,
    file_error,
    load_error,
    running_error,
)

MAGIC = 0x6D6B6673
PAGE = 4096
MOST_OVERLAY_BYTES = PAGE
"""A write(2) of more is cut here, and the kernel parses beyond what it has copied."""
MOST_BASELINE_BYTES = 1 << 20
MOST_NAMES = 1 << 17
"""Transactions pile up until the next boot."""
LAST_ID = 511
"""The highest that every tool of this kernel takes."""

KEXEC_MULTIKERNEL = 0x10
KEXEC_MK_ID_SHIFT = 5

_WRITABLE = {"overlays/new": MOST_OVERLAY_BYTES, "device_tree": MOST_BASELINE_BYTES}
_PATH = re.compile(r"(?!.*(?:^|/)\.{0,2}(?:/|$))[^\0]+")

_INVALID = ErrorClass.INVALID


class FileSystem:
    """/sys/fs/multikernel, looked at anew for every use."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root

    def why_not(self) -> str | None:
        """Why this kernel is no multikernel kernel with its file system mounted; None: it is."""
        try:
            with self._opened():
                return None
        except NotSupportedError as error:
            return error.what

    def read(self, path: str, most: int) -> bytes:
        """A file from its beginning to its end, a page at a time as the kernel gives it.

        Args:
            path: below the root: `instances/web/status`.
            most: bytes; a file that has more is refused.

        Raises:
            NotSupportedError, GoneError, SystemCallError
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        pieces: list[bytes] = []
        size = 0
        with self._opened() as root, self._file(root, path, flags) as fd:
            while piece := os.read(fd, PAGE):
                size += len(piece)
                if size > most:
                    raise SystemCallError(
                        f"more than {most} bytes", errno=errno.EFBIG, where=self._where(path),
                        error_class=_INVALID,
                    )  # fmt: skip
                pieces.append(piece)
        return b"".join(pieces)

    def names(self, path: str) -> list[str]:
        """Of what is in a directory.

        Raises:
            NotSupportedError, GoneError, SystemCallError
        """
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._opened() as root, self._file(root, path, flags) as fd, os.scandir(fd) as entries:
            found: list[str] = []
            for entry in entries:
                if len(found) == MOST_NAMES:
                    raise SystemCallError(
                        f"more than {MOST_NAMES} entries", errno=errno.EFBIG,
                        where=self._where(path), error_class=_INVALID,
                    )  # fmt: skip
                found.append(entry.name)
            return found

    def write(self, host: guard.HostGuard, path: str, data: bytes) -> None:
        """A device tree, in one write(2). That it was taken says nothing of what came of it.

        Args:
            path: `overlays/new` or `device_tree`.

        Raises:
            GuardError: not this host, or not permitted; nothing happened.
            NotSupportedError, SystemCallError
        """
        most = _WRITABLE.get(path, 0)
        if not 0 < len(data) <= most:
            raise SystemCallError(
                f"{len(data)} bytes cannot be written there; the kernel takes {most}",
                errno=errno.EFBIG,
                where=self._where(path),
                error_class=_INVALID,
            )
        guard.require(host, f"write {path} of the multikernel file system")
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._opened() as root, self._file(root, path, flags) as fd:
            taken = os.write(fd, data)
        if taken != len(data):
            raise SystemCallError(
                f"the kernel took {taken} of {len(data)} bytes", errno=errno.EIO,
                where=self._where(path), error_class=ErrorClass.IO,
            )  # fmt: skip

    def load(
        self,
        host: guard.HostGuard,
        name: str,
        number: int,
        *,
        kernel_fd: int,
        initrd_fd: int | None,
        cmdline: str,
    ) -> None:
        """Load a kernel into an instance that has none.

        Raises:
            GuardError, NotSupportedError, SystemCallError: nothing was loaded.
        """
        text = os.fsencode(cmdline)
        if b"\0" in text:
            raise SystemCallError(
                "NUL in the command line", errno=errno.EINVAL, error_class=_INVALID
            )
        flags = _flags(number) | (calls.KEXEC_FILE_NO_INITRAMFS if initrd_fd is None else 0)
        with self._instance(host, f"load a kernel into instance {name}", name, number):
            result = _native.lib.sys_kexec_file_load(
                kernel_fd, -1 if initrd_fd is None else initrd_fd, text, len(text) + 1, flags
            )
        if result < 0:
            raise load_error(-result, self._where(f"instances/{name}"))

    def unload(self, host: guard.HostGuard, name: str, number: int) -> None:
        """Drop an instance's image. One that runs is refused here: the kernel would not.

        Raises:
            GuardError, NotSupportedError, BusyError, SystemCallError: nothing was unloaded.
        """
        flags = _flags(number) | calls.KEXEC_FILE_UNLOAD
        with self._instance(host, f"unload the kernel of instance {name}", name, number):
            if self.read(f"instances/{name}/status", 64).strip() == b"active":
                raise running_error(self._where(f"instances/{name}"))
            result = _native.lib.sys_kexec_file_load(-1, -1, _native.ffi.NULL, 0, flags)
        call_errors.check(result, "kexec_file_load", UNLOAD, self._where(f"instances/{name}"))

    def start(self, host: guard.HostGuard, name: str, number: int) -> None:
        """Start the kernel that is loaded in an instance; does not wait for anything.

        Raises:
            GuardError, NotSupportedError, BusyError, SystemCallError: it was not started.
        """
        with self._instance(host, f"start instance {name}", name, number):
            result = _native.lib.sys_reboot_multikernel(number)
        call_errors.check(result, "reboot(MULTIKERNEL)", START, self._where(f"instances/{name}"))

    def halt(self, host: guard.HostGuard, name: str, number: int) -> None:
        """Ask the kernel in an instance to halt, and wait for it, up to 30 s.

        Raises:
            GuardError, NotSupportedError, BusyError, SystemCallError: it runs on.
        """
        with self._instance(host, f"halt instance {name}", name, number):
            result = _native.lib.sys_reboot_multikernel_halt(number)
        call_errors.check(
            result, "reboot(MULTIKERNEL_HALT)", HALT, self._where(f"instances/{name}")
        )

    def halt_force(self, host: guard.HostGuard, name: str, number: int) -> None:
        """Stop an instance's CPUs by NMI; comes back before they are at rest. Again is fine.

        Raises:
            GuardError, NotSupportedError, BusyError, SystemCallError
        """
        with self._instance(host, f"force instance {name} to halt", name, number):
            result = _native.lib.sys_reboot_multikernel_halt_force(number)
        call_errors.check(
            result, "reboot(MULTIKERNEL_HALT_FORCE)", HALT, self._where(f"instances/{name}")
        )

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """The root, if it is this very file system."""
        try:
            fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise _not_here(
                f"this kernel has no {self.root} ({error.strerror}): it was built without "
                "CONFIG_MULTIKERNEL"
            ) from error
        try:
            if calls.statfs_magic(fd) != MAGIC:
                raise _not_here(
                    f"no multikernel file system is mounted on {self.root}",
                    f"mount -t multikernel none {self.root}",
                )
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _file(self, root: int, path: str, flags: int) -> Iterator[int]:
        """A file below the root; errors of whatever is done with it come out of the error tree."""
        if not _PATH.fullmatch(path):
            raise SystemCallError(
                f"no path of this file system: {path!r}", errno=errno.EINVAL, error_class=_INVALID
            )
        try:
            fd = os.open(path, flags, dir_fd=root)
            try:
                yield fd
            finally:
                os.close(fd)
        except OSError as error:
            raise file_error(error.errno or errno.EIO, path, self.root) from error

    @contextmanager
    def _instance(self, host: guard.HostGuard, what: str, name: str, number: int) -> Iterator[None]:
        """The three questions before a call; the call is the body."""
        guard.require(host, what)
        path = f"instances/{name}/id"
        said = self.read(path, 64).decode("ascii", "replace").strip()
        if "/" in name or said != str(number):
            raise GoneError(
                f"instance {name} has id {said[:20]!r}, not {number}: it was made anew",
                errno=errno.ENOENT,
                where=self._where(path),
                state="nothing was changed by this call",
            )
        yield

    def _where(self, path: str) -> str:
        return str(self.root / path)


def _not_here(what: str, next_command: str = "mkupgrade doctor") -> NotSupportedError:
    return NotSupportedError(what, state="nothing was changed", next_command=next_command)


def _flags(number: int) -> int:
    if not 1 <= number <= LAST_ID:
        raise SystemCallError(
            f"{number} is no id of an instance: 1 to {LAST_ID} are", errno=errno.EINVAL,
            error_class=_INVALID,
        )  # fmt: skip
    return KEXEC_MULTIKERNEL | number << KEXEC_MK_ID_SHIFT
