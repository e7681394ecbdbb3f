"""A connection that is cut anywhere: the source is whole, the target believes nothing by half, and
what was acknowledged is not sent again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.agent.errors import NotProvenError
from orchestrator.agent.keys import Key, new_key
from orchestrator.agent.server import Limits
from orchestrator.agent.wire import Type
from orchestrator.handover.blocks import cut
from orchestrator.handover.channels import Head, Item
from orchestrator.handover.disk import DiskChannel
from orchestrator.handover.stream import ConnectionLostError, StreamChannel
from orchestrator.model.steps import Inspection, Section
from orchestrator.system import files
from tests.agent.conftest import TRANSACTION
from tests.support.agents import Local, Wire
from tests.support.control import Control
from tests.support.profile import examples

NEVER_AGAIN = 1
"""A cut at the first frame: that connection does not even shake hands."""


MEMORY = Path("/dev/shm")  # what is synced a thousand times here need not wait for a disk


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


def channel(agent: Local) -> StreamChannel:
    return StreamChannel(
        agent.directory, TRANSACTION, Section.FORWARD, agent.peer, sleep=lambda _: None
    )


def blocks_of(wire: Wire) -> list[bytes]:
    """Digests of the blocks that went out, whole."""
    return [frame[16:48] for frame in wire.sent if frame[6:8] == bytes([Type.BLOCK, 0])]


def acknowledged(wire: Wire) -> set[bytes]:
    """Blocks before the last FLUSH that was answered: something was sent after it."""
    kinds = [frame[6] for frame in wire.sent]
    flushes = [at for at, kind in enumerate(kinds[:-1]) if kind == Type.FLUSH]
    upto = flushes[-1] if flushes else 0
    return {frame[16:48] for frame in wire.sent[:upto] if frame[6] == Type.BLOCK}


def whole(directory: Path) -> str:
    return files.sha256_tree(directory)[0]


def packed(directory: Path) -> str:
    """Whatever permissions it has for others."""
    return cut(directory, 1, lambda *_: None).sha256


def frames_of_a_send(agent: Local, head: Head, items: list[Item]) -> int:
    channel(agent).send(head, items, Control())
    count = agent.wires[-1].frames
    channel(agent).discard()
    agent.wait()
    agent.wires.clear()
    return count


@pytest.mark.slow
@pytest.mark.parametrize("half", [False, True], ids=["between frames", "inside of one"])
def test_a_cut_at_any_frame_leaves_the_source_whole_and_the_target_without_half_a_handover(
    agent: Local, head: Head, items: list[Item], half: bool, tmp_path: Path
) -> None:
    count = frames_of_a_send(agent, head, items)
    before = whole(tmp_path / "dump")
    assert count > 20
    for frame in range(1, count + 1):
        agent.half = half
        agent.cuts = [frame, *[NEVER_AGAIN] * 5]
        sender = channel(agent)
        with pytest.raises(ConnectionLostError):
            sender.send(head, items, Control())
        agent.cuts = []
        agent.wait()
        assert whole(tmp_path / "dump") == before
        there = DiskChannel(agent.directory, TRANSACTION, Section.FORWARD)
        found = there.inspect_sent()
        if found.verdict is Inspection.PRESENT:
            # All of it arrived, and the last answer did not: a whole handover, not a half one.
            assert frame == count or (half and frame == count - 1)
        else:
            assert found.verdict is Inspection.ABSENT
            assert not there.dir.exists()
        sender.discard()
        assert not (agent.directory / "handover").exists()


@pytest.mark.slow
def test_a_send_goes_on_where_it_was_cut_and_sends_no_acknowledged_block_again(
    agent: Local, head: Head, items: list[Item], tmp_path: Path
) -> None:
    count = frames_of_a_send(agent, head, items)
    for frame in range(1, count + 1):
        agent.wires.clear()
        agent.cuts = [frame]
        sender = channel(agent)
        manifest = sender.send(head, items, Control())
        first, second = agent.wires
        assert not acknowledged(first) & set(blocks_of(second)), f"cut at frame {frame}"
        received = sender.receive(tmp_path / f"run{frame}", Control())
        assert received.manifest == manifest
        for item in items:
            if item.directory is not None:
                assert packed(item.directory) == packed(received.directories[item.name])
        sender.discard()


def test_an_answer_to_finish_that_was_lost_is_not_a_second_handover(
    agent: Local, head: Head, items: list[Item]
) -> None:
    count = frames_of_a_send(agent, head, items)
    agent.cuts = [count]
    sender = channel(agent)
    manifest = sender.send(head, items, Control())
    assert not blocks_of(agent.wires[-1])
    assert DiskChannel(agent.directory, TRANSACTION, Section.FORWARD).manifest() == manifest


@settings(max_examples=examples(60), deadline=None)
@given(data=st.data())
def test_any_cuts_and_restarts_of_the_agent_end_in_the_very_state_that_was_sent(
    data: st.DataObject,
) -> None:
    """Blocks that were durable before a restart are not sent after it."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        root = Path(name)
        (root / "target").mkdir(mode=0o700)
        sizes = data.draw(
            st.lists(st.sampled_from([0, 1, 600, 65_537, 300_000]), min_size=1, max_size=5)
        )
        (root / "dump").mkdir()
        for number, size in enumerate(sizes):
            (root / "dump" / f"{number}").write_bytes(bytes([number]) * size)
        items = [Item("web", "hooks", {}, root / "dump")]
        head = Head(TRANSACTION, "ab" * 32, Section.FORWARD, "7.2.13", "boot")
        agent = Local(new_key(TRANSACTION), root / "target", Limits())
        durable: set[bytes] = set()
        try:
            for _ in range(data.draw(st.integers(0, 3))):
                agent.half = data.draw(st.booleans())
                agent.cuts = [data.draw(st.integers(1, 24)), *[NEVER_AGAIN] * 5]
                sent_before = len(agent.wires)
                if data.draw(st.booleans()):
                    (root / "dump" / "0").write_bytes(data.draw(st.binary(max_size=900)) * 400)
                step = data.draw(st.sampled_from(["precopy", "send"]))
                try:
                    if step == "precopy":
                        channel(agent).precopy(items, Control())
                    else:
                        channel(agent).send(head, items, Control())
                except ConnectionLostError:
                    pass
                else:
                    if step == "send":
                        durable.clear()  # complete: the next one begins anew
                for wire in agent.wires[sent_before:]:
                    assert not durable & set(blocks_of(wire))
                    durable |= acknowledged(wire)
                agent.wait()
                if data.draw(st.booleans()):
                    agent.restart()
                if DiskChannel(root / "target", TRANSACTION, Section.FORWARD).manifest():
                    durable.clear()
            agent.cuts = []
            sender = channel(agent)
            sender.send(head, items, Control())
            assert not durable & set(blocks_of(agent.wires[-1]))
            received = sender.receive(root / "run", Control())
            assert packed(received.directories["web"]) == packed(root / "dump")
        finally:
            agent.close()


def test_an_agent_that_is_gone_leaves_the_source_whole(
    agent: Local, head: Head, items: list[Item], tmp_path: Path
) -> None:
    before = whole(tmp_path / "dump")
    agent.cuts = [NEVER_AGAIN] * 20
    with pytest.raises(ConnectionLostError):
        channel(agent).send(head, items, Control())
    assert channel(agent).inspect_sent().verdict is Inspection.UNKNOWN
    assert whole(tmp_path / "dump") == before


def test_the_key_of_another_transaction_sends_nothing(
    agent: Local, head: Head, items: list[Item], tmp_path: Path
) -> None:
    right = agent.key
    agent.key = Key("t-20260901-other", right.secret)
    with pytest.raises(
        NotProvenError, match="does not have the key of transaction t-20260901-other"
    ):
        channel(agent).send(head, items, Control())
    assert not list(agent.directory.iterdir())
