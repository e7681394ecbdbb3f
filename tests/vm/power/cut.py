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
from tests.vm.power.recording import Frozen, Recording, Sampler
from tests.vm.power.write_log import Replay

Variant = Literal["page-cache", "disk-cache", "recorded"]
_PATIENCE = 600.0
"""Seconds for a jump, on a machine that has other things to do as well."""

BEYOND = 1.1
"""Cuts come until so many times the length of a whole update after its beginning, which is when its
transaction was put on the disk."""


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
    asked: bool
    """Is the command line asked for its next plan?"""
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
    """What a run is made of: of six, two are live. Of ten, one is asked for its next plan, and one
    followed by a second update.

    Args:
        variant: this one, whatever its turn.
    """
    source = random.Random(f"{seed}/{number}")
    variant = variant or _VARIANTS[number % len(_VARIANTS)]
    beyond = 1.0 if variant == "recorded" else BEYOND
    return Run(seed, number, variant, source.random() * beyond, number % 10 == 4, number % 10 == 9)


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
    with _disk() as disk:
        disk.prepare()
        root = disk.room / "root"
        disks.copy(stage.setup(()).image(), root)
        setup = stage.setup(disks.logged(disk.image, disk.log), disk=root, disk_kept=True)
        with scene.running(setup) as (guest, client):
            sampler = Sampler(disk.log, lambda: client.seen().last)
            film = _Film(guest, disk, root, client)
            with sampler.running():
                client.wait_messages(10, 60.0)
                scene.begin(guest)
                guest.wait_for_path(scene.JOURNAL, timeout=_PATIENCE)
                begun = len(sampler.samples)
                film.freeze()
                guest.next_kernel(_PATIENCE)
                film.freeze()
                scene.settle(guest)
                seconds = film.seconds()
            problems = _second_look(guest)
            if problems:
                raise RehearsalError(f"an update without a cut went wrong: {problems}")
            boots = _boots(guest)
            guest.qemu.close()
        samples = tuple(sampler.samples)
        requests, at_begin = samples[-1][0], samples[begun - 1][0]
        frozen = tuple(film.frozen)
        yield Recording(disk.first, disk.log, requests, at_begin, samples, boots, seconds, frozen)


class _Film:
    """Freezes the guest of the recording now and then; its time stands still meanwhile."""

    def __init__(self, guest: Guest, disk: disks.Disk, root: Path, client: Client) -> None:
        self.frozen: list[Frozen] = []
        self._guest, self._disk, self._root, self._client = guest, disk, root, client
        self._began = 0.0

    def seconds(self) -> float:
        """Since the first time that it was frozen."""
        return time.monotonic() - self._began

    def freeze(self) -> None:
        stopped = time.monotonic()
        after = stopped - self._began if self.frozen else 0.0
        room = self._disk.room / f"frozen-{len(self.frozen)}"
        room.mkdir()
        frozen = Frozen(room, after, self._client.seen().last, _boots(self._guest))
        self._guest.qemu.freeze(frozen.memory)
        disks.copy(self._root, frozen.root)
        disks.copy(self._disk.image, frozen.disk)
        self._guest.qemu.command("cont")
        self._began = time.monotonic() - after
        self.frozen.append(frozen)


def carry_out(stage: scene.Scene, run: Run, recording: Recording) -> Verdict:
    """Update, cut, boot again, judge; of a recorded update only what comes behind the cut."""
    started = time.monotonic()
    with _disk() as disk:
        source = random.Random(f"{run.name}/sectors")
        if run.variant == "recorded":
            cut, replay = _cut_recorded(disk, run, recording, source)
        else:
            cut, replay = _cut_live(stage, disk, run, recording, source)
        judged = _boot_and_judge(stage, disk, run, cut)
    return Verdict(run, cut.after, cut.told, judged, replay, time.monotonic() - started)


def cut_without_update(stage: scene.Scene, messages: int) -> promises.Judged:
    """Kill a guest whose workload has told of so many numbers; the verdict behind the boot."""
    with _disk() as disk:
        disk.prepare()
        with scene.running(stage.setup(disks.plain(disk.image))) as (guest, client):
            client.wait_messages(messages, 60.0)
            told = client.seen().last
            guest.qemu.close()
        disk.after_plain_kill()
        return _boot_and_judge(stage, disk, draw("idle", 0), _Cut(0.0, told, frozenset(), None))


def look(recording: Recording, run: Run, *, lost_flushes: int = 0) -> list[str]:
    """A cut of the recorded update, judged by the disk alone: promises that are not kept."""
    with _disk() as disk:
        requests = recording.at(run.fraction)
        source = random.Random(f"{run.name}/sectors")
        disk.replayed(
            recording.first, recording.log, source, requests=requests, lost_flushes=lost_flushes
        )
        return offline.broken(disk.cut, recording.told(requests))


@dataclass(frozen=True)
class _Cut:
    """What is known at the moment of the cut."""

    after: float
    told: int
    boots: frozenset[str]
    """Ids of the boots until then."""
    harm: str | None
    """What the client saw that must not be, power or not."""


def _cut_recorded(
    disk: disks.Disk, run: Run, recording: Recording, source: random.Random
) -> tuple[_Cut, Replay]:
    requests = recording.at(run.fraction)
    replay = disk.replayed(recording.first, recording.log, source, requests=requests)
    after = recording.seconds * run.fraction
    return _Cut(after, recording.told(requests), recording.boots, None), replay


def _cut_live(
    stage: scene.Scene, disk: disks.Disk, run: Run, recording: Recording, source: random.Random
) -> tuple[_Cut, Replay | None]:
    """From the last frozen guest before the cut up to it; what is on the disk then."""
    moment = run.fraction * recording.seconds
    start = recording.before(moment)
    disk.prepare(start.disk)
    cached = run.variant == "disk-cache"
    arguments = disks.logged(disk.image, disk.log) if cached else disks.plain(disk.image)
    setup = stage.setup(arguments, disk=start.root, frozen=start.memory)
    requests = 0
    with Guest.boot(setup) as guest, scene.Watcher(guest.forwarded(scene.PORT)) as watcher:
        time.sleep(moment - start.after)
        told = max(start.told, watcher.seen().last)
        if cached:
            # The cut is here. What QEMU does until it stops, which ends in a flush, is left out;
            # requests under way at its end would be half in the log.
            requests = disk.requests()
            guest.qemu.command("stop")
        boots = start.boots | _boots(guest)
        guest.qemu.close()
        seen = watcher.seen()
    harm = None if not (seen.missing or seen.repeated) else f"the client saw {seen}"
    cut = _Cut(moment, told, boots, harm)
    if cached:
        return cut, disk.after_loss_of_cache(source, requests)
    disk.after_plain_kill()
    return replace(cut, told=max(told, seen.last)), None


def _boots(guest: Guest) -> frozenset[str]:
    return frozenset(hello.boot_id for hello in guest.control.hellos)


def _boot_and_judge(stage: scene.Scene, disk: disks.Disk, run: Run, cut: _Cut) -> promises.Judged:
    try:
        with scene.running(stage.setup(disks.plain(disk.cut))) as (guest, client):
            scene.settle(guest)
            seen = scene.seen_in(guest, calls=run.asked)
            judged = promises.judge(seen, cut.told, cut.boots)
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
    judged = promises.judge(scene.seen_in(guest), 1, frozenset())
    wrong = [] if judged.outcome == "committed" else [f"it is {judged.outcome}"]
    return [*wrong, *judged.broken]


@contextmanager
def _disk() -> Iterator[disks.Disk]:
    """A disk in a directory of its own, in the cache, that goes with the run."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    room = Path(tempfile.mkdtemp(prefix=".power-", dir=cache_dir()))
    try:
        yield disks.Disk(room)
    finally:
        shutil.rmtree(room, ignore_errors=True)
