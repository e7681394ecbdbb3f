"""What all channels promise: all or nothing, verified before unpacked, durable before finished."""

# ruff: noqa: PLR0917 -- fixtures are arguments
from __future__ import annotations

import filecmp
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.agent.keys import new_key
from orchestrator.handover.channels import Channel, Head, Item, Received
from orchestrator.handover.disk import DiskChannel
from orchestrator.handover.frame import SIZE
from orchestrator.handover.kho import KhoChannel, session_name
from orchestrator.handover.stream import StreamChannel
from orchestrator.model.errors import (
    DeadlineError,
    ErrorClass,
    HandoverError,
    MkupgradeError,
    ToolError,
)
from orchestrator.model.steps import Inspection, Section
from orchestrator.system.call_errors import NotPreservedError
from tests.support.agents import Local
from tests.support.control import Control
from tests.support.luo_double import LuoKernel

TRANSACTION = "t-20260901-ab12cd"


Make = Callable[[], Channel]


@pytest.fixture(params=["kho", "disk", "stream"])
def make(request: pytest.FixtureRequest, kernel: LuoKernel, state_dir: Path, agent: Local) -> Make:
    if request.param == "stream":
        return lambda: StreamChannel(state_dir, TRANSACTION, Section.FORWARD, agent.peer)
    if request.param == "disk":
        return lambda: DiskChannel(state_dir, TRANSACTION, Section.FORWARD)
    return lambda: kho(kernel, state_dir)


@pytest.fixture
def agent(state_dir: Path) -> Iterator[Local]:
    local = Local(new_key(TRANSACTION), state_dir)
    yield local
    local.close()


def kho(kernel: LuoKernel, state_dir: Path) -> KhoChannel:
    return KhoChannel(kernel.open_device, kernel.keeper, state_dir, TRANSACTION, Section.FORWARD)


def same(left: Path, right: Path) -> bool:
    compared = filecmp.dircmp(left, right)
    wrong = compared.left_only + compared.right_only + compared.diff_files + compared.funny_files
    return not wrong and all(same(left / s, right / s) for s in compared.common_dirs)


def arrived(received: Received, items: list[Item]) -> None:
    assert [w.name for w in received.manifest.workloads] == [i.name for i in items]
    assert set(received.directories) == {"counter", "web"}
    for item in items:
        if item.directory:
            assert same(item.directory, received.directories[item.name])
            assert received.manifest.workload(item.name).meta == {"pids": [400, 401]}


def test_state_arrives_as_it_was_sent(
    make: Make, kernel: LuoKernel, head: Head, items: list[Item], control: Control, tmp_path: Path
) -> None:
    sender = make()
    sent = sender.send(head, items, control)
    assert sender.inspect_sent().verdict is Inspection.PRESENT
    kernel.jump()
    receiver = make()
    received = receiver.receive(tmp_path / "run", control)
    assert received.manifest == sent
    arrived(received, items)
    assert receiver.inspect_received(tmp_path / "run").verdict is Inspection.PRESENT
    receiver.finish()
    assert receiver.receive(tmp_path / "run", control) == received


def test_everything_is_private(
    make: Make, head: Head, items: list[Item], control: Control, state_dir: Path, tmp_path: Path
) -> None:
    channel = make()
    channel.send(head, items, control)
    for path in state_dir.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_discard_leaves_nothing(
    make: Make, head: Head, items: list[Item], control: Control, state_dir: Path, kernel: LuoKernel
) -> None:
    channel = make()
    channel.send(head, items, control)
    channel.discard()
    channel.discard()
    assert channel.inspect_sent().verdict is Inspection.ABSENT
    assert not kernel.outgoing
    assert not (state_dir / "handover").exists()


def test_a_second_send_replaces_the_first(
    make: Make, head: Head, items: list[Item], control: Control, tmp_path: Path, kernel: LuoKernel
) -> None:
    channel = make()
    channel.send(head, items, control)
    manifest = channel.send(head, items[1:], control)
    kernel.jump()
    assert make().receive(tmp_path / "run", control).manifest == manifest


@pytest.mark.parametrize("bad", ["link", "fifo", "transaction", "section"])
def test_a_failed_send_holds_nothing(
    make: Make, bad: str, head: Head, items: list[Item], control: Control, kernel: LuoKernel
) -> None:
    assert items[1].directory
    if bad == "link":
        (items[1].directory / "link").symlink_to("/etc/shadow")
    elif bad == "fifo":
        os.mkfifo(items[1].directory / "fifo")
    else:
        wrong: dict[str, Any] = {"transaction": "../x", "section": Section.RETURN}
        head = Head(**{**head.__dict__, bad: wrong[bad]})
    channel = make()
    with pytest.raises(HandoverError):
        channel.send(head, items, control)
    assert channel.inspect_sent().verdict is Inspection.ABSENT
    assert not kernel.outgoing


def test_no_time_left_is_a_deadline(
    make: Make, head: Head, items: list[Item], no_time: Control
) -> None:
    channel = make()
    with pytest.raises(DeadlineError):
        channel.send(head, items, no_time)
    assert channel.inspect_sent().verdict is Inspection.ABSENT


def test_another_section_is_refused(
    head: Head,
    items: list[Item],
    control: Control,
    tmp_path: Path,
    kernel: LuoKernel,
    state_dir: Path,
) -> None:
    kho(kernel, state_dir).send(head, items, control)
    kernel.jump()
    back = KhoChannel(kernel.open_device, kernel.keeper, state_dir, TRANSACTION, Section.RETURN)
    with pytest.raises(HandoverError, match="section forward; expected"):
        back.receive(tmp_path / "run", control)
    assert not kernel.incoming[session_name(TRANSACTION)].finished


def test_a_kho_session_dies_with_its_process(
    head: Head,
    items: list[Item],
    control: Control,
    tmp_path: Path,
    kernel: LuoKernel,
    state_dir: Path,
) -> None:
    kho(kernel, state_dir).send(head, items, control)
    kernel.die()
    assert kho(kernel, state_dir).inspect_sent().verdict is Inspection.ABSENT
    kernel.jump()
    with pytest.raises(NotPreservedError):
        kho(kernel, state_dir).receive(tmp_path / "run", control)


def test_memory_is_given_back_only_after_the_state_is_durable(
    head: Head,
    items: list[Item],
    control: Control,
    tmp_path: Path,
    kernel: LuoKernel,
    state_dir: Path,
) -> None:
    """The engine is killed right after `receive`, and the keeper with it: the last close of the
    session finished it."""
    kho(kernel, state_dir).send(head, items, control)
    kernel.jump()
    kho(kernel, state_dir).receive(tmp_path / "run", control)
    kernel.die()
    kernel.keeper.release(session_name(TRANSACTION))
    again = kho(kernel, state_dir).receive(tmp_path / "elsewhere", control)
    arrived(again, items)


@pytest.mark.parametrize("how", ["killed", "ended by an error"])
def test_state_that_is_not_durable_yet_outlives_the_process_that_retrieved_it(
    head: Head,
    items: list[Item],
    control: Control,
    tmp_path: Path,
    kernel: LuoKernel,
    state_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """Twice: the one who went on with it dies at the same place."""

    def ends(*_: Any) -> None:
        raise HandoverError("the disk is full")

    kho(kernel, state_dir).send(head, items, control)
    kernel.jump()
    for _ in range(2):
        receiver = kho(kernel, state_dir)
        with monkeypatch.context() as patch, pytest.raises(HandoverError, match="disk is full"):
            patch.setattr(DiskChannel, "copy_in", ends)
            receiver.receive(tmp_path / "run", control)
        if how == "killed":
            kernel.die()
        else:
            receiver.close()
        assert not kernel.incoming[session_name(TRANSACTION)].finished
    receiver = kho(kernel, state_dir)
    arrived(receiver.receive(tmp_path / "run", control), items)
    receiver.finish()
    assert kernel.incoming[session_name(TRANSACTION)].finished
    assert kernel.keeper.kept(session_name(TRANSACTION)) is None


def test_a_process_that_died_before_it_told_the_keeper_is_made_good(
    head: Head,
    items: list[Item],
    control: Control,
    tmp_path: Path,
    kernel: LuoKernel,
    state_dir: Path,
) -> None:
    kho(kernel, state_dir).send(head, items, control)
    kernel.jump()
    kho(kernel, state_dir).receive(tmp_path / "run", control)
    kernel.die()
    receiver = kho(kernel, state_dir)
    arrived(receiver.receive(tmp_path / "run", control), items)
    receiver.finish()
    assert kernel.incoming[session_name(TRANSACTION)].finished


def test_without_a_keeper_the_state_is_received_all_the_same_and_that_is_said(
    head: Head,
    items: list[Item],
    control: Control,
    tmp_path: Path,
    kernel: LuoKernel,
    state_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: Any) -> None:
        raise ToolError("no keeper can be started")

    monkeypatch.setattr(kernel.keeper, "keep", fails)
    kho(kernel, state_dir).send(head, items, control)
    kernel.jump()
    arrived(kho(kernel, state_dir).receive(tmp_path / "run", control), items)
    assert any("no keeper can be started" in line for line in control.said)


def test_what_is_spilled_is_not_written_again(
    head: Head,
    items: list[Item],
    control: Control,
    tmp_path: Path,
    kernel: LuoKernel,
    state_dir: Path,
) -> None:
    sender = kho(kernel, state_dir)
    sender.send(head, items, control)
    DiskChannel(state_dir, TRANSACTION, Section.FORWARD).send(head, items, control)
    kernel.jump()
    receiver = kho(kernel, state_dir)
    arrived(receiver.receive(tmp_path / "run", control), items)
    assert not receiver.copy.dir.exists()


def test_spilled_state_replaces_a_session_that_was_lost(
    head: Head,
    items: list[Item],
    control: Control,
    tmp_path: Path,
    kernel: LuoKernel,
    state_dir: Path,
) -> None:
    kho(kernel, state_dir).send(head, items, control)
    DiskChannel(state_dir, TRANSACTION, Section.FORWARD).send(head, items, control)
    kernel.die()
    kernel.jump()
    arrived(kho(kernel, state_dir).receive(tmp_path / "run", control), items)


@pytest.mark.parametrize("again", ["at once", "after a crash"])
def test_a_damaged_payload_is_never_unpacked_and_costs_the_others_nothing(
    head: Head,
    items: list[Item],
    control: Control,
    tmp_path: Path,
    kernel: LuoKernel,
    state_dir: Path,
    again: str,
) -> None:
    kho(kernel, state_dir).send(head, items, control)
    session = kernel.outgoing[session_name(TRANSACTION)]
    replace(session, 2, lambda data: data[:-1] + b"\1")
    kernel.jump()
    receiver = kho(kernel, state_dir)
    received = receiver.receive(tmp_path / "run", control)
    assert not kernel.incoming[session_name(TRANSACTION)].finished
    if again == "after a crash":
        kernel.die()
        received = kho(kernel, state_dir).receive(tmp_path / "other", control)
    assert list(received.damaged) == ["web"]
    assert list(received.directories) == ["counter"]
    item = next(i for i in items if i.name == "counter")
    assert item.directory is not None
    assert same(item.directory, received.directories["counter"])
    assert not list(tmp_path.rglob("state/web"))


def test_state_of_which_nothing_can_be_used_is_an_error_and_is_kept(
    head: Head,
    items: list[Item],
    control: Control,
    tmp_path: Path,
    kernel: LuoKernel,
    state_dir: Path,
) -> None:
    kho(kernel, state_dir).send(head, items, control)
    session = kernel.outgoing[session_name(TRANSACTION)]
    for token in (1, 2):
        replace(session, token, lambda data: data[:-1] + b"\1")
    kernel.jump()
    with pytest.raises(HandoverError, match=r"token 1 \(counter\).*digest"):
        kho(kernel, state_dir).receive(tmp_path / "run", control)
    assert not (tmp_path / "run").exists()
    assert not kernel.incoming[session_name(TRANSACTION)].finished


def test_two_payloads_are_not_taken_for_each_other(
    head: Head,
    items: list[Item],
    control: Control,
    tmp_path: Path,
    kernel: LuoKernel,
    state_dir: Path,
) -> None:
    kho(kernel, state_dir).send(head, items, control)
    files = kernel.outgoing[session_name(TRANSACTION)].files
    files[1], files[2] = files[2], files[1]
    kernel.jump()
    with pytest.raises(HandoverError, match="token"):
        kho(kernel, state_dir).receive(tmp_path / "run", control)


def replace(session: Any, token: int, change: Callable[[bytes], bytes]) -> None:
    old = session.files[token].fd
    data = os.pread(old, os.fstat(old).st_size, 0)
    new = os.memfd_create("damaged")
    os.write(new, change(data))
    session.files[token].fd = new
    os.close(old)


@pytest.mark.parametrize("where", [0, 16, 24, 32, SIZE, SIZE + 600, -1])
@pytest.mark.parametrize("name", ["manifest", "payload-000001"])
def test_one_wrong_byte_on_disk_is_found(
    name: str,
    where: int,
    head: Head,
    items: list[Item],
    control: Control,
    tmp_path: Path,
    state_dir: Path,
) -> None:
    channel = DiskChannel(state_dir, TRANSACTION, Section.FORWARD)
    channel.send(head, items, control)
    path = channel.dir / name
    data = bytearray(path.read_bytes())
    data[where] ^= 0x10
    path.write_bytes(data)
    assert channel.inspect_sent().verdict is Inspection.PARTIAL
    if name == "manifest":
        with pytest.raises(HandoverError):
            channel.receive(tmp_path / "run", control)
        assert not (tmp_path / "run").exists()
    else:
        only_web_arrives(channel, tmp_path / "run", control)


def only_web_arrives(channel: Channel, destination: Path, control: Control) -> None:
    """The first payload is of "counter"."""
    received = channel.receive(destination, control)
    assert list(received.damaged) == ["counter"]
    assert list(received.directories) == ["web"]
    assert not (destination / "state/counter").exists()


@pytest.mark.parametrize("cut", [0, 10, SIZE, SIZE + 1])
def test_a_truncated_payload_is_found(
    cut: int, head: Head, items: list[Item], control: Control, tmp_path: Path, state_dir: Path
) -> None:
    channel = DiskChannel(state_dir, TRANSACTION, Section.FORWARD)
    channel.send(head, items, control)
    os.truncate(channel.dir / "payload-000001", cut)
    only_web_arrives(channel, tmp_path / "run", control)


def test_a_link_in_the_place_of_a_payload_is_not_followed(
    head: Head, items: list[Item], control: Control, tmp_path: Path, state_dir: Path
) -> None:
    channel = DiskChannel(state_dir, TRANSACTION, Section.FORWARD)
    channel.send(head, items, control)
    payload = channel.dir / "payload-000001"
    payload.rename(tmp_path / "elsewhere")
    payload.symlink_to(tmp_path / "elsewhere")
    only_web_arrives(channel, tmp_path / "run", control)


def test_a_crash_before_the_manifest_leaves_nothing_complete(
    head: Head, items: list[Item], control: Control, tmp_path: Path, state_dir: Path
) -> None:
    channel = DiskChannel(state_dir, TRANSACTION, Section.FORWARD)
    channel.send(head, items, control)
    (channel.dir / "manifest").unlink()
    assert channel.inspect_sent().verdict is Inspection.PARTIAL
    with pytest.raises(HandoverError, match="no state"):
        channel.receive(tmp_path / "run", control)


def test_unpacked_state_that_was_changed_is_unpacked_again(
    make: Make, kernel: LuoKernel, head: Head, items: list[Item], control: Control, tmp_path: Path
) -> None:
    make().send(head, items, control)
    kernel.jump()
    channel = make()
    received = channel.receive(tmp_path / "run", control)
    (received.directories["web"] / "inventory.img").write_bytes(b"other")
    assert channel.inspect_received(tmp_path / "run").verdict is Inspection.PARTIAL
    channel.close()
    arrived(make().receive(tmp_path / "run", control), items)


def test_a_directory_open_to_others_is_refused(
    head: Head, items: list[Item], control: Control, state_dir: Path
) -> None:
    state_dir.chmod(0o755)
    with pytest.raises(MkupgradeError, match="open to others"):
        DiskChannel(state_dir, TRANSACTION, Section.FORWARD).send(head, items, control)


def test_no_room_is_an_io_error_and_leaves_nothing(
    head: Head,
    items: list[Item],
    control: Control,
    state_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from orchestrator.system import files

    monkeypatch.setattr(files, "free_bytes", lambda path: 1000)
    channel = DiskChannel(state_dir, TRANSACTION, Section.FORWARD)
    with pytest.raises(MkupgradeError) as caught:
        channel.send(head, items, control)
    assert caught.value.error_class is ErrorClass.IO
    assert channel.inspect_sent().verdict is not Inspection.PRESENT
