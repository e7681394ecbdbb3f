"""Models that are built when they are first used, by threads that use them at the same moment."""

from __future__ import annotations

import ast
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator.model.base import Deferred, Record

ROOT = Path(__file__).resolve().parents[2] / "orchestrator"
_THREADS = 4


def _fresh(number: int = 0) -> type[Record]:
    """A model that nobody has used."""
    fields = {"__annotations__": {"number": int, "numbers": list[int]}, "__module__": __name__}
    return type(f"Fresh{number}", (Record,), fields)


def _used_at_once(model: type[Record]) -> list[dict[str, Any]]:
    """What each of some threads gets that use it first, together."""
    together = Barrier(_THREADS)

    def use(number: int) -> dict[str, Any]:
        together.wait()
        return model.model_validate({"number": str(number), "numbers": ["7"]}).model_dump()

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(use, range(_THREADS)))


def _wanted() -> list[dict[str, Any]]:
    return [{"number": number, "numbers": [7]} for number in range(_THREADS)]


def test_a_model_is_built_by_one_thread_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pydantics = BaseModel.model_rebuild.__func__  # type: ignore[attr-defined]
    inside, most = 0, 0

    def slowly(cls: type[BaseModel], /, **how: Any) -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.02)
        try:
            return pydantics(cls, **how)
        finally:
            inside -= 1

    monkeypatch.setattr(BaseModel, "model_rebuild", classmethod(slowly))

    assert _used_at_once(_fresh()) == _wanted()
    assert most == 1


@contextmanager
def _impatient_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def test_models_first_used_by_steps_side_by_side_are_whole() -> None:
    with _impatient_threads():
        for number in range(50):
            assert _used_at_once(_fresh(number)) == _wanted()


def test_a_name_that_is_known_where_a_model_is_made_is_found_when_it_is_built() -> None:
    """Pydantic looks for names in the frames of its callers, of which ours is one more."""

    class One(Deferred):
        other: Other

    class Other(Deferred):
        number: int

    assert One.model_rebuild() is True
    assert One.model_validate({"other": {"number": 3}}).other.number == 3


def test_what_is_built_late_is_built_under_our_lock() -> None:
    """A model of pydantic's own would be built by two threads at once."""
    late = [
        path.relative_to(ROOT).as_posix()
        for path in sorted(ROOT.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.keyword)
        if node.arg == "defer_build" and ast.unparse(node.value) == "True"
    ]

    assert late == ["model/base.py"]
