"""The header before the manifest and before each payload: 64 bytes, little-endian.

    offset  size  field
         0     8  magic      b"MKUPHAND"
         8     2  major      a reader refuses another major
        10     2  minor      a reader accepts any minor of its major
        12     2  kind       1 manifest, 2 directory (ustar subset, see `archive`)
        14     2  reserved   0
        16     8  token      0 the manifest, 1.. payloads in the manifest's order
        24     8  length     bytes of the body that follows, nothing after it
        32    32  sha256     of the body

The token is part of the header so that two payloads cannot be taken for each other.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from orchestrator.model.errors import HandoverError

MAGIC = b"MKUPHAND"
MAJOR = 1
MINOR = 0
SIZE = 64
MAX_BODY = 1 << 46
"""64 TiB: more than a machine has; a larger length is damage."""
_LAYOUT = struct.Struct("<8sHHHHQQ32s")


class FrameKind(IntEnum):
    MANIFEST = 1
    DIRECTORY = 2


@dataclass(frozen=True)
class Header:
    kind: FrameKind
    token: int
    length: int
    """Bytes of the body."""
    sha256: str
    """Of the body, hexadecimal."""
    major: int = MAJOR
    minor: int = MINOR

    def pack(self) -> bytes:
        """The 64 bytes."""
        return _LAYOUT.pack(
            MAGIC,
            self.major,
            self.minor,
            self.kind,
            0,
            self.token,
            self.length,
            bytes.fromhex(self.sha256),
        )

    @classmethod
    def parse(cls, data: bytes, where: str | None = None) -> Header:
        """The header in the first 64 bytes.

        Args:
            where: a path or "token 3", for the error.

        Raises:
            HandoverError: too short, no frame of ours, another major version, an unknown kind,
                or a length beyond `MAX_BODY`.
        """
        if len(data) < SIZE:
            raise HandoverError(f"frame header of {len(data)} bytes, expected {SIZE}", where=where)
        magic, major, minor, kind, reserved, token, length, sha256 = _LAYOUT.unpack(data[:SIZE])
        if magic != MAGIC:
            raise HandoverError(f"not a handover frame: it begins with {magic!r}", where=where)
        refuse_major(major, minor, where)
        if kind not in list(FrameKind) or reserved:
            raise HandoverError(f"frame of unknown kind {kind}/{reserved}", where=where)
        if length > MAX_BODY:
            raise HandoverError(f"frame that claims {length} bytes", where=where)
        return cls(FrameKind(kind), token, length, sha256.hex(), major, minor)


def refuse_major(major: int, minor: int, where: str | None) -> None:
    """Refuse a protocol of another major version; any minor of ours is fine.

    Raises:
        HandoverError: it names both versions.
    """
    if major != MAJOR:
        raise HandoverError(
            f"handover protocol {major}.{minor}; this program speaks {MAJOR}.{MINOR}",
            where=where,
            state="the state is untouched where it was found",
            next_command="install the version of mkupgrade that wrote it, then: mkupgrade resume",
        )
