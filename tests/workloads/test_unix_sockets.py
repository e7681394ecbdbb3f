"""UNIX connections that lead out: named, or, where they go to the journal, made anew."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from orchestrator.model.spec.workloads import CriuMigrate
from orchestrator.workloads import criu, journal, unix_diag


def inode(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


@pytest.fixture
def known() -> dict[int, unix_diag.UnixSocket]:
    found = unix_diag.unix_sockets()
    if not found:
        pytest.skip("this kernel has no UNIX_DIAG")
    return found


def test_a_pair_within_the_workload_leads_nowhere(
    known: dict[int, unix_diag.UnixSocket],
) -> None:
    left, right = socket.socketpair()
    with left, right:
        now = unix_diag.unix_sockets()
        assert unix_diag.connected_outside({inode(left), inode(right)}, now) == []
        [out] = unix_diag.connected_outside({inode(left)}, now)
        assert (out.inode, out.peer, out.name) == (inode(left), inode(right), "")


def test_a_connection_is_named_by_its_other_end(
    known: dict[int, unix_diag.UnixSocket], tmp_path: Path
) -> None:
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        client.connect(path)
        peer, _ = server.accept()
        with peer:
            now = unix_diag.unix_sockets()
            [out] = unix_diag.connected_outside({inode(client), inode(server)}, now)
            assert (out.inode, out.name) == (inode(client), path)


def test_unconnected_and_datagram_sockets_are_no_matter(
    known: dict[int, unix_diag.UnixSocket],
) -> None:
    with (
        socket.socket(socket.AF_UNIX) as alone,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram,
    ):
        now = unix_diag.unix_sockets()
        assert unix_diag.connected_outside({inode(alone), inode(datagram)}, now) == []


@pytest.mark.parametrize(
    ("name", "journals"),
    [
        ("/run/systemd/journal/stdout", True),
        ("/run/systemd/journal.shop/stdout", True),
        ("/run/systemd/journal/stdout2", False),
        ("/run/dbus/system_bus_socket", False),
        ("", False),
    ],
)
def test_only_streams_to_a_journal_are_made_anew(name: str, journals: bool) -> None:
    assert journal.is_stream(name) is journals


def test_a_new_stream_introduces_itself_to_the_journal(tmp_path: Path) -> None:
    path = str(tmp_path / "stdout")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        with journal.streams([77, 78], "ser\nver", "app.service", path) as (opened, notes):
            assert notes == []
            assert set(opened) == {77, 78}
            os.write(opened[77], b"hello\n")
            peer, _ = server.accept()
        with peer, peer.makefile("rb") as told:
            expected = b"server\napp.service\n6\n0\n0\n0\n0\nhello\n"
            assert told.read() == expected
        for fd in opened.values():
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)


def test_without_a_journal_output_goes_nowhere_and_it_is_said(tmp_path: Path) -> None:
    with journal.streams([77], "server", None, str(tmp_path / "none")) as (opened, notes):
        assert Path(f"/proc/self/fd/{opened[77]}").readlink() == Path("/dev/null")
        assert len(notes) == 1
        assert "/dev/null" in notes[0]


def test_criu_is_told_which_end_stays_behind_and_what_takes_its_place() -> None:
    migrate = CriuMigrate(method="criu", tcp_established=False)
    argv = criu.dump_argv(5, Path("/i"), migrate, False, external=[198627])
    assert argv[-2:] == ["--external", "unix[198627]"]
    argv = criu.restore_argv(Path("/i"), Path("/l"), migrate, False, {198627: 9})
    assert argv[-2:] == ["--inherit-fd", "fd[9]:socket:[198627]"]
