"""Doubles of the multikernel kernel, with a pool and an instance in them."""

from __future__ import annotations

import pytest

from tests.drivers.multikernel.pretend import Client
from tests.support.multikernel.double import Double


@pytest.fixture
def double() -> Double:
    """With a pool of CPUs 8 to 22 and 4 GiB."""
    return Client.pooled().double


@pytest.fixture
def client(double: Double) -> Client:
    return Client(double)
