"""What the module adds to scripts of NixOS, in scripts put together as NixOS does, run by bash.

As read in nixpkgs (docs/nixos-module.md names the files): pre-switch checks are an argument of
writeShellApplication, which also holds them to shellcheck; boot loaders' scripts differ in whether
they end at an error.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.nix import ROOT, evaluate, needs_nix

APPLICATION = "#!/bin/bash\nset -o errexit\nset -o nounset\nset -o pipefail\n\n"
"""What writeShellApplication puts in front of a script."""

CHECK = """# pre-switch check mkupgrade
if ! (
  {fragment}
) >&2 ; then
  echo "Pre-switch check 'mkupgrade' failed" >&2
  exit 1
fi
"""

LOADERS = {
    "systemd-boot, older": '#!/bin/bash\n{install} "$@"\n{fragment}\n',
    "systemd-boot, Limine": '#!/bin/bash\nset -euo pipefail\n{install} "$@"\n{fragment}\n',
    "GRUB": "#!/bin/bash\nset -e\nexport PERL5LIB=x\n{install} $@\n{fragment}",
}

needs_shellcheck = pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")


@pytest.fixture(scope="module")
def hooks(tmp_path_factory: pytest.TempPathFactory) -> Any:
    expression = '(import (at + "/eval.nix") (import (at + "/cases.nix")).evaluated.preload).shown'
    return evaluate(tmp_path_factory.mktemp("nix"), expression)


@pytest.fixture
def mkupgrade(tmp_path: Path) -> Path:
    """Writes down what it is asked, and ends with the code that `code` beside it says."""
    return _program(tmp_path, "mkupgrade")


def _program(room: Path, name: str) -> Path:
    program = room / name
    program.write_text(
        f'#!/bin/bash\necho "{name} $*" >>{room}/asked\nexit "$(cat {room}/{name}.code)"\n'
    )
    program.chmod(0o755)
    (room / f"{name}.code").write_text("0")
    return program


def _run(script: str, *argv: str) -> int:
    return subprocess.run(
        ["bash", "-s", "--", *argv], input=script, text=True, check=False
    ).returncode


def _with(program: Path, fragment: str) -> str:
    """A fragment that calls `program`, in place of the one in the store."""
    return re.sub(r"\S+/bin/mkupgrade", str(program), fragment)


@needs_nix
@pytest.mark.parametrize("code", [0, 1])
def test_check_before_a_switch_ends_as_preflight_does(
    hooks: Any, mkupgrade: Path, code: int
) -> None:
    fragment = _with(mkupgrade, hooks["preSwitchChecks"]["mkupgrade"])
    mkupgrade.with_name("mkupgrade.code").write_text(str(code))
    script = APPLICATION + CHECK.format(fragment=fragment)
    assert _run(script, "/nix/store/x-system", "switch") == code
    asked = mkupgrade.with_name("asked").read_text()
    assert asked == "mkupgrade nixos preflight /nix/store/x-system switch\n"


@needs_nix
@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("staged", [True, False])
def test_staging_never_fails_a_switch_and_hides_no_loader_that_failed(
    hooks: Any, mkupgrade: Path, loader: str, installed: bool, staged: bool
) -> None:
    install = _program(mkupgrade.parent, "install")
    install.with_name("install.code").write_text("0" if installed else "3")
    mkupgrade.with_name("mkupgrade.code").write_text("0" if staged else "1")
    fragment = _with(mkupgrade, hooks["loaders"]["grub"])
    script = LOADERS[loader].format(install=install, fragment=fragment)
    assert (_run(script, "/nix/store/x-system") == 0) is installed
    asked = mkupgrade.with_name("asked").read_text().splitlines()
    assert ("mkupgrade nixos stage --preload /nix/store/x-system" in asked) is installed


@needs_nix
@needs_shellcheck
def test_nixpkgs_would_build_the_scripts(hooks: Any, tmp_path: Path) -> None:
    """writeShellApplication ends the build over anything that shellcheck has to say."""
    check, window = tmp_path / "check", tmp_path / "window"
    check.write_text(APPLICATION + CHECK.format(fragment=hooks["preSwitchChecks"]["mkupgrade"]))
    window.write_text(APPLICATION + (ROOT / "nix/module/window.sh").read_text())
    done = subprocess.run(
        ["shellcheck", check, window], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
