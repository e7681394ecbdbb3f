"""A NixOS host made of files. Its store is not at /nix/store, so that nobody may assume it."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from orchestrator.nixos.systems import Places

STORE = PurePosixPath("/srv/pretend/store")


class PretendNixos:
    """Files below `root`; paths inside are those of the host, links absolute, as Nix makes them."""

    def __init__(
        self, root: Path, store: PurePosixPath = STORE, places: Places | None = None
    ) -> None:
        self.places = places or Places.below(root)
        self.store = store
        self.run = self.outside(self.places.run)
        self.run.mkdir(parents=True)
        self.profiles = self.outside(self.places.profiles)
        self.profiles.mkdir(parents=True)

    @classmethod
    def in_place(cls, directory: Path) -> PretendNixos:
        """One whose files are where they say that they are, for what reads them by itself."""
        here = PurePosixPath(directory)
        places = Places(profiles=here / "profiles", run=here / "run")
        return cls(Path("/"), here / "store", places)

    def outside(self, path: PurePosixPath) -> Path:
        return self.places.tree.outside(path)

    def system(
        self,
        name: str,
        *,
        release: str = "6.12.1",
        kernel: str | None = None,
        initrd: str | None = "a",
        modules: str | None = None,
        params: list[str] | None = None,
        triggers: dict[str, str] | None = None,
        inhibitors: dict[str, str] | None = None,
        init_interface: str = "systemd-2",
        secrets: PurePosixPath | None = None,
        specialisations: dict[str, PurePosixPath] | None = None,
        extensions: dict[str, Any] | None = None,
    ) -> PurePosixPath:
        """A system; equal arguments share kernel, initrd and modules, as equal derivations do."""
        top = self.store / f"{name}-nixos-system"
        image = self._file(f"linux-{kernel or release}", "bzImage", f"kernel {kernel or release}")
        boot: dict[str, Any] = {
            "system": "x86_64-linux",
            "label": f"NixOS {name} (Linux {release})",
            "kernel": str(image),
            "kernelParams": params if params is not None else ["console=ttyS0", "loglevel=4"],
            "init": str(top / "init"),
            "toplevel": str(top),
        }
        if initrd is not None:
            boot["initrd"] = str(self._file(f"initrd-{initrd}", "initrd", f"initrd {initrd}"))
        if secrets is not None:
            boot["initrdSecrets"] = str(secrets)
        document: dict[str, Any] = {"org.nixos.bootspec.v1": boot, **(extensions or {})}
        if specialisations:
            document["org.nixos.specialisation.v1"] = {
                key: json.loads((self.outside(path) / "boot.json").read_text("utf-8"))
                for key, path in specialisations.items()
            }
        here = self.outside(top)
        (here / "specialisation").mkdir(parents=True)
        for key, path in (specialisations or {}).items():
            (here / "specialisation" / key).symlink_to(path)
        own = self._directory(f"kernel-modules-{modules or kernel or release}", release)
        (here / "kernel-modules").symlink_to(own)
        (here / "kernel").symlink_to(image)
        texts = {"nixos-version": "26.11.pretend", "init-interface-version": init_interface}
        maps = {"reboot-triggers": triggers, "switch-inhibitors": inhibitors}
        texts |= {key: json.dumps(value) for key, value in maps.items() if value is not None}
        for key, text in {**texts, "boot.json": json.dumps(document)}.items():
            (here / key).write_text(text, encoding="utf-8")
        return top

    def link(self, name: str, target: PurePosixPath) -> None:
        """/run/booted-system and /run/current-system."""
        path = self.run / name
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    def boot(self, top: PurePosixPath) -> None:
        self.link("booted-system", top)
        self.link("current-system", top)

    def generation(self, number: int, top: PurePosixPath, profile: str = "system") -> None:
        """Make it, and have the profile lead to it."""
        directory = self.profiles if profile == "system" else self.profiles / "system-profiles"
        directory.mkdir(exist_ok=True)
        link = directory / f"{profile}-{number}-link"
        link.symlink_to(top)
        (directory / profile).unlink(missing_ok=True)
        (directory / profile).symlink_to(link.name)

    def _file(self, package: str, name: str, text: str) -> PurePosixPath:
        path = self.store / package / name
        self.outside(path).parent.mkdir(parents=True, exist_ok=True)
        if not self.outside(path).exists():  # what is in a store does not change
            self.outside(path).write_text(text, encoding="utf-8")
        return path

    def _directory(self, package: str, release: str) -> PurePosixPath:
        self.outside(self.store / package / "lib/modules" / release).mkdir(
            parents=True, exist_ok=True
        )
        return self.store / package
