"""The pivot: what comes before it, and what a refusal means."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.model.errors import MkupgradeError, SystemCallError
from orchestrator.model.kinds import Kind
from orchestrator.model.steps import Inspection, Step

MARK = "mkupgrade.transaction=t-20260901-ab12cd/forward"


def jump(host: Any, method: str = "kexec", to: str = "7.3.4", **params: Any) -> Step:
    return host.step(
        Kind.JUMP, method=method, from_release="7.2.13", to_release=to, boot_deadline=60.0, **params
    )  # type: ignore[no-any-return]


def test_file_systems_are_written_out_before_the_machine_is_left(
    host: Any, jumped: type[BaseException]
) -> None:
    host.machine.loaded = (host.image, MARK)
    with pytest.raises(jumped):
        host.perform(jump(host))
    assert host.machine.synced


def test_a_jump_without_a_loaded_kernel_fails_before_anything_happens(host: Any) -> None:
    with pytest.raises(MkupgradeError, match="no kernel is loaded"):
        host.perform(jump(host))
    assert not host.machine.synced


def test_a_refused_jump_is_a_plain_failure_and_absent(host: Any) -> None:
    host.machine.loaded = (host.image, MARK)
    host.machine.fail = SystemCallError("refused", errno=22)
    with pytest.raises(SystemCallError):
        host.perform(jump(host))
    assert host.inspect(jump(host), boot_id="boot-1").verdict is Inspection.ABSENT


def test_a_reset_needs_no_loaded_kernel(host: Any, jumped: type[BaseException]) -> None:
    with pytest.raises(jumped):
        host.perform(jump(host, "reset"))


@pytest.mark.parametrize(
    ("release", "cmdline", "verdict"),
    [
        ("7.3.4", f"quiet {MARK}", Inspection.PRESENT),
        ("7.2.13", "quiet", Inspection.LOST),
        ("7.3.4", "quiet", Inspection.UNKNOWN),
    ],
)
def test_the_landing_is_seen_from_the_next_kernel(
    host: Any, release: str, cmdline: str, verdict: Inspection
) -> None:
    host.land(release, cmdline, carried=True)
    assert host.inspect(jump(host), boot_id="boot-1").verdict is verdict


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("cmdline", ["quiet", "quiet new=1"])
def test_behind_a_commit_to_the_same_release_only_the_old_command_line_is_the_old_kernel(
    host: Any, moved: bool, cmdline: str
) -> None:
    armed = host.step(
        Kind.ARM_FALLBACK, from_release="7.2.13", boot_default="old.conf", image=None,
        initrd=None, cmdline="quiet", watchdog=None, boot_deadline=60.0,
    )  # fmt: skip
    host.perform(armed)
    if moved:
        host.boot.set_default("new.conf")
    host.land("7.2.13", cmdline, carried=False)
    step = jump(host, to="7.2.13", from_cmdline="quiet", to_cmdline="quiet new=1")
    wanted = Inspection.UNKNOWN if moved and "new=1" in cmdline else Inspection.LOST
    assert host.inspect(step, boot_id="boot-1").verdict is wanted


def test_without_a_record_of_the_way_back_nothing_was_committed(host: Any) -> None:
    host.land("7.2.13", "quiet new=1", carried=False)
    step = jump(host, to="7.2.13", from_cmdline="quiet", to_cmdline="quiet new=1")
    assert host.inspect(step, boot_id="boot-1").verdict is Inspection.LOST
