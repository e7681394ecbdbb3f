"""Where offers are: one plan for each instance, in the state directory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.loading import limits, load_spec
from orchestrator.loading.source import decode
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.spec import Instance, UpgradeSpec
from orchestrator.system import files

DIRECTORY = "offers"
_SUFFIX = ".yaml"
NO_PACKAGE = "is a plan for a NixOS system, whose kernel no package brings"


@dataclass(frozen=True)
class Offer:
    """A plan that waits."""

    path: Path
    instance: Instance
    """The one that gets another kernel."""
    spec: UpgradeSpec

    @property
    def release(self) -> str:
        return self.instance.kernel.wanted_release


@dataclass(frozen=True)
class Unreadable:
    """A file in its place that is no offer."""

    path: Path
    error: MkupgradeError


def place(state_dir: Path, instance: str) -> Path:
    """The file for an instance: its name is safe in names of files (`model.spec.names.Name`)."""
    return state_dir / DIRECTORY / f"{instance}{_SUFFIX}"


def offers(state_dir: Path) -> Iterator[Offer | Unreadable]:
    """What is offered, by the names of instances. Reads only.

    Raises:
        MkupgradeError: the directory is there, and others could write to it.
    """
    directory = state_dir / DIRECTORY
    if not directory.is_dir():
        return
    files.require_private_directory(directory)
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        if path.name.startswith("."):
            continue  # of a write that was cut off
        try:
            yield read(path)
        except MkupgradeError as error:
            yield Unreadable(path, error)


def read(path: Path) -> Offer:
    """Raises: MkupgradeError: it cannot be read, or is not a plan for that instance."""
    text = decode(files.read_regular(path, limits.MAX_BYTES), str(path))
    spec = load_spec(text, str(path))
    for instance in spec.instances:
        if instance.name == path.name.removesuffix(_SUFFIX):
            if instance.kernel.nixos is not None:
                raise MkupgradeError(NO_PACKAGE, where=str(path))
            return Offer(path, instance, spec)
    raise MkupgradeError("is no plan for the instance in its name", where=str(path))


def write(state_dir: Path, instance: str, text: str) -> Path:
    """Put an offer in the place of the one that was there; durable, 0600 in a 0700 directory.

    Raises:
        MkupgradeError: it cannot be written, or the directory is not ours alone.
    """
    files.make_private_directory(state_dir)
    path = place(state_dir, instance)
    files.make_private_directory(path.parent)
    files.write_durably(path, text.encode())
    return path


def remove(path: Path) -> None:
    """Take an offer back. Raises: SystemCallError, OSError."""
    path.unlink(missing_ok=True)
    files.sync_directory(path.parent)
