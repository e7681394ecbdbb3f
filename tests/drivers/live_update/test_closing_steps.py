"""The end of a transaction: what becomes the default, what is left lying about."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.model.errors import NotSupportedError
from orchestrator.model.kinds import Kind
from orchestrator.model.steps import Inspection, Section, Step


def commit(host: Any, previous: str | None = "old.conf") -> Step:
    return host.step(
        Kind.COMMIT,
        instance="host",
        release="7.3.4",
        image="/boot/vmlinuz",
        initrd=None,
        cmdline="",
        previous_default=previous,
        keep_old_kernel=60.0,
    )


def test_the_new_kernel_becomes_the_default_at_commit_and_not_before(host: Any) -> None:
    assert host.verdict(commit(host)) is Inspection.ABSENT
    result = host.perform(commit(host))
    assert host.boot.found.default == "new.conf"
    assert "not proven by a cold boot" in result["note"]
    assert host.verdict(commit(host)) is Inspection.PRESENT


def test_a_default_that_somebody_changed_is_no_commit(host: Any) -> None:
    host.perform(commit(host))
    host.boot.set_default("old.conf")
    assert host.verdict(commit(host)) is Inspection.ABSENT


def test_a_commit_without_a_boot_loader_says_what_a_cold_boot_does(host: Any) -> None:
    result = host.perform(commit(host, None))
    assert "cold boot will start whatever the firmware starts" in result["note"]
    assert host.verdict(commit(host, None)) is Inspection.PRESENT


def test_a_kernel_without_an_entry_cannot_be_committed(host: Any) -> None:
    host.boot.found = host.boot.found.model_copy(update={"entries": {"old.conf": "7.2.13"}})
    with pytest.raises(NotSupportedError):
        host.perform(commit(host))
    assert host.boot.found.default == "old.conf"


def test_a_reverted_commit_gives_the_old_default_back(host: Any) -> None:
    host.perform(commit(host))
    host.revert(commit(host))
    assert host.boot.found.default == "old.conf"
    assert host.verdict(commit(host)) is Inspection.ABSENT


def test_return_makes_the_old_kernel_the_default_first(host: Any) -> None:
    host.boot.set_default("new.conf")
    step = host.step(Kind.RESTORE_BOOT_DEFAULT, Section.RETURN, boot_default="old.conf")
    assert host.verdict(step) is Inspection.ABSENT
    host.perform(step)
    assert host.verdict(step) is Inspection.PRESENT


def test_cleaning_up_leaves_records_and_no_state(host: Any, workload: Any) -> None:
    host.workloads.running = {"counter": 1}
    host.perform(host.step(Kind.CHECKPOINT, workload=workload(), channel="disk", spill=False))
    preserve = host.step(
        Kind.PRESERVE,
        workloads=["counter"],
        channels={"counter": "disk"},
        from_release="a",
        to_release="b",
    )
    host.perform(preserve)
    host.perform(commit(host))
    for _ in range(2):
        host.perform(host.step(Kind.CLEAN_UP, workloads=["counter"], keep_old_kernel=1.0))
    left = {p.name for p in host.state_dir.rglob("*") if p.is_file()}
    assert left == {"commit.json", "checkpoint.counter.json"}
