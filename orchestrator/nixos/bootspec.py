"""`boot.json` of a NixOS system: bootspec v1 (RFC 125; nixpkgs' bootspec.cue is its schema).

Read strictly: what is not in version 1 is refused, but for the namespaces of extensions, which are
kept as they are. Whoever built the system is not trusted to have made a sound one: sizes are
bounded, paths are absolute, and nothing in it can end or start a kernel parameter unseen.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import Field, ValidationError

from orchestrator.model.base import Record, read_json
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.spec.names import AbsolutePath
from orchestrator.nixos.errors import UNCHANGED, BootspecError
from orchestrator.nixos.tree import Tree

SIZE_LIMIT = 4 << 20
"""Bytes; a real one has a few KiB."""
V1 = "org.nixos.bootspec.v1"
SPECIALISATION = "org.nixos.specialisation.v1"
FILE = "boot.json"
_MOST_SPECIALISATIONS = 256
_VERSIONED = re.compile(r"org\.nixos\.(bootspec|specialisation)\.")
_PREVIEW = re.compile(r"v[0-9]+$")
_NAME = re.compile(r"[A-Za-z0-9+._?=-]{1,211}")
"""Of a specialisation: as Nix lets a name of a store path be."""
_SHOWN = 20

_Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=4096)]
"""A text without control characters: it ends up on a command line and on terminals."""


class Boot(Record):
    """Of one system, under `org.nixos.bootspec.v1`."""

    system: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+-[A-Za-z0-9_]+$", max_length=64)]
    """What it runs on: "x86_64-linux"."""
    label: _Line
    """What a boot menu calls it."""
    kernel: AbsolutePath
    kernelParams: Annotated[list[_Line], Field(max_length=1024)]  # noqa: N815 - its own name
    """Without `init=`. An entry may hold several parameters."""
    init: AbsolutePath
    toplevel: AbsolutePath
    initrd: AbsolutePath | None = None
    initrdSecrets: AbsolutePath | None = None  # noqa: N815 - its own name
    """A program that appends secrets to the initrd whose path it is given: see `initrd.py`."""

    @property
    def parameters(self) -> str:
        """What it is to be booted with, in one line: `init=` and then its own parameters."""
        return " ".join([f"init={self.init}", *(p for p in self.kernelParams if p)])


class Bootspec(Record):
    """A whole document."""

    boot: Boot
    specialisations: dict[str, Bootspec] = {}
    """By name; they have none of their own."""
    extensions: dict[str, Any] = {}
    """By namespace, as they are: nobody here knows what they mean."""

    def of(self, specialisation: str | None, where: str) -> Bootspec:
        """Itself, or the specialisation of this name.

        Raises:
            BootspecError: there is none; names those that are there.
        """
        if specialisation is None:
            return self
        found = self.specialisations.get(specialisation)
        if found is None:
            known = ", ".join(sorted(self.specialisations)) or "none"
            raise BootspecError(
                f'there is no specialisation "{specialisation}"; there are: {known}',
                where=where,
                state=UNCHANGED,
            )
        return found


def read(tree: Tree, toplevel: PurePosixPath) -> Bootspec:
    """The bootspec of a system.

    Raises:
        BootspecError: there is none, or it cannot be used; says what and where.
    """
    path = toplevel / FILE
    try:
        data = tree.read(path, SIZE_LIMIT)
    except FileNotFoundError as error:
        raise _error(
            path, "the system has no boot.json: is it a NixOS of 23.05 or later?"
        ) from error
    except (OSError, MkupgradeError) as error:
        raise _error(path, f"cannot be read: {getattr(error, 'what', error)}") from error
    return parse(data, str(path))


def parse(data: bytes, where: str = FILE) -> Bootspec:
    """A bootspec out of its text.

    Raises:
        BootspecError
    """
    if len(data) > SIZE_LIMIT:
        raise _error(where, f"larger than {SIZE_LIMIT} bytes")
    try:
        document = read_json(data)
    except ValueError as error:
        raise _error(where, f"no JSON: {error}") from None
    return _document(document, where, "")


def _document(document: Any, where: str, at: str) -> Bootspec:
    if not isinstance(document, dict):
        raise _error(where, f"{at or 'the whole'}: expected an object")
    for key in document:
        if _PREVIEW.match(key):
            raise _error(
                where,
                f'{at}"{key}" is the form of a preview of bootspec; {V1} is the first that is read',
            )
        if _VERSIONED.match(key) and key not in (V1, SPECIALISATION):
            raise _error(where, f'{at}"{key}" is of a version that is not known; {V1} is')
    if V1 not in document:
        raise _error(where, f"{at}{V1} is missing")
    nested = document.get(SPECIALISATION, {})
    if not isinstance(nested, dict) or len(nested) > _MOST_SPECIALISATIONS:
        raise _error(
            where,
            f"{at}{SPECIALISATION}: expected an object of at most {_MOST_SPECIALISATIONS} systems",
        )
    if nested and at:
        raise _error(where, f"{at}{SPECIALISATION}: a specialisation has none of its own")
    own = (V1, SPECIALISATION)
    return Bootspec(
        boot=_boot(document[V1], where, at),
        specialisations={
            _name(name, where): _document(inner, where, f"{SPECIALISATION}.{name}: ")
            for name, inner in nested.items()
        },
        extensions={key: value for key, value in document.items() if key not in own},
    )


def _boot(value: Any, where: str, at: str) -> Boot:
    try:
        return Boot.model_validate(value, strict=True)
    except ValidationError as error:
        lines = [
            f"{at}{'.'.join([V1, *map(str, problem['loc'])])}: {problem['msg']}"
            for problem in error.errors(
                include_url=False, include_input=False, include_context=False
            )
        ]
        raise _error(where, lines[0], tuple(lines[1:_SHOWN])) from None


def _name(name: str, where: str) -> str:
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise _error(where, f"{SPECIALISATION}: {name!r} is no name of a specialisation")
    return name


def _error(where: object, what: str, details: tuple[str, ...] = ()) -> BootspecError:
    return BootspecError(what, where=str(where), state=UNCHANGED, details=details)
