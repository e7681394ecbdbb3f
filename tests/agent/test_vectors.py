"""The committed frames are what this program writes, byte by byte, and what docs/agent.md says.

If one of these fails, the protocol has changed: raise its version, or two kernels with two
versions of mkupgrade will not understand each other.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import struct
from pathlib import Path

from orchestrator.agent.wire import Type, most
from tests.agent import make_vectors

VECTORS = json.loads(make_vectors.VECTORS.read_text(encoding="utf-8"))
FRAMES = {name: bytes.fromhex(frame) for name, frame in VECTORS["frames"].items()}


def test_the_same_frames_are_written() -> None:
    assert make_vectors.vectors() == VECTORS


def test_headers_have_the_documented_offsets() -> None:
    kinds = {"HELLO": 1, "CHALLENGE": 2, "PROOF": 3, "BEGIN": 17, "BLOCK": 19, "FLUSHED": 132}
    kinds |= {"FETCH": 27, "WORK": 28, "FETCHED": 138, "WORKED": 139}
    for name, kind in kinds.items():
        magic, major, minor, found, length, reserved = struct.unpack_from("<4sBBHII", FRAMES[name])
        assert (magic, major, minor, found, reserved) == (b"MKAG", 1, 3, kind, 0)
        proof = 0 if name in {"HELLO", "CHALLENGE", "PROOF"} else 32
        assert len(FRAMES[name]) == 16 + length + proof


def test_proofs_are_what_the_page_says() -> None:
    """Computed again from the page, with nothing of the program."""
    _, transaction, secret = VECTORS["key"].split()

    def mac(key: bytes, data: bytes) -> bytes:
        return hmac.new(key, data, hashlib.sha256).digest()

    own = mac(bytes.fromhex(secret), b"mkupgrade-agent/1\0" + transaction.encode())
    hello, challenge = FRAMES["HELLO"], FRAMES["CHALLENGE"]
    transcript = hashlib.sha256(hello + challenge[:48]).digest()
    assert challenge[48:] == mac(own, b"proof of the server\0" + transcript)
    assert FRAMES["PROOF"][16:] == mac(own, b"proof of the client\0" + transcript)
    keys = {
        "client": mac(own, b"from client to server\0" + transcript),
        "server": mac(own, b"from server to client\0" + transcript),
    }
    sent = {
        "client": ("BEGIN", "BLOCK", "FLUSH", "FETCH", "WORK"),
        "server": ("WELCOME", "BEGUN", "FLUSHED", "FETCHED", "WORKED"),
    }
    for side, names in sent.items():
        for number, name in enumerate(names):
            frame = FRAMES[name]
            covered = number.to_bytes(8, "little") + frame[:-32]
            assert frame[-32:] == mac(keys[side], covered), name


def test_the_page_lists_every_type_with_its_number_and_its_bound() -> None:
    page = (Path(__file__).parents[2] / "docs" / "agent.md").read_text(encoding="utf-8")
    listed: dict[str, tuple[int, int]] = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 7 and cells[2] in {"client", "agent"}:
            bound = cells[4].replace(",", "").replace("4 MiB", str(4 << 20))
            longest = sum(int(number) for number in bound.split(" + "))
            for number, name in re.findall(r"(\d+) ([A-Z]+)", cells[1]):
                listed[name] = (int(number), longest)
    assert listed == {kind.name: (kind.value, most(kind)) for kind in Type}
