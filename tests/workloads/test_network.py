"""Sockets, addresses, routes and the hold; on this machine only inside a network namespace."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.model.errors import WorkloadError
from orchestrator.system import subprocesses
from orchestrator.workloads import hold, network, sockets
from orchestrator.workloads.facade import Workloads
from orchestrator.workloads.meta import HostAddress, Network, Route
from tests.support.control import Control

ROOT = Path(__file__).resolve().parents[2]
Program = Callable[[str, str], Path]


def test_own_sockets_are_listed_with_ports_and_states() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        port = server.getsockname()[1]
        client.connect(("127.0.0.1", port))
        found = sockets.inet_sockets([os.getpid()])
        listening = [s for s in found if s.state == sockets.LISTEN and s.port == port]
        assert [str(s.local) for s in listening] == ["127.0.0.1"]
        [connected] = [s for s in sockets.established(found) if s.remote_port == port]
        assert connected.port == client.getsockname()[1]
        assert {port, connected.port} <= set(sockets.tcp_ports(found))
        assert sockets.bound_addresses(found) == []


def test_ipv6_addresses_are_read_in_the_right_order() -> None:
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        found = sockets.inet_sockets([os.getpid()])
        assert ipaddress.ip_address("::1") in [s.local for s in found if s.protocol == "tcp6"]


def test_paths_of_unix_sockets_are_listed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "sock"))
        assert str(tmp_path / "sock") in sockets.unix_paths([os.getpid()])


def in_namespace(code: str) -> dict[str, object]:
    """Run Python in a network namespace of its own, with veth0 (10.9.0.1/24 and a route)."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs root, unshare and ip")
    prelude = """
import json, subprocess, sys
from orchestrator.workloads import network, sockets, hold
from orchestrator.workloads.meta import *
from tests.support.control import Control
def ip(*words):
    done = subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
    return done.stdout
ip("link", "set", "lo", "up")
ip("link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
ip("link", "set", "veth1", "up"); ip("link", "set", "veth0", "up")
ip("address", "add", "10.9.0.1/24", "broadcast", "10.9.0.255", "dev", "veth0")
ip("address", "add", "fd00::5/64", "dev", "veth0", "nodad")
ip("route", "add", "default", "via", "10.9.0.2", "dev", "veth0", "metric", "50")
ip("route", "add", "192.168.9.0/24", "via", "10.9.0.3", "dev", "veth0")
def told(**seen):
    print(json.dumps(seen))
"""
    argv = ["unshare", "--net", sys.executable, "-c", prelude + code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, check=False, capture_output=True, text=True, env=environment)
    if done.returncode != 0 and "unshare" in done.stderr:
        pytest.skip("this machine grants no network namespaces")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
def test_addresses_and_routes_come_back_once() -> None:
    seen = in_namespace("""
import socket, os
server = socket.create_server(("10.9.0.1", 8080))
six = socket.create_server(("fd00::5", 8080), family=socket.AF_INET6)
taken = network.take(sockets.inet_sockets([os.getpid()]))
before = (ip("-4", "route"), ip("-6", "route"))
ip("address", "flush", "dev", "veth0"); ip("link", "set", "veth0", "down")
ip("link", "set", "lo", "down")
done = network.bring_back(taken, Control())
after = (ip("-4", "route"), ip("-6", "route"))
again = network.bring_back(taken, Control())
told(ports=taken.ports, addresses=[a.address for a in taken.addresses], done=done, again=again,
     same=before[0] == after[0], before=before, after=after)
""")
    assert seen["ports"] == [8080]
    assert seen["addresses"] == ["10.9.0.1/24", "fd00::5/64"]
    assert seen["again"] == []
    assert seen["same"], seen
    done = seen["done"]
    assert isinstance(done, list)
    assert done[:3] == ["interface lo up", "interface veth0 up", "address 10.9.0.1/24 on veth0"]


@pytest.mark.slow
def test_an_interface_is_known_by_its_hardware_address() -> None:
    """Names change from boot to boot."""
    seen = in_namespace("""
mac = json.loads(ip("-json", "link", "show", "veth0"))[0]["address"]
address = HostAddress(interface="eth7", mac=mac, address="10.8.0.1/24")
taken = Network(ports=[80], addresses=[address],
                routes=[Route(interface="eth7", destination="10.7.0.0/16", gateway="10.8.0.9")])
told(done=network.bring_back(taken, Control()))
""")
    assert seen["done"] == [
        "address 10.8.0.1/24 on veth0",
        "route 10.7.0.0/16 via 10.8.0.9 on veth0",
    ]


@pytest.mark.slow
def test_an_interface_that_does_not_come_is_a_time_out() -> None:
    seen = in_namespace("""
from orchestrator.model.errors import WorkloadError
taken = Network(addresses=[HostAddress(interface="eth7", address="10.8.0.1/24")])
try:
    network.bring_back(taken, Control(seconds=0.2))
except WorkloadError as error:
    told(error=str(error), kind=error.error_class)
""")
    assert seen["kind"] == "timeout"
    assert "eth7 with 10.8.0.1/24 is not there" in str(seen["error"])


def test_sockets_on_any_address_need_no_address_brought_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # ip is not called
    with socket.create_server(("0.0.0.0", 0)) as server:  # noqa: S104
        taken = network.take(sockets.inet_sockets([os.getpid()]))
        assert server.getsockname()[1] in taken.ports
        assert taken.addresses == []


def test_what_ip_lists_is_read_and_kernel_routes_are_left_to_the_kernel(program: Program) -> None:
    links = [
        {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]},
        {
            "ifname": "eth0",
            "address": "52:54:00:12:34:56",
            "addr_info": [
                {"local": "10.0.2.15", "prefixlen": 24, "broadcast": "10.0.2.255"},
                {"local": "fe80::1", "prefixlen": 64},
            ],
        },
        {},
    ]
    routes = [
        {"dst": "default", "gateway": "10.0.2.2", "dev": "eth0", "protocol": "dhcp", "metric": 100},
        {"dst": "10.0.2.0/24", "dev": "eth0", "protocol": "kernel", "scope": "link"},
        {"type": "blackhole", "dst": "10.1.0.0/16", "dev": "eth0"},
        {"dst": "10.5.5.5", "dev": "eth0", "scope": "link", "flags": ["onlink"]},
        {"dst": "10.6.0.0/16", "dev": "docker0"},
    ]
    program(
        "ip",
        "import sys\n"
        f"answers = {{'address': {json.dumps(links)!r}, '-4': {json.dumps(routes)!r}}}\n"
        "print(answers.get(sys.argv[2], '[]'))\n",
    )
    ours = sockets.InetSocket(
        "tcp",
        ipaddress.ip_address("10.0.2.15"),
        80,
        ipaddress.ip_address("10.0.2.2"),
        5,
        sockets.ESTABLISHED,
        1,
    )
    taken = network.take([ours])
    assert taken == Network(
        ports=[80],
        established=1,
        addresses=[
            HostAddress(
                interface="eth0",
                mac="52:54:00:12:34:56",
                address="10.0.2.15/24",
                broadcast="10.0.2.255",
            )
        ],
        routes=[
            Route(interface="eth0", destination="default", gateway="10.0.2.2", metric=100),
            Route(interface="eth0", destination="10.5.5.5/32", scope="link", onlink=True),
        ],
    )


NFT = """
import os, sys
with open(os.environ["NFT_SAID"], "a") as said:
    said.write(" ".join(sys.argv[1:]) + "\\n" + (sys.stdin.read() if "-f" in sys.argv else ""))
"""


@pytest.fixture
def nft(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    said = tmp_path / "nft-said"
    monkeypatch.setenv("NFT_SAID", str(said))
    program("nft", NFT)
    return said


def test_the_hold_is_one_transaction_and_covers_the_ports_of_all(nft: Path) -> None:
    metas = {
        "web": {"network": {"ports": [8080, 443]}},
        "app": {"network": {"ports": [443, 7777]}},
    }
    assert Workloads().hold(metas, Control()) == {"ports": [443, 7777, 8080], "held": True}
    said = nft.read_text()
    assert said.startswith(
        "-f -\nadd table inet mkupgrade_hold\ndelete table inet mkupgrade_hold\n"
    )
    assert "elements = { 443, 7777, 8080 }" in said
    assert "tcp dport @ports drop" in said
    assert said.count("-f -") == 1


def test_release_asks_first_whether_there_is_a_hold(nft: Path) -> None:
    hold.release()
    said = nft.read_text().splitlines()
    assert said == ["list table inet mkupgrade_hold", "-f -", "delete table inet mkupgrade_hold"]


def test_no_ports_no_hold(nft: Path) -> None:
    assert Workloads().hold({"app": {}}, Control())["held"] is False
    assert "table inet mkupgrade_hold {" not in nft.read_text()


def test_without_nft_the_restore_goes_on_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = Workloads().hold({"app": {"network": {"ports": [80]}}}, Control())
    assert result["held"] is False
    assert "nft" in result["reason"]
    assert Workloads().release(Control()) == {}


@pytest.mark.parametrize("ports", [[0], [70000], [-1], list(range(1, 20000))])
def test_ports_that_are_none_never_reach_nft(ports: list[int], nft: Path) -> None:
    with pytest.raises(WorkloadError):
        hold.hold(ports)
    assert not nft.exists()


@pytest.mark.slow
def test_the_hold_drops_and_lets_go_for_real() -> None:
    if subprocesses.available("nft") is None:
        pytest.skip("nft is not installed")
    seen = in_namespace("""
import socket
server = socket.create_server(("127.0.0.1", 8080))
def reachable():
    try:
        socket.create_connection(("127.0.0.1", 8080), 0.3).close()
        return True
    except TimeoutError:
        return False
seen = [reachable()]
hold.hold([8080, 9090]); hold.hold([8080]); seen.append(reachable())
hold.open_ports([8080, 5]); seen.append(reachable())
hold.hold([8080]); hold.release(); hold.release(); seen.append(reachable())
told(seen=seen, held=hold.held())
""")
    assert seen == {"seen": [True, False, True, True], "held": False}
