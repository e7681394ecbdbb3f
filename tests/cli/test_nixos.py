"""`nixos` on hosts made of files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.nixos import systems
from tests.support.nixos import PretendNixos


@pytest.fixture
def nixos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PretendNixos:
    """A host that booted generation 1 and whose profile leads to 2; the verbs see no other."""
    host = PretendNixos(tmp_path / "host")
    monkeypatch.setattr(systems, "REAL", host.places)
    old = host.system("old", release="6.12.1")
    host.boot(old)
    host.generation(1, old)
    host.generation(2, host.system("new", release="6.18.2", params=["quiet"]))
    return host


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
    assert f"{top}/bin/switch-to-configuration switch" in shown.stdout
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
