"""Agents in the instances of a schedule, and the workloads whose state they carry.

Real are the host's side (`Carrier`, `End`), what is asked and answered, and the worker. Replaced
are the wire between them, handovers and what a checkpoint leaves on a disk: each is there whole or
not at all, and durable at once. A workload is one number, and a checkpoint upon what was copied
ahead is worth nothing without that very copy.

What is on a disk stays when a kernel stops or an agent dies; what runs in it does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.agent.keys import Key
from orchestrator.agent.status import Status
from orchestrator.agent.wire import MINOR
from orchestrator.drivers.carrying import worker
from orchestrator.drivers.carrying.ends import Cargo, End
from orchestrator.handover.parcel import Parcel
from orchestrator.handover.stream import ConnectionLostError
from orchestrator.model.errors import HandoverError
from orchestrator.model.kinds import Kind
from orchestrator.model.seams import Control
from orchestrator.model.steps import Step
from orchestrator.system import proc
from orchestrator.system.limited import Limited
from tests.crash.instance_state import Channel, Pretend, Sealed, Work
from tests.crash.invariants import Invariant, hold
from tests.crash.simulation import VirtualLock, patched

if TYPE_CHECKING:
    from tests.crash.instance_host import InstanceHost

PORT = 1022
TRANSACTION = "t1"
DISKS = Path("/disks")
OLD_KEY = Key("t0", bytes(32)).text()
"""Of the generations that were there before."""
FAULTS = (
    "not-reached", "request-lost", "answer-lost", "agent-dies", "agent-gone", "gone-behind",
    "refuses",
)  # fmt: skip
"""Of one connection: nobody is reached; what is asked does not arrive; what is answered does not;
the agent dies between two of its changes; it is gone for a minute, or is so when it has done what
was asked; the workload cannot be taken or restored."""
_BAD = ("take", "bring", "again")
_GONE = 60.0


class AgentDiedError(BaseException):
    """In the middle of its work."""


@dataclass
class Agents:
    """Those of all instances, and what is on all disks."""

    host: InstanceHost
    carried: tuple[str, ...]
    numbers: dict[tuple[str, str], int] = field(default_factory=dict)
    """(instance, workload) -> what it remembers, of each that runs."""
    parcels: dict[tuple[Path, str], Sealed] = field(default_factory=dict)
    works: dict[Path, Work] = field(default_factory=dict)
    inside: str | None = None
    """The instance that works, at the moment."""
    count: int = 0
    _bad: tuple[str, str] | None = None
    """Verb, and what goes wrong with the next of its kind."""
    _left: int | None = None
    """Changes until the agent that works dies."""
    _lives: dict[str, object] = field(default_factory=dict)
    _boots: dict[str, int] = field(default_factory=dict)
    _gone: dict[str, float] = field(default_factory=dict)

    def begin(self) -> None:
        """All of them run where they run before the upgrade, from nothing."""
        self.numbers = {(self.host.scenario.places[name], name): 1 for name in self.carried}

    def draw(self) -> None:
        """What goes wrong the first time that a certain thing is asked for, besides what goes wrong
        at random."""
        choices = self.host.sim.choices
        fault = choices.fault(0.6, FAULTS) if self.carried else None
        self._bad = None if fault is None else (choices.pick(_BAD), fault)

    # -- an agent as the host sees it

    def open(self, number: int) -> Client:
        """
        Args:
            number: id of the instance.
        """
        self.settle()
        world = self.host.double.world
        found = next((it for it in world.instances.values() if it.id == number), None)
        if found is None or not world.alive(found):
            raise ConnectionLostError("no agent answers", where=f"vsock:{number}")
        instance, fault = found.name, self._fault(found.name)
        if fault == "agent-gone":
            self._gone[instance] = self.host.sim.now + _GONE
        gone = self._gone.get(instance, 0.0) > self.host.sim.now
        if gone or fault == "not-reached":
            raise ConnectionLostError("no agent answers", where=instance)
        return Client(self, instance, fault)

    def _fault_of(self, instance: str, verb: str, fault: str | None) -> str | None:
        if self._bad is None or self._bad[0] != verb:
            return fault
        (_, fault), self._bad = self._bad, None
        self.host.sim.say("fault agent", instance, fault, "at", verb)
        if fault == "agent-gone":
            self._gone[instance] = self.host.sim.now + _GONE
        return "request-lost" if fault in {"agent-gone", "not-reached"} else fault

    def _fault(self, instance: str) -> str | None:
        fault = self.host.sim.choices.fault(self.host.trouble, FAULTS)
        if fault is not None:
            self.host.sim.say("fault agent", instance, fault)
        return fault

    def work(self, instance: str, request: bytes, fault: str | None) -> bytes:
        self.host.change()
        fault = self._fault_of(instance, json.loads(request)["verb"], fault)
        if fault == "request-lost":
            raise ConnectionLostError("the connection ended", where=instance)
        self._left = self.host.sim.choices.below(5) if fault == "agent-dies" else None
        self.inside = instance
        refuses = fault == "refuses"
        try:
            said = worker.answer(
                request, DISKS / instance, Pretend(self, instance, refuses=refuses)
            )
        except AgentDiedError:
            raise ConnectionLostError("the connection ended", where=instance) from None
        finally:
            self.inside, self._left = None, None
        self.host.change()
        if fault == "gone-behind":
            self._gone[instance] = self.host.sim.now + _GONE
        if fault in {"answer-lost", "gone-behind"}:
            raise ConnectionLostError("the connection ended", where=instance)
        return said

    def change(self) -> None:
        """The agent that works is about to change something."""
        if self._left is not None:
            if not self._left:
                raise AgentDiedError
            self._left -= 1

    def boot_of(self, instance: str) -> str:
        """Another one each time that its kernel is started."""
        return f"{instance} {self._boots.get(instance, 0)} {self.host.boots}"

    # -- disks

    def move(self, parcel: Parcel, source: Path, target: Path, where: str) -> None:
        """A handover from one disk to another; what is there whole is not sent again."""
        fault = self._fault(where)
        self.host.change()
        if fault in {"not-reached", "request-lost", "agent-gone"}:
            raise ConnectionLostError("the connection ended", where=where)
        found = self.parcels.get((source, parcel.text()))
        if found is None:
            raise HandoverError("no handover is here", where=str(source))
        self.parcels[target, parcel.text()] = found
        self.host.change()
        if fault == "answer-lost":
            raise ConnectionLostError("the connection ended", where=where)

    def drop(self, path: Path) -> None:
        """A tree on one of the disks, with works and records in it."""
        self.change()
        for kept in (self.works, self.host.records):
            for it in [it for it in kept if it.is_relative_to(path)]:
                del kept[it]

    # -- what holds

    def settle(self) -> None:
        """What ran in a kernel that stopped, or was started anew, does not run."""
        self.host.double.world.settle()
        instances = self.host.double.world.instances
        for name in {instance for instance, _ in self.numbers} | self._lives.keys():
            found = instances.get(name)
            life = found.life if found is not None and found.status == "active" else None
            if name in self._lives and self._lives[name] is not life:
                self.numbers = {k: n for k, n in self.numbers.items() if k[0] != name}
                self._boots[name] = self._boots.get(name, 0) + 1
            self._lives[name] = life

    def machine_was_reset(self, *, made_anew: bool) -> None:
        """Everything that ran is gone; what the host's units start anew remembers nothing."""
        self.numbers.clear()
        self._lives.clear()
        self._gone.clear()
        if made_anew:
            self.begin()

    def running(self) -> dict[str, set[str]]:
        """Workload -> instances."""
        self.settle()
        return {name: {i for i, w in self.numbers if w == name} for name in self.carried}

    def has_come(self, step: Step) -> bool:
        """Is a workload where a step of the carrying brings it?"""
        name = step.params["workload"]["name"]
        where = self.running()[name]
        if step.kind != Kind.TAKE_WORKLOAD:
            target = step.params["target" if step.kind == Kind.CARRY_WORKLOAD else "instance"]
            return where == {target["generation"]["name"]}
        state = Parcel(TRANSACTION, step.section, name).text()
        here = any(text == state and not disk.is_relative_to(DISKS) for disk, text in self.parcels)
        return here and not where

    def check(self, *, reset: bool) -> None:
        """
        Args:
            reset: the machine was; what ran then, and was nowhere else, is gone with it.
        """
        for name, where in self.running().items():
            somewhere = bool(where) or reset or self._kept(name)
            hold(Invariant.STATE_SOMEWHERE, somewhere, f"{name} runs nowhere, and is on no disk")

    def disks(self) -> set[Path]:
        """Of instances, on which anything is."""
        found = {DISKS / path.parts[2] for path in self.works}
        return found | {disk for disk, _ in self.parcels if disk.is_relative_to(DISKS)}

    def _kept(self, name: str) -> bool:
        """Is a state of it whole on any disk, with what it rests on?"""
        gone = self.disks() - {DISKS / it for it in self.host.double.world.instances}
        kept = [w for path, w in self.works.items() if DISKS / path.parts[2] not in gone]
        kept += [it.work for (disk, _), it in self.parcels.items() if disk not in gone]
        copies = {w.copy for w in kept}
        works = [w for w in kept if w.of == name]
        return any(
            w.copy is None and w.number is not None and (w.upon is None or w.upon in copies)
            for w in works
        )


class Client:
    """In the place of `AgentClient`."""

    minor = MINOR

    def __init__(self, agents: Agents, instance: str, fault: str | None) -> None:
        self._agents, self._instance, self._fault = agents, instance, fault

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def status(self) -> Status:
        return status(self._instance)

    def work(self, request: bytes) -> bytes:
        return self._agents.work(self._instance, request, self._fault)


def status(instance: str) -> Status:
    """Of an agent that is well."""
    return Status(
        version="1",
        transaction="t",
        release="7.1.0-mk3",
        boot_id=f"boot of {instance}",
        tainted=0,
        ready=True,
        works=True,
    )


class _Time:
    """Of a schedule, which is the same whenever it is played."""

    @staticmethod
    def strftime(form: str) -> str:
        return "2026-01-01T00:00:00+0000"


def _agents() -> Agents:
    found: Agents = VirtualLock.simulation.host.agents
    return found


def _channel(self: Parcel, state_dir: Path, part: str = "sent") -> Channel:
    return Channel(_agents(), (state_dir, self.text()))


def _fetch(self: End, cargo: Cargo, parcel: Parcel, state_dir: Path, control: Control) -> None:
    with self.open(control.remaining, None):  # type: ignore[arg-type]
        _agents().move(parcel, DISKS / self.name, state_dir, self.name)


def _pass_on(self: End, cargo: Cargo, parcel: Parcel, state_dir: Path, control: Control) -> None:
    with self.open(control.remaining, None):  # type: ignore[arg-type]
        _agents().move(parcel, state_dir, DISKS / self.name, self.name)


@contextmanager
def in_memory() -> Iterator[None]:
    """In place of handovers, of what the worker keeps, and of the wire: those of the schedule."""
    with patched(
        (Parcel, "channel", _channel),
        (End, "fetch", _fetch),
        (End, "pass_on", _pass_on),
        (worker.Worker, "_alone", lambda self: nullcontext()),
        (worker, "drop_tree", lambda path: _agents().drop(path)),
        (worker, "make_private_directories", lambda path: None),
        (worker, "keep_log", lambda *rest: None),
        (worker, "time", _Time),
        (worker, "Limited", lambda seconds: Limited(3600.0)),
        (proc, "release", lambda: "7.0.0"),
    ):
        yield
