"""One run: an update under a living workload, the cut, the boot behind it, and the verdict."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from orchestrator.model.errors import RehearsalError
from orchestrator.rehearsal.cache import cache_dir
from orchestrator.rehearsal.client import Client
from orchestrator.rehearsal.machine import Guest
from tests.vm.power import disk as disks
from tests.vm.power import offline, promises, scene
from tests.vm.power.recording import Recording, Sampler
from tests.vm.power.write_log import Replay

Variant = Literal["page-cache", "disk-cache", "recorded"]
_PATIENCE = 600.0
"""Seconds for a jump, on a machine that has other things to do as well."""

BEYOND = 1.1
"""Cuts come until so many times the length of a whole update after its beginning."""


@dataclass(frozen=True)
class Run:
    """What is drawn before a run; the same seed and number give the same."""

    seed: str
    number: int
    variant: Variant
    """page-cache: the guest's memory is lost. disk-cache: the disk's, too. recorded: the same, of
    the one update that was recorded."""
    fraction: float
    """When: in lengths of a whole update; of the recorded one, by requests."""
    again: bool
    """Is the update made once more at the end?"""

    @property
    def name(self) -> str:
        return f"{self.seed}/{self.number}"


@dataclass(frozen=True)
class Verdict:
    """How a run went."""

    run: Run
    after: float
    """Seconds from the beginning of the update to the cut; about, in a recorded one."""
    told: int
    """Last number that the workload had told of."""
    judged: promises.Judged
    replay: Replay | None
    seconds: float
    """Of the whole run."""


def draw(seed: str, number: int, variant: Variant | None = None) -> Run:
    """What a run is made of: of six, two are live; every tenth is followed by a second update.

    Args:
        variant: this one, whatever its turn.
    """
    source = random.Random(f"{seed}/{number}")
    variant = variant or _VARIANTS[number % len(_VARIANTS)]
    beyond = 1.0 if variant == "recorded" else BEYOND
    return Run(seed, number, variant, source.random() * beyond, number % 10 == 9)


_VARIANTS: tuple[Variant, ...] = (
    "page-cache",
    "recorded",
    "recorded",
    "disk-cache",
    "recorded",
    "recorded",
)


@contextmanager
def recorded(stage: scene.Scene) -> Iterator[Recording]:
    """An update without a cut; its files go at the end.

    Raises:
        RehearsalError: it does not end well.
    """
    with (
        _disk() as disk,
        scene.running(stage.setup(disks.logged(disk.image, disk.log))) as (guest, client),
    ):
        sampler = Sampler(disk.log, lambda: client.seen().last)
        with sampler.running():
            client.wait_messages(10, 60.0)
            began = time.monotonic()
            scene.begin(guest)
            guest.wait_for(["test", "-e", scene.JOURNAL], timeout=_PATIENCE)
            begun = len(sampler.samples)
            guest.next_kernel(_PATIENCE)
            scene.settle(guest)
            seconds = time.monotonic() - began
        problems = _second_look(guest)
        if problems:
            raise RehearsalError(f"an update without a cut went wrong: {problems}")
        boots = frozenset(hello.boot_id for hello in guest.control.hellos)
        guest.qemu.close()
        samples = tuple(sampler.samples)
        requests, at_begin = samples[-1][0], samples[begun - 1][0]
        yield Recording(disk.empty, disk.log, requests, at_begin, samples, boots, seconds)


def carry_out(
    stage: scene.Scene, run: Run, recording: Recording, *, lost_flushes: int = 0
) -> Verdict:
    """Update, cut, boot again, judge; of a recorded update only what comes behind the cut.

    Args:
        lost_flushes: makes the disk lie; see `write_log.replay`.
    """
    started = time.monotonic()
    with _disk() as disk:
        cut, replay = _left(stage, disk, run, recording, lost_flushes)
        judged = _boot_and_judge(stage, disk, run, cut)
    return Verdict(run, cut.after, cut.told, judged, replay, time.monotonic() - started)


def look(recording: Recording, run: Run, *, lost_flushes: int = 0) -> list[str]:
    """A cut of the recorded update, judged by the disk alone: promises that are not kept."""
    with _disk() as disk:
        requests = recording.at(run.fraction)
        source = random.Random(f"{run.name}/sectors")
        disk.replayed(
            recording.empty, recording.log, source, requests=requests, lost_flushes=lost_flushes
        )
        return offline.broken(disk.cut, recording.told(requests))


def _left(
    stage: scene.Scene, disk: disks.Disk, run: Run, recording: Recording, lost_flushes: int
) -> tuple[_Cut, Replay | None]:
    """The update up to the cut, and what is on the disk then."""
    source = random.Random(f"{run.name}/sectors")
    if run.variant == "recorded":
        requests = recording.at(run.fraction)
        replay = disk.replayed(
            recording.empty, recording.log, source, requests=requests, lost_flushes=lost_flushes
        )
        after = recording.seconds * run.fraction
        return _Cut(after, recording.told(requests), recording.boots, None), replay
    cut = _update_and_cut(stage, disk, run, recording.seconds)
    if run.variant == "disk-cache":
        return cut, disk.after_loss_of_cache(source, lost_flushes=lost_flushes)
    disk.after_plain_kill()
    return cut, None


@dataclass(frozen=True)
class _Cut:
    """What is known at the moment of the cut."""

    after: float
    told: int
    boots: frozenset[str]
    """Ids of the boots until then."""
    harm: str | None
    """What the client saw that must not be, power or not."""


def _update_and_cut(stage: scene.Scene, disk: disks.Disk, run: Run, length: float) -> _Cut:
    with scene.running(stage.setup(_arguments(disk, run.variant))) as (guest, client):
        began = time.monotonic()
        scene.begin(guest)
        time.sleep(max(0.0, began + run.fraction * length - time.monotonic()))
        if run.variant == "disk-cache":
            # Requests under way are carried out and logged: they are the last ones.
            guest.qemu.command("stop")
        boots = frozenset(hello.boot_id for hello in guest.control.hellos)
        guest.qemu.close()
        seen = client.seen()
        harm = None if not (seen.missing or seen.repeated) else f"the client saw {seen}"
        return _Cut(time.monotonic() - began, seen.last, boots, harm)


def _boot_and_judge(stage: scene.Scene, disk: disks.Disk, run: Run, cut: _Cut) -> promises.Judged:
    try:
        with scene.running(stage.setup(disks.plain(disk.cut))) as (guest, client):
            scene.settle(guest)
            judged = promises.judge(scene.seen_in(guest), cut.told, cut.boots)
            broken = [*judged.broken, *([cut.harm] if cut.harm else [])]
            if not client.wait_messages(3, 30.0) and not _answers(guest):
                broken.append("the workload does not go on")
            if run.again and not broken:
                broken += _update_again(guest)
            return replace(judged, broken=tuple(broken))
    except RehearsalError as error:
        what = f"{error.what}: {' | '.join(error.details[-3:])}"
        return promises.Judged("not settled", "", (what,))


def _answers(guest: Guest) -> bool:
    """A new client gets numbers: the old one's connection may have ended with a restart."""
    with Client(guest.forwarded(scene.PORT)) as client:
        return client.wait_messages(3, 30.0)


def _update_again(guest: Guest) -> list[str]:
    """The same update once more, without a cut; what is wrong behind it."""
    scene.begin(guest)
    guest.next_kernel(_PATIENCE)
    scene.settle(guest)
    return [f"second update: {problem}" for problem in _second_look(guest)]


def _second_look(guest: Guest) -> list[str]:
    judged = promises.judge(scene.seen_in(guest, quick=True), 1, frozenset())
    wrong = [] if judged.outcome == "committed" else [f"it is {judged.outcome}"]
    return [*wrong, *judged.broken]


def _arguments(disk: disks.Disk, variant: Variant) -> tuple[str, ...]:
    if variant == "disk-cache":
        return disks.logged(disk.image, disk.log)
    return disks.plain(disk.image)


@contextmanager
def _disk() -> Iterator[disks.Disk]:
    """A fresh disk in a directory of its own, in the cache, that goes with the run."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    room = Path(tempfile.mkdtemp(prefix=".power-", dir=cache_dir()))
    try:
        disk = disks.Disk(room)
        disk.prepare()
        yield disk
    finally:
        shutil.rmtree(room, ignore_errors=True)
