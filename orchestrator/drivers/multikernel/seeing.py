"""What there is: pool, instances, transactions; what the kernel says, never what we remember.

An instance's tree is made anew for each page that is read, and nobody is told of changes. So pool
and instances are read until two pictures in a row are the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from orchestrator.drivers.multikernel.kernel import Kernel
from orchestrator.drivers.multikernel.proc import OwnedRegion, command_lines, owned_regions
from orchestrator.drivers.multikernel.trees.cells import is_instance_name
from orchestrator.drivers.multikernel.trees.changes import Tag
from orchestrator.drivers.multikernel.trees.forms import InstanceTree, PoolTree
from orchestrator.drivers.multikernel.trees.reading import read_instance, read_pool
from orchestrator.model.errors import ErrorClass, MkupgradeError
from orchestrator.system.device_tree import MOST_BYTES
from orchestrator.system.multikernel_errors import ROOT, GoneError

MOST_PICTURES = 8
"""Readings before we say that it does not come to rest."""
_MOST_FILE_BYTES = 4096
_S = TypeVar("_S", bound=StrEnum)
_TRANSACTION = re.compile(r"tx_([1-9]\d{0,9})")


class Status(StrEnum):
    """Of an instance. `active` says that it was started, not that it lives."""

    EMPTY = "empty"
    READY = "ready"
    LOADED = "loaded"
    ACTIVE = "active"
    FAILED = "failed"


class Applied(StrEnum):
    """Of a transaction. `failed` may also mean that undoing it failed."""

    PENDING = "pending"
    APPLIED = "applied"
    FAILED = "failed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class SeenInstance:
    status: Status
    tree: InstanceTree
    regions: tuple[OwnedRegion, ...] = ()
    """Oldest first; empty where addresses are hidden."""
    cmdline: str | None = None
    """Of the image in it; None: there is none."""


@dataclass(frozen=True, slots=True)
class SeenTransaction:
    id: int
    status: Applied
    target: str
    """Path that its first fragment is about."""
    tag: Tag | None
    """None: somebody else's."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    pool: PoolTree
    instances: Mapping[str, SeenInstance] = field(default_factory=dict)

    def oddities(self) -> list[str]:
        """What does not fit together, one sentence each."""
        owners: dict[int, str] = {}
        found = []
        for name, instance in sorted(self.instances.items()):
            for cpu in instance.tree.cpus:
                if cpu in owners:
                    found.append(f"CPU {cpu} is in instance {owners[cpu]} and in {name}")
                owners[cpu] = name
        free = set(self.pool.free_cpus)
        found += [f"CPU {c} is in {owners[c]} and free" for c in sorted(free & set(owners))]
        if self.pool.there:
            members = set(self.pool.cpus)
            found += [f"CPU {c} of {owners[c]} is not in the pool"
                      for c in sorted(set(owners) - members)]  # fmt: skip
            found += [f"CPU {c} of the pool is neither free nor in an instance"
                      for c in sorted(members - free - set(owners))]  # fmt: skip
        return found


def look(kernel: Kernel) -> Snapshot:
    """Pool and instances at one moment.

    Raises:
        NotSupportedError: not a multikernel kernel.
        DeviceTreeError: the kernel says what cannot be understood.
        MkupgradeError: it keeps changing (class busy).
    """
    last = None
    for _ in range(MOST_PICTURES):
        try:
            picture = _picture(kernel)
        except GoneError:
            picture = None
        if picture is not None and picture == last:
            return _understood(picture, kernel)
        last = picture
    raise MkupgradeError(
        f"pool and instances kept changing while they were read {MOST_PICTURES} times",
        where=str(ROOT),
        state="nothing was changed",
        next_command="mkupgrade status",
        error_class=ErrorClass.BUSY,
    )


def transactions(kernel: Kernel) -> Iterator[SeenTransaction]:
    """All that the kernel has kept, the newest first. One that is undone meanwhile is left out.

    Raises:
        NotSupportedError, SystemCallError
    """
    rows = (_TRANSACTION.fullmatch(name) for name in kernel.names("overlays"))
    for number in sorted((int(row[1]) for row in rows if row), reverse=True):
        path = f"overlays/tx_{number}"
        try:
            said, target, status = (
                _line(kernel, f"{path}/{name}") for name in ("resources", "instance", "status")
            )
        except GoneError:
            continue
        yield SeenTransaction(number, _one_of(Applied, status, path), target, Tag.parse(said))


def ours(kernel: Kernel, tag: Tag) -> SeenTransaction | None:
    """The transaction with this very tag; None: the kernel has never seen it."""
    return next((found for found in transactions(kernel) if found.tag == tag), None)


@dataclass(frozen=True, slots=True)
class _Picture:
    """As read, to be compared."""

    root: bytes
    instances: tuple[tuple[str, str, str, bytes], ...]
    """Name, id, status and tree."""


def _picture(kernel: Kernel) -> _Picture:
    root = kernel.read("device_tree", MOST_BYTES)
    instances = []
    for name in sorted(kernel.names("instances")):
        if not is_instance_name(name):
            raise MkupgradeError(
                f"an instance of a name that cannot be worked with: {name[:80]!r}",
                where=str(ROOT / "instances"),
                state="nothing was changed",
            )
        path = f"instances/{name}"
        number, status = _line(kernel, f"{path}/id"), _line(kernel, f"{path}/status")
        instances.append((name, number, status, kernel.read(f"{path}/device_tree", MOST_BYTES)))
    return _Picture(root, tuple(instances))


def _understood(picture: _Picture, kernel: Kernel) -> Snapshot:
    cmdlines = command_lines(kernel.images())
    regions = owned_regions(kernel.memory_map())
    found = {}
    for name, number, status, data in picture.instances:
        where = str(ROOT / "instances" / name)
        tree = read_instance(data, f"{where}/device_tree")
        if (tree.name, str(tree.id)) != (name, number):
            raise MkupgradeError(
                f"the tree is of instance {tree.name} with id {tree.id}, not of {name} with id "
                f"{number[:20]}",
                where=where,
                state="nothing was changed",
                next_command=f"cat {where}/id",
            )
        has = sorted((r for r in regions if r.instance == name), key=lambda r: r.number)
        found[name] = SeenInstance(
            _one_of(Status, status, name), tree, tuple(has), cmdlines.get(tree.id)
        )
    return Snapshot(read_pool(picture.root, str(ROOT / "device_tree")), found)


def _line(kernel: Kernel, path: str) -> str:
    return kernel.read(path, _MOST_FILE_BYTES).decode("ascii", "replace").removesuffix("\n")


def _one_of(kind: type[_S], said: str, name: str) -> _S:
    try:
        return kind(said)
    except ValueError:
        raise MkupgradeError(
            f"{name} has a status that is not known: {said[:40]!r}",
            where=str(ROOT),
            state="nothing was changed",
            next_command="mkupgrade doctor",
        ) from None
