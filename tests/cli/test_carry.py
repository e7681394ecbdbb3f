"""What carrying a transaction out asks of the place where the journal is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.carry import carry_out
from orchestrator.cli.command import Call
from orchestrator.drivers.simulated import SimulatedDriver
from orchestrator.model.errors import JournalError
from orchestrator.system import open_files


class BegunError(Exception):
    """The journal was opened, and the engine made."""


def open_the_journal(graph: Any, state_dir: Path) -> None:
    def work(_: Any) -> Any:
        raise BegunError

    driver = SimulatedDriver(state_dir / "host.json")
    carry_out(Call("apply", json=True), graph, driver, state_dir, work)


@pytest.fixture
def real(make_graph: Any) -> Any:
    """(told?) -> a plan that is not for a pretend host."""

    def make(told: bool) -> Any:
        graph = make_graph()
        host = graph.spec.host.model_copy(update={"allow_volatile_state": told})
        spec = graph.spec.model_copy(update={"host": host})
        return graph.model_copy(update={"driver": "live-update", "spec": spec})

    return make


def test_a_journal_that_a_reset_takes_is_refused_unless_the_spec_takes_it(
    real: Any, make_graph: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_files, "lost_at_reset", lambda _: "tmpfs")
    with pytest.raises(JournalError, match="a reset would take the journal with it"):
        open_the_journal(real(told=False), tmp_path / "refused")
    for graph in (real(told=True), make_graph()):
        with pytest.raises(Exception, match="BegunError") as begun:
            open_the_journal(graph, tmp_path / "taken")
        assert isinstance(begun.value.__cause__, BegunError)
