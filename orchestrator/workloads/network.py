"""Addresses and routes: read before the jump, brought back before a restore.

By `ip -json` (iproute2). Only what the workload's sockets are bound to is touched: the addresses
themselves, and the routes of their interfaces. What a network manager has brought back by then
is left as it is.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Sequence
from typing import Any

from orchestrator.model.base import read_json
from orchestrator.model.errors import ErrorClass, WorkloadError
from orchestrator.model.seams import Control
from orchestrator.system import subprocesses
from orchestrator.workloads.meta import HostAddress, Network, Route
from orchestrator.workloads.sockets import (
    Address,
    InetSocket,
    bound_addresses,
    established,
    tcp_ports,
)

_IP_SECONDS = 10.0
_WAIT_FOR_INTERFACE = 15.0
_PAUSE = 0.1


def take(sockets: list[InetSocket]) -> Network:
    """What these sockets need of the host's network.

    Raises:
        NotSupportedError, ToolError: `ip` is missing or fails; not called without need.
    """
    needed = bound_addresses(sockets)
    network = Network(ports=tcp_ports(sockets), established=len(established(sockets)))
    if not needed:
        return network
    addresses = _matching(_ip("address", "show"), needed)
    interfaces = {a.interface for a in addresses}
    routes = [r for family in (4, 6) for r in _routes(family) if r.interface in interfaces]
    return network.model_copy(update={"addresses": addresses, "routes": routes})


def bring_back(network: Network, control: Control) -> list[str]:
    """Make addresses and routes be there again, each interface up; what is there stays.
    The loopback interface comes up in any case: CRIU does not start without it.

    Returns:
        One line per thing that was done.

    Raises:
        WorkloadError: an interface did not appear in time, or `ip` refused.
    """
    done = _up("lo")
    present: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for wanted in network.addresses:
        if wanted.interface not in names:
            names[wanted.interface], present = _wait_for(wanted, control)
            done += _up(names[wanted.interface])
        if not _has(present, wanted):
            done.append(_add(wanted, names[wanted.interface]))
    for route in network.routes:
        if route.interface in names:
            done += _add_route(route, names[route.interface])
    return done


def _matching(links: list[dict[str, Any]], needed: list[Address]) -> list[HostAddress]:
    found = []
    for link in links:
        for info in link.get("addr_info", []):
            try:
                local = ipaddress.ip_address(str(info.get("local")))
            except ValueError:
                continue
            if local in needed:
                found.append(
                    HostAddress(
                        interface=str(link["ifname"]),
                        mac=str(link.get("address", "")),
                        address=f"{local}/{info['prefixlen']}",
                        broadcast=info.get("broadcast"),
                    )
                )
    return found


def _routes(family: int) -> list[Route]:
    """Routes of the main table that the kernel does not make by itself from an address."""
    found = []
    for entry in _ip(f"-{family}", "route", "show", "table", "main"):
        plain = "dev" in entry and entry.get("type", "unicast") == "unicast"
        if not plain or entry.get("protocol") == "kernel" or "via" in entry:
            continue
        found.append(
            Route(
                interface=str(entry["dev"]),
                destination=_prefix(str(entry["dst"]), family),
                family=6 if family == 6 else 4,
                gateway=entry.get("gateway"),
                source=entry.get("prefsrc"),
                metric=entry.get("metric"),
                scope=entry.get("scope", "global"),
                onlink="onlink" in entry.get("flags", []),
            )
        )
    return found


def _prefix(text: str, family: int) -> str:
    if text == "default" or "/" in text:
        return text
    return f"{text}/{32 if family == 4 else 128}"


def _wait_for(wanted: HostAddress, control: Control) -> tuple[str, list[dict[str, Any]]]:
    """The name that the interface has now, and all addresses. Its driver may still be loading."""
    until = time.monotonic() + min(_WAIT_FOR_INTERFACE, max(0.0, control.remaining()))
    while True:
        links = _ip("address", "show")
        by_mac = [str(e["ifname"]) for e in links if wanted.mac and e.get("address") == wanted.mac]
        names = [str(e["ifname"]) for e in links]
        if wanted.interface in by_mac or (not by_mac and wanted.interface in names):
            return wanted.interface, links
        if by_mac:
            return by_mac[0], links
        if time.monotonic() >= until:
            raise WorkloadError(
                f"interface {wanted.interface} with {wanted.address} is not there",
                details=(f"interfaces: {', '.join(names) or 'none'}",),
                next_command="ip address show",
                error_class=ErrorClass.TIMEOUT,
            )
        control.progress(f"Waiting for interface {wanted.interface}")
        time.sleep(_PAUSE)


def _has(links: list[dict[str, Any]], wanted: HostAddress) -> bool:
    address = str(ipaddress.ip_interface(wanted.address).ip)
    return any(i.get("local") == address for e in links for i in e.get("addr_info", []))


def _up(interface: str) -> list[str]:
    states = {str(e["ifname"]): e.get("flags", []) for e in _ip("link", "show")}
    if "UP" in states.get(interface, []):
        return []
    _run("ip", "link", "set", "dev", interface, "up")
    return [f"interface {interface} up"]


def _add(wanted: HostAddress, interface: str) -> str:
    extra: list[str] = []
    if wanted.broadcast:
        extra += ["broadcast", wanted.broadcast]
    if ipaddress.ip_interface(wanted.address).version == 6:
        extra.append("nodad")
    _run("ip", "address", "replace", wanted.address, *extra, "dev", interface)
    return f"address {wanted.address} on {interface}"


def _add_route(route: Route, interface: str) -> list[str]:
    family = f"-{route.family}"
    where = ["table", "main", "dev", interface]
    for entry in _ip(family, "route", "show", route.destination, *where):
        if entry.get("gateway") == route.gateway:
            return []
    words = ["ip", family, "route", "replace", route.destination]
    if route.gateway:
        words += ["via", route.gateway]
    words += ["dev", interface]
    if route.source:
        words += ["src", route.source]
    if route.metric is not None:
        words += ["metric", str(route.metric)]
    if route.scope != "global":
        words += ["scope", route.scope]
    if route.onlink:
        words.append("onlink")
    _run(*words)
    via = f" via {route.gateway}" if route.gateway else ""
    return [f"route {route.destination}{via} on {interface}"]


def _ip(*words: str) -> list[dict[str, Any]]:
    done = subprocesses.run(["ip", "-json", *words], timeout=_IP_SECONDS)
    try:
        value = read_json(done.text or "[]")
    except ValueError as error:
        raise WorkloadError(f"ip -json {' '.join(words)} wrote no JSON") from error
    return [entry for entry in value if isinstance(entry, dict) and entry]


def _run(*argv: str) -> None:
    words: Sequence[str] = argv
    subprocesses.run(words, timeout=_IP_SECONDS)
