"""Two kernels and the host between them, for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.agent.keys import new_key
from tests.drivers.carrying.pair import Pair, T
from tests.support.carried import Kernel


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    host = tmp_path / "host"
    host.mkdir(mode=0o700)
    old = Kernel(tmp_path / "old", new_key("t-earlier"), counter=41)
    new = Kernel(tmp_path / "new", new_key(T))
    yield Pair(host, old, new)
    old.close()
    new.close()
