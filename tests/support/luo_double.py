"""A kernel with LUO, in this process: the errors and losses of the real one, on real memfds.

What it does was measured on Linux 7.2.13 and 7.3.4; `tests/handover/luo_conformance.py` holds the
double and the real device to the same list. One thing it cannot do: a preserved memfd is not
frozen in size.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from types import TracebackType

from orchestrator.handover.kho import Session
from orchestrator.system import call_errors, calls
from orchestrator.system.call_errors import check


@dataclass
class _File:
    fd: int
    position: int


@dataclass
class _State:
    """What the kernel knows of a session; `handles` counts its open descriptors."""

    name: str
    incoming: bool
    files: dict[int, _File] = field(default_factory=dict)
    handles: int = 0
    retrieved: bool = False
    finished: bool = False


class LuoKernel:
    """The kernel. `jump()` is the kexec, `die()` the end of the process under test, which the
    keeper survives."""

    def __init__(self) -> None:
        self.outgoing: dict[str, _State] = {}
        self.incoming: dict[str, _State] = {}
        self.sessions: list[SessionDouble] = []
        self.device: DeviceDouble | None = None
        self.keeper = KeeperDouble()
        self.boots = 1

    def open_device(self) -> DeviceDouble:
        """As `luo.open_device(guard)`."""
        if self.device is not None:
            check(-errno.EBUSY, "open", call_errors.LUO_OPEN, "/dev/liveupdate")
        self.device = DeviceDouble(self)
        return self.device

    def die(self) -> None:
        """SIGKILL: every descriptor of the process is closed."""
        for session in list(self.sessions):
            session.close()
        self.device = None

    def jump(self) -> None:
        """The kexec: outgoing sessions that are open go along, all else is lost."""
        gone = [*self.incoming.values()]
        self.incoming = {
            name: _State(name, incoming=True, files=state.files)
            for name, state in self.outgoing.items()
        }
        for state in self.incoming.values():
            for file in state.files.values():
                file.position = os.lseek(file.fd, 0, os.SEEK_CUR)
        self.outgoing, self.sessions, self.device = {}, [], None
        self.boots += 1
        for state in gone:
            _drop(state)


class DeviceDouble:
    def __init__(self, kernel: LuoKernel) -> None:
        self._kernel = kernel

    def __enter__(self) -> DeviceDouble:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._kernel.device is self:
            self._kernel.device = None

    def create_session(self, name: str) -> SessionDouble:
        where = f"session {name}"
        if not 0 < len(name.encode()) <= 63 or "\0" in name:
            check(-errno.EINVAL, "CREATE", call_errors.LUO_CREATE, where)
        if name in self._kernel.outgoing:
            check(-errno.EEXIST, "CREATE", call_errors.LUO_CREATE, where)
        state = self._kernel.outgoing[name] = _State(name, incoming=False)
        return SessionDouble(self._kernel, state)

    def retrieve_session(self, name: str) -> SessionDouble:
        state = self._kernel.incoming.get(name)
        if state is None or (state.retrieved and not state.handles):
            check(-errno.ENOENT, "RETRIEVE", call_errors.LUO_RETRIEVE_SESSION, f"session {name}")
        assert state is not None
        if state.handles:
            check(-errno.EINVAL, "RETRIEVE", call_errors.LUO_RETRIEVE_SESSION, f"session {name}")
        state.retrieved = True
        return SessionDouble(self._kernel, state)


class SessionDouble:
    def __init__(self, kernel: LuoKernel, state: _State) -> None:
        self._kernel = kernel
        self._state: _State | None = state
        self._born = kernel.boots
        state.handles += 1
        kernel.sessions.append(self)

    def preserve(self, fd: int, token: int) -> None:
        state = self._open()
        where = f"session {state.name}, token {token}"
        number = self._refusal(state, fd, token)
        if number:
            check(-number, "PRESERVE_FD", call_errors.LUO_PRESERVE, where)
        state.files[token] = _File(os.dup(fd), 0)

    def retrieve(self, token: int) -> int:
        state = self._open()
        where = f"session {state.name}, token {token}"
        if not state.incoming:
            check(-errno.EINVAL, "RETRIEVE_FD", call_errors.LUO_RETRIEVE_FD, where)
        if state.finished or token not in state.files:
            check(-errno.ENOENT, "RETRIEVE_FD", call_errors.LUO_RETRIEVE_FD, where)
        file = state.files[token]
        fd = os.open(f"/proc/self/fd/{file.fd}", os.O_RDWR | os.O_CLOEXEC)
        os.lseek(fd, file.position, os.SEEK_SET)
        return fd

    def finish(self) -> None:
        state = self._open()
        if not state.incoming:
            check(-errno.EINVAL, "FINISH", call_errors.LUO_FINISH, f"session {state.name}")
        state.finished = True

    def name(self) -> str:
        return self._open().name

    def close(self) -> None:
        state, self._state = self._state, None
        if state is None or self._born != self._kernel.boots:
            return
        if self in self._kernel.sessions:
            self._kernel.sessions.remove(self)
        state.handles -= 1
        if state.handles:
            return
        if state.incoming:
            state.finished = True
        elif self._kernel.outgoing.get(state.name) is state:
            del self._kernel.outgoing[state.name]
        _drop(state)

    def fileno(self) -> int:
        return -1 if self._state is None else 3

    def is_open(self) -> bool:
        return self._state is not None and self._born == self._kernel.boots

    def dup(self) -> SessionDouble:
        """Another descriptor of it, as SCM_RIGHTS makes one."""
        return SessionDouble(self._kernel, self._open())

    def leave(self) -> None:
        """Into another process."""
        self._kernel.sessions.remove(self)

    def _open(self) -> _State:
        if self._state is None or self._born != self._kernel.boots:
            check(-errno.EBADF, "ioctl", {})
        assert self._state is not None
        return self._state

    def _refusal(self, state: _State, fd: int, token: int) -> int:
        if state.incoming:
            return errno.EINVAL
        if token in state.files:
            return errno.EEXIST
        try:
            status = os.fstat(fd)
        except OSError:
            return errno.EBADF
        if not _can_be_preserved(fd, status):
            return errno.ENOENT
        taken = [f.fd for s in self._kernel.outgoing.values() for f in s.files.values()]
        if any(os.path.samestat(os.fstat(other), status) for other in taken):
            return errno.EBUSY
        return 0


class KeeperDouble:
    """A keeper that lives as long as the kernel: `LuoKernel.die` does not reach it."""

    def __init__(self) -> None:
        self.sessions: dict[str, SessionDouble] = {}

    def keep(self, name: str, session: Session) -> None:
        assert isinstance(session, SessionDouble)
        self.sessions[name] = self._another(session)

    def kept(self, name: str) -> SessionDouble | None:
        found = self.sessions.get(name)
        if found is None or not found.is_open():
            return None
        return found.dup()

    def release(self, name: str) -> None:
        if name in self.sessions:
            self.sessions.pop(name).close()

    @staticmethod
    def _another(session: SessionDouble) -> SessionDouble:
        """Open in a process that `die` is not about."""
        held = session.dup()
        held.leave()
        return held


def _can_be_preserved(fd: int, status: os.stat_result) -> bool:
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 0:
        return False
    return calls.statfs_magic(fd) == calls.TMPFS_MAGIC


def _drop(state: _State) -> None:
    for file in state.files.values():
        os.close(file.fd)
    state.files = {}
