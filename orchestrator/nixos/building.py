"""Building a host's system out of a flake, and what it would bring, by nix(1)."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from orchestrator.model.errors import MkupgradeError, NotSupportedError, ToolError
from orchestrator.nixos import changing
from orchestrator.nixos.errors import UNCHANGED
from orchestrator.nixos.systems import Places
from orchestrator.system import subprocesses

_BUILD_SECONDS = 24 * 3600.0
_DIFF_SECONDS = 60.0
_FEATURES = ("--extra-experimental-features", "nix-command flakes")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
Tell = Callable[[str], None]


def build(places: Places, flake: str, tell: Tell | None = None) -> PurePosixPath:
    """Build a host's system out of a flake; its toplevel. As root it is held as `changing.want`
    would.

    Args:
        flake: ".#web": the flake, and the name of the host in its `nixosConfigurations`.
        tell: called with each line that nix says; None: an error has the last of them.

    Raises:
        ToolError: it does not evaluate or build.
        SystemCallError, NotSupportedError
    """
    where, _, host = flake.partition("#")
    attribute = f'{where}#nixosConfigurations."{host}".config.system.build.toplevel'
    # Who else than root would hold it, could not make the plan's steps either.
    link = ["--no-link"]
    if os.geteuid() == 0:
        link = ["--out-link", str(changing.root_of_wanted(places))]
    argv = [changing.program("nix"), *_FEATURES, "build", "--json", *link, attribute]
    try:
        done = subprocesses.run(argv, timeout=_BUILD_SECONDS, show=tell)
    except ToolError as error:
        raise ToolError(
            f"the system of {flake} could not be built: {error.what}",
            state=UNCHANGED,
            next_command=f"nix build --no-link {shlex.quote(attribute)}",
            details=() if tell is not None else error.details,
            error_class=error.error_class,
        ) from error
    try:
        found: Any = json.loads(done.text)[0]["outputs"]["out"]
        path = PurePosixPath(found)
    except (ValueError, LookupError, TypeError):
        raise ToolError(f"nix built {flake} and did not say where it is", state=UNCHANGED) from None
    return path


def not_built(flake: str) -> NotSupportedError:
    """The error of a look that must not take as long as a build may."""
    return NotSupportedError(
        f"the flake {flake} is built when a plan is made, not for a look",
        where="kernel.nixos.flake",
        state=UNCHANGED,
        next_command="mkupgrade plan",
    )


def difference(before: str, after: str) -> list[str]:
    """Packages whose versions or sizes change from one system to another, a line each, as `nix
    store diff-closures` says it; what hinders that is a line, too."""
    argv = [changing.program("nix"), *_FEATURES, "store", "diff-closures", before, after]
    try:
        said = subprocesses.run(argv, timeout=_DIFF_SECONDS).text
    except MkupgradeError as error:
        return [f"(the difference of the packages is not known: {error.what})"]
    return _ESCAPES.sub("", said).splitlines()
