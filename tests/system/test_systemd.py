"""systemd, as its tools answer; sd_notify and cgroups for real."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.model.errors import NotSupportedError, ToolError, WorkloadError
from orchestrator.system import subprocesses, systemd
from orchestrator.system.subprocesses import Completed

Root = Callable[[dict[str, str | bytes]], Path]
SHOWN = """Id=x.service
LoadState=loaded
ActiveState=active
SubState=running
MainPID=321
ControlGroup=/system.slice/x.service
FragmentPath=/etc/systemd/system/x.service
"""


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What systemctl says; the last entry is used."""
    texts = [SHOWN]
    monkeypatch.setattr(systemd, "is_running", lambda: True)
    monkeypatch.setattr(
        subprocesses, "run", lambda argv, **_: Completed(tuple(argv), 0, texts[-1].encode(), b"")
    )
    return texts


def test_a_unit_is_read(shown: list[str]) -> None:
    found = systemd.show("x.service")
    assert (found.load, found.active, found.main_pid) == ("loaded", "active", 321)
    assert found.cgroup == "/system.slice/x.service"
    assert systemd.main_pid("x.service") == 321


def test_a_unit_that_does_not_run_has_no_main_process(shown: list[str]) -> None:
    shown.append("Id=x.service\nLoadState=loaded\nActiveState=inactive\nSubState=dead\nMainPID=0\n")
    with pytest.raises(WorkloadError, match="inactive"):
        systemd.main_pid("x.service")
    shown.append("Id=x.service\nLoadState=not-found\nActiveState=inactive\nMainPID=0\n")
    with pytest.raises(WorkloadError, match="no unit"):
        systemd.main_pid("x.service")


def test_a_host_without_systemd_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "is_running", lambda: False)
    with pytest.raises(NotSupportedError, match="systemd does not run"):
        systemd.start("x.service", timeout=1)


def test_a_cgroup_has_the_processes_of_those_below_it(host_root: Root) -> None:
    root = host_root({"a/cgroup.procs": "12\n5\n", "a/b/c/cgroup.procs": "7\n"})
    assert systemd.cgroup_pids("/a", root) == [5, 7, 12]
    assert systemd.cgroup_pids("/nothing", root) == []
    with pytest.raises(WorkloadError):
        systemd.cgroup_pids("/../etc", root)


def test_readiness_and_descriptors_reach_the_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        with (tmp_path / "file").open("w") as file:
            assert systemd.notify("FDSTORE=1\nFDNAME=x", [file.fileno()])
        text, ancillary, *_ = receiver.recvmsg(100, socket.CMSG_SPACE(4))
        assert text == b"FDSTORE=1\nFDNAME=x"
        (fd,) = array.array("i", ancillary[0][2])
        assert Path(f"/proc/self/fd/{fd}").readlink() == tmp_path / "file"
        os.close(fd)


def test_without_a_socket_nothing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not systemd.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    with pytest.raises(ToolError):
        systemd.notify("READY=1")


def test_received_descriptors_are_for_this_process_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", "1")
    assert systemd.received_fds() == {}
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "many")
    assert systemd.received_fds() == {}
