"""For every test: the calls that change a host's kernel are out of reach."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from orchestrator.system import _native
from tests.support.native import Tripwire
from tests.support.profile import PROFILE, PROFILES, examples

# A machine that is busy with a guest is no reason to fail: no deadlines. pytest's own timeout
# still ends what hangs.
for name in PROFILES:
    settings.register_profile(name, max_examples=examples(100), deadline=None)
settings.load_profile(PROFILE)


@pytest.fixture(autouse=True)
def tripwire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tripwire]:
    """In place of the native library; a test that reaches a dangerous call fails."""
    wire = Tripwire(_native.lib)
    monkeypatch.setattr(_native, "lib", wire)
    yield wire
    assert wire.reached == []
