"""A Nix store of a test's own, with nix-env and the rest of the real thing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from orchestrator.nixos import changing, systems
from orchestrator.nixos.systems import Places

GENERATION = Path(__file__).parents[1] / "nixos/pretend-generation.nix"
needs_nix = pytest.mark.skipif(
    shutil.which("nix-env") is None and os.environ.get("CI") != "true",
    reason="nix is not installed (Debian: apt-get install nix-bin)",
)


class NixStore:
    """Systems as real store paths, and a profile; nothing outside of `directory` changes."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        state = directory / "state"
        self.places = Places(
            profiles=PurePosixPath(state / "profiles"), run=PurePosixPath(directory / "run")
        )
        self.log = directory / "log"
        for path in (self.log, directory / "run", state / "profiles"):
            path.mkdir(parents=True)
        for name, value in {
            "NIX_STORE_DIR": str(directory / "store"),
            "NIX_STATE_DIR": str(state),
            "NIX_LOG_DIR": str(directory / "nix-log"),
            "NIX_CONFIG": "sandbox = false\nbuild-users-group =\nsubstitute = false\n",
            "HOME": str(directory),
        }.items():
            monkeypatch.setenv(name, value)

    @property
    def profile(self) -> str:
        return str(self.places.profile("system"))

    def system(self, marker: str, release: str = "6.12.1") -> str:
        """Build one; it is not rooted, as nothing that is merely built is."""
        given = {"marker": marker, "log": self.log, "profile": self.profile, "release": release}
        given["run"] = self.places.run
        arguments = [a for key, value in given.items() for a in ("--argstr", key, str(value))]
        return self.nix("nix-build", "--no-out-link", str(GENERATION), *arguments)

    def set(self, toplevel: str) -> None:
        self.nix("nix-env", "--profile", self.profile, "--set", toplevel)

    def collect(self) -> None:
        self.nix("nix-store", "--gc")

    def boot(self, toplevel: str) -> None:
        for name in ("booted-system", "current-system"):
            link = Path(self.places.run / name)
            link.unlink(missing_ok=True)
            link.symlink_to(toplevel)

    def calls(self) -> list[str]:
        """What systems' switch-to-configuration was asked: "boot new system-2-link"."""
        path = self.log / "calls"
        return path.read_text("ascii").splitlines() if path.exists() else []

    @property
    def menu(self) -> str | None:
        """Marker of the system that a boot loader would start."""
        path = self.log / "menu"
        return path.read_text("ascii").strip() if path.exists() else None

    def stands(self) -> tuple[list[int], str | None, str | None, str]:
        """Numbers of all generations, what the profile leads to, what the menu starts, what is
        current."""
        numbers = [found.number for found in systems.generations(self.places)]
        leads_to = changing.profile_state(self.places).leads_to
        return numbers, leads_to, self.menu, systems.current(self.places).toplevel

    def fail(self, marker: str, action: str) -> None:
        (self.log / f"fail-{marker}-{action}").touch()

    def end_with(self, marker: str, action: str, code: int) -> None:
        """It does what it is asked, and ends with this exit code."""
        (self.log / f"exit-{marker}-{action}").write_text(f"{code}\n", encoding="ascii")

    @staticmethod
    def nix(*argv: str) -> str:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()
