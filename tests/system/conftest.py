"""Shared by the tests of the system room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.system import _native, guard
from tests.support.native import FakeCalls, Tripwire


@pytest.fixture
def fake_calls(tripwire: Tripwire, monkeypatch: pytest.MonkeyPatch) -> FakeCalls:
    """No native function left; only then is the guard told to let everything through."""
    fake = FakeCalls()
    monkeypatch.setattr(_native, "lib", fake)
    monkeypatch.setattr(guard, "objections", lambda *_args, **_kwargs: [])
    return fake


@pytest.fixture
def host_root(tmp_path: Path) -> Callable[[dict[str, str | bytes]], Path]:
    """A root directory with these files: path -> content."""

    def make(content: dict[str, str | bytes]) -> Path:
        for name, text in content.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode() if isinstance(text, str) else text)
        return tmp_path

    return make
