"""What changes a NixOS host: the system profile, the boot menu that is made from it, GC roots.

The order is what matters. A new system's profile is set before its menu is written, since the menu
lists generations; the old one's menu is written before the profile goes back, so that a profile
that leads to the old system says that its menu is there, too.

nix-env(1) does the profile's links, with its own lock; `switch-to-configuration boot` of a system
makes it what the boot loader starts by default.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path, PurePosixPath

from orchestrator.model.errors import ErrorClass, MkupgradeError, ToolError
from orchestrator.model.host import ProfileState
from orchestrator.model.params.in_place import NixosProfile
from orchestrator.model.seams import Control
from orchestrator.nixos import systems
from orchestrator.nixos.systems import Generation, Places
from orchestrator.system import files, subprocesses
from orchestrator.system.call_errors import PATH, call_error

_ROOTS = "mkupgrade"
NEW, OLD, WANTED = "new", "old", "wanted"
"""Names of our GC roots: one of each, until the next upgrade. `wanted` holds what was asked for
until a plan for it arms its way back."""


class PreSwitchError(MkupgradeError):
    """The system's own pre-switch checks refuse it; `details` holds the end of what they said."""

    code = "pre-switch-check"
    error_class = ErrorClass.REFUSED


def profile_state(places: Places) -> ProfileState:
    """The system profile as it is. Changes nothing."""
    found = systems.generations(places)
    now = systems.current_of(found)
    back = _of_what_is_active(places, found)
    return ProfileState(
        link=str(places.profile(systems.SYSTEM)),
        leads_to=str(now.toplevel) if now is not None and now.toplevel is not None else None,
        generation=now.number if now is not None else None,
        last=max((generation.number for generation in found), default=0),
        back_to=str(back.toplevel) if back is not None else None,
        back=back.number if back is not None else None,
    )


def check(places: Places, toplevel: PurePosixPath, control: Control) -> None:
    """Run a system's own pre-switch checks.

    Raises:
        PreSwitchError: they refuse it. ToolError: they could not be run.
    """
    try:
        _switch_to_configuration(places, toplevel, "check", control)
    except ToolError as error:
        raise PreSwitchError(
            "the system's own pre-switch checks refuse it",
            where=str(toplevel),
            state="nothing was changed",
            details=(error.what, *error.details),
        ) from error


def hold(places: Places, params: NixosProfile) -> None:
    """Keep both systems from being collected, until the next upgrade holds two others.

    Raises:
        SystemCallError
    """
    for name, toplevel in ((NEW, params.toplevel), (OLD, params.previous)):
        _root(places, name, toplevel)


def want(places: Places, toplevel: str) -> None:
    """Keep a system from being collected until another one is wanted.

    Raises:
        SystemCallError
    """
    _root(places, WANTED, toplevel)


def root_of_wanted(places: Places) -> Path:
    """The link that `want` makes, in its directory. Raises: SystemCallError."""
    directory = _roots(places)
    _make_directory(directory)
    return directory / WANTED


def arm(places: Places, params: NixosProfile, control: Control) -> None:
    """`hold`, and make the old system's menu anew: that the profile leads to it does not say that
    the menu starts it, where somebody put the profile back by hand. Then have the profile lead to
    it, where something else was pending for the next start.

    Raises:
        SystemCallError, ToolError
    """
    hold(places, params)
    _switch_to_configuration(places, PurePosixPath(params.previous), "boot", control)
    now = systems.current_of(systems.generations(places))
    if params.pending is not None and now is not None and now.number == params.pending.generation:
        _nix_env(Path(params.link), control, "--switch-generation", str(params.generation))


def take_back(places: Places, toplevel: str, control: Control) -> int | None:
    """Where a switch was refused and the profile leads to the refused system already: have it lead
    to the newest older generation of the current system, or of the booted one, again. The menu is
    as it was: it is made after the checks.

    Returns:
        The number of that generation; None: there was nothing to take back, or nothing to go to.

    Raises:
        ToolError
    """
    found = systems.generations(places)
    now = systems.current_of(found)
    if now is None or str(now.toplevel) != toplevel:
        return None
    back = _of_what_is_active(places, [older for older in found if older.number < now.number])
    if back is None:
        return None
    link = Path(places.profile(systems.SYSTEM))
    _nix_env(link, control, "--switch-generation", str(back.number))
    return back.number


def let_go(places: Places) -> None:
    """Hold the new system no longer. Again is fine."""
    with suppress(FileNotFoundError):
        (_roots(places) / NEW).unlink()


def disarm(places: Places, params: NixosProfile, control: Control) -> None:
    """The opposite of `arm`: what was pending for the next start is so again, unless somebody else
    has had the profile lead elsewhere. Again is fine.

    Raises:
        ToolError: it failed; what is left is done by another call.
    """
    pending, now = params.pending, systems.current_of(systems.generations(places))
    if pending is not None and now is not None:
        if now.number == params.generation:
            number = str(pending.generation)
            _nix_env(Path(params.link), control, "--switch-generation", number)
        if now.number in (params.generation, pending.generation):
            _switch_to_configuration(places, PurePosixPath(pending.toplevel), "boot", control)
    let_go(places)


def install(places: Places, params: NixosProfile, control: Control) -> None:
    """Have the profile lead to the new system, then make that the default of the boot menu.

    Raises:
        ToolError: one of them failed; `put_back` takes back what was done.
    """
    set_profile(places, params, control)
    _switch_to_configuration(places, PurePosixPath(params.toplevel), "boot", control)


def set_profile(places: Places, params: NixosProfile, control: Control) -> None:
    """Have the profile lead to the new system: to a generation of it that is there, else to a new
    one.

    Raises:
        ToolError
    """
    found = systems.generations(places)
    here = [g.number for g in found if str(g.toplevel) == params.toplevel]
    now = systems.current_of(found)
    if now is None or str(now.toplevel) != params.toplevel:
        how = ("--switch-generation", str(here[-1])) if here else ("--set", params.toplevel)
        _nix_env(Path(params.link), control, *how)


def put_back(places: Places, params: NixosProfile, control: Control) -> None:
    """The old system is the default of the boot menu again, then the profile leads to it; a
    generation that was made for the new one is gone. Again is fine.

    Raises:
        ToolError: one of them failed; what is left is done by another call.
    """
    link = Path(params.link)
    now = systems.current_of(systems.generations(places))
    if now is None or now.number != params.generation:
        _switch_to_configuration(places, PurePosixPath(params.previous), "boot", control)
        _nix_env(link, control, "--switch-generation", str(params.generation))
    made = [
        str(generation.number)
        for generation in systems.generations(places)
        if generation.number > params.last and str(generation.toplevel) == params.toplevel
    ]
    if made:
        _nix_env(link, control, "--delete-generations", *made)


def _of_what_is_active(places: Places, found: list[Generation]) -> Generation | None:
    """The newest generation of the current system, else of the booted one."""
    for path in (places.current, places.booted):
        system = places.tree.target(path)
        for generation in reversed(found):
            if system is not None and generation.toplevel == system:
                return generation
    return None


def _nix_env(link: Path, control: Control, *arguments: str) -> None:
    argv = [program("nix-env"), "--profile", str(link), *arguments]
    subprocesses.run(argv, timeout=control.remaining())


def program(name: str) -> str:
    """From a unit, PATH may hold next to nothing."""
    return subprocesses.available(name) or str(systems.REAL.current / "sw/bin" / name)


def _switch_to_configuration(
    places: Places, toplevel: PurePosixPath, action: str, control: Control
) -> None:
    """Its pre-switch checks are asked by `check`, once: none of them may veto the way back, nor
    the commit of what is proven."""
    program = places.tree.outside(toplevel / "bin/switch-to-configuration")
    env = {} if action == "check" else {"NIXOS_NO_CHECK": "1"}
    subprocesses.run([str(program), action], timeout=control.remaining(), env=env)


def _roots(places: Places) -> Path:
    return places.tree.outside(places.profiles.parent / "gcroots" / _ROOTS)


def _make_directory(path: Path) -> None:
    """One that everybody may look into, like all of Nix's. Raises: SystemCallError."""
    try:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise call_error(error.errno or 0, "mkdir", PATH, str(path)) from error


def _root(places: Places, name: str, toplevel: str) -> None:
    directory = _roots(places)
    path = directory / name
    temporary = directory / f".{name}.{os.getpid()}"
    _make_directory(directory)
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(toplevel)
        temporary.replace(path)
    except OSError as error:
        raise call_error(error.errno or 0, "symlink", PATH, str(path)) from error
    files.sync_directory(directory)
