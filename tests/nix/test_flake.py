"""The flake parses and evaluates over a stand-in for nixpkgs.

What this shows: syntax, names, that every file the package lists exists, version and outputs.
What it does not show: that real nixpkgs builds it (that takes nixpkgs, which CI does not have).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import orchestrator

ROOT = Path(__file__).resolve().parents[2]
STUB = Path(__file__).parent / "stub"
NIX_FILES = sorted(
    [ROOT / "flake.nix", *ROOT.glob("nix/**/*.nix"), *ROOT.glob("tests/nix/**/*.nix")]
)

pytestmark = pytest.mark.skipif(
    shutil.which("nix") is None and os.environ.get("CI") != "true",
    reason="nix is not installed (Debian: apt-get install nix-bin)",
)


def _nix(tmp_path: Path, *argv: str) -> str:
    """Run a nix program with a store of its own, so that nothing outside `tmp_path` changes."""
    env = dict(os.environ)
    env |= {
        "NIX_STORE_DIR": str(tmp_path / "store"),
        "NIX_STATE_DIR": str(tmp_path / "state"),
        "NIX_LOG_DIR": str(tmp_path / "log"),
        "NIX_CONFIG": "sandbox = false\nbuild-users-group =\nsubstitute = false\n"
        "experimental-features = nix-command flakes\nflake-registry =\n",
        "HOME": str(tmp_path),
    }
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


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


@pytest.mark.parametrize("file", NIX_FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_every_nix_file_parses(file: Path, tmp_path: Path) -> None:
    _nix(tmp_path, "nix-instantiate", "--parse", str(file))


@pytest.mark.slow
def test_flake_check_passes_over_a_stand_in_for_nixpkgs(tmp_path: Path) -> None:
    source = _flake_copy(tmp_path)
    # `nix flake check` would also look at the input's own outputs: nothing to find there.
    override = ["--override-input", "nixpkgs", f"path:{STUB}", "--no-write-lock-file"]
    _nix(tmp_path, "nix", "flake", "check", "--no-build", f"path:{source}", *override)


def test_package_carries_the_version_and_the_main_program(tmp_path: Path) -> None:
    source = _flake_copy(tmp_path)
    override = ["--override-input", "nixpkgs", f"path:{STUB}", "--no-write-lock-file"]
    out = _nix(
        tmp_path, "nix", "eval", "--json", f"path:{source}#packages.x86_64-linux.default",
        "--apply", "p: { inherit (p.given) version pname; main = p.meta.mainProgram;"
        " src = builtins.typeOf p.given.src; }", *override,
    )  # fmt: skip
    assert json.loads(out) == {
        "version": orchestrator.__version__,
        "pname": "mkupgrade",
        "main": "mkupgrade",
        "src": "path",
    }
