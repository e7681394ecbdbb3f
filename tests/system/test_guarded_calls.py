"""No dangerous call is reached on a machine that was not permitted, whatever guard is held."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.model.errors import GuardError
from orchestrator.model.host import BootState
from orchestrator.system import boot_loaders, calls, guard, luo, proc, subprocesses, watchdog
from orchestrator.system.guard import HostGuard
from orchestrator.system.multikernel import MAGIC, FileSystem
from tests.support.native import DANGEROUS, FakeCalls, Tripwire


class LooksLikeAGuard:
    def require(self, what: str) -> None:
        """Lets everything through."""


GUARDS: dict[str, Callable[[], Any]] = {
    "opened": HostGuard.open,
    "opened for this machine": lambda: HostGuard.open(proc.machine_id()),
    "opened for another machine": lambda: HostGuard.open("0" * 32),
    "made by hand": lambda: HostGuard(proc.boot_id(), None),
    "made by hand for an unknown boot": lambda: HostGuard("", ""),
    "a stand-in": LooksLikeAGuard,
    "none": lambda: None,
}


def _session(host: Any) -> luo.LuoSession:
    return luo.LuoSession(host, os.open("/dev/null", os.O_RDWR))


def _device(host: Any) -> luo.LuoDevice:
    return luo.LuoDevice(host, os.open("/dev/null", os.O_RDWR))


def _watchdog(host: Any) -> watchdog.Watchdog:
    return watchdog.Watchdog(host, os.open("/dev/null", os.O_RDWR), "/dev/null")


CALLS: dict[str, Callable[[Any], Any]] = {
    "kexec_file_load": lambda host: calls.kexec_file_load(host, -1, None, "quiet"),
    "kexec_unload": calls.kexec_unload,
    "reboot_kexec": calls.reboot_kexec,
    "reboot_reset": calls.reboot_reset,
    "open_device": luo.open_device,
    "create_session": lambda host: _device(host).create_session("x"),
    "retrieve_session": lambda host: _device(host).retrieve_session("x"),
    "preserve": lambda host: _session(host).preserve(0, 0),
    "retrieve": lambda host: _session(host).retrieve(0),
    "finish": lambda host: _session(host).finish(),
    "name": lambda host: _session(host).name(),
    "open_watchdog": lambda host: watchdog.open_watchdog(host, "/dev/watchdog"),
    "set_timeout": lambda host: _watchdog(host).set_timeout(60),
    "keepalive": lambda host: _watchdog(host).keepalive(),
    "disarm": lambda host: _watchdog(host).disarm(),
    "multikernel write": lambda host: FileSystem().write(host, "overlays/new", b"x"),
    "multikernel load": lambda host: FileSystem().load(
        host, "web", 7, kernel_fd=-1, initrd_fd=None, cmdline=""
    ),
    "multikernel unload": lambda host: FileSystem().unload(host, "web", 7),
    "multikernel start": lambda host: FileSystem().start(host, "web", 7),
    "multikernel halt": lambda host: FileSystem().halt(host, "web", 7),
    "multikernel halt_force": lambda host: FileSystem().halt_force(host, "web", 7),
    "set_default": lambda host: boot_loaders.set_default(
        host, BootState(loader="systemd-boot", entries={"a": "b"}), "a"
    ),
}


@pytest.fixture(autouse=True)
def nothing_but_the_guard(
    tripwire: Tripwire, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """Opening a device or running a program counts as reaching the host, too."""
    reached: list[str] = []
    really_open = os.open

    def watched_open(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if str(path).startswith("/dev/") and str(path) != "/dev/null":
            reached.append(str(path))
        return really_open(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", watched_open)
    monkeypatch.setattr(subprocesses, "run", lambda *_a, **_k: reached.append("run"))
    yield reached
    assert reached == []


@pytest.mark.skipif(guard.REAL.permit.exists(), reason=f"{guard.REAL.permit}: host permitted")
@pytest.mark.parametrize("call", sorted(CALLS))
@pytest.mark.parametrize("held", sorted(GUARDS))
def test_no_guard_of_an_unpermitted_machine_lets_a_call_through(held: str, call: str) -> None:
    with pytest.raises(GuardError) as refused:
        CALLS[call](GUARDS[held]())
    assert refused.value.state == "nothing was changed by this call"


def test_the_guard_cannot_be_subclassed_into_consent(tripwire: Tripwire) -> None:
    lenient = type("Lenient", (HostGuard,), {"require": lambda *_: None})
    with pytest.raises(GuardError, match="no host guard"):
        calls.kexec_unload(lenient("", None))


def test_the_list_of_dangerous_calls_is_complete(
    fake_calls: FakeCalls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With consent and a library that does nothing, the calls above reach all of DANGEROUS: no
    dangerous function lacks a wrapper here."""
    (tmp_path / "instances/web").mkdir(parents=True)
    (tmp_path / "instances/web/id").write_text("7\n")
    (tmp_path / "instances/web/status").write_text("loaded\n")
    monkeypatch.setattr(FileSystem.__init__, "__defaults__", (tmp_path,))
    fake_calls.answers["sys_fstatfs_type"] = MAGIC
    native = set(CALLS) - {
        "open_device", "open_watchdog", "disarm", "set_default", "multikernel write"
    }  # fmt: skip
    for call in native:
        try:
            CALLS[call](HostGuard.open())
        except Exception as error:
            assert "returned without restarting" in str(error)
    assert {name for name, *_ in fake_calls.asked} - {"sys_fstatfs_type"} == DANGEROUS
