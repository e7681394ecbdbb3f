"""The system profile by the real nix-env over a real store, and a recorded boot menu."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from orchestrator.model.errors import MkupgradeError, ToolError
from orchestrator.model.params.in_place import NixosProfile, PendingGeneration
from orchestrator.model.spec import UpgradeSpec
from orchestrator.nixos import building, changing, deciding, systems
from orchestrator.nixos.changing import PreSwitchError
from orchestrator.nixos.resolving import resolve
from orchestrator.system import subprocesses
from orchestrator.system.limited import Limited
from tests.support.hosts import spec_data
from tests.support.nix_store import GENERATION, NixStore, needs_nix

pytestmark = [pytest.mark.slow, needs_nix]


class Upgrade:
    """A host that runs `old`, the profile's generation 1, and is to run `new`."""

    def __init__(self, store: NixStore) -> None:
        self.store = store
        self.old, self.new = store.system("old"), store.system("new", "6.18.2")
        store.set(self.old)
        store.boot(self.old)
        self.params = self.planned()

    def planned(self) -> NixosProfile:
        found = changing.profile_state(self.store.places)
        assert found.leads_to is not None
        assert found.generation is not None
        return NixosProfile(
            link=found.link, toplevel=self.new, previous=found.leads_to,
            generation=found.generation, last=found.last,
        )  # fmt: skip

    def install(self) -> None:
        changing.install(self.store.places, self.params, Limited(60))

    def put_back(self) -> None:
        changing.put_back(self.store.places, self.params, Limited(60))

    def stands(self) -> tuple[list[int], str | None, str | None]:
        """Numbers of all generations, what the profile leads to, what the menu starts."""
        return self.store.stands()[:3]


@pytest.fixture
def upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Upgrade:
    return Upgrade(NixStore(tmp_path, monkeypatch))


def test_the_profile_is_set_before_the_menu_is_made(upgrade: Upgrade) -> None:
    upgrade.install()
    assert upgrade.store.calls() == ["boot new system-2-link"]
    assert upgrade.stands() == ([1, 2], upgrade.new, "new")


def test_putting_back_makes_the_old_menu_first_and_leaves_no_generation_of_ours(
    upgrade: Upgrade,
) -> None:
    upgrade.install()
    upgrade.put_back()
    assert upgrade.store.calls()[1:] == ["boot old system-2-link"]
    assert upgrade.stands() == ([1], upgrade.old, "old")
    upgrade.put_back()
    assert len(upgrade.store.calls()) == 2


def test_a_menu_that_fails_is_put_back(upgrade: Upgrade) -> None:
    upgrade.store.fail("new", "boot")
    with pytest.raises(ToolError):
        upgrade.install()
    assert upgrade.stands()[1] == upgrade.new
    upgrade.put_back()
    assert upgrade.stands() == ([1], upgrade.old, "old")


def test_a_way_back_that_fails_half_way_is_whole_after_another_try(upgrade: Upgrade) -> None:
    upgrade.install()
    upgrade.store.fail("old", "boot")
    with pytest.raises(ToolError):
        upgrade.put_back()
    assert upgrade.stands()[1] == upgrade.new
    (upgrade.store.log / "fail-old-boot").unlink()
    upgrade.put_back()
    assert upgrade.stands() == ([1], upgrade.old, "old")


def test_a_generation_that_was_there_before_is_used_and_stays(upgrade: Upgrade) -> None:
    """As a vetoed switch leaves it, or an older generation that is gone back to."""
    upgrade.store.set(upgrade.new)
    upgrade.store.nix("nix-env", "--profile", upgrade.store.profile, "--switch-generation", "1")
    upgrade.params = upgrade.planned()
    upgrade.install()
    assert upgrade.stands() == ([1, 2], upgrade.new, "new")
    upgrade.put_back()
    assert upgrade.stands() == ([1, 2], upgrade.old, "old")


def test_what_is_held_is_not_collected_and_what_was_let_go_is(upgrade: Upgrade) -> None:
    changing.hold(upgrade.store.places, upgrade.params)
    upgrade.store.collect()
    assert Path(upgrade.new).is_dir()
    changing.hold(upgrade.store.places, upgrade.params)
    changing.let_go(upgrade.store.places)
    changing.let_go(upgrade.store.places)
    upgrade.store.collect()
    assert not Path(upgrade.new).exists()
    assert Path(upgrade.old).is_dir()


def test_pre_switch_checks_are_asked_and_refuse_with_their_words(upgrade: Upgrade) -> None:
    top = PurePosixPath(upgrade.new)
    changing.check(upgrade.store.places, top, Limited(60))
    assert upgrade.store.calls() == ["check new system-1-link"]
    upgrade.store.fail("new", "check")
    with pytest.raises(PreSwitchError) as caught:
        changing.check(upgrade.store.places, top, Limited(60))
    assert any("told to fail" in line for line in caught.value.details)
    assert upgrade.stands() == ([1], upgrade.old, None)


def test_systems_of_a_real_store_are_decided_on(upgrade: Upgrade) -> None:
    places = upgrade.store.places
    same = upgrade.store.system("same")
    here = systems.booted(places)

    def enough(toplevel: str) -> str:
        wanted = systems.read_system(places, PurePosixPath(toplevel))
        return deciding.decide(here, here, wanted).enough

    assert [enough(t) for t in (upgrade.old, same, upgrade.new)] == [
        "nothing", "switch", "kernel-transition",
    ]  # fmt: skip


def test_a_collected_system_is_an_error_of_ours(upgrade: Upgrade) -> None:
    upgrade.store.collect()
    with pytest.raises(MkupgradeError):
        upgrade.install()
    upgrade.put_back()
    assert upgrade.stands()[:2] == ([1], upgrade.old)


def test_arming_makes_the_old_menu_anew_whatever_it_was(upgrade: Upgrade) -> None:
    (upgrade.store.log / "menu").write_text("new\n", encoding="ascii")
    changing.arm(upgrade.store.places, upgrade.params, Limited(60))
    assert upgrade.stands() == ([1], upgrade.old, "old")


def pending(upgrade: Upgrade) -> NixosProfile:
    """As `nixos-rebuild boot` leaves it: the profile and the menu are the new system's."""
    upgrade.store.set(upgrade.new)
    (upgrade.store.log / "menu").write_text("new\n", encoding="ascii")
    found = changing.profile_state(upgrade.store.places)
    assert (found.leads_to, found.generation) == (upgrade.new, 2)
    assert (found.back_to, found.back) == (upgrade.old, 1)
    return NixosProfile(
        link=found.link, toplevel=upgrade.new, previous=upgrade.old, generation=1, last=2,
        pending=PendingGeneration(toplevel=upgrade.new, generation=2),
    )  # fmt: skip


def test_what_is_pending_gives_way_to_the_old_system_until_commit(upgrade: Upgrade) -> None:
    upgrade.params = pending(upgrade)
    for _ in range(2):
        changing.arm(upgrade.store.places, upgrade.params, Limited(60))
        assert upgrade.stands() == ([1, 2], upgrade.old, "old")
    upgrade.install()
    assert upgrade.stands() == ([1, 2], upgrade.new, "new")
    upgrade.put_back()
    assert upgrade.stands() == ([1, 2], upgrade.old, "old")


def test_what_was_pending_is_so_again_when_the_way_back_is_disarmed(upgrade: Upgrade) -> None:
    upgrade.params = pending(upgrade)
    changing.arm(upgrade.store.places, upgrade.params, Limited(60))
    for _ in range(2):
        changing.disarm(upgrade.store.places, upgrade.params, Limited(60))
        assert upgrade.stands() == ([1, 2], upgrade.new, "new")


def test_a_profile_that_somebody_changed_meanwhile_is_left_alone(upgrade: Upgrade) -> None:
    upgrade.params = pending(upgrade)
    third = upgrade.store.system("third")
    upgrade.store.set(third)
    changing.disarm(upgrade.store.places, upgrade.params, Limited(60))
    assert upgrade.stands() == ([1, 2, 3], third, "new")


def test_no_pre_switch_check_vetoes_the_way_back(upgrade: Upgrade) -> None:
    """switch-to-configuration asks them for `boot`, too, unless it is told not to."""
    upgrade.install()
    upgrade.store.fail("old", "check")
    upgrade.put_back()
    assert upgrade.stands() == ([1], upgrade.old, "old")


class Failing:
    """Programs of which the Nth fails once: before it did anything, or behind it (as a kill, or an
    answer that is lost, looks)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, *, done: bool) -> None:
        self._run, self._left, self._done = subprocesses.run, number, done
        monkeypatch.setattr(subprocesses, "run", self)

    def __call__(self, *args: Any, **rest: Any) -> Any:
        self._left -= 1
        if self._left == 0 and not self._done:
            raise ToolError("it could not be run")
        result = self._run(*args, **rest)
        if self._left == 0:
            raise ToolError("nobody knows how it ended")
        return result

    @property
    def failed(self) -> bool:
        return self._left <= 0


@pytest.mark.parametrize("done", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("is_pending", [False, True], ids=["settled", "pending"])
def test_a_failure_of_any_program_leaves_what_was(
    upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch, is_pending: bool, done: bool
) -> None:
    """Before the jump, exactly; behind it the old system, also where the new one was pending."""
    places, limit = upgrade.store.places, Limited(60)
    upgrade.params = pending(upgrade) if is_pending else upgrade.planned()
    changing.arm(places, upgrade.params, limit)
    changing.disarm(places, upgrade.params, limit)
    was, points = upgrade.stands(), 0
    behind = (was[0], upgrade.old, "old")
    for number in range(1, 10):
        with monkeypatch.context() as patch:
            failing, jumped = Failing(patch, number, done=done), False
            with suppress(ToolError):
                changing.arm(places, upgrade.params, limit)
                jumped = True
                upgrade.install()
        if not failing.failed:
            assert upgrade.stands()[1:] == (upgrade.new, "new")
            break
        points += 1
        if jumped:
            upgrade.put_back()
            assert upgrade.stands() == behind, number
        changing.disarm(places, upgrade.params, limit)
        assert upgrade.stands() == was, number
    assert points == (4 if is_pending else 3)


def test_a_veto_takes_the_profile_back_and_leaves_the_refused_generation(
    upgrade: Upgrade,
) -> None:
    """As `nixos-rebuild switch` leaves it: the profile is set before any check runs."""
    places, limit = upgrade.store.places, Limited(60)
    assert changing.take_back(places, upgrade.new, limit) is None
    upgrade.store.set(upgrade.new)
    assert upgrade.stands()[1] == upgrade.new
    assert changing.take_back(places, upgrade.new, limit) == 1
    assert upgrade.stands() == ([1, 2], upgrade.old, None)
    assert changing.take_back(places, upgrade.new, limit) is None


def test_without_an_older_generation_of_what_runs_the_profile_stays(upgrade: Upgrade) -> None:
    upgrade.store.set(upgrade.new)
    upgrade.store.nix("nix-env", "--profile", upgrade.store.profile, "--delete-generations", "1")
    assert changing.take_back(upgrade.store.places, upgrade.new, Limited(60)) is None
    assert upgrade.stands()[1] == upgrade.new


@pytest.fixture
def flake(upgrade: Upgrade, tmp_path: Path) -> str:
    """Of one host, web."""
    directory = tmp_path / "flake"
    directory.mkdir()
    shutil.copyfile(GENERATION, directory / "generation.nix")
    log, profile = upgrade.store.log, upgrade.store.profile
    (directory / "flake.nix").write_text(
        "{ outputs = _: { nixosConfigurations.web.config.system.build.toplevel ="
        f' import ./generation.nix {{ marker = "web"; log = "{log}"; profile = "{profile}";'
        ' system = "x86_64-linux"; }; }; }\n',
        encoding="utf-8",
    )
    return f"path:{directory}"


def test_a_hosts_system_is_built_from_a_flake_and_held(upgrade: Upgrade, flake: str) -> None:
    said: list[str] = []
    found = building.build(upgrade.store.places, f"{flake}#web", said.append)
    assert any(line.startswith("building '") for line in said)
    assert systems.read_system(upgrade.store.places, found).release == "6.12.1"
    upgrade.store.collect()
    assert Path(found).is_dir()
    with pytest.raises(ToolError):
        building.build(upgrade.store.places, f"{flake}#mail")


def test_a_plan_for_a_flake_keeps_to_the_system_that_was_built(
    upgrade: Upgrade, flake: str
) -> None:
    instance = {"name": "host", "kernel": {"nixos": {"flake": f"{flake}#web"}}}
    spec = UpgradeSpec.model_validate(spec_data(instances=[instance]))
    kernel = resolve(spec, upgrade.store.places, build=print).instances[0].kernel
    assert kernel.nixos is None
    assert (kernel.release, str(kernel.toplevel).endswith("-nixos-system-web")) == ("6.12.1", True)


def test_the_difference_of_two_systems_is_told_by_nix(upgrade: Upgrade) -> None:
    said = building.difference(upgrade.old, upgrade.new)
    assert "linux: 6.12.1 → 6.18.2" in said
    assert all("not known" in line for line in building.difference(upgrade.old, "/nowhere"))
