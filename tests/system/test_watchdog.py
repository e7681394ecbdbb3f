"""The watchdog against a library that answers, and a file that records what is written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from orchestrator.model.errors import SystemCallError
from orchestrator.system import call_errors, watchdog
from orchestrator.system.guard import HostGuard
from tests.support.native import FakeCalls


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "watchdog0"
    path.write_bytes(b"")
    return path


def test_disarming_writes_the_magic_letter_and_closing_does_not(
    device: Path, fake_calls: FakeCalls
) -> None:
    watchdog.open_watchdog(HostGuard.open(), device).close()
    assert device.read_bytes() == b""
    with watchdog.open_watchdog(HostGuard.open(), device) as dog:
        dog.keepalive()
    assert device.read_bytes() == b"V"
    dog.disarm()
    assert [name for name, *_ in fake_calls.asked] == ["wdioc_keepalive"]


def test_the_limit_that_the_hardware_took_is_told(device: Path, fake_calls: FakeCalls) -> None:
    dog = watchdog.open_watchdog(HostGuard.open(), device)
    assert dog.set_timeout(30) == 30
    fake_calls.answers["wdioc_settimeout"] = -errno.EINVAL
    with pytest.raises(SystemCallError, match="cannot keep"):
        dog.set_timeout(10**6)
    dog.close()


def test_a_watchdog_that_somebody_holds_is_busy(
    device: Path, fake_calls: FakeCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = HostGuard.open()

    def busy(*_: object) -> int:
        raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr(os, "open", busy)
    with pytest.raises(call_errors.BusyError, match="systemd"):
        watchdog.open_watchdog(host, device)


def test_a_device_that_is_no_watchdog_says_so() -> None:
    fd = os.open("/dev/null", os.O_WRONLY)
    dog = watchdog.Watchdog(HostGuard.open(), fd, "/dev/null")
    with pytest.raises(SystemCallError, match="not a watchdog device"):
        dog.support()
    with pytest.raises(SystemCallError, match="not a watchdog device"):
        dog.timeout()
    dog.close()
