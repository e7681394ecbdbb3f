"""`nixos` on hosts made of files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.drivers.simulated.images import PretendImage, write_image
from orchestrator.nixos import changing, systems
from orchestrator.system import proc
from tests.support.nix_store import NixStore, needs_nix
from tests.support.nixos import PretendNixos


def test_decide_looks_at_the_system_profile_and_tells_every_reason(
    run: Any, nixos: PretendNixos
) -> None:
    shown = run("nixos", "decide", "--json", "--detailed-exitcode")
    assert shown.exit_code == 2
    found = json.loads(shown.stdout)
    assert found["transition"] is True
    assert [reason["what"] for reason in found["reasons"]] == ["kernel", "parameters", "modules"]
    told = run("nixos", "decide")
    assert told.exit_code == 0
    assert "parameters: console=ttyS0 loglevel=4 -> quiet" in told.stdout


def test_decide_takes_systems_generations_profiles_and_specialisations(
    run: Any, nixos: PretendNixos
) -> None:
    inner = nixos.system("inner", release="6.18.2")
    outer = nixos.system("outer", release="6.12.1", specialisations={"rt": inner})
    nixos.generation(7, outer, "test")

    def enough(*arguments: object) -> str:
        shown = run("nixos", "decide", "--json", *arguments)
        assert shown.exit_code == 0, shown.stderr
        return str(json.loads(shown.stdout)["enough"])

    assert enough(outer) == "switch"
    assert enough("--generation", 1) == "nothing"
    assert enough("--profile", "test") == "switch"
    assert enough("--profile", "test", "--generation", 7) == "switch"
    assert enough(outer, "--specialisation", "rt") == "kernel-transition"


def test_decide_says_when_a_switch_is_enough(run: Any, nixos: PretendNixos) -> None:
    top = nixos.system("same", release="6.12.1")
    shown = run("nixos", "decide", top, "--detailed-exitcode")
    assert shown.exit_code == 0
    assert f"mkupgrade nixos upgrade --store-path {top}" in shown.stdout
    assert "Nothing to do" in run("nixos", "decide", "--generation", 1).stdout


def test_decide_does_not_guess_between_two_systems(run: Any, nixos: PretendNixos) -> None:
    shown = run("nixos", "decide", "/run/booted-system", "--generation", 1)
    assert shown.exit_code == 1
    assert "a TOPLEVEL, or --profile and --generation" in shown.stderr


def test_decide_on_another_distribution_says_so(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systems, "REAL", systems.Places.below(tmp_path))
    shown = run("nixos", "decide", "--json")
    assert shown.exit_code == 1
    error = json.loads(shown.stderr)["error"]
    assert error["code"] == "not-supported"
    assert "this is no NixOS" in error["what"]
    assert error["state"] == "nothing was changed"


SPEC = """\
api_version: mkupgrade/v1
metadata: {{name: to-the-new-system}}
host: {{driver: simulated, state_dir: "{state}"}}
instances:
  - {{name: host, kernel: {{nixos: {{{wanted}}}}}}}
soak: {{duration: "20ms", interval: "10ms"}}
"""


@pytest.fixture
def upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[PretendNixos, Path]:
    """A NixOS whose files are where they say, with pretend images; and a pretend host's plan."""
    host = PretendNixos.in_place(tmp_path / "host")
    monkeypatch.setattr(systems, "REAL", host.places)
    host.generation(2, host.system("new", release="7.3.4", params=["quiet", "kho=on"]))
    image = Path(host.store / "linux-7.3.4/bzImage")
    image.unlink()
    write_image(image, PretendImage(release="7.3.4"))
    spec = tmp_path / "plan.yaml"
    text = SPEC.format(state=tmp_path / "state", wanted="profile: system")
    spec.write_text(text, encoding="utf-8")
    return host, spec


def test_a_spec_is_valid_without_any_host(
    run: Any, upgrade: tuple[PretendNixos, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, spec = upgrade
    monkeypatch.setattr(systems, "REAL", systems.Places.below(spec.parent / "nowhere"))
    assert run("validate", spec).exit_code == 0
    shown = run("plan", spec, "--json")
    assert json.loads(shown.stderr)["error"]["code"] == "nixos-system"


def test_an_apply_ends_in_the_wanted_system(run: Any, upgrade: tuple[PretendNixos, Path]) -> None:
    host, spec = upgrade
    new = str(host.store / "new-nixos-system")
    shown = run("apply", spec, "--yes")
    assert shown.exit_code == 0, shown.stderr
    world = json.loads((spec.parent / "state/simulated-host.json").read_text("utf-8"))
    assert f"init={new}/init quiet kho=on" in world["kernel"]["cmdline"]
    again = json.loads(run("plan", spec, "--json").stdout)
    assert again["changes_pending"] is False


def test_a_saved_plan_keeps_to_the_system_that_it_was_made_for(
    run: Any, upgrade: tuple[PretendNixos, Path]
) -> None:
    host, spec = upgrade
    saved = spec.with_suffix(".json")
    assert run("plan", spec, "-o", saved).exit_code == 0
    host.generation(3, host.system("newer", release="7.3.4"))
    shown = run("apply", saved)
    assert shown.exit_code == 0, shown.stderr
    world = json.loads((spec.parent / "state/simulated-host.json").read_text("utf-8"))
    assert f"init={host.store}/new-nixos-system/init" in world["kernel"]["cmdline"]


def test_doctor_looks_at_the_files_of_the_system(
    run: Any, upgrade: tuple[PretendNixos, Path]
) -> None:
    host, spec = upgrade
    found = json.loads(run("doctor", spec, "--json").stdout)
    assert found["plan_error"] is None
    assert str(host.store / "linux-7.3.4/bzImage") in found["artifacts"]


def test_a_rehearsal_says_that_the_guest_has_no_such_system(
    run: Any, upgrade: tuple[PretendNixos, Path]
) -> None:
    shown = run("rehearse", upgrade[1], "--json")
    error = json.loads(shown.stderr)["error"]
    assert (shown.exit_code, error["code"]) == (1, "not-supported")


@pytest.mark.parametrize(
    ("action", "code"), [("switch", 1), ("test", 1), ("boot", 0), ("check", 0), ("dry-activate", 0)]
)
def test_preflight_refuses_what_would_switch_and_nothing_else(
    run: Any, nixos: PretendNixos, monkeypatch: pytest.MonkeyPatch, action: str, code: int
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(changing, "take_back", lambda _places, top, _: asked.append(top) or 1)
    top = nixos.store / "new-nixos-system"
    shown = run("nixos", "preflight", top, action)
    assert (shown.exit_code, shown.stdout) == (code, "")
    assert ("parameters: console=ttyS0 loglevel=4 -> quiet" in shown.stderr) is (code == 1)
    assert (f"mkupgrade nixos upgrade --store-path {top}" in shown.stderr) is (code == 1)
    assert asked == ([str(top)] if action == "switch" else [])


def test_preflight_lets_a_switch_with_the_same_kernel_pass(run: Any, nixos: PretendNixos) -> None:
    shown = run("nixos", "preflight", nixos.system("same"), "switch", "--json")
    assert shown.exit_code == 0
    found = json.loads(shown.stdout)
    assert (found["passes"], found["profile_put_back_to"]) == (True, None)


def test_preflight_that_cannot_decide_refuses(run: Any, nixos: PretendNixos) -> None:
    top = nixos.system("broken")
    (nixos.outside(top) / "boot.json").unlink()
    assert run("nixos", "preflight", top, "switch").exit_code == 1


@needs_nix
@pytest.mark.slow
def test_a_vetoed_switch_leaves_a_real_profile_at_the_old_system(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = NixStore(tmp_path, monkeypatch)
    monkeypatch.setattr(systems, "REAL", store.places)
    old, new = store.system("old"), store.system("new", "6.18.2")
    store.set(old)
    store.boot(old)
    store.set(new)  # as `nixos-rebuild switch` does before any check
    shown = run("nixos", "preflight", new, "switch")
    assert shown.exit_code == 1
    assert "leads to generation 1 again" in shown.stderr
    assert str(systems.next_system(store.places)) == old


@pytest.fixture
def booted(upgrade: tuple[PretendNixos, Path], tmp_path: Path) -> tuple[PretendNixos, Path, Path]:
    """As `upgrade`, with a system that runs; the host, a plan with all but the kernel, and a system
    to go to."""
    host, spec = upgrade
    host.boot(host.system("old", release="7.2.13"))
    text = spec.read_text("utf-8").replace("nixos: {profile: system}", "generation: 1")
    plain = text.replace("kernel: {generation: 1}", "kernel: {image: /boot/k, release: '7.2'}")
    spec.write_text(plain, encoding="utf-8")
    return host, spec, Path(host.store / "new-nixos-system")


def test_an_upgrade_takes_all_but_the_kernel_from_a_plan(
    run: Any, booted: tuple[PretendNixos, Path, Path]
) -> None:
    host, spec, new = booted
    shown = run("nixos", "upgrade", "--store-path", new, "--plan", spec, "--yes")
    assert shown.exit_code == 0, shown.stderr
    world = json.loads((spec.parent / "state/simulated-host.json").read_text("utf-8"))
    assert f"init={new}/init" in world["kernel"]["cmdline"]
    written = spec.parent / "state/nixos-upgrade.yaml"
    assert written.stat().st_mode & 0o777 == 0o600
    assert json.loads(written.read_text("utf-8"))["soak"] == {
        "duration": "20ms",
        "interval": "10ms",
    }
    assert (host.profiles.parent / "gcroots/mkupgrade/wanted").readlink() == new


def test_a_specialisation_is_carried_through_as_the_system_that_it_is(
    run: Any, booted: tuple[PretendNixos, Path, Path]
) -> None:
    host, spec, new = booted
    inner = host.system("inner", release="7.3.4", params=["preempt=full"])
    outer = host.system("outer", release="7.2.13", specialisations={"rt": inner})
    more = ("--specialisation", "rt", "--plan", spec, "--yes")
    shown = run("nixos", "upgrade", "--store-path", outer, *more)
    assert shown.exit_code == 0, shown.stderr
    world = json.loads((spec.parent / "state/simulated-host.json").read_text("utf-8"))
    assert f"init={inner}/init preempt=full" in world["kernel"]["cmdline"]
    assert run("nixos", "upgrade", "--store-path", new, *more).exit_code == 1


def test_a_flake_is_not_built_for_a_look_nor_where_no_nixos_runs(
    run: Any, upgrade: tuple[PretendNixos, Path]
) -> None:
    _, spec = upgrade
    text = spec.read_text("utf-8").replace("profile: system", 'flake: "/etc/nixos#web"')
    spec.write_text(text, encoding="utf-8")
    shown = run("doctor", spec, "--json")
    assert json.loads(shown.stderr)["error"]["next_command"] == f"mkupgrade plan {spec}"
    assert "this is no NixOS" in json.loads(run("plan", spec, "--json").stderr)["error"]["what"]


def test_an_upgrade_that_was_not_confirmed_names_a_command_that_works(
    run: Any, booted: tuple[PretendNixos, Path, Path]
) -> None:
    _, spec, new = booted
    shown = run("nixos", "upgrade", "--store-path", new, "--plan", spec, "--json")
    error = json.loads(shown.stderr)["error"]
    assert shown.exit_code == 1
    command = str(error["next_command"]).split()[1:]
    assert run(*command).exit_code == 0


def test_what_runs_and_is_to_run_is_nothing_to_do(
    run: Any, booted: tuple[PretendNixos, Path, Path]
) -> None:
    host, spec, _ = booted
    host.generation(3, host.store / "old-nixos-system")
    shown = run("nixos", "upgrade", "--profile", "system", "--json")
    assert shown.exit_code == 0, shown.stderr
    assert json.loads(shown.stdout)["changes_pending"] is False
    assert not (spec.parent / "state").exists()
    assert not (host.profiles.parent / "gcroots").exists()


def test_a_generation_is_taken_with_its_kernel(
    run: Any, booted: tuple[PretendNixos, Path, Path]
) -> None:
    _, spec, new = booted
    shown = run("nixos", "upgrade", "--generation", 2, "--plan", spec, "--yes", "--json")
    assert shown.exit_code == 0, shown.stderr
    first = json.loads(shown.stdout.splitlines()[0])
    assert first["decision"]["wanted"] == str(new)


def test_going_back_takes_the_generation_before(
    run: Any, booted: tuple[PretendNixos, Path, Path]
) -> None:
    host, spec, _ = booted
    host.generation(3, host.store / "old-nixos-system")
    shown = run("nixos", "upgrade", "--rollback", "--plan", spec, "--yes")
    assert shown.exit_code == 0, shown.stderr
    world = json.loads((spec.parent / "state/simulated-host.json").read_text("utf-8"))
    assert "new-nixos-system/init" in world["kernel"]["cmdline"]


def test_going_back_without_an_older_generation_says_so(
    run: Any, booted: tuple[PretendNixos, Path, Path]
) -> None:
    shown = run("nixos", "upgrade", "--rollback", "--json")
    assert "no older generation" in json.loads(shown.stderr)["error"]["what"]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--rollback", "--store-path", "/x"),
        ("--flake", "nixpkgs"),
        ("--flake", "a#b c"),
        ("--flake", "-x#web"),
        ("--profile", "system", "--rollback"),
    ],
)
def test_an_upgrade_does_not_guess_what_to_go_to(
    run: Any, booted: tuple[PretendNixos, Path, Path], arguments: tuple[str, ...]
) -> None:
    shown = run("nixos", "upgrade", *arguments, "--json")
    assert shown.exit_code == 1
    assert json.loads(shown.stderr)["error"]["code"] == "usage"


def boots(monkeypatch: pytest.MonkeyPatch, boot_id: str) -> None:
    monkeypatch.setattr(proc, "boot_id", lambda: boot_id)


def test_what_was_staged_is_confirmed_once_it_has_started(
    run: Any, nixos: PretendNixos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, state = nixos.store / "new-nixos-system", ("--state-dir", tmp_path / "state")

    def confirmed() -> Any:
        shown = run("nixos", "confirm", *state, "--json")
        assert shown.exit_code == 0, shown.stderr
        return json.loads(shown.stdout)

    assert confirmed()["staged"] is None
    boots(monkeypatch, "one")
    shown = run("nixos", "stage", new, *state)
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert "takes another kernel" in shown.stderr
    assert confirmed()["staged_started"] is None
    boots(monkeypatch, "two")
    assert confirmed()["staged_started"] is False
    nixos.boot(new)
    boots(monkeypatch, "three")
    assert confirmed()["staged_started"] is True
    assert confirmed()["staged"] is None


@pytest.mark.parametrize("top", ["/no/such", "relative", "/run"])
def test_staging_never_fails_a_switch(
    run: Any, nixos: PretendNixos, tmp_path: Path, top: str
) -> None:
    shown = run("nixos", "stage", top, "--state-dir", tmp_path / "state")
    assert shown.exit_code == 0
    assert "was not remembered" in shown.stderr
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    there = nixos.store / "new-nixos-system"
    shown = run("nixos", "stage", there, "--state-dir", tmp_path / "open", "--json")
    assert shown.exit_code == 0
    assert "open to others" in json.loads(shown.stdout)["problem"]
