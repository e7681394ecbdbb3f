"""Old generations that are kept behind the commit, and how their place is given back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.drivers.multikernel import keeping
from orchestrator.drivers.multikernel.changing import ChangeFailedError
from orchestrator.drivers.records import RecordError, Records
from orchestrator.model.outcomes import Outcome
from orchestrator.model.steps import Section
from tests.drivers.multikernel.pretend import VMLINUX
from tests.drivers.multikernel.scene import IMAGE, Scene
from tests.support.memory import in_memory
from tests.support.multikernel.calls import ID_SHIFT, MULTIKERNEL, NO_INITRAMFS
from tests.support.multikernel.kernel import DoubleKernel

HOUR = 3600.0


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Web was upgraded by surge just now, and its old generation is kept for an hour."""
    with in_memory(tmp_path) as directory:
        scene = Scene.make(directory)
        spec = scene.spec(rollback={"keep_old_kernel": "1h", "boot_deadline": "60s"})
        assert scene.run(scene.plan(spec)).outcome is Outcome.COMMITTED
        yield scene


def over(scene: Scene, outcome: Outcome = Outcome.COMMITTED) -> list[tuple[str, Outcome]]:
    directories = sorted((scene.directory / "transactions").iterdir())
    return [(it.name, outcome) for it in directories]


def give_back(scene: Scene, after: float = HOUR + 60, **rest: Any) -> list[str]:
    kernel = DoubleKernel(scene.double)
    return keeping.give_back(kernel, scene.directory, over(scene, **rest), now=time.time() + after)


def why_not(scene: Scene) -> str | None:
    ((transaction, _),) = over(scene)
    return keeping.why_no_way_back(DoubleKernel(scene.double), scene.directory, transaction)


def test_it_is_kept_for_its_time_and_no_longer(scene: Scene) -> None:
    (kept,) = keeping.kept(scene.directory, [it for it, _ in over(scene)])
    assert (kept.name, kept.id) == ("web", 2)
    assert kept.until == pytest.approx(time.time() + HOUR, abs=60)
    assert give_back(scene, after=HOUR - 120) == []
    assert scene.states() == {"web": "loaded", "web-g2": "active"}
    assert give_back(scene) == ["web"]
    assert scene.states() == {"web-g2": "active"}
    assert sorted(scene.double.world.free_cpus()) == [8, 10, 16, 18, 20, 22]


def test_given_back_twice_is_given_back_once(scene: Scene) -> None:
    assert give_back(scene) == ["web"]
    before = scene.picture()
    assert give_back(scene) == []
    assert scene.picture() == before
    assert keeping.kept(scene.directory, [it for it, _ in over(scene)]) == []


@pytest.mark.parametrize("outcome", [Outcome.ROLLED_BACK, Outcome.ROLLBACK_INCOMPLETE])
def test_what_is_not_committed_keeps_nothing(scene: Scene, outcome: Outcome) -> None:
    assert give_back(scene, outcome=outcome) == []
    assert scene.states()["web"] == "loaded"


def test_half_given_back_the_rest_goes_the_next_time(scene: Scene) -> None:
    scene.double.world.faults.fail_at = {0: 5}
    with pytest.raises(ChangeFailedError):
        give_back(scene)
    assert scene.states()["web"] == "ready"
    assert give_back(scene) == ["web"]
    assert scene.states() == {"web-g2": "active"}


def runs_again(scene: Scene) -> None:
    scene.client.start(2)


def another_image(scene: Scene) -> None:
    scene.client.unload(2)
    flags = MULTIKERNEL | 2 << ID_SHIFT | NO_INITRAMFS
    scene.double.calls.kexec_file_load(VMLINUX, None, "console=mktty0 mine", flags)


def unloaded(scene: Scene) -> None:
    scene.client.unload(2)


@pytest.mark.parametrize("change", [runs_again, another_image, unloaded])
def test_what_somebody_has_changed_since_is_left_alone(scene: Scene, change: Any) -> None:
    change(scene)
    before = scene.picture()
    assert give_back(scene) == []
    assert scene.picture() == before


def test_whether_there_still_is_a_way_back_is_told_with_the_reason(scene: Scene) -> None:
    assert why_not(scene) is None
    another_image(scene)
    assert "web has another image than the one that was kept" in str(why_not(scene))
    scene.client.unload(2)
    scene.client.load(2)
    assert why_not(scene) is None


def test_what_was_given_back_is_no_way_back(scene: Scene) -> None:
    give_back(scene)
    assert "web is gone: it was kept until" in str(why_not(scene))


def test_the_next_upgrade_takes_it_away_and_says_so(scene: Scene) -> None:
    spec = scene.spec(instances=scene.sized(web=(2, "512MiB")))
    ((first, _),) = over(scene)
    assert scene.run(scene.plan(spec)).outcome is Outcome.COMMITTED
    kernel = DoubleKernel(scene.double)
    assert "web is gone: it was kept until" in str(
        keeping.why_no_way_back(kernel, scene.directory, first)
    )
    assert give_back(scene, after=8 * 24 * HOUR) == ["web-g2"]
    assert scene.states() == {"web-g3": "active"}


def test_a_way_back_from_what_is_gone_itself_is_refused(scene: Scene) -> None:
    """The first of two upgrades by replace: its own generation was replaced by the second."""
    old = scene.directory / "old"
    again = scene.sized(web=(1, "1GiB"))
    spec = scene.replacing(instances=again, rollback={"kernel": {"image": str(old)}})
    old.write_bytes(IMAGE)
    other = {"append": ["quiet"]}
    ((first, _),) = over(scene)
    graph = scene.plan(
        scene.replacing(instances=[again[0] | {"cmdline": other}], rollback=spec.rollback)
    )
    assert scene.run(graph).outcome is Outcome.COMMITTED
    kernel = DoubleKernel(scene.double)
    said = keeping.why_no_way_back(kernel, scene.directory, first)
    assert said == "web-g2 is gone, and a later upgrade may have its place"


def test_a_record_that_was_damaged_is_no_reason_to_take_anything_away(scene: Scene) -> None:
    ((transaction, _),) = over(scene)
    records = Records(scene.directory, transaction, Section.FORWARD)
    records.write(keeping.RECORD, {"kept": "web"})
    before = scene.picture()
    with pytest.raises(RecordError, match="the record of the commit cannot be used"):
        give_back(scene)
    assert scene.picture() == before
