"""What an agent takes, from whom, and how much of it."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from orchestrator.agent.client import AgentClient
from orchestrator.agent.conversation import Conversation
from orchestrator.agent.errors import ProtocolError, RefusedError
from orchestrator.agent.keys import Key
from orchestrator.agent.pool import Pool
from orchestrator.agent.server import Agent, Limits
from orchestrator.agent.store import Store
from orchestrator.agent.wire import Type
from orchestrator.handover import stream
from orchestrator.handover.channels import Head, Item
from orchestrator.handover.disk import DiskChannel
from orchestrator.handover.frame import FrameKind, Header
from orchestrator.handover.stream import BLOCK, ConnectionLostError, StreamChannel
from orchestrator.handover.transfer import build_manifest
from orchestrator.model.errors import ErrorClass, HandoverError
from orchestrator.model.steps import Inspection, Section
from orchestrator.system import proc
from tests.agent.conftest import TRANSACTION
from tests.support.agents import Local
from tests.support.control import Control


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def payload(client: AgentClient, data: bytes, token: int = 1) -> Header:
    header = Header(FrameKind.DIRECTORY, token, len(data), digest(data).hex())
    client.put(digest(data), data)
    client.payload(header, [digest(data)])
    return header


def manifest(head: Head, headers: dict[str, Header], tmp_path: Path) -> bytes:
    items = [Item(name, "hooks", {}, tmp_path) for name in headers]
    return build_manifest(head, items, headers).encode()


def test_it_says_which_kernel_it_lives_in(agent: Local) -> None:
    with agent.client() as client:
        status = client.status()
    assert (status.release, status.boot_id) == (proc.release(), proc.boot_id())
    assert (status.tainted, status.transaction) == (proc.tainted(), TRANSACTION)
    assert status.ready


def test_it_is_not_ready_before_what_it_waits_for_is_there(
    key: Key, target: Path, tmp_path: Path
) -> None:
    flag = tmp_path / "up"
    agent = Agent(key, target, Limits(), lambda *_: None, (flag,))
    assert agent.status().problems == [f"{flag} is not there yet"]
    flag.touch()
    assert agent.status().ready
    target.chmod(0o755)
    assert "open to others" in agent.status().problems[0]


def test_nothing_is_taken_before_it_was_begun(agent: Local) -> None:
    with agent.client() as client, pytest.raises(RefusedError, match="has not begun"):
        client.lacking([digest(b"x")])
    with agent.client() as client:
        client.put(digest(b"x"), b"x")
        with pytest.raises(RefusedError, match="has not begun"):
            client.flush()


def test_a_manifest_of_another_transaction_is_refused(
    agent: Local, head: Head, tmp_path: Path
) -> None:
    other = Head(**{**head.__dict__, "transaction": "t-20260901-other"})
    with agent.client() as client:
        client.begin(Section.FORWARD)
        headers = {"web": payload(client, b"state")}
        with pytest.raises(RefusedError, match="expected t-20260901-ab12cd, forward"):
            client.finish(manifest(other, headers, tmp_path))
        assert client.inspect(Section.FORWARD)[0].verdict is Inspection.ABSENT


def test_a_manifest_that_names_what_did_not_come_is_refused(
    agent: Local, head: Head, tmp_path: Path
) -> None:
    with agent.client() as client:
        client.begin(Section.FORWARD)
        headers = {"web": payload(client, b"state")}
        headers["db"] = Header(FrameKind.DIRECTORY, 2, 5, digest(b"other").hex())
        with pytest.raises(RefusedError, match="db did not come"):
            client.finish(manifest(head, headers, tmp_path))
    with agent.client() as client:
        client.begin(Section.FORWARD)
        with pytest.raises(RefusedError, match="web did not come"):
            client.finish(manifest(head, {"web": headers["web"]}, tmp_path))


def test_a_payload_that_its_blocks_do_not_make_is_not_acknowledged(
    agent: Local, head: Head, tmp_path: Path
) -> None:
    with agent.client() as client:
        client.begin(Section.FORWARD)
        client.put(digest(b"state"), b"state")
        wrong = Header(FrameKind.DIRECTORY, 1, 5, digest(b"other").hex())
        with pytest.raises(RefusedError, match="digest does not fit"):
            client.payload(wrong, [digest(b"state")])
        with pytest.raises(RefusedError, match="have not as many"):
            client.payload(Header(FrameKind.DIRECTORY, 1, 6, wrong.sha256), [digest(b"state")])
        with pytest.raises(RefusedError, match="have not as many"):
            client.payload(wrong, [digest(b"none")])
        with pytest.raises(RefusedError, match="kind"):
            client.payload(Header(FrameKind.MANIFEST, 0, 5, wrong.sha256), [digest(b"state")])
    assert not list(agent.directory.rglob("payload-*"))


def test_a_block_that_does_not_fit_its_digest_ends_the_connection(agent: Local) -> None:
    with agent.client() as client:
        client.begin(Section.FORWARD)
        client.put(digest(b"a"), b"b")
        with pytest.raises(ConnectionLostError):
            client.flush()
    agent.wait()
    assert agent.told[-1][1]["error"] == "a block does not fit its digest"


@pytest.mark.parametrize("kind", [Type.STATUS, Type.ERROR, Type.HELLO, Type.WELCOME])
def test_a_client_that_speaks_like_a_server_is_hung_up_on(agent: Local, kind: Type) -> None:
    conversation = Conversation(
        Store(agent.directory, TRANSACTION, 1 << 20), agent.agent.status, lambda *_: None
    )
    with pytest.raises(ProtocolError):
        conversation.answer(kind, b"")


def test_no_more_state_is_taken_than_the_limit_says_and_the_source_is_told(
    key: Key, target: Path, head: Head, items: list[Item]
) -> None:
    local = Local(key, target, Limits(state_bytes=300_000))
    channel = StreamChannel(target, TRANSACTION, Section.FORWARD, local.peer)
    with pytest.raises(RefusedError, match="more state than this agent takes"):
        channel.send(head, items, Control())
    local.wait()
    assert not (target / "handover").exists()
    local.close()


def test_a_full_disk_is_told_and_leaves_nothing_that_is_believed(
    agent: Local, head: Head, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    channel = StreamChannel(agent.directory, TRANSACTION, Section.FORWARD, agent.peer)
    with pytest.raises(RefusedError, match="No space left") as caught:
        channel.send(head, items, Control())
    assert caught.value.error_class is ErrorClass.IO
    assert not (agent.directory / "handover").exists()


def test_a_newer_connection_takes_over_from_one_that_looks_alive(
    agent: Local, head: Head, items: list[Item]
) -> None:
    with agent.client() as old:
        old.begin(Section.FORWARD)
        channel = StreamChannel(agent.directory, TRANSACTION, Section.FORWARD, agent.peer)
        channel.send(head, items, Control())
        with pytest.raises(RefusedError, match="took over") as caught:
            old.flush()
        assert caught.value.error_class is ErrorClass.BUSY
        old.put(digest(b"x"), b"x")
        with pytest.raises(RefusedError, match="took over"):
            old.finish(b"")
    assert channel.inspect_sent().verdict is Inspection.PRESENT


def test_what_was_unpacked_of_an_earlier_handover_is_not_taken_for_the_one_that_came(
    agent: Local, head: Head, items: list[Item], tmp_path: Path
) -> None:
    channel = StreamChannel(agent.directory, TRANSACTION, Section.FORWARD, agent.peer)
    channel.send(head, items[:1], Control())
    target = StreamChannel(agent.directory, TRANSACTION, Section.FORWARD)
    assert set(target.receive(tmp_path / "run", Control()).directories) == {"counter"}
    assert target.inspect_received(tmp_path / "run").verdict is Inspection.PRESENT
    channel.send(head, items[1:], Control())
    assert target.inspect_received(tmp_path / "run").verdict is Inspection.PARTIAL
    assert set(target.receive(tmp_path / "run", Control()).directories) == {"web"}
    assert target.inspect_received(tmp_path / "run").verdict is Inspection.PRESENT
    assert not (tmp_path / "run" / "state" / "counter").exists()


def test_the_sections_of_a_transaction_do_not_touch_each_other(
    agent: Local, head: Head, items: list[Item]
) -> None:
    back = Head(**{**head.__dict__, "section": Section.RETURN})
    forth = StreamChannel(agent.directory, TRANSACTION, Section.FORWARD, agent.peer)
    again = StreamChannel(agent.directory, TRANSACTION, Section.RETURN, agent.peer)
    forth.send(head, items, Control())
    again.send(back, items, Control())
    again.discard()
    assert forth.inspect_sent().verdict is Inspection.PRESENT
    assert again.inspect_sent().verdict is Inspection.ABSENT


def test_damage_at_the_target_is_seen_from_the_source(
    agent: Local, head: Head, items: list[Item]
) -> None:
    channel = StreamChannel(agent.directory, TRANSACTION, Section.FORWARD, agent.peer)
    channel.send(head, items, Control())
    path = DiskChannel(agent.directory, TRANSACTION, Section.FORWARD).dir / "payload-000002"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert channel.inspect_sent().verdict is Inspection.PARTIAL


def test_everything_on_the_way_is_private(agent: Local, head: Head, items: list[Item]) -> None:
    channel = StreamChannel(agent.directory, TRANSACTION, Section.FORWARD, agent.peer)
    channel.precopy(items, Control())
    channel.send(head, items[:1], Control())
    channel.precopy(items, Control())
    found = list(agent.directory.rglob("*"))
    assert any(path.suffix == ".blocks" for path in found)
    for path in found:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_what_was_copied_ahead_is_not_sent_again(
    agent: Local, head: Head, items: list[Item], tmp_path: Path
) -> None:
    """A large file grows, one of many small ones changes, and one comes in between."""
    directory = items[0].directory
    assert directory is not None
    for number in range(400):
        (directory / f"small{number:03}").write_bytes(os.urandom(900))
    pages = os.urandom(10 * BLOCK)
    (directory / "pages").write_bytes(pages)
    channel = StreamChannel(agent.directory, TRANSACTION, Section.FORWARD, agent.peer)
    channel.precopy(items, Control())
    ahead = channel.traffic.sent
    assert ahead > 10 * BLOCK
    (directory / "pages").write_bytes(pages + b"more")
    (directory / "small100").write_bytes(b"other")
    (directory / "small200a").write_bytes(b"new" * 300)
    channel.send(head, items, Control())
    assert channel.traffic.sent - ahead < BLOCK
    received = channel.receive(tmp_path / "run", Control()).directories["counter"]
    assert (received / "pages").read_bytes() == pages + b"more"
    assert (received / "small200a").read_bytes() == b"new" * 300


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of the pieces that are written into payloads."""
    real, lengths = Pool.read, []

    def read(pool: Pool, digest: bytes) -> bytes:
        lengths.append(pool.length(digest))
        return real(pool, digest)

    monkeypatch.setattr(Pool, "read", read)
    return lengths


def test_in_the_pause_the_agent_writes_the_difference_alone(
    agent: Local, head: Head, items: list[Item], written: list[int], tmp_path: Path
) -> None:
    directory = items[0].directory
    assert directory is not None
    pages = bytearray(os.urandom(12 * BLOCK))
    (directory / "pages").write_bytes(pages)
    channel = StreamChannel(agent.directory, TRANSACTION, Section.FORWARD, agent.peer)
    channel.precopy(items, Control())
    assert sum(written) > 12 * BLOCK
    written.clear()
    pages[5 * BLOCK + 7] ^= 1
    (directory / "pages").write_bytes(pages)
    channel.send(head, items, Control())
    assert written == [BLOCK]
    received = channel.receive(tmp_path / "run", Control()).directories["counter"]
    assert (received / "pages").read_bytes() == pages


def test_a_draft_that_somebody_changed_is_written_anew(
    agent: Local, head: Head, items: list[Item], written: list[int], tmp_path: Path
) -> None:
    channel = StreamChannel(agent.directory, TRANSACTION, Section.FORWARD, agent.peer)
    channel.precopy(items, Control())
    (draft,) = agent.directory.rglob("payload-000001")
    data = bytearray(draft.read_bytes())
    data[100_000] ^= 1
    draft.write_bytes(data)
    written.clear()
    sent = channel.send(head, items, Control())
    assert sum(written) >= 400_000
    assert channel.inspect_sent().verdict is Inspection.PRESENT
    assert channel.receive(tmp_path / "run", Control()).manifest == sent


def test_a_draft_is_no_state(agent: Local, items: list[Item]) -> None:
    channel = StreamChannel(agent.directory, TRANSACTION, Section.FORWARD, agent.peer)
    channel.precopy(items, Control())
    assert channel.inspect_sent().verdict is Inspection.ABSENT
    with agent.client() as client:
        client.begin(Section.FORWARD)
        with pytest.raises(RefusedError, match="counter did not come"):
            headers = {"counter": Header(FrameKind.DIRECTORY, 1, 5, digest(b"state").hex())}
            head = Head(TRANSACTION, "ab" * 32, Section.FORWARD, "7.2.13", "boot")
            client.finish(build_manifest(head, items[:1], headers).encode())
    channel.discard()
    assert not (agent.directory / "handover").exists()


def test_a_directory_that_changes_while_it_is_copied_ahead_stops_nothing(
    agent: Local, head: Head, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = items[0].directory
    assert directory is not None
    (directory / "log").write_bytes(b"line\n" * 20_000)
    real, gone = os.open, []

    def vanishing(path: object, *rest: object, **more: object) -> int:
        if path == b"inventory.img" and not gone:
            gone.append(path)
            (directory / "inventory.img").unlink()
            (directory / "log").write_bytes(b"cut\n")
        return real(path, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", vanishing)
    channel = StreamChannel(agent.directory, TRANSACTION, Section.FORWARD, agent.peer)
    channel.precopy(items, Control())
    assert gone
    manifest_ = channel.send(head, items, Control())
    assert manifest_.workload("counter").payload is not None


def test_a_directory_that_is_gone_is_not_copied_ahead_and_stops_no_other(
    agent: Local, items: list[Item], tmp_path: Path
) -> None:
    gone = Item("gone", "hooks", {}, tmp_path / "none-such")
    channel = StreamChannel(agent.directory, TRANSACTION, Section.FORWARD, agent.peer)
    control = Control()
    channel.precopy([gone, *items], control)
    assert channel.traffic.sent > 700_000
    assert any("gone is not copied ahead" in line for line in control.said)


def test_much_state_is_made_durable_on_the_way(
    agent: Local, head: Head, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target that loses its power near the end of much has most of it."""
    monkeypatch.setattr(stream, "_WINDOW", 100_000)
    monkeypatch.setattr(stream, "_DURABLE", 300_000)
    channel = StreamChannel(agent.directory, TRANSACTION, Section.FORWARD, agent.peer)
    channel.send(head, items, Control())
    (wire,) = agent.wires
    flushes = [frame for frame in wire.sent if frame[6:8] == bytes([Type.FLUSH, 0])]
    assert len(flushes) > 2, "one more than at the end of each payload"


def test_what_a_crash_left_half_written_is_cut_off(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "blocks", 1 << 20)
    for data in (b"one", b"two" * 1000):
        pool.add(digest(data), data)
    pool.close()
    size = (tmp_path / "blocks").stat().st_size
    with (tmp_path / "blocks").open("r+b") as file:
        file.truncate(size - 1)
    again = Pool(tmp_path / "blocks", 1 << 20)
    assert (digest(b"one") in again, digest(b"two" * 1000) in again) == (True, False)
    again.add(digest(b"two" * 1000), b"two" * 1000)
    assert again.read(digest(b"two" * 1000)) == b"two" * 1000
    assert (tmp_path / "blocks").stat().st_size == size
    again.close()


def test_a_block_that_was_changed_on_disk_is_not_had(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "blocks", 1 << 20)
    pool.add(digest(b"one"), b"one")
    pool.close()
    data = bytearray((tmp_path / "blocks").read_bytes())
    data[-1] ^= 1
    (tmp_path / "blocks").write_bytes(data)
    again = Pool(tmp_path / "blocks", 1 << 20)
    assert len(again) == 0
    with pytest.raises(HandoverError, match="is not here"):
        again.read(digest(b"one"))
    again.close()
