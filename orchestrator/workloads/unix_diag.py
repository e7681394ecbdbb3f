"""Who is at the other end of a UNIX socket: NETLINK_SOCK_DIAG, sock_diag(7).

/proc/net/unix does not tell. CRIU needs the same of the kernel (CONFIG_UNIX_DIAG).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_NETLINK_SOCK_DIAG = 4
_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_DONE, _ERROR = 3, 2
_SHOW_NAME_AND_PEER = 0x1 | 0x4
_NAME, _PEER = 0, 2
_HEADER = struct.Struct("=IHHII")
_MESSAGE = struct.Struct("=BBBxI8x")
_BUFFER = 1 << 18
_CONNECTED = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)


@dataclass(frozen=True)
class UnixSocket:
    inode: int
    type: int
    """SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET."""
    name: str
    """A path; empty: none, or abstract."""
    peer: int | None
    """Inode of the other end; 0: a connection that was not accepted yet; None: no connection."""


def unix_sockets() -> dict[int, UnixSocket]:
    """All UNIX sockets of this network namespace, by inode; empty where the kernel cannot say."""
    try:
        return {found.inode: found for found in _dump()}
    except OSError:
        return {}


def connected_outside(inodes: set[int], known: dict[int, UnixSocket]) -> list[UnixSocket]:
    """Connections of these sockets whose other end is none of them, as the sockets at the other
    end would be named: `name` is the peer's. CRIU refuses these unless told what to do."""
    found = []
    for inode in sorted(inodes):
        mine = known.get(inode)
        if mine is None or mine.peer is None or mine.type not in _CONNECTED:
            continue
        if mine.peer in inodes:
            continue
        peer = known.get(mine.peer)
        found.append(UnixSocket(inode, mine.type, peer.name if peer else "", mine.peer))
    return found


def _dump() -> Iterator[UnixSocket]:
    request = struct.pack(
        "=BBHIIIII", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, _SHOW_NAME_AND_PEER, 0, 0
    )
    header = _HEADER.pack(_HEADER.size + len(request), _BY_FAMILY, _REQUEST_DUMP, 1, 0)
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_NETLINK, kind, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(5)
        netlink.send(header + request)
        while True:
            data = netlink.recv(_BUFFER)
            while len(data) >= _HEADER.size:
                length, message, _, _, _ = _HEADER.unpack_from(data)
                if message in (_DONE, _ERROR) or length < _HEADER.size:
                    return
                if message == _BY_FAMILY:
                    yield _parsed(data[_HEADER.size : length])
                data = data[(length + 3) & ~3 :]


def _parsed(body: bytes) -> UnixSocket:
    _, kind, _, inode = _MESSAGE.unpack_from(body)
    name: bytes = b""
    peer: int | None = None
    rest = body[_MESSAGE.size :]
    while len(rest) >= 4:
        length, attribute = struct.unpack_from("=HH", rest)
        value = rest[4:length]
        if attribute == _NAME and not value.startswith(b"\0"):
            name = value.rstrip(b"\0")
        elif attribute == _PEER and len(value) == 4:
            peer = struct.unpack("=I", value)[0]
        rest = rest[max(4, (length + 3) & ~3) :]
    return UnixSocket(inode, kind, os.fsdecode(name), peer)
