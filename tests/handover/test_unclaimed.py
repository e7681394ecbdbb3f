"""State for a transaction that nobody knows is reported, and never dropped."""

# ruff: noqa: PLR0917 -- fixtures are arguments
from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.handover.channels import Head, Item
from orchestrator.handover.disk import DiskChannel
from orchestrator.handover.kho import KhoChannel, session_name
from orchestrator.handover.unclaimed import find_unclaimed, rescue
from orchestrator.model.errors import HandoverError
from orchestrator.model.steps import Section
from orchestrator.system import files
from tests.support.control import Control
from tests.support.luo_double import LuoKernel

TRANSACTION = "t-20260901-ab12cd"


def test_state_on_disk_is_reported_until_its_transaction_is_known(
    head: Head, items: list[Item], control: Control, state_dir: Path
) -> None:
    DiskChannel(state_dir, TRANSACTION, Section.FORWARD).send(head, items, control)
    [found] = find_unclaimed(state_dir, known=["another"])
    assert (found.transaction, found.medium) == (TRANSACTION, "disk")
    assert found.workloads == ("counter", "web", "cron")
    assert found.problem is None
    assert find_unclaimed(state_dir, known=[TRANSACTION]) == []


def test_damaged_state_on_disk_is_reported_with_the_problem(
    head: Head, items: list[Item], control: Control, state_dir: Path
) -> None:
    channel = DiskChannel(state_dir, TRANSACTION, Section.FORWARD)
    channel.send(head, items, control)
    (channel.dir / "manifest").write_bytes(b"noise")
    [found] = find_unclaimed(state_dir, known=[])
    assert "header of 5 bytes" in str(found)


def test_the_command_line_names_a_session_and_it_is_not_touched(
    head: Head, items: list[Item], control: Control, state_dir: Path, kernel: LuoKernel
) -> None:
    KhoChannel(kernel.open_device, kernel.keeper, state_dir, TRANSACTION, Section.FORWARD).send(
        head, items, control
    )
    kernel.jump()
    cmdline = f"ro quiet mkupgrade.transaction={TRANSACTION}/forward"
    [found] = find_unclaimed(state_dir, known=[], cmdline=cmdline)
    assert found.medium == "memory"
    assert session_name(TRANSACTION) in found.where
    assert not kernel.incoming[session_name(TRANSACTION)].retrieved
    assert find_unclaimed(state_dir, [TRANSACTION], cmdline) == []


def test_a_rescued_session_is_on_disk_before_it_is_finished(
    head: Head, items: list[Item], control: Control, state_dir: Path, kernel: LuoKernel
) -> None:
    KhoChannel(kernel.open_device, kernel.keeper, state_dir, TRANSACTION, Section.FORWARD).send(
        head, items, control
    )
    kernel.jump()
    saved = rescue(kernel.open_device, state_dir, TRANSACTION, control)
    assert saved is not None
    assert saved.problem is None
    assert kernel.incoming[session_name(TRANSACTION)].finished
    assert find_unclaimed(state_dir, known=[]) == [saved]
    assert rescue(kernel.open_device, state_dir, TRANSACTION, control) is None


def test_what_cannot_be_rescued_stays_in_memory(
    head: Head,
    items: list[Item],
    control: Control,
    state_dir: Path,
    kernel: LuoKernel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    KhoChannel(kernel.open_device, kernel.keeper, state_dir, TRANSACTION, Section.FORWARD).send(
        head, items, control
    )
    kernel.jump()
    monkeypatch.setattr(files, "free_bytes", lambda path: 0)
    with pytest.raises(HandoverError, match="could not be copied") as caught:
        rescue(kernel.open_device, state_dir, TRANSACTION, control)
    assert "do not end that process" in str(caught.value.state)
    assert not kernel.incoming[session_name(TRANSACTION)].finished
