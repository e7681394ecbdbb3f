"""Loading the next kernel and arming the way back: whose image it is, and what is believed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.drivers.live_update.kernel import ForeignKernelError, marked
from orchestrator.model.errors import MkupgradeError, NotSupportedError
from orchestrator.model.kinds import Kind
from orchestrator.model.steps import Inspection, Section, Step
from orchestrator.nixos import staging
from orchestrator.nixos.staging import Preloaded, Staged


@pytest.fixture
def load(host: Any) -> Step:
    return host.step(
        Kind.LOAD_KERNEL,
        instance="host",
        image=str(host.image),
        image_sha256="00" * 32,
        cmdline="root=/dev/vda mkupgrade.transaction=old/forward sysctl.kernel.ns_last_pid=9 -- -s",
        release="7.3.4",
    )


@pytest.fixture
def arm(host: Any) -> Step:
    return host.step(
        Kind.ARM_FALLBACK,
        from_release="7.2.13",
        boot_default="old.conf",
        image=str(host.image),
        initrd=None,
        cmdline="root=/dev/vda",
        watchdog="/dev/watchdog0",
        boot_deadline=300.0,
    )


def test_the_loaded_command_line_carries_what_is_for_this_jump_alone(host: Any, load: Step) -> None:
    host.perform(load)
    assert host.machine.loaded[1] == (
        "root=/dev/vda mkupgrade.transaction=t-20260901-ab12cd/forward "
        "sysctl.kernel.ns_last_pid=20000 -- -s"
    )
    assert host.verdict(load) is Inspection.PRESENT


def test_the_mark_stands_before_the_words_for_init() -> None:
    assert marked("quiet -- single", "m=1") == "quiet m=1 -- single"
    assert marked("quiet", "m=1") == "quiet m=1"
    assert marked("", "m=1") == "m=1"


def test_nothing_loaded_is_absent_whatever_the_record_says(host: Any, load: Step) -> None:
    assert host.verdict(load) is Inspection.ABSENT
    host.perform(load)
    host.machine.loaded = None
    assert host.verdict(load) is Inspection.ABSENT


def test_an_image_without_a_record_of_ours_is_unknown_and_is_not_replaced(
    host: Any, load: Step
) -> None:
    host.machine.loaded = ("/somebody/else", "")
    assert host.verdict(load) is Inspection.UNKNOWN
    with pytest.raises(ForeignKernelError):
        host.perform(load)
    host.revert(load)
    assert host.machine.loaded == ("/somebody/else", "")


def preload(host: Any, boot_id: str | None = None) -> None:
    """As `nixos stage --preload` does."""
    here = boot_id or host.machine.place().boot_id
    preloaded = Preloaded(toplevel="/store/new", boot_id=here)
    staged = Staged(toplevel="/store/new", boot_id=here, preloaded=preloaded)
    staging.remember(host.state_dir, staged)
    host.machine.loaded = ("/store/new/kernel", "init=/store/new/init")


def test_what_was_preloaded_makes_way_and_does_not_come_back(host: Any, load: Step) -> None:
    preload(host)
    assert host.verdict(load) is Inspection.ABSENT
    host.perform(load)
    assert host.machine.loaded[0] == host.image
    assert host.verdict(load) is Inspection.PRESENT
    host.revert(load)
    assert host.machine.loaded is None
    assert staging.preloaded(host.state_dir, host.machine.place().boot_id) is None


def test_what_an_earlier_boot_preloaded_excuses_nothing(host: Any, load: Step) -> None:
    preload(host, "boot-0")
    assert host.verdict(load) is Inspection.UNKNOWN
    with pytest.raises(ForeignKernelError):
        host.perform(load)


def test_a_crash_inside_the_call_is_partial_and_reverts_to_nothing(host: Any, load: Step) -> None:
    host.machine.fail = MkupgradeError("killed here")
    with pytest.raises(MkupgradeError):
        host.perform(load)
    host.machine.fail, host.machine.loaded = None, (host.image, "")
    host.die()
    assert host.verdict(load) is Inspection.PARTIAL
    host.revert(load)
    assert host.machine.loaded is None
    host.revert(load)
    assert host.verdict(load) is Inspection.ABSENT


def test_a_record_of_an_earlier_boot_claims_nothing(host: Any, load: Step) -> None:
    host.perform(load)
    host.land("7.2.13", "", carried=False)
    host.machine.loaded = ("/somebody/else", "")
    assert host.verdict(load) is Inspection.UNKNOWN
    host.revert(load)
    assert host.machine.loaded is not None


def test_our_own_image_may_be_loaded_again(host: Any, load: Step) -> None:
    host.perform(load)
    host.perform(load)
    assert host.verdict(load) is Inspection.PRESENT


def test_of_an_armed_way_back_a_part_is_left_when_the_holder_of_the_watchdog_died(
    host: Any, arm: Step
) -> None:
    """Not absent: on the way back it must be reverted, for the device may be counting on."""
    host.perform(arm)
    assert host.verdict(arm) is Inspection.PRESENT
    host.die()
    assert host.verdict(arm) is Inspection.PARTIAL
    host.revert(arm)
    assert host.verdict(arm) is Inspection.ABSENT
    assert not host.watchdog.running
    host.perform(arm)
    assert host.verdict(arm) is Inspection.PRESENT


def test_disarming_stops_a_watchdog_that_a_dead_process_left_running(host: Any, arm: Step) -> None:
    host.perform(arm)
    host.die()
    assert host.watchdog.running
    host.revert(arm)
    host.revert(arm)
    assert not host.watchdog.running


def test_a_reset_that_would_not_end_in_the_old_kernel_stops_the_upgrade(
    host: Any, arm: Step
) -> None:
    host.boot.set_default("new.conf")
    with pytest.raises(NotSupportedError, match=r"new\.conf.*old\.conf"):
        host.perform(arm)
    assert not host.watchdog.running


def test_a_missing_old_kernel_stops_the_upgrade(host: Any, arm: Step) -> None:
    host.image.unlink()
    with pytest.raises(NotSupportedError, match="not there"):
        host.perform(arm)


def test_without_a_boot_loader_the_default_is_taken_as_it_is_and_said_so(
    host: Any, arm: Step
) -> None:
    host.boot.found = host.boot.found.model_copy(update={"loader": "none", "default": None})
    step = replace(arm, params={**arm.params, "boot_default": None})
    assert "no boot loader" in host.perform(step)["note"]


def test_the_new_kernel_takes_the_watchdog_over_until_commit(host: Any, arm: Step) -> None:
    host.perform(arm)
    host.land("7.3.4", "", carried=False)
    check = host.step(Kind.CHECK, phase="after", checks=[])
    host.perform(check)
    assert host.watchdog.open
    host.perform(
        host.step(Kind.CLEAN_UP, section=Section.FORWARD, workloads=[], keep_old_kernel=1.0)
    )
    assert not host.watchdog.running
