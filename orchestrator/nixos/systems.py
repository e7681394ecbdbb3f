"""NixOS systems on this host: what is in one, and which ones there are.

Sources: nixpkgs, nixos/modules/system/activation/{bootspec.nix,top-level.nix} for what is in a
system; nix-env(1), PROFILES, for profiles: NAME is a link to NAME-N-link, which is one to a system.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from orchestrator.model.base import Record, read_json
from orchestrator.model.errors import ErrorClass, MkupgradeError, NotSupportedError
from orchestrator.nixos import bootspec
from orchestrator.nixos.bootspec import Boot, Bootspec
from orchestrator.nixos.errors import UNCHANGED, BootspecError, NotASystemError
from orchestrator.nixos.tree import Tree
from orchestrator.system import resume_unit

SYSTEM = "system"
"""The profile that a boot loader installs."""
_PROFILES = PurePosixPath("/nix/var/nix/profiles")
_RUN = PurePosixPath("/run")
_SMALL = 1 << 20
_MOST_GENERATIONS = 100_000
_PROFILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True)
class Places:
    """Where a host keeps its systems; anything but `REAL` is for tests and for other roots."""

    tree: Tree = field(default_factory=Tree)
    profiles: PurePosixPath = _PROFILES
    run: PurePosixPath = _RUN

    @classmethod
    def below(cls, root: Path) -> Places:
        """Those of a host whose files are below a directory."""
        return cls(Tree(root))

    @property
    def booted(self) -> PurePosixPath:
        return self.run / "booted-system"

    @property
    def current(self) -> PurePosixPath:
        return self.run / "current-system"

    def profile(self, name: str) -> PurePosixPath:
        """The link of a profile: "system", or one of `nixos-rebuild --profile-name`.

        Raises:
            NotASystemError: no name of a profile.
        """
        if not _PROFILE.fullmatch(name) or name.endswith("-link"):
            raise NotASystemError(f"{name!r} is no name of a profile", state=UNCHANGED)
        return self.profiles / name if name == SYSTEM else self.profiles / "system-profiles" / name


REAL = Places()


class System(Record):
    """A NixOS system as it lies in the store: what matters for its kernel."""

    toplevel: str
    """Where it is, links followed: what /run/booted-system must lead to when it runs."""
    spec: Bootspec
    modules: str | None = None
    """Where its kernel's modules are, links followed; None: it has none."""
    release: str | None = None
    """What `uname -r` says in it, by the name of its modules' directory; None: not known."""
    version: str = ""
    """Of NixOS."""
    triggers: dict[str, str] | None = None
    """reboot-triggers: what a restart is due for where a value changes; None: before 26.05."""
    inhibitors: dict[str, str] | None = None
    """switch-inhibitors: what no switch is made over where a value changes; None: before 26.05."""
    init_interface: str | None = None
    """init-interface-version: across a change of it no switch is made."""
    resumes: bool | None = None
    """It starts mkupgrade-resume.service at boot; None: its units are not to be seen here."""

    @property
    def boot(self) -> Boot:
        return self.spec.boot


@dataclass(frozen=True)
class Generation:
    """One version of a profile."""

    number: int
    toplevel: PurePosixPath | None
    """None: its system is gone."""
    current: bool
    """The profile's link leads to it. That it runs is not said by this."""


def read_system(places: Places, path: PurePosixPath, specialisation: str | None = None) -> System:
    """A system, or a specialisation of it.

    Raises:
        NotASystemError: nothing is there.
        BootspecError: what its boot.json says cannot be used, or is of another system.
    """
    tree = places.tree
    toplevel = _resolved(tree, path)
    document = bootspec.read(tree, toplevel)
    own = document.of(specialisation, str(toplevel))
    if specialisation is not None:
        toplevel = _resolved(tree, PurePosixPath(own.boot.toplevel))
    elif tree.target(PurePosixPath(own.boot.toplevel)) != toplevel:
        raise BootspecError(
            f"it is of another system, {own.boot.toplevel}",
            where=str(toplevel / bootspec.FILE),
            state=UNCHANGED,
        )
    modules = tree.target(toplevel / "kernel-modules")
    return System(
        toplevel=str(toplevel),
        spec=own,
        modules=str(modules) if modules else None,
        release=_release(tree, modules),
        version=_line(tree, toplevel / "nixos-version") or "",
        triggers=_map(tree, toplevel / "reboot-triggers"),
        inhibitors=_map(tree, toplevel / "switch-inhibitors"),
        init_interface=_line(tree, toplevel / "init-interface-version"),
        resumes=_resumes(tree, toplevel / "etc/systemd/system"),
    )


def booted(places: Places) -> System:
    """The system that the running kernel came from.

    Raises:
        NotSupportedError: this is no NixOS. BootspecError.
    """
    return read_system(places, _required(places, places.booted))


def current(places: Places) -> System:
    """The system that is switched to; the booted one until somebody switches.

    Raises:
        NotSupportedError: this is no NixOS. BootspecError.
    """
    return read_system(places, _required(places, places.current))


def next_system(places: Places, profile: str = SYSTEM) -> PurePosixPath:
    """What a profile leads to: of `system`, what the boot loader was given, or should have been.

    Raises:
        NotASystemError: there is no such profile.
    """
    return _resolved(places.tree, places.profile(profile))


def generations(places: Places, profile: str = SYSTEM) -> list[Generation]:
    """All of a profile, the oldest first; none where there is no such profile.

    Raises:
        NotASystemError: no name of a profile.
    """
    link = places.profile(profile)
    now = _number(places.tree, link)
    return [
        Generation(number, places.tree.target(path), number == now)
        for number, path in sorted(_numbered(places.tree, link))
    ]


def current_of(found: list[Generation]) -> Generation | None:
    """The generation that the profile's link leads to."""
    return next((generation for generation in found if generation.current), None)


def before_the_last(found: list[Generation]) -> PurePosixPath:
    """The system of the newest generation before the profile's own that is another one.

    Raises:
        MkupgradeError: there is none.
    """
    now = current_of(found)
    older = [
        it.toplevel
        for it in found
        if now is not None
        and it.number < now.number
        and it.toplevel is not None
        and it.toplevel != now.toplevel
    ]
    if older:
        return older[-1]
    raise MkupgradeError(
        "the system profile has no older generation to go back to",
        state=UNCHANGED,
        next_command="nixos-rebuild list-generations",
        error_class=ErrorClass.INVALID,
    )


def generation(places: Places, number: int, profile: str = SYSTEM) -> PurePosixPath:
    """The system of one generation.

    Raises:
        NotASystemError: there is none of this number, or its system is gone.
    """
    link = places.profile(profile)
    path = link.with_name(f"{link.name}-{number}-link")
    found = places.tree.target(path)
    if found is None:
        known = ", ".join(str(g.number) for g in generations(places, profile)[-10:]) or "none"
        raise NotASystemError(
            f"profile {profile} has no generation {number}; the last that it has: {known}",
            where=str(path),
            state=UNCHANGED,
            next_command="nixos-rebuild list-generations",
        )
    return found


def of_profile(places: Places, name: str | None, number: int | None) -> PurePosixPath:
    """What a profile leads to, or one generation of it.

    Args:
        name: None: `system`.
        number: None: what it leads to.

    Raises:
        NotASystemError
    """
    name = name or SYSTEM
    return next_system(places, name) if number is None else generation(places, number, name)


def profiles(places: Places) -> list[str]:
    """Names of all that there are, `system` first."""
    named = places.tree.names(places.profiles / "system-profiles")
    found = [name for name in named if _PROFILE.fullmatch(name) and not name.endswith("-link")]
    there = places.tree.target(places.profile(SYSTEM)) is not None
    return [*([SYSTEM] if there else []), *found]


def _numbered(tree: Tree, link: PurePosixPath) -> Iterator[tuple[int, PurePosixPath]]:
    pattern = re.compile(re.escape(link.name) + r"-([1-9][0-9]{0,8})-link")
    for name in tree.names(link.parent)[:_MOST_GENERATIONS]:
        match = pattern.fullmatch(name)
        if match is not None:
            yield int(match[1]), link.with_name(name)


def _number(tree: Tree, link: PurePosixPath) -> int | None:
    """Which generation a profile's link names."""
    try:
        name = tree.outside(link).readlink().name
    except OSError:
        return None
    match = re.fullmatch(re.escape(link.name) + r"-([1-9][0-9]{0,8})-link", name)
    return int(match[1]) if match is not None else None


def _resolved(tree: Tree, path: PurePosixPath) -> PurePosixPath:
    found = tree.target(path)
    if found is None or not tree.outside(found).is_dir():
        raise NotASystemError("there is no NixOS system", where=str(path), state=UNCHANGED)
    return found


def _required(places: Places, path: PurePosixPath) -> PurePosixPath:
    if places.tree.target(path) is None:
        raise NotSupportedError(
            f"this is no NixOS: there is no {path}", where=str(path), state=UNCHANGED
        )
    return path


def _release(tree: Tree, modules: PurePosixPath | None) -> str | None:
    """Exactly one release has modules there, or nobody can say which it is."""
    names = tree.names(modules / "lib/modules") if modules is not None else []
    sound = [name for name in names if re.fullmatch(r"[!-~]{1,64}", name)]
    return sound[0] if len(names) == 1 and sound else None


def _resumes(tree: Tree, units: PurePosixPath) -> bool | None:
    names = tree.names(units)
    wants = [name for name in names if name.endswith((".wants", ".requires"))]
    wanted = any(resume_unit.NAME in tree.names(units / directory) for directory in wants)
    return wanted if names else None


def _line(tree: Tree, path: PurePosixPath) -> str | None:
    try:
        return tree.read(path, _SMALL).decode("utf-8", "replace").strip()[:256]
    except (OSError, MkupgradeError):
        return None


def _map(tree: Tree, path: PurePosixPath) -> dict[str, str] | None:
    """A JSON object of texts.

    Raises:
        NotASystemError: it is there and is something else: its reasons must not go unseen.
    """
    try:
        value: Any = read_json(tree.read(path, _SMALL))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, MkupgradeError) as error:
        raise _unusable(path, f"cannot be read: {getattr(error, 'what', error)}") from None
    texts = isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
    if not texts:
        raise _unusable(path, "expected a JSON object of texts")
    found: dict[str, str] = value
    return found


def _unusable(path: PurePosixPath, what: str) -> NotASystemError:
    return NotASystemError(what, where=str(path), state=UNCHANGED)
