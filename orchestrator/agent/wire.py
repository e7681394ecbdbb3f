"""Frames on the wire: a header of 16 bytes, little-endian, the body, and a proof of 32 bytes.

    offset  size  field
         0     4  magic     b"MKAG"
         4     1  major     a reader refuses another major
         5     1  minor     a reader accepts any minor of its major
         6     2  type      `Type`
         8     4  length    bytes of the body, at most `most(type)`
        12     4  reserved  0
        16     …  body
         …    32  proof     HMAC-SHA256; not in the three frames of the handshake

A length is believed before the proof can be seen: so each type has its own bound, and those of the
handshake, which anybody may send, are small.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from orchestrator.agent.errors import ProtocolError
from orchestrator.handover import frame
from orchestrator.handover.manifest import MAX_BYTES
from orchestrator.handover.stream import BLOCK, DIGEST

MAGIC = b"MKAG"
MAJOR = 1
MINOR = 3
HEADER = 16
PROOF = 32
NONCE = 32
_LAYOUT = struct.Struct("<4sBBHII")

DIGESTS = 4096
"""Digests in one frame at most."""
_TEXT = 64 << 10
_NAMES = 128
PIECE = 1 << 20
"""Bytes of a handover in one FETCHED at most."""
WORK = 1 << 20
"""Bytes of a request for work at most: its workload's commands are in it."""


class Type(IntEnum):
    """What a frame is. Below 16: of the handshake; from 128: of the server."""

    HELLO = 1
    CHALLENGE = 2
    PROOF = 3
    ASK = 16
    BEGIN = 17
    HAVE = 18
    BLOCK = 19
    FLUSH = 20
    RECIPE = 21
    PAYLOAD = 22
    FINISH = 23
    INSPECT = 24
    DISCARD = 25
    DRAFT = 26
    FETCH = 27
    WORK = 28
    WELCOME = 128
    STATUS = 129
    BEGUN = 130
    LACKING = 131
    FLUSHED = 132
    TAKEN = 133
    FINISHED = 134
    INSPECTED = 135
    DISCARDED = 136
    DRAFTED = 137
    FETCHED = 138
    WORKED = 139
    ERROR = 255


_MOST = {
    Type.HELLO: NONCE,
    Type.CHALLENGE: NONCE + PROOF,
    Type.PROOF: PROOF,
    Type.BEGIN: _NAMES,
    Type.HAVE: DIGESTS * DIGEST,
    Type.BLOCK: DIGEST + BLOCK,
    Type.RECIPE: DIGESTS * DIGEST,
    Type.PAYLOAD: frame.SIZE,
    Type.DRAFT: frame.SIZE,
    Type.FINISH: frame.SIZE + MAX_BYTES,
    Type.INSPECT: _NAMES,
    Type.DISCARD: _NAMES,
    Type.FETCH: 12 + _NAMES,
    Type.WORK: WORK,
    Type.STATUS: _TEXT,
    Type.LACKING: DIGESTS // 8,
    Type.FLUSHED: 8,
    Type.INSPECTED: _TEXT,
    Type.FETCHED: PIECE,
    Type.WORKED: _TEXT,
    Type.ERROR: _TEXT,
}


def most(kind: Type) -> int:
    """Longest body of a frame of this type, in bytes; 0: it has none."""
    return _MOST.get(kind, 0)


@dataclass(frozen=True, slots=True)
class Header:
    kind: Type
    length: int
    """Bytes of the body."""
    minor: int = MINOR

    def pack(self) -> bytes:
        """The 16 bytes."""
        return _LAYOUT.pack(MAGIC, MAJOR, self.minor, self.kind, self.length, 0)

    @classmethod
    def parse(cls, data: bytes, where: str) -> Header:
        """The header that these 16 bytes are.

        Args:
            where: the peer, for the error.

        Raises:
            ProtocolError: no frame of ours, another major version, an unknown type, or a body
                longer than its type allows.
        """
        if len(data) != HEADER:
            raise ProtocolError(f"header of {len(data)} bytes, expected {HEADER}", where=where)
        magic, major, minor, number, length, reserved = _LAYOUT.unpack(data)
        if magic != MAGIC:
            raise ProtocolError(f"not a frame of ours: it begins with {magic!r}", where=where)
        if major != MAJOR:
            raise ProtocolError(
                f"agent protocol {major}.{minor}; this program speaks {MAJOR}.{MINOR}",
                where=where,
                state="nothing was taken",
                next_command="mkupgrade --version",
            )
        try:
            kind = Type(number)
        except ValueError:
            raise ProtocolError(f"frame of unknown type {number}", where=where) from None
        if reserved or length > most(kind):
            raise ProtocolError(
                f"frame {kind.name} that claims {length} bytes, at most {most(kind)}", where=where
            )
        return cls(kind, length, minor)
