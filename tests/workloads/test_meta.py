"""What a handover says of a workload is held to its grammar before it reaches a command line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.errors import WorkloadError
from orchestrator.workloads.meta import CriuMeta, network_of, parse

GOOD: dict[str, Any] = {
    "method": "criu",
    "pids": [1002, 1004],
    "tasks": [1002, 1003, 1004],
    "session": 1002,
    "cgroup": "/system.slice/app.service",
    "unit": "app.service",
    "network": {
        "ports": [7777],
        "established": 1,
        "addresses": [{"interface": "eth0", "mac": "52:54:00:12:34:56", "address": "10.0.2.15/24"}],
        "routes": [{"interface": "eth0", "destination": "default", "gateway": "10.0.2.2"}],
    },
    "carried": {
        "directories": [{"path": "/run/app", "mode": 493, "uid": 0, "gid": 0}],
        "files": [],
    },
    "argv": ["server", "--port", "7777"],
    "cwd": "/",
}


def with_(path: str, value: Any) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(json.dumps(GOOD))
    *way, last = path.split(".")
    place: Any = whole
    for part in way:
        place = place[int(part)] if part.isdigit() else place[part]
    place[int(last) if last.isdigit() else last] = value
    return whole


def test_what_is_written_is_read_back_with_unknown_fields() -> None:
    meta = parse(CriuMeta, {**GOOD, "later": {"x": 1}}, "app")
    again = meta.model_dump(mode="json")
    assert again["later"] == {"x": 1}
    assert parse(CriuMeta, again, "app") == meta


BAD = [
    ("pids", []),
    ("pids", [1]),
    ("pids", [-5]),
    ("pids", ["12"]),
    ("pids", [1 << 30]),
    ("cgroup", "../../etc"),
    ("cgroup", "/../etc"),
    ("unit", "-H evil"),
    ("unit", "app.service\n"),
    ("network.ports", [0]),
    ("network.ports", [70000]),
    ("network.ports", ["7777 } drop; }"]),
    ("network.addresses.0.interface", "--help"),
    ("network.addresses.0.interface", "eth0; reboot"),
    ("network.addresses.0.interface", "x" * 16),
    ("network.addresses.0.address", "10.0.2.15/99"),
    ("network.addresses.0.address", "eth1"),
    ("network.routes.0.destination", "-6"),
    ("network.routes.0.gateway", "nowhere"),
    ("network.routes.0.scope", "galaxy"),
    ("carried.directories.0.path", "run/app"),
    ("carried.directories.0.path", "/run/../etc"),
    ("carried.directories.0.path", "/run//app"),
    ("carried.directories.0.mode", 0o10000),
    ("carried.directories.0.uid", -1),
]


@pytest.mark.parametrize(("path", "value"), BAD, ids=[f"{p}={v!r:.24}" for p, v in BAD])
def test_hostile_fields_are_refused_and_named(path: str, value: Any) -> None:
    with pytest.raises(WorkloadError) as caught:
        parse(CriuMeta, with_(path, value), "app")
    assert caught.value.details
    assert caught.value.where == "app"


@given(
    st.sampled_from([path for path, _ in BAD]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=12),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=6,
    ),
)
def test_anything_anywhere_is_read_or_refused(path: str, value: Any) -> None:
    try:
        meta = parse(CriuMeta, with_(path, value), "app")
    except WorkloadError:
        return
    for address in meta.network.addresses:
        assert not address.interface.startswith("-")
    assert all(0 < port < 65536 for port in meta.network.ports)


def test_every_method_may_have_ports() -> None:
    assert network_of({"network": {"ports": [80]}}, "web").ports == [80]
    assert network_of({}, "web").ports == []
    with pytest.raises(WorkloadError):
        network_of({"network": []}, "web")
