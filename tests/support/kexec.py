"""A kernel's one place for an image, as far as `nixos stage` knows it. It can reach no real one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.model.errors import MkupgradeError


@dataclass
class PretendKexec:
    loaded: tuple[Path, str] | None = None
    initrd: bytes | None = None
    sha256: str = ""
    fails: MkupgradeError | None = None
    dies_behind: bool = False
    """Whoever loads is interrupted right behind the call."""

    def kexec_loaded(self) -> bool:
        return self.loaded is not None

    def load_kernel(self, image: Path, sha256: str, initrd: Path | None, cmdline: str) -> None:
        if self.fails is not None:
            raise self.fails
        self.loaded, self.sha256 = (image, cmdline), sha256
        self.initrd = initrd.read_bytes() if initrd is not None else None
        if self.dies_behind:
            raise KeyboardInterrupt

    def unload_kernel(self) -> None:
        if self.fails is not None:
            raise self.fails
        self.loaded = None
