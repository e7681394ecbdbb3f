"""How an agent is reached, and by whom: keys, addresses, ports."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from orchestrator.agent import transport
from orchestrator.agent.client import open_agent
from orchestrator.agent.keys import Key, new_key, parse_key, read_key, write_key
from orchestrator.agent.server import Agent, Limits
from orchestrator.agent.transport import Address
from orchestrator.handover.channels import Head, Item
from orchestrator.handover.stream import ConnectionLostError, StreamChannel
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.steps import Inspection, Section
from tests.agent.conftest import TRANSACTION
from tests.support.control import Control


def test_a_key_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    key = new_key(TRANSACTION)
    write_key(key, tmp_path / "key")
    assert read_key(tmp_path / "key") == key
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert key.secret.hex() not in repr(key)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_not_used(tmp_path: Path, mode: int) -> None:
    write_key(new_key(TRANSACTION), tmp_path / "key")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(MkupgradeError, match="others can read") as caught:
        read_key(tmp_path / "key")
    assert caught.value.next_command == f"chmod 600 {tmp_path / 'key'}"


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"secret", b"mkupgrade-agent-key/2 t " + b"0" * 64, b"x" * 300,
     b"mkupgrade-agent-key/1 ../t " + b"0" * 64, b"mkupgrade-agent-key/1 t " + b"0" * 63,
     b"mkupgrade-agent-key/1 t " + b"0" * 64 + b"\nmore"],
)  # fmt: skip
def test_what_is_no_key_is_refused_and_not_shown(line: bytes) -> None:
    with pytest.raises(MkupgradeError) as caught:
        parse_key(line, "key")
    assert "0000" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("vsock:1022", Address("vsock", "", 1022)),
        ("tcp:127.0.0.1:1022", Address("tcp", "127.0.0.1", 1022)),
        ("tcp:[fd00::1]:1022", Address("tcp", "fd00::1", 1022)),
    ],
)
def test_an_address_to_listen_at(text: str, address: Address) -> None:
    assert transport.parse_listen(text) == address
    assert str(address) == text


@pytest.mark.parametrize("parse", [transport.parse_listen, transport.parse_peer])
@pytest.mark.parametrize(
    "text",
    ["", "vsock", "vsock:", "vsock:0", "vsock:x", "tcp:1022", "tcp:example.org:1022",
     "tcp:::1:1022", "tcp:127.0.0.1:0", "tcp:127.0.0.1:70000", "unix:/x", "vsock:-1",
     "tcp:127.0.0.1:١"],
)  # fmt: skip
def test_what_is_no_address_is_refused(parse: Callable[[str], Address], text: str) -> None:
    with pytest.raises(MkupgradeError) as caught:
        parse(text)
    assert caught.value.next_command == "mkupgrade agent --help"


@pytest.mark.parametrize("text", ["tcp:0.0.0.0:1022", "tcp:[::]:1022"])
def test_state_is_not_taken_at_every_address(text: str) -> None:
    with pytest.raises(MkupgradeError, match="names no address"):
        transport.parse_listen(text)


needs_reserved_ports = pytest.mark.skipif(
    os.geteuid() != 0, reason="binding a port below 1024 needs root"
)


@contextmanager
def serving(key: Key, target: Path, limits: Limits) -> Iterator[tuple[Address, list[str]]]:
    """A real agent on a real TCP port of the loopback interface."""
    told: list[str] = []
    agent = Agent(key, target, limits, lambda what, rest: told.append(f"{what} {rest}"))
    listener = transport.listen(Address("tcp", "127.0.0.1", _free_port()), 4)
    address = Address("tcp", "127.0.0.1", listener.getsockname()[1])
    stop = Event()
    thread = Thread(target=agent.serve, args=(listener, stop))
    thread.start()
    try:
        yield address, told
    finally:
        stop.set()
        thread.join()
        listener.close()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@needs_reserved_ports
def test_over_tcp_a_whole_handover_arrives(
    key: Key, target: Path, head: Head, items: list[Item], tmp_path: Path
) -> None:
    from orchestrator.agent.client import opener

    with serving(key, target, Limits()) as (address, _):
        sender = StreamChannel(tmp_path, TRANSACTION, Section.FORWARD, opener(address, key))
        sent = sender.send(head, items, Control())
        assert sender.inspect_sent().verdict is Inspection.PRESENT
    arrived = StreamChannel(target, TRANSACTION, Section.FORWARD)
    assert arrived.receive(tmp_path / "run", Control()).manifest == sent


@needs_reserved_ports
def test_a_port_that_is_not_reserved_is_hung_up_on_before_anything_is_read(
    key: Key, target: Path
) -> None:
    with serving(key, target, Limits()) as (address, told):
        with socket.create_connection((address.host, address.port)) as stranger:
            assert stranger.recv(100) == b""
        with open_agent(address, key, lambda: 5.0) as client:
            assert client.status().ready
    assert "not reserved to root" in told[0]


@needs_reserved_ports
def test_there_are_no_more_connections_at_once_than_the_limit_says(key: Key, target: Path) -> None:
    with serving(key, target, Limits(connections=2)) as (address, told):
        with (
            open_agent(address, key, lambda: 5.0),
            open_agent(address, key, lambda: 5.0),
            pytest.raises(ConnectionLostError),
        ):
            open_agent(address, key, lambda: 5.0)
        assert any("connections enough" in line for line in told)


@needs_reserved_ports
def test_where_nobody_listens_the_next_command_is_said(key: Key) -> None:
    address = Address("tcp", "127.0.0.1", _free_port())
    with pytest.raises(ConnectionLostError, match="no agent answers") as caught:
        open_agent(address, key, lambda: 5.0)
    assert caught.value.next_command is not None
    assert str(address) in caught.value.next_command
