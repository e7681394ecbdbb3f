"""What an operator is told of a watchdog before the jump is what it will do."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.model.host import Capability
from orchestrator.system.watchdog_capability import capability

DEVICE = "/dev/watchdog0"


def host(root: Path, *, stop: str | None = "-1", identity: str = "i6300ESB timer") -> Path:
    """A host with a watchdog whose kernel has `watchdog.stop_on_reboot` so."""
    described = root / "sys/class/watchdog/watchdog0"
    parameters = root / "sys/module/watchdog/parameters"
    for directory in (described, parameters, root / "dev"):
        directory.mkdir(parents=True)
    (root / "dev/watchdog0").symlink_to("/dev/null")
    (described / "identity").write_text(f"{identity}\n")
    if stop is not None:
        (parameters / "stop_on_reboot").write_text(f"{stop}\n")
    return root


def look(root: Path) -> Capability:
    found = capability(DEVICE, root)
    assert found.available
    assert found.reason.startswith(DEVICE)
    return found


def test_none_is_named_and_those_that_are_there_are_told(tmp_path: Path) -> None:
    assert capability(None, tmp_path).reason.endswith("and this host has none")
    found = capability(None, host(tmp_path))
    assert not found.available
    assert "this host has /dev/watchdog0 (i6300ESB timer)" in found.reason


def test_a_file_is_no_watchdog(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/watchdog0").write_text("no device")
    found = capability(DEVICE, tmp_path)
    assert not found.available
    assert "/dev/watchdog0 is no device" in found.reason


@pytest.mark.parametrize(
    ("stop", "told"),
    [
        ("0", "it counts on across the jump"),
        ("1", "this kernel stops it (watchdog.stop_on_reboot=1)"),
        ("-1", "its driver decides, and most stop it"),
        (None, "whether it counts on across the jump is not known"),
    ],
)
def test_whether_it_counts_on_across_the_jump_is_the_kernels_parameter(
    tmp_path: Path, stop: str | None, told: str
) -> None:
    reason = look(host(tmp_path, stop=stop)).reason
    assert told in reason
    assert ("boot this kernel with watchdog.stop_on_reboot=0" in reason) == (stop in {"1", "-1"})


def test_a_timer_of_the_running_kernel_ends_with_it(tmp_path: Path) -> None:
    reason = look(host(tmp_path, stop="0", identity="Software Watchdog")).reason
    assert "it is gone with this kernel at the jump" in reason


def test_nowayout_is_told(tmp_path: Path) -> None:
    root = host(tmp_path)
    (root / "sys/class/watchdog/watchdog0/nowayout").write_text("1\n")
    assert look(root).reason.endswith("nowayout: once armed it stays so")
