"""What the engine's tests share: small graphs, a driver over a dict, journals that crash."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engine import reserve
from orchestrator.engine.journal import Journal
from orchestrator.engine.transaction import Engine
from orchestrator.model.host import HostState, KernelState
from orchestrator.model.seams import StepContext
from orchestrator.model.steps import (
    Inspected,
    Inspection,
    Reversibility,
    Section,
    Step,
    StepGraph,
)
from tests.support.memory import in_memory
from tests.support.pretend import Host
from tests.support.warm import Warm, warm

HOST = HostState(
    driver="fake",
    machine_id="m",
    hostname="h",
    boot_id="b",
    kernel=KernelState(release="1.0", cmdline=""),
)


def make_step(step_id: str, **fields: Any) -> Step:
    if step_id.startswith("return."):
        fields.setdefault("section", Section.RETURN)
    if step_id.startswith("recover."):
        fields.setdefault("section", Section.RECOVER)
    if step_id.endswith("jump"):
        fields.setdefault("reversibility", Reversibility.PIVOT)
    if step_id == "commit":
        fields.setdefault("reversibility", Reversibility.COMMIT)
    return Step(id=step_id, kind="test", title=step_id, **fields)


def make_graph(steps: list[Step | str], edges: Any = (), **fields: Any) -> StepGraph:
    """A graph over steps or their ids; `edges="chain"` links them within their sections."""
    made = [make_step(s) if isinstance(s, str) else s for s in steps]
    if edges == "chain":
        edges = [
            (a.id, b.id)
            for section in Section
            for a, b in _pairs([s for s in made if s.section is section])
        ]
    fields.setdefault("name", "test")
    fields.setdefault("intent_digest", "intent")
    return StepGraph(
        spec_digest="spec",
        state_dir="/nowhere",
        driver="fake",
        steps=made,
        edges=list(edges),
        host=HOST,
        **fields,
    )


def _pairs(steps: list[Step]) -> Iterator[tuple[Step, Step]]:
    return pairwise(steps)


class DictDriver:
    """Effects are entries of a dict. `on` replaces what a verb does for a step."""

    name = "fake"

    def __init__(self) -> None:
        self.effects: dict[str, Inspection] = {}
        self.calls: list[tuple[str, str]] = []
        self.on: dict[tuple[str, str], Callable[[StepContext], Any]] = {}

    def _do(self, verb: str, step: Step, context: StepContext) -> Any:
        self.calls.append((verb, step.id))
        special = self.on.get((verb, step.id))
        return special(context) if special else None

    def observe(self, spec: Any) -> HostState:
        return HOST

    def perform(self, step: Step, context: StepContext) -> dict[str, Any]:
        result = self._do("perform", step, context)
        self.effects[step.id] = Inspection.PRESENT
        return result or {"of": step.id}

    def inspect(self, step: Step, context: StepContext) -> Inspected:
        found = self._do("inspect", step, context)
        if found is None:
            found = self.effects.get(step.id, Inspection.ABSENT)
        return Inspected(verdict=found, reason=f"{step.id} is {found.value}")

    def revert(self, step: Step, context: StepContext) -> dict[str, Any]:
        self._do("revert", step, context)
        self.effects.pop(step.id, None)
        return {}

    def close(self) -> None:
        pass

    def of(self, verb: str) -> list[str]:
        return [step for v, step in self.calls if v == verb]


@pytest.fixture(autouse=True)
def _no_room(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only tests of the reserved room pay for it: it is some MiB for each transaction."""
    if "room" not in request.fixturenames:
        monkeypatch.setattr(reserve, "reserve", lambda *_: None)


@pytest.fixture
def room() -> None:
    """Reserve room on the disk, as it is done outside of tests."""


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def journal(state_dir: Path) -> Iterator[Journal]:
    with Journal.open(state_dir, volatile=None) as opened:
        yield opened


@pytest.fixture
def driver() -> DictDriver:
    return DictDriver()


@pytest.fixture
def engine(driver: DictDriver, journal: Journal) -> Iterator[Engine]:
    with Engine(driver, journal, grace=0.2) as made:
        yield made


@pytest.fixture(scope="session")
def parent() -> Iterator[Warm]:
    """Forks real processes that run `mkupgrade`; made once, for it takes two seconds."""
    with warm() as made:
        yield made


@pytest.fixture
def host(parent: Warm, tmp_path: Path) -> Iterator[Host]:
    """In memory where that is possible: a kill tells nothing of what a disk keeps."""
    with in_memory(tmp_path) as directory:
        made = Host(parent, directory)
        made.make()
        yield made


@pytest.fixture
def tools() -> types.SimpleNamespace:
    """The helpers above, for tests of other files."""
    return types.SimpleNamespace(graph=make_graph, step=make_step, driver=DictDriver, host=HOST)
