"""Making a pretend host for a spec."""

from __future__ import annotations

import os
import stat
import uuid
from pathlib import Path

from orchestrator.drivers.simulated.images import read_image
from orchestrator.drivers.simulated.world import Kernel, PretendWorkload, World
from orchestrator.model.errors import ErrorClass, MkupgradeError
from orchestrator.model.spec import UpgradeSpec

HOST_FILE = "simulated-host.json"
CMDLINE = "root=/dev/vda rw quiet kho=on liveupdate=on"


def host_file_of(spec: UpgradeSpec) -> Path:
    """Where `driver: simulated` keeps its host."""
    return Path(spec.host.state_dir) / HOST_FILE


def make_world(spec: UpgradeSpec, release: str, image: Path | None) -> World:
    """A host that runs `release` and this spec's workloads, each at a number of its own."""
    running = Kernel(release=release, cmdline=CMDLINE, image=str(image) if image else None)
    if image is not None:
        inside, _ = read_image(str(image))
        running.abi, running.kho = inside.abi, inside.kho
    entry = f"linux-{release}"
    world = World(
        machine_id=uuid.uuid4().hex,
        kernel=running,
        entries={entry: running.model_copy(deep=True)},
        default=entry,
    )
    for number, workload in enumerate(spec.workloads):
        world.workloads[workload.name] = PretendWorkload(
            counter=1000 * (number + 1), pid=5000 + 10 * number, boot_id=world.boot_id
        )
    return world


def own_directory(path: Path) -> None:
    """Make `path` (0700), or make sure that nobody else can put anything into it.

    Raises:
        MkupgradeError: it is a link, no directory, or others own it or may write to it.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    if not ours or found.st_mode & 0o022:
        raise MkupgradeError(
            "not a directory of yours that nobody else may write to",
            where=str(path),
            next_command=f"chmod 0700 {path}",
            error_class=ErrorClass.REFUSED,
        )
