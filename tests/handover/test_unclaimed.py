"""State for a transaction that nobody knows is reported, and never dropped."""

from __future__ import annotations

from pathlib import Path

from orchestrator.handover.channels import Head, Item
from orchestrator.handover.disk import DiskChannel
from orchestrator.handover.kho import KhoChannel, session_name
from orchestrator.handover.unclaimed import find_unclaimed
from orchestrator.model.steps import Section
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
    assert "bring its journal back" in found.advice(state_dir)
    assert find_unclaimed(state_dir, known=[TRANSACTION]) == []


def test_damaged_state_on_disk_is_reported_with_the_problem(
    head: Head, items: list[Item], control: Control, state_dir: Path
) -> None:
    channel = DiskChannel(state_dir, TRANSACTION, Section.FORWARD)
    channel.send(head, items, control)
    (channel.dir / "manifest").write_bytes(b"noise")
    [found] = find_unclaimed(state_dir, known=[])
    assert "header of 5 bytes" in str(found)


def test_what_comes_over_a_stream_is_told_as_not_complete(state_dir: Path) -> None:
    DiskChannel(state_dir, TRANSACTION, Section.FORWARD, "incoming").begin()
    [found] = find_unclaimed(state_dir, known=[])
    assert found.where.endswith("forward.incoming")
    assert "not complete" in str(found)


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
    assert f"session {session_name(TRANSACTION)} until the next restart: do not restart" in (
        found.advice(state_dir)
    )
    assert not kernel.incoming[session_name(TRANSACTION)].retrieved
    assert find_unclaimed(state_dir, [TRANSACTION], cmdline) == []
