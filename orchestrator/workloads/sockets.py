"""The sockets of a workload, as /proc/PID/net lists them (proc_pid_net(5))."""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.system import open_files
from orchestrator.system.proc import PROC

ESTABLISHED = 0x01
LISTEN = 0x0A
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class InetSocket:
    protocol: str
    """tcp, tcp6, udp or udp6."""
    local: Address
    port: int
    remote: Address
    remote_port: int
    state: int
    """TCP_* of include/net/tcp_states.h."""
    inode: int


def inet_sockets(pids: list[int], proc: Path = PROC) -> list[InetSocket]:
    """The IP sockets that these processes (of one network namespace) have open."""
    if not pids:
        return []
    ours = open_files.socket_inodes(pids, proc)
    found = []
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        for line in _lines(proc / str(pids[0]) / "net" / protocol):
            parsed = _parse(protocol, line.split())
            if parsed is not None and parsed.inode in ours:
                found.append(parsed)
    return found


def unix_paths(pids: list[int], proc: Path = PROC) -> list[str]:
    """Paths to which UNIX sockets of these processes are bound; sorted, no abstract names."""
    if not pids:
        return []
    ours = open_files.socket_inodes(pids, proc)
    found = set()
    for line in _lines(proc / str(pids[0]) / "net" / "unix"):
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and fields[6].isdigit() and int(fields[6]) in ours:
            found.add(fields[7])
    return sorted(path for path in found if path.startswith("/"))


def tcp_ports(sockets: Iterable[InetSocket]) -> list[int]:
    """Local ports of listening and connected TCP sockets, sorted."""
    return sorted({s.port for s in sockets if s.protocol.startswith("tcp") and s.port})


def established(sockets: Iterable[InetSocket]) -> list[InetSocket]:
    return [s for s in sockets if s.protocol.startswith("tcp") and s.state == ESTABLISHED]


def bound_addresses(sockets: Iterable[InetSocket]) -> list[Address]:
    """Local addresses, other than "any" and loopback, that must be there for a restore."""
    found = {_plain(s.local) for s in sockets}
    return sorted(
        (a for a in found if not (a.is_unspecified or a.is_loopback)),
        key=lambda a: (a.version, int(a)),
    )


def _plain(address: Address) -> Address:
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address


def _parse(protocol: str, fields: list[str]) -> InetSocket | None:
    try:
        local, port = _endpoint(fields[1])
        remote, remote_port = _endpoint(fields[2])
        state, inode = int(fields[3], 16), int(fields[9])
        return InetSocket(protocol, local, port, remote, remote_port, state, inode)
    except (IndexError, ValueError, struct.error):
        return None


def _endpoint(text: str) -> tuple[Address, int]:
    """ "0100007F:1F90": words of the address in the machine's byte order, port as it is."""
    address, _, port = text.partition(":")
    raw = bytes.fromhex(address)
    if sys.byteorder == "little":
        raw = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
    family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    return ipaddress.ip_address(socket.inet_ntop(family, raw)), int(port, 16)


def _lines(path: Path) -> Iterator[str]:
    try:
        text = path.read_text("utf-8", "surrogateescape")
    except OSError:
        return
    yield from text.splitlines()[1:]
