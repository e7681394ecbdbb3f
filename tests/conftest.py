"""For every test: the calls that change a host's kernel are out of reach."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from orchestrator.policy import enforce
from orchestrator.system import _native
from orchestrator.system.trusted import Trust
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


@pytest.fixture(autouse=True, scope="session")
def no_policy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A host without a policy, also where `/` is not root's, as in Nix' builds.

    There even the absence of /etc/mkupgrade/policy.yaml could not be relied on. Processes that
    tests start ask for the real one all the same.
    """
    with pytest.MonkeyPatch.context() as patch:
        if Path("/").stat().st_uid != 0:
            top = tmp_path_factory.getbasetemp()
            place = enforce.Place(top / "no-policy.yaml", Trust(os.geteuid(), top))
            patch.setattr(enforce, "REAL", place)
        yield
