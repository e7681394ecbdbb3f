"""Addresses and sockets: TCP, and vsock between kernels of one machine.

A client binds to a port below 1024, which only root (CAP_NET_BIND_SERVICE) may do, and the agent
hangs up on every other one before it reads anything: an ordinary user of the host cannot even take
one of its connections for as long as a handshake may last.
"""

from __future__ import annotations

import errno
import ipaddress
import secrets
import socket
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.handover.stream import ConnectionLostError
from orchestrator.model.errors import ErrorClass, MkupgradeError, NotSupportedError, SystemCallError
from orchestrator.system import call_errors, vsock

RESERVED = 1024
"""Ports below are root's."""
_LOWEST = 600
_CID_ANY = 0xFFFFFFFF
_BUSY = {errno.EADDRINUSE, errno.EADDRNOTAVAIL}


@dataclass(frozen=True)
class Address:
    """Where an agent listens."""

    kind: Literal["tcp", "vsock"]
    host: str
    """An IP address, or the number of a kernel (CID); empty: any of this machine's, by vsock."""
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return ":".join(part for part in (self.kind, host, str(self.port)) if part)


def parse_listen(text: str) -> Address:
    """`vsock:PORT` or `tcp:ADDRESS:PORT`.

    Raises:
        MkupgradeError: says what is wrong.
    """
    kind, _, rest = text.partition(":")
    if kind == "vsock" and rest.isascii() and rest.isdigit():
        return Address("vsock", "", _port(rest, text, 0xFFFFFFFE))
    if kind == "tcp":
        address = _tcp(text, rest)
        if ipaddress.ip_address(address.host).is_unspecified:
            raise _wrong(text, "names no address: state goes over a link that nobody else reads")
        return address
    raise _wrong(text, "is neither vsock:PORT nor tcp:ADDRESS:PORT")


def parse_peer(text: str) -> Address:
    """`vsock:CID:PORT` or `tcp:ADDRESS:PORT`.

    Raises:
        MkupgradeError: says what is wrong.
    """
    kind, _, rest = text.partition(":")
    if kind == "tcp":
        return _tcp(text, rest)
    number, _, port = rest.partition(":")
    if kind == "vsock" and number.isascii() and number.isdigit() and int(number) < _CID_ANY:
        return Address("vsock", str(int(number)), _port(port, text, 0xFFFFFFFE))
    raise _wrong(text, "is neither vsock:CID:PORT nor tcp:ADDRESS:PORT")


def listen(address: Address, backlog: int) -> socket.socket:
    """
    Raises:
        SystemCallError: e.g. the port is taken. NotSupportedError: this kernel has no vsock.
    """
    made = _socket(address)
    try:
        if address.kind == "tcp":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(_target(address) if address.host else (_CID_ANY, address.port))
        made.listen(backlog)
    except OSError as error:
        made.close()
        raise _error("bind", error, address) from error
    return made


def connect(address: Address, seconds: float) -> socket.socket:
    """Connect from a reserved port.

    Raises:
        ConnectionLostError: nobody answers there. SystemCallError: no such port may be, or is
            left to be, used. NotSupportedError: this kernel has no vsock.
    """
    first = secrets.randbelow(RESERVED - _LOWEST)
    for number in range(RESERVED - _LOWEST):
        port = _LOWEST + (first + number) % (RESERVED - _LOWEST)
        made = _socket(address)
        try:
            made.settimeout(max(seconds, 0.01))
            if not _bound(made, address, port):
                made.close()
                continue
            made.connect(_target(address))
        except OSError as error:
            made.close()
            if error.errno in _BUSY:  # the port is, with this very peer, from a while ago
                continue
            raise ConnectionLostError(
                f"no agent answers: {error.strerror or 'no answer in time'}",
                where=str(address),
                next_command=f"mkupgrade agent --ask {address} --key-file FILE",
            ) from error
        settle(made)
        return made
    raise SystemCallError(
        "no port below 1024 is left",
        errno=errno.EADDRINUSE,
        where=str(address),
        error_class=ErrorClass.BUSY,
        next_command="ss -tn sport lt :1024",
    )


def settle(connection: socket.socket) -> None:
    """Have a TCP connection whose other end has gone without a word end in half a minute, and
    small frames go out at once. One that is no TCP connection stays as it is."""
    if connection.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_NODELAY, 1),
        (socket.TCP_KEEPIDLE, 10),
        (socket.TCP_KEEPINTVL, 5),
        (socket.TCP_KEEPCNT, 4),
        (socket.TCP_USER_TIMEOUT, 30_000),
    ):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


def peer_of(connection: socket.socket) -> tuple[str, int]:
    """Who is at the other end, in words, and its port; -1: it cannot be told."""
    try:
        name: Any = connection.getpeername()
    except OSError:
        return "somebody", -1
    if isinstance(name, tuple) and len(name) >= 2:
        return f"{name[0]}:{name[1]}", int(name[1])
    return "somebody", -1


def _bound(made: socket.socket, address: Address, port: int) -> bool:
    """False: the port is taken."""
    unbound = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}  # noqa: S104 - a client's own end
    try:
        made.bind((_CID_ANY if address.kind == "vsock" else unbound[made.family], port))
    except OSError as error:
        if error.errno in _BUSY:
            return False
        made.close()
        raise _error("bind", error, address) from error
    return True


def _socket(address: Address) -> socket.socket:
    try:
        if address.kind == "vsock":
            return vsock.any_socket()
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        return socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise NotSupportedError(
            f"this kernel has no sockets for {address.kind}: {error.strerror}",
            where=str(address),
            next_command="modprobe vsock",
        ) from error


def _target(address: Address) -> tuple[Any, int]:
    if address.kind == "vsock":
        return int(address.host), address.port
    return address.host, address.port


def _tcp(text: str, rest: str) -> Address:
    host, _, port = rest.rpartition(":")
    try:
        parsed = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise _wrong(text, "names no IP address; names are not looked up") from None
    if parsed.version == 6 and not host.startswith("["):
        raise _wrong(text, "needs brackets: tcp:[ADDRESS]:PORT")
    return Address("tcp", str(parsed), _port(port, text, 0xFFFF))


def _port(digits: str, text: str, most: int) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) < 11 and 0 < int(digits) <= most):
        raise _wrong(text, f"has no port of 1 to {most}")
    return int(digits)


def _wrong(text: str, problem: str) -> MkupgradeError:
    return MkupgradeError(
        f"{text!r:.100} {problem}",
        state="nothing was changed",
        next_command="mkupgrade agent --help",
        error_class=ErrorClass.INVALID,
    )


def _error(call: str, error: OSError, address: Address) -> SystemCallError:
    number = error.errno or errno.EIO
    return call_errors.call_error(number, call, call_errors.COMMON, str(address))
