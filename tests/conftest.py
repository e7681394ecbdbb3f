"""For every test: the calls that change a host's kernel are out of reach."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.system import _native
from tests.support.native import Tripwire


@pytest.fixture(autouse=True)
def tripwire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tripwire]:
    """In place of the native library; a test that reaches a dangerous call fails."""
    wire = Tripwire(_native.lib)
    monkeypatch.setattr(_native, "lib", wire)
    yield wire
    assert wire.reached == []
