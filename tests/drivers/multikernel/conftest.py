"""Doubles of the multikernel kernel, with a pool and an instance in them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.drivers.multikernel.pair import Pair
from tests.drivers.multikernel.pretend import Client
from tests.drivers.multikernel.served_host import Host
from tests.support.multikernel.double import Double
from tests.support.multikernel.served import state
from tests.support.multikernel.served.session import cannot_be_served, served


@pytest.fixture
def double() -> Double:
    """With a pool of CPUs 8 to 22 and 4 GiB."""
    return Client.pooled().double


@pytest.fixture
def client(double: Double) -> Client:
    return Client(double)


@pytest.fixture(scope="module")
def module_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    if (lack := cannot_be_served()) is not None:
        pytest.skip(lack)
    directory = tmp_path_factory.mktemp("served")
    with served(directory) as double:
        yield Pair(double, directory)


@pytest.fixture(scope="module")
def module_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """For the command line; tests have a fixture `host` of their own, with what it begins with."""
    if (lack := cannot_be_served()) is not None:
        pytest.skip(lack)
    directory = tmp_path_factory.mktemp("host")
    with served(directory) as double:
        yield Host(double, directory)


@pytest.fixture
def pair(module_pair: Pair) -> Pair:
    """Before anything was set aside."""
    module_pair.double.reset(state.fresh)
    return module_pair
