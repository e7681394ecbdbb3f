"""Specs and hosts to plan with: a small sound pair, and ways to change it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.model.host import Cap, Capability, HostState
from orchestrator.model.spec import UpgradeSpec
from tests.support.hosts import host_data, spec_data, workload

SpecMaker = Callable[..., UpgradeSpec]
HostMaker = Callable[..., HostState]


def lack(host: HostState, *names: str) -> HostState:
    """The host without these capabilities."""
    missing = {
        Cap(name): Capability(available=False, reason=f"{name} is broken here") for name in names
    }
    return host.model_copy(update={"capabilities": host.capabilities | missing})


def _put(data: dict[str, Any], key: str, value: Any) -> None:
    *way, last = key.split("__")
    part: Any = data
    for name in way:
        part = part[int(name)] if isinstance(part, list) else part.setdefault(name, {})
    part[last] = value


def make_a_spec(**changes: Any) -> UpgradeSpec:
    """A spec; keywords replace whole top-level keys, "a__b" reaches into "a"."""
    data = copy.deepcopy(spec_data())
    for key, value in changes.items():
        _put(data, key, value)
    return UpgradeSpec.model_validate(data)


def make_a_host(spec: UpgradeSpec, **changes: Any) -> HostState:
    """A host for a spec; keywords replace keys, "kernel__release" reaches into "kernel"."""
    data = copy.deepcopy(host_data(spec))
    for key, value in changes.items():
        _put(data, key, value)
    return HostState.model_validate(data)


@pytest.fixture
def make_spec() -> SpecMaker:
    return make_a_spec


@pytest.fixture
def make_host() -> HostMaker:
    return make_a_host


@pytest.fixture
def without() -> HostMaker:
    """(host, capability, …) -> the host without them."""
    return lack


@pytest.fixture
def workload_data() -> Callable[..., dict[str, Any]]:
    """A workload of a spec as data: name, and keys to replace."""
    return workload


@pytest.fixture(scope="session")
def session_makers() -> tuple[SpecMaker, HostMaker, HostMaker]:
    """All three, for properties."""
    return make_a_spec, make_a_host, lack
