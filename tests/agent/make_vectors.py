"""Writes tests/agent/vectors.json: run it only when the protocol's version changes.

    python -m tests.agent.make_vectors

The frames are what docs/agent.md says, byte by byte; `test_vectors` holds the program to them, so
that two versions of it understand each other.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from orchestrator.agent.keys import Key
from orchestrator.agent.link import Link, accept, connect
from orchestrator.agent.wire import Type
from tests.support.agents import Script

VECTORS = Path(__file__).with_name("vectors.json")
KEY = Key("t-20260901-ab12cd", bytes(range(32)))
CLIENT_NONCE = b"\xc1" * 32
SERVER_NONCE = b"\x5e" * 32
BLOCK = b"block\n"
PARCEL = b"forward t-20260901-ab12cd counter"


def frames() -> dict[str, str]:
    """Every frame of one short conversation, by its name."""
    to_server, to_client = Script(), Script()

    def server() -> Link:
        return accept(
            Script.pair(to_server, to_client), KEY, "client",
            seconds=5, frame_seconds=5, fresh=lambda _: SERVER_NONCE,
        )  # fmt: skip

    client, agent = Script.both(
        lambda: connect(
            Script.pair(to_client, to_server), KEY, "agent",
            seconds=5, frame_seconds=5, fresh=lambda _: CLIENT_NONCE,
        ),
        server,
    )  # fmt: skip
    client.send(Type.BEGIN, b"forward")
    agent.send(Type.BEGUN)
    client.send(Type.BLOCK, hashlib.sha256(BLOCK).digest() + BLOCK)
    client.send(Type.FLUSH)
    agent.send(Type.FLUSHED, (1).to_bytes(8, "little"))
    client.send(Type.FETCH, (1).to_bytes(4, "little") + bytes(8) + PARCEL)
    agent.send(Type.FETCHED, BLOCK)
    client.send(Type.WORK, b'{"seconds": 5}')
    agent.send(Type.WORKED, b"{}")
    names = {
        "HELLO": to_server.written[0],
        "CHALLENGE": to_client.written[0],
        "PROOF": to_server.written[1],
        "WELCOME": to_client.written[1],
        "BEGIN": to_server.written[2],
        "BEGUN": to_client.written[2],
        "BLOCK": to_server.written[3],
        "FLUSH": to_server.written[4],
        "FLUSHED": to_client.written[3],
        "FETCH": to_server.written[5],
        "FETCHED": to_client.written[4],
        "WORK": to_server.written[6],
        "WORKED": to_client.written[5],
    }
    return {name: frame.hex() for name, frame in names.items()}


def vectors() -> dict[str, object]:
    return {
        "key": KEY.text(),
        "client_nonce": CLIENT_NONCE.hex(),
        "server_nonce": SERVER_NONCE.hex(),
        "frames": frames(),
    }


def main() -> int:
    VECTORS.write_text(json.dumps(vectors(), indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
