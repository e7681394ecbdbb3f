"""The guest gets the very plan; what has to differ from it is told."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from orchestrator.loading import load_spec, load_spec_file
from orchestrator.model.errors import NotSupportedError, RehearsalError
from orchestrator.model.spec import UpgradeSpec
from orchestrator.rehearsal import scene
from orchestrator.rehearsal.cast import GUEST_WORKLOADS, cast_workloads
from orchestrator.rehearsal.image import LayerFile, Recipe
from orchestrator.rehearsal.kernels import KernelPair, RehearsalKernel, kernel, kernels_in
from orchestrator.rehearsal.package import GUEST_PROGRAMS
from orchestrator.rehearsal.scene import Request, make_scene
from orchestrator.rehearsal.tools import quiet

PLANS = Path(__file__).parents[2] / "plans"
DEMO = PLANS / "live-update.yaml"


@pytest.fixture
def pair(tmp_path: Path) -> KernelPair:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    source = RehearsalKernel(old, "7.2.99", kho=True)
    return KernelPair(source, RehearsalKernel(new, "7.3.99", kho=True), "a test")


@pytest.fixture
def prepared(pair: KernelPair, monkeypatch: pytest.MonkeyPatch) -> KernelPair:
    monkeypatch.setattr(scene, "prepared_pair", lambda: pair)
    return pair


@pytest.mark.usefixtures("prepared")
def test_the_demo_changes_nothing_but_the_kernel_that_plays() -> None:
    spec = load_spec_file(DEMO)
    made = make_scene(Request(DEMO), spec, quiet)
    assert made.spec.workloads == spec.workloads
    assert made.spec.soak == spec.soak
    played = made.spec.instances[0].kernel
    assert (str(played.image), played.release) == ("/boot/vmlinuz-7.3.99", "7.3.99")
    assert isinstance(made.setup.files["/boot/vmlinuz-7.3.99"], LayerFile)
    assert isinstance(made.setup.files["/boot/vmlinuz-7.2.99"], LayerFile)
    assert made.setup.handover
    assert made.counter_port == 7777
    assert made.setup.forwards == (7777,)
    # What the guest reads is a plan again.
    assert load_spec(made.spec.model_dump_json(), "guest") == made.spec


@pytest.mark.usefixtures("prepared")
def test_channel_disk_boots_without_kho_and_is_asked_of_every_workload() -> None:
    made = make_scene(Request(DEMO, channel="disk"), load_spec_file(DEMO), quiet)
    assert not made.setup.handover
    assert "kho=off" in made.setup.command_line()
    assert {w.channel for w in made.spec.workloads} == {"disk"}


@pytest.mark.parametrize("plan", sorted(PLANS.glob("*.yaml")), ids=lambda p: p.name)
@pytest.mark.usefixtures("prepared")
def test_every_example_plan_can_be_rehearsed(plan: Path) -> None:
    spec = load_spec_file(plan)
    if len(spec.instances) != 1:
        with pytest.raises(NotSupportedError):
            make_scene(Request(plan), spec, quiet)
        return
    made = make_scene(Request(plan), spec, quiet)
    assert {w.name for w in made.spec.workloads} == {w.name for w in spec.workloads}
    assert len(made.setup.workloads) == len(spec.workloads)
    assert load_spec(made.spec.model_dump_json(), "guest") == made.spec


def foreign() -> UpgradeSpec:
    return load_spec_file(PLANS / "simulated.yaml")


def test_what_the_guest_does_not_have_is_played_and_told() -> None:
    spec = foreign()
    cast = cast_workloads(spec)
    assert [w.name for w in cast.spec.workloads] == [w.name for w in spec.workloads]
    assert [w.after for w in cast.spec.workloads] == [w.after for w in spec.workloads]
    assert all(w.migrate.method == "criu" and not w.checks for w in cast.spec.workloads)
    assert len({w["argv"][2] for w in cast.started}) == len(cast.started)
    told = "\n".join(cast.notes)
    for workload in spec.workloads:
        assert workload.name in told
    assert ("hooks" in told) == bool(spec.hooks.before or spec.hooks.after)


def test_the_guests_own_workloads_are_real_programs() -> None:
    guest = Path(scene.__file__).parent / "guest"
    for program, *_ in GUEST_WORKLOADS.values():
        assert (guest / program).is_file()
    assert GUEST_PROGRAMS.endswith("orchestrator/rehearsal/guest")


def test_without_kernels_with_kho_the_stock_ones_play_and_make_kernels_is_named(
    pair: KernelPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = KernelPair(
        RehearsalKernel(pair.source.image, "7.2.12+deb", pair.source.image),
        RehearsalKernel(pair.target.image, "7.3.4+deb", pair.target.image),
        "Debian",
    )
    monkeypatch.setattr(scene, "prepared_pair", lambda: None)
    monkeypatch.setattr(scene, "stock_pair", lambda _: (stock, Recipe(suite="stock")))
    spec = load_spec_file(DEMO)
    made = make_scene(Request(DEMO), spec, quiet)
    assert any("make kernels" in note for note in made.notes)
    assert made.spec.instances[0].kernel.initrd == PurePosixPath("/boot/initrd.img-7.3.4+deb")
    assert made.setup.initrd is not None
    assert not made.setup.handover
    with pytest.raises(RehearsalError) as caught:
        make_scene(Request(DEMO, channel="kho"), spec, quiet)
    assert caught.value.next_command == "make kernels"


@pytest.mark.usefixtures("prepared")
def test_a_kernel_that_is_asked_for_and_is_none_is_refused_not_replaced(tmp_path: Path) -> None:
    spec = load_spec_file(DEMO)
    with pytest.raises(RehearsalError, match="not a kernel"):
        make_scene(Request(DEMO, target=tmp_path / "none"), spec, quiet)


def test_a_file_that_is_no_kernel_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(b"\0" * (2 << 20))
    with pytest.raises(RehearsalError, match="not a kernel"):
        kernel(path)
    with pytest.raises(RehearsalError):
        kernel(tmp_path / "none")
    assert kernels_in(tmp_path) == []
    assert kernels_in(tmp_path / "none") == []
