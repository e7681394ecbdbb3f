"""On NixOS: the old system stays what a reset ends in until commit, and is again after it fails."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from orchestrator.model.errors import MkupgradeError, NotSupportedError, ToolError
from orchestrator.model.kinds import Kind
from orchestrator.model.steps import Inspection, Section, Step

NIXOS = {
    "link": "/profiles/system", "toplevel": "/store/new", "previous": "/store/old",
    "generation": 1, "last": 1,
}  # fmt: skip


def commit(host: Any) -> Step:
    return host.step(
        Kind.COMMIT, instance="host", release="7.3.4", image="/k", initrd=None, cmdline="",
        previous_default=None, keep_old_kernel=60.0, nixos=NIXOS,
    )  # type: ignore[no-any-return]  # fmt: skip


def arm(host: Any, nixos: dict[str, Any] = NIXOS) -> Step:
    return host.step(
        Kind.ARM_FALLBACK, from_release="7.2.13", boot_default=None, image=None, initrd=None,
        cmdline="", watchdog=None, boot_deadline=60.0, nixos=nixos,
    )  # type: ignore[no-any-return]  # fmt: skip


def preflight(host: Any, nixos: dict[str, Any] = NIXOS) -> Step:
    return host.step(
        Kind.PREFLIGHT, instance="host", workloads=[], channels={}, to_release="7.9.9", nixos=nixos
    )  # type: ignore[no-any-return]


def restore(host: Any, section: Section = Section.RETURN, nixos: dict[str, Any] = NIXOS) -> Step:
    return host.step(Kind.RESTORE_BOOT_DEFAULT, section, boot_default=None, nixos=nixos)  # type: ignore[no-any-return]


def test_pre_switch_checks_refuse_while_nothing_has_happened(host: Any) -> None:
    host.nixos.refuses = MkupgradeError("no")
    with pytest.raises(MkupgradeError, match="no"):
        host.perform(preflight(host))
    assert host.nixos == type(host.nixos)(refuses=host.nixos.refuses)


def test_no_boot_entry_of_the_release_is_asked_for_before_there_is_a_generation(host: Any) -> None:
    host.perform(preflight(host))


def test_both_systems_are_held_from_when_the_way_back_is_armed(host: Any) -> None:
    host.nixos.menu = "/store/new"
    host.perform(arm(host))
    assert host.nixos.held
    assert host.verdict(arm(host)) is Inspection.PRESENT
    assert (host.nixos.leads_to, host.nixos.menu) == ("/store/old", "/store/old")
    host.revert(arm(host))
    assert not host.nixos.held


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("init", ["init=/old", "init=/new"])
def test_behind_a_commit_to_the_same_kernel_only_the_old_system_is_the_way_back(
    host: Any, moved: bool, init: str
) -> None:
    host.perform(arm(host))
    if moved:
        host.nixos.leads_to = "/store/new"
    host.land("7.2.13", init, carried=False)
    jump = host.step(
        Kind.JUMP, method="kexec", from_release="7.2.13", to_release="7.2.13",
        from_cmdline="init=/old", to_cmdline="init=/new", boot_deadline=60.0,
    )  # fmt: skip
    wanted = Inspection.UNKNOWN if moved and init == "init=/new" else Inspection.LOST
    assert host.inspect(jump, boot_id="boot-1").verdict is wanted


def test_a_profile_that_leads_elsewhere_stops_the_upgrade(host: Any) -> None:
    host.nixos.leads_to = "/store/new"
    with pytest.raises(NotSupportedError, match="a reset must end in /store/old"):
        host.perform(arm(host))


PENDING = NIXOS | {"pending": {"toplevel": "/store/new", "generation": 2}}


def test_what_was_pending_gives_way_while_the_way_back_is_armed(host: Any) -> None:
    host.nixos.menu = host.nixos.leads_to = "/store/new"
    step = arm(host, PENDING)
    assert host.verdict(step) is Inspection.ABSENT
    host.perform(step)
    assert host.verdict(step) is Inspection.PRESENT
    assert (host.nixos.leads_to, host.nixos.menu) == ("/store/old", "/store/old")
    host.revert(step)
    assert (host.nixos.leads_to, host.nixos.menu) == ("/store/new", "/store/new")


def test_a_third_system_stops_the_upgrade_where_another_one_was_pending(host: Any) -> None:
    host.nixos.leads_to = "/store/third"
    with pytest.raises(NotSupportedError, match="a reset must end in /store/old"):
        host.perform(arm(host, PENDING))


def test_a_menu_that_starts_another_kernel_is_no_obstacle_where_a_system_is_pending(
    host: Any,
) -> None:
    """Arming makes another menu; one that starts the new kernel nevertheless stops it there."""
    host.boot.found = host.boot.found.model_copy(
        update={"default": "new", "entries": {"new": "7.9.9", "old": "7.2.13"}}
    )
    with pytest.raises(NotSupportedError, match=r"starts Linux 7\.9\.9"):
        host.perform(preflight(host))
    host.perform(preflight(host, PENDING))
    host.nixos.leads_to = "/store/new"
    with pytest.raises(NotSupportedError, match=r"starts Linux 7\.9\.9"):
        host.perform(arm(host, PENDING))


def test_what_was_tried_and_failed_is_not_pending_again(host: Any) -> None:
    host.perform(commit(host))
    result = host.perform(restore(host, nixos=PENDING))
    assert host.nixos.leads_to == "/store/old"
    assert "generation 2 is no longer pending" in result["note"]


def test_profile_and_menu_change_at_commit_and_not_before(host: Any) -> None:
    assert host.verdict(commit(host)) is Inspection.ABSENT
    result = host.perform(commit(host))
    assert (host.nixos.leads_to, host.nixos.menu) == ("/store/new", "/store/new")
    assert result["boot_default"] == "/store/new"
    assert host.verdict(commit(host)) is Inspection.PRESENT


def test_a_menu_that_fails_is_a_partial_commit_which_is_put_back(host: Any) -> None:
    host.nixos.menu_fails = ToolError("no space left on the ESP")
    with pytest.raises(ToolError):
        host.perform(commit(host))
    assert host.verdict(commit(host)) is Inspection.PARTIAL
    host.revert(commit(host))
    assert (host.nixos.leads_to, host.nixos.menu) == ("/store/old", "/store/old")
    assert host.verdict(commit(host)) is Inspection.ABSENT


def test_a_profile_that_somebody_changed_is_no_whole_commit(host: Any) -> None:
    host.perform(commit(host))
    host.nixos.leads_to = "/store/other"
    assert host.verdict(commit(host)) is Inspection.PARTIAL


def test_the_way_back_puts_the_old_system_back(host: Any) -> None:
    host.perform(commit(host))
    assert host.verdict(restore(host)) is Inspection.ABSENT
    host.perform(restore(host))
    assert (host.nixos.leads_to, host.nixos.menu) == ("/store/old", "/store/old")
    assert host.verdict(restore(host)) is Inspection.PRESENT


def load(host: Any, script: str, sha256: str | None = None) -> Step:
    initrd, program = host.tmp_path / "initrd", host.tmp_path / "append"
    initrd.write_bytes(b"070701")
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
    program.chmod(0o755)
    return host.step(
        Kind.LOAD_KERNEL, instance="host", image=str(host.image), image_sha256="ab" * 32,
        initrd=str(initrd), initrd_secrets=str(program), cmdline="quiet", release="7.3.4",
        initrd_sha256=sha256 or hashlib.sha256(b"070701").hexdigest(),
    )  # type: ignore[no-any-return]  # fmt: skip


def test_what_is_loaded_is_a_copy_with_secrets_which_is_gone_afterwards(host: Any) -> None:
    host.perform(load(host, 'printf secret >> "$1"'))
    assert host.machine.initrd == b"070701secret"
    assert list((host.tmp_path / "run").glob("*/initrd/*")) == []


@pytest.mark.parametrize(("script", "sha256"), [("exit 1", None), ("true", "0" * 64)])
def test_nothing_is_loaded_without_its_secrets(host: Any, script: str, sha256: str | None) -> None:
    with pytest.raises(MkupgradeError):
        host.perform(load(host, script, sha256))
    assert host.machine.loaded is None
    assert list((host.tmp_path / "run").glob("*/initrd/*")) == []
