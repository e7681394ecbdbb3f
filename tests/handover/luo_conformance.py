"""What LUO answers, as a list that the real device and the double are both held to.

In a guest (root, permitted, kernel with KHO and LUO):

    python3 luo_conformance.py outgoing           # changes nothing that outlives the process
    python3 luo_conformance.py leave NAME         # leaves a session open, prints READY, sleeps
    python3 luo_conformance.py incoming NAME      # in the next kernel

Prints one line per rule; exit status 1 if any does not hold. The fast suite runs the same
functions against `tests.support.luo_double`.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.model.errors import SystemCallError

Opener = Callable[[], Any]
Report = list[tuple[str, str | None]]
"""(rule, what was seen instead, or None)."""

CONTENT = b"0123456789" * 1000


def outgoing(open_device: Opener) -> Report:
    """Every rule of a session made in this kernel."""
    report: Report = []
    with open_device() as device:
        _expect(report, "the device opens once", errno.EBUSY, open_device)
        _names(report, device)
        session = device.create_session("conf")
        _expect(report, "a name is used once", errno.EEXIST, lambda: device.create_session("conf"))
        other = device.create_session("conf2")
        outgoing_name = lambda: device.retrieve_session("conf")  # noqa: E731
        _expect(report, "an outgoing session is not retrieved", errno.ENOENT, outgoing_name)
    with open_device() as device:
        again = lambda: device.create_session("conf")  # noqa: E731
        _expect(report, "closing the device leaves sessions", errno.EEXIST, again)
    _kinds(report, session)
    _tokens(report, session, other)
    _expect(report, "nothing is retrieved from it", errno.EINVAL, lambda: session.retrieve(1))
    _expect(report, "it is not finished", errno.EINVAL, session.finish)
    session.close()
    other.close()
    with open_device() as device:
        _expect(report, "the last close discards it", None, lambda: device.create_session("conf"))
    return report


def leave(open_device: Opener, name: str) -> Any:
    """A session with tokens 0, 7 (position 11) and 2**64-1; hold it until the jump."""
    with open_device() as device:
        session = device.create_session(name)
    for token in (0, 7, 2**64 - 1):
        fd = _memfd(CONTENT)
        os.lseek(fd, 11 if token == 7 else 0, os.SEEK_SET)
        session.preserve(fd, token)
    return session


def incoming(open_device: Opener, name: str) -> Report:
    """Every rule of a session that `leave` left to this kernel."""
    report: Report = []
    with open_device() as device:
        unknown = lambda: device.retrieve_session("no-such")  # noqa: E731
        _expect(report, "an unknown session", errno.ENOENT, unknown)
        session = device.retrieve_session(name)
        open_now = lambda: device.retrieve_session(name)  # noqa: E731
        _expect(report, "retrieved and still open", errno.EINVAL, open_now)
        same = lambda: device.create_session(name).close()  # noqa: E731
        _expect(report, "the name is free for a new one", None, same)
    _expect(report, "an unknown token", errno.ENOENT, lambda: session.retrieve(5))
    preserve = lambda: session.preserve(_memfd(b"x"), 9)  # noqa: E731
    _expect(report, "nothing is preserved into it", errno.EINVAL, preserve)
    fd = session.retrieve(7)
    _hold(report, "content is kept", os.pread(fd, 1 << 20, 0) == CONTENT)
    _hold(report, "the position is kept", os.lseek(fd, 0, os.SEEK_CUR) == 11)
    twice = session.retrieve(7)
    same_file = os.path.samestat(os.fstat(fd), os.fstat(twice))
    _hold(report, "retrieved again: the same file", twice != fd and same_file)
    _expect(report, "the largest token", None, lambda: session.retrieve(2**64 - 1))
    _expect(report, "it is finished", None, session.finish)
    _expect(report, "and again", None, session.finish)
    _expect(report, "nothing comes after that", errno.ENOENT, lambda: session.retrieve(0))
    session.close()
    _hold(report, "a file outlives its session", os.pread(fd, 10, 0) == CONTENT[:10])
    with open_device() as device:
        gone = lambda: device.retrieve_session(name)  # noqa: E731
        _expect(report, "closed: gone", errno.ENOENT, gone)
        new = device.create_session(name)
    _expect(report, "a retrieved file is preserved anew", None, lambda: new.preserve(fd, 1))
    new.close()
    return report


def _names(report: Report, device: Any) -> None:
    for label, name, number in (
        ("an empty name", "", errno.EINVAL),
        ("a name of 64 bytes", "x" * 64, errno.EINVAL),
        ("a name of 63 bytes", "x" * 63, None),
        ("a name with anything in it", "a/b ü", None),
    ):

        def make(name: str = name) -> None:
            device.create_session(name).close()

        _expect(report, label, number, make)


def _kinds(report: Report, session: Any) -> None:
    read_end, _write_end = os.pipe()
    linked = Path("/dev/shm") / f"luo-{os.getpid()}"
    shm = os.open(linked, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    regular = os.open("/etc/passwd", os.O_RDONLY)
    for label, fd, number in (
        ("a closed descriptor", 4000, errno.EBADF),
        ("a pipe", read_end, errno.ENOENT),
        ("a file on disk", regular, errno.ENOENT),
        ("an eventfd", os.eventfd(0), errno.ENOENT),
        ("a linked file on tmpfs", shm, errno.ENOENT),
    ):
        _expect(report, f"preserve {label}", number, lambda fd=fd: session.preserve(fd, 100))
    linked.unlink()
    _expect(report, "preserve it unlinked", None, lambda: session.preserve(shm, 100))
    tmpfile = os.open("/dev/shm", os.O_RDWR | os.O_TMPFILE, 0o600)
    _expect(report, "preserve an O_TMPFILE", None, lambda: session.preserve(tmpfile, 101))
    empty = _memfd(b"")
    _expect(report, "preserve an empty memfd", None, lambda: session.preserve(empty, 102))


def _tokens(report: Report, session: Any, other: Any) -> None:
    first = _memfd(CONTENT)
    _expect(report, "token 0", None, lambda: session.preserve(first, 0))
    _expect(report, "a token once", errno.EEXIST, lambda: session.preserve(_memfd(b"x"), 0))
    _expect(report, "a file once", errno.EBUSY, lambda: session.preserve(first, 1))
    _expect(report, "a file once for all", errno.EBUSY, lambda: other.preserve(first, 1))
    _expect(report, "the largest", None, lambda: session.preserve(_memfd(b"x"), 2**64 - 1))


def _memfd(data: bytes) -> int:
    fd = os.memfd_create("conformance", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    return fd


def _expect(report: Report, rule: str, number: int | None, call: Callable[[], Any]) -> None:
    try:
        call()
    except SystemCallError as error:
        seen: int | None = error.errno
    else:
        seen = None
    name = lambda n: errno.errorcode.get(n, str(n)) if n else "no error"  # noqa: E731
    report.append((rule, None if seen == number else f"{name(seen)}, expected {name(number)}"))


def _hold(report: Report, rule: str, holds: bool) -> None:
    report.append((rule, None if holds else "it does not hold"))


def main(arguments: list[str]) -> int:
    from orchestrator.system import guard, luo  # not where only the double is tested

    host = guard.HostGuard.open()

    def open_device() -> luo.LuoDevice:
        return luo.open_device(host)

    if arguments[:1] == ["leave"]:
        session = leave(open_device, arguments[1])
        print("READY", session.fileno(), flush=True)
        while True:
            time.sleep(60)
    what = (
        outgoing(open_device)
        if arguments == ["outgoing"]
        else incoming(open_device, *arguments[1:])
    )
    for rule, wrong in what:
        print(f"{'FAIL' if wrong else 'pass'}  {rule}{': ' + wrong if wrong else ''}")
    return 1 if any(wrong for _, wrong in what) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
