"""Every Nix file parses, and the flake evaluates over a stand-in for nixpkgs.

What this shows: syntax, names, that every file the package lists exists, version and outputs.
What it does not show: that real nixpkgs builds it (that takes nixpkgs, which CI does not have).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import orchestrator
from tests.support.nix import ROOT, TESTS, needs_nix, output

NIX_FILES = sorted(
    [ROOT / "flake.nix", *ROOT.glob("nix/**/*.nix"), *ROOT.glob("tests/nix/**/*.nix")]
)

pytestmark = needs_nix


def _flake_copy(tmp_path: Path) -> Path:
    """What git knows of the tree: a `path:` flake would copy caches and virtual environments."""
    target = tmp_path / "source"
    if not (ROOT / ".git").exists():  # an unpacked sdist: all there is, but for what was built
        shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(".*", "__pycache__", "build"))
        return target
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)
    return target


OVERRIDE = ["--override-input", "nixpkgs", f"path:{TESTS / 'stub'}", "--no-write-lock-file"]


def test_every_nix_file_parses(tmp_path: Path) -> None:
    output(tmp_path, "nix-instantiate", "--parse", *map(str, NIX_FILES))


@pytest.mark.slow
def test_flake_check_passes_over_a_stand_in_for_nixpkgs(tmp_path: Path) -> None:
    flake = f"path:{_flake_copy(tmp_path)}"
    output(tmp_path, "nix", "flake", "check", "--no-build", flake, *OVERRIDE)


def test_flake_has_what_users_of_flakes_look_for(tmp_path: Path) -> None:
    flake = f"path:{_flake_copy(tmp_path)}"
    out = output(
        tmp_path, "nix", "eval", "--json", f"{flake}#packages.x86_64-linux.default", *OVERRIDE,
        "--apply", "p: { inherit (p.given) version pname; main = p.meta.mainProgram;"
        " src = builtins.typeOf p.given.src; tests = builtins.attrNames p.tests; }",
    )  # fmt: skip
    assert json.loads(out) == {
        "version": orchestrator.__version__,
        "pname": "mkupgrade",
        "main": "mkupgrade",
        "src": "path",
        "tests": ["live-upgrade", "version"],
    }


def test_package_installs_every_unit() -> None:
    package = (ROOT / "nix/package.nix").read_text()
    units = [p for kind in ("service", "timer") for p in ROOT.glob(f"orchestrator/**/*.{kind}")]
    assert units
    for unit in units:
        assert str(unit.relative_to(ROOT).with_name(f"*{unit.suffix}")) in package
        # What substituteInPlace --replace-fail looks for.
        assert "/usr/share/doc" in unit.read_text()
        assert "ExecStart=mkupgrade " in unit.read_text() or unit.suffix == ".timer"


def test_package_has_what_its_manual_page_is_made_from() -> None:
    package = (ROOT / "nix/package.nix").read_text()
    assert "--include=debian/mkupgrade.h2m" in package
    assert "/usr/share/doc" in (ROOT / "debian/mkupgrade.h2m").read_text()
