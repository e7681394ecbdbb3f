"""What generations that are gone leave: keys go with them, the rest stays for a while."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.drivers.leftovers import KEPT
from orchestrator.drivers.multikernel import keeping
from orchestrator.drivers.multikernel.pruning import prune
from orchestrator.drivers.records import Records, Shelf
from orchestrator.model.outcomes import Outcome
from orchestrator.model.steps import Section
from tests.drivers.multikernel.scene import RELEASE, Scene
from tests.support.memory import in_memory
from tests.support.multikernel.kernel import DoubleKernel
from tests.support.multikernel.settings import AgentSays, Spawn

Over = list[tuple[str, Outcome]]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with in_memory(tmp_path) as directory:
        yield Scene.make(directory)


def leave(
    scene: Scene, number: int, generation: str, *, kept_for: float = -1.0, kept: str | None = None
) -> str:
    """Records of a transaction: the key of an agent, a console's log, its commit."""
    transaction = f"t-{number:03d}"
    records = Records(scene.directory, transaction, Section.FORWARD)
    Shelf(scene.directory / "agents").write(generation, {"id": 9, "port": 1, "key": "secret"})
    commit = {
        "new": [{"name": generation, "id": 9}],
        "kept": [{"name": kept, "id": 2, "cmdline": "quiet"}] if kept else [],
        "until": time.time() + kept_for,
    }
    records.write(keeping.RECORD, commit)
    (records.dir / f"console.{generation}.log").write_text("Linux version\n")
    return transaction


def pruned(scene: Scene, over: Over) -> list[str]:
    return prune(DoubleKernel(scene.double), scene.directory, over)


def left(scene: Scene) -> set[str]:
    return {path.name for path in (scene.directory / "transactions").iterdir()}


def keys(scene: Scene) -> list[str]:
    return Shelf(scene.directory / "agents").names()


def test_a_key_goes_with_its_generation_and_the_log_of_its_console_stays(scene: Scene) -> None:
    over = [
        (leave(scene, 0, "gone-g2"), Outcome.ROLLED_BACK),
        (leave(scene, 1, "web"), Outcome.COMMITTED),
    ]
    assert pruned(scene, over) == []
    assert keys(scene) == ["web"]
    assert (scene.directory / "transactions/t-000/forward/console.gone-g2.log").exists()


def test_a_bounded_number_of_records_stays(scene: Scene) -> None:
    over = [(leave(scene, n, "gone-g2"), Outcome.COMMITTED) for n in range(KEPT + 5)]
    assert pruned(scene, over) == [it for it, _ in over[:5]]
    assert left(scene) == {it for it, _ in over[5:]}
    assert pruned(scene, over) == []


@pytest.mark.parametrize(
    ("kept_for", "kept"), [(3600.0, None), (-1.0, "web")], ids=["time left", "not given back"]
)
def test_what_may_be_rolled_back_or_has_to_be_given_back_stays_however_old(
    scene: Scene, kept_for: float, kept: str | None
) -> None:
    first = leave(scene, 0, "gone-g2", kept_for=kept_for, kept=kept)
    over = [(first, Outcome.COMMITTED)]
    over += [(leave(scene, n, "gone-g2"), Outcome.COMMITTED) for n in range(1, KEPT + 5)]
    assert first not in pruned(scene, over)
    assert first in left(scene)


@pytest.mark.parametrize("outcome", [Outcome.UNKNOWN, Outcome.ROLLBACK_INCOMPLETE])
def test_what_did_not_end_well_is_not_touched(scene: Scene, outcome: Outcome) -> None:
    over = [(leave(scene, n, "gone-g2"), outcome) for n in range(KEPT + 5)]
    assert pruned(scene, over) == []
    assert len(left(scene)) == KEPT + 5
    assert keys(scene) == ["gone-g2"]


def test_what_the_journal_does_not_know_is_not_touched(scene: Scene) -> None:
    leave(scene, 0, "gone-g2")
    assert pruned(scene, []) == []
    assert keys(scene) == ["gone-g2"]


def test_the_driver_drops_the_key_of_a_generation_that_a_rollback_took_away(scene: Scene) -> None:
    scene.double.world.spawns["web-g2"] = Spawn(agent=AgentSays(RELEASE))
    (scene.directory / "initrd").write_bytes(b"070701")
    kernel = {
        "image": str(scene.directory / "vmlinux"),
        "release": RELEASE,
        "initrd": str(scene.directory / "initrd"),
    }
    spec = scene.spec(
        instances=[{"name": "web", "kernel": kernel, "agent": {}}],
        rollback={"keep_old_kernel": "1h", "boot_deadline": "60s"},
    )
    done = scene.run(scene.plan(spec))
    assert done.outcome is Outcome.COMMITTED
    scene.driver().prune([(done.transaction, Outcome.COMMITTED)])
    assert keys(scene) == ["web-g2"]
    assert scene.roll_back().outcome is Outcome.ROLLED_BACK
    scene.driver().prune([(done.transaction, Outcome.ROLLED_BACK)])
    assert keys(scene) == []
