"""A multikernel host: the real driver over the double, under plans of the real planner, with the
promise that nothing of a machine's CPUs and memory is lost, or is twice."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.drivers.multikernel.driver import MultikernelDriver
from orchestrator.drivers.multikernel.parts import Parts
from orchestrator.engine.identity import Identity
from orchestrator.engine.state import TransactionState
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.kinds import Kind
from orchestrator.model.outcomes import Outcome
from orchestrator.model.seams import StepContext
from orchestrator.model.steps import Inspected, Inspection, Section, Step
from tests.crash import instance_plans as plans
from tests.crash.hosts import COMMIT, PARTIAL, PRESENT, Host
from tests.crash.instance_agents import OLD_KEY, PORT, Agents
from tests.crash.instance_parts import SimulatedClock, SimulatedKernel
from tests.crash.instance_truth import GOALS, OF_KERNEL, PLACING, as_planned, generation, truth
from tests.crash.invariants import Invariant, Violation, hold
from tests.crash.simulation import Simulation
from tests.drivers.multikernel.scene import Once
from tests.support.multikernel.double import Double
from tests.support.multikernel.settings import Spawn

KERNELS = (
    Spawn(boots_in=10_000, ready_in=None),
    Spawn(boots_in=50, halts_at=3),
    Spawn(wedges_at=0),
)
"""A new kernel that never answers, that panics, that hangs."""
FAULTS = ("overlay-fails", "cpu-dropped", "lock-held", "hangs")
"""The kernel does not do what an overlay says, drops a CPU without a word, has its lock held for a
while; the kernel in the instance hangs."""
_MARK = re.compile(r" mkupgrade\.transaction=\S+")
_CARRYING = frozenset({Kind.CARRY_WORKLOAD, Kind.TAKE_WORKLOAD, Kind.BRING_WORKLOAD})
_CHECKS = frozenset({Kind.CHECK, Kind.SOAK, Kind.AWAIT_INSTANCE})


class CutOffError(BaseException):
    """The call ends between two of its changes."""


class InstanceHost(Host):
    """Instances web, api and batch in a pool; a new driver, as its process would, at each start."""

    name = "instances"
    kernel_name = plans.RELEASES[plans.OLD]
    deadline = 60.0
    in_third_kernel = False
    scenarios = plans.NAMES

    def __init__(self, sim: Simulation) -> None:
        self.scenario = plans.scenario(sim.choices.pick(self.scenarios))
        super().__init__(sim, self.scenario.graph)
        self.double = self._restored()
        self.records: dict[Path, dict[str, Any]] = {}
        self.boots = 1
        self.made_anew = "instances"
        """What the host's units have set up at its last boot."""
        self.places = {name: {where} for name, where in self.scenario.places.items()}
        """Where each workload was started and not stopped."""
        self.passed: set[str] = set()
        """Checks that passed in this boot."""
        self.committed_in: int | None = None
        """Number of the boot; a later one has ended all instances."""
        self.trouble = sim.choices.pick((0.0, 0.0, 0.05, 0.2))
        """How often a call for an instance goes wrong."""
        self.checks_fail = sim.choices.fault(0.15, (True,)) is not None
        new = [g["generation"]["name"] for g in self._params(Kind.CREATE_INSTANCE)]
        spawn = sim.choices.fault(0.25, KERNELS)
        if spawn is not None:
            self.double.world.spawns[sim.choices.pick(new)] = spawn
        self.agents = Agents(self, self.scenario.carried)
        self.agents.begin()
        self.agents.draw()
        if self.scenario.carried:
            for it in self.double.world.instances.values():
                key = {"id": it.id, "port": PORT, "key": OLD_KEY}
                self.records[Path(plans.STATE_DIR) / "agents" / f"{it.name}.json"] = key
        self._changes_left: int | None = None
        self._verb: Callable[..., Any] = self.do
        self.driver = self._start()
        self._before = self._picture()
        self._sums = self._conserved()

    def _restored(self) -> Double:
        double = copy.deepcopy(self.scenario.host)
        double.world.clock = SimulatedClock(self.sim)
        return double

    def _start(self) -> MultikernelDriver:
        sim = self.sim
        parts = Parts(SimulatedKernel(self.double, self), lambda: sim.now, sim.sleep)
        return MultikernelDriver(Path(plans.STATE_DIR), parts=parts)

    def _params(self, kind: Kind) -> list[dict[str, Any]]:
        """Of the steps of that kind, on the way there."""
        forward = self.graph.section(Section.FORWARD)
        return [s.params for s in forward if s.kind == kind.value]

    def identity(self) -> Identity:
        return Identity(boot_id=f"boot-{self.boots}", release=self.kernel_name, pid=1)

    def boot_id(self) -> str:
        """Of the kernel in which somebody asks."""
        inside = self.agents.inside
        if inside is None:
            return self.identity().boot_id
        return self.agents.boot_of(inside)

    # -- what the driver's parts ask (instance_parts.py)

    def change(self) -> None:
        """The driver is about to change something, or an agent that works for it."""
        if self.agents.inside is not None:
            self.agents.change()
            return
        if self._changes_left is not None:
            if not self._changes_left:
                raise CutOffError
            self._changes_left -= 1

    def command(self, argv: list[str], instance: str | None) -> None:
        """Of the spec: a workload is stopped or started, or a hook."""
        self.change()
        verb, *names = argv
        if instance is None:
            return
        there = self.places[names[0]]
        if verb == "stop":
            there.discard(instance)
            return
        found = self.double.world.instances.get(instance)
        if found is None or not self.double.world.alive(found):
            raise MkupgradeError(f"{instance} does not answer")
        there.add(instance)

    # -- effects

    def _perform(self, step: Step, context: StepContext) -> dict[str, Any]:
        self._verb = self.driver.perform
        return super()._perform(step, context)

    def _revert(self, step: Step, context: StepContext) -> dict[str, Any]:
        self._verb = self.driver.revert
        return super()._revert(step, context)

    def do(self, step: Step, context: StepContext) -> dict[str, Any]:
        with self._faults_of_kernel(step):
            result = self.driver.perform(step, context)
        if step.kind in _CHECKS:
            self.passed.add(step.id)
        elif step.reversibility is COMMIT:
            self.committed_in = self.boots
        return result

    def undo(self, step: Step, context: StepContext) -> dict[str, Any]:
        try:
            with self._faults_of_kernel(step):
                return self.driver.revert(step, context)
        except MkupgradeError:
            self.unrevertible.add(step.id)
            raise

    def changes_of(self, step: Step) -> int:
        """Of which the first few are made by half of it."""
        return 4

    def do_half(self, step: Step, context: StepContext) -> None:
        """The first few of its changes; perhaps they are all."""
        self._changes_left = self.sim.choices.below(self.changes_of(step))
        try:
            self._verb(step, context)
        except (CutOffError, MkupgradeError):
            return
        finally:
            self._changes_left = None
        if self._verb == self.driver.perform:
            self.done.add(step.id)
        else:
            self.done.discard(step.id)

    @contextmanager
    def _faults_of_kernel(self, step: Step) -> Iterator[None]:
        kind = self.sim.choices.fault(self.trouble, FAULTS) if step.kind in OF_KERNEL else None
        if kind is not None:
            self.sim.say("fault instance", kind)
        world = self.double.world
        faults, instance = world.faults, world.instances.get(generation(step))
        match kind:
            case "overlay-fails":
                faults.fail_at = {0: 12}
            case "cpu-dropped" if step.kind in PLACING:
                made = step.params.get("back") or step.params
                faults.soft_fail_cpus = Once(made.get("cpus", [])[:1])
            case "lock-held":
                faults.kexec_lock_busy = 3
            case "hangs" if instance is not None and instance.life is not None:
                instance.life.spawn = Spawn(wedges_at=0)
        try:
            yield
        finally:
            faults.fail_at, faults.soft_fail_cpus, faults.kexec_lock_busy = {}, set(), 0

    def look(self, step: Step, context: StepContext) -> Inspected:
        try:
            return self.driver.inspect(step, context)
        except MkupgradeError:
            self.doubted.append(step.id)
            raise

    # -- what is there

    def truth(self, step: Step) -> Inspection | None:
        return truth(step, self.double.world, self.records, self.identity().boot_id)

    def is_goal(self, step: Step) -> bool:
        """An old generation that runs is as wanted, also where nobody had halted it; and one
        that is there, where the host's units have made it anew."""
        back = step.section is Section.RETURN
        started = back and step.kind == Kind.START_INSTANCE
        made = back and step.kind == Kind.CREATE_INSTANCE and self.boots > 1
        return started or made or step.kind in GOALS

    # -- the machine

    def reset(self, kernel: str | None = None) -> None:
        """Of the pool and of what was in it nothing is left; the host's units may make anew at
        boot what was there before the transaction."""
        self.boots += 1
        self.made_anew = self.sim.choices.pick(("nothing", "pool", "instances"))
        spawns = self.double.world.spawns
        self.double = self._restored()
        world, memory = self.double.world, self.double.world.memory
        world.spawns = spawns
        if self.made_anew == "instances":
            self.places = {name: {where} for name, where in self.scenario.places.items()}
            self.done -= {s for s in self.done if self.is_goal(self.steps[s])}
        else:
            world.instances.clear()
            memory.used.clear()
        if self.made_anew == "nothing":
            world.members.clear()
            memory.host += memory.chunks
            memory.chunks.clear()
            memory.park = None
        self.double.overlays.transactions.clear()
        self.driver = self._start()
        self.passed.clear()
        self.agents.machine_was_reset(made_anew=self.made_anew == "instances")

    def boot_old(self) -> None:
        self.reset()

    def process_died(self) -> None:
        self.driver.close()
        self.driver = self._start()

    def damage_payload(self, *, lost: bool) -> None:
        """Nothing is handed over."""

    # -- what holds

    def check_now(self) -> None:
        sums, wanted = self._conserved(), self._sums
        hold(Invariant.RESOURCES_CONSERVED, sums == wanted, f"{sums} of {wanted}")
        wrecked = self.double.world.wrecked
        hold(Invariant.RESOURCES_CONSERVED, not wrecked, f"unloaded while running: {wrecked}")
        for name, where in self._running().items():
            hold(Invariant.ONE_KERNEL, len(where) <= 1, f"{name} runs in {sorted(where)}")
        self.agents.check(reset=self.boots > 1)

    def _running(self) -> dict[str, set[str]]:
        """Workload -> instances; with an instance that stops, its workloads do."""
        self.double.world.settle()
        instances = self.double.world.instances
        for where in self.places.values():
            where -= {i for i in where if i not in instances or instances[i].status != "active"}
        return self.places | self.agents.running()

    def _may_decide(self, step: Step) -> None:
        super()._may_decide(step)
        if step.reversibility is COMMIT:
            behind = self._behind(step.id)
            for other in self.graph.section(Section.FORWARD):
                needed = other.kind in _CHECKS and other.id not in behind
                hold(Invariant.CHECKED, not needed or other.id in self.passed, other.id)

    def check_end(self, state: TransactionState, *, died_after: bool) -> None:
        self.check_now()
        match state.outcome:
            case Outcome.COMMITTED:
                if self.boots == self.committed_in:
                    self._check_committed()
            case Outcome.ROLLED_BACK:
                self._check_as_before(state.section)
            case Outcome.ROLLBACK_INCOMPLETE:
                pass
            case _:
                raise Violation(Invariant.ENDS, f"no end: {state.outcome} {state.reason}")

    def _check_committed(self) -> None:
        """Each new generation has what the plan gives it; of the old ones there may be any."""
        world = self.double.world
        planned = {p["generation"]["name"]: p for p in self._params(Kind.CREATE_INSTANCE)}
        for name, params in planned.items():
            found = world.instances.get(name)
            there = found is not None and as_planned(found, params)
            hold(Invariant.RESOURCES_CONSERVED, there, f"{name} is not as planned: {found}")
            assert found is not None
            image = found.image is not None and found.image.kernel == plans.FILES[plans.NEW]
            hold(Invariant.RESOURCES_CONSERVED, image, f"{name} has another image")
            runs = found.status == "active" or name in world.spawns
            hold(Invariant.COMMITTED, runs, f"{name} is {found.status}")
        old = self._before["instances"]
        strangers = world.instances.keys() - planned.keys() - old.keys()
        hold(Invariant.RESOURCES_CONSERVED, not strangers, f"left: {sorted(strangers)}")
        for name, where in self._running().items():
            target = self.scenario.targets[name]
            fits = where == {target} or target in world.spawns
            hold(Invariant.COMMITTED, fits, f"{name} runs in {sorted(where)}")

    def _check_as_before(self, section: Section) -> None:
        if section is Section.FORWARD:
            left = [s for s in self.done if self._is_effect(self.steps[s])]
            hold(Invariant.ROLLED_BACK, not left, f"left: {', '.join(left)}")
        if self.made_anew != "instances":
            return  # a reset took all there was
        now = self._picture()
        for key, value in self._before.items():
            what = f"{key} was {value} and is {now[key]}"
            hold(Invariant.RESOURCES_CONSERVED, now[key] == value, what)
        for name, where in self._running().items():
            fits = where == {self.scenario.places[name]}
            hold(Invariant.ROLLED_BACK, fits, f"{name} runs in {sorted(where)}")

    def _is_effect(self, step: Step) -> bool:
        return self.truth(step) in {PRESENT, PARTIAL}

    def _conserved(self) -> tuple[object, ...]:
        """Each CPU and each byte once: the machine's, the pool's free ones, the instances'."""
        world = self.double.world
        memory = world.memory
        instances = world.instances.values()
        cpus = [*(c for c in world.host_cpus if c not in world.members), *world.free_cpus()]
        cpus += [cpu for it in instances for cpu in it.cpus]
        sizes = sum(r.size for it in instances for r in it.regions)
        free = sum(r.size for r in (*memory.host, *memory.free()))
        park = memory.park.size if memory.park is not None else 0
        return sorted(cpus), sizes + free + park

    def _picture(self) -> dict[str, Any]:
        """What a rollback has to bring back. Where an instance's memory lies is the kernel's, and
        who loaded its image is told by a mark of ours."""
        world = self.double.world
        return {
            "free CPUs": sorted(world.free_cpus()),
            "free memory": sum(it.size for it in world.memory.free()),
            "instances": {
                it.name: (
                    it.id,
                    it.status,
                    tuple(it.cpus),
                    sum(region.size for region in it.regions),
                    tuple(it.pci),
                    it.image and (it.image.kernel, _MARK.sub("", it.image.cmdline)),
                )
                for it in world.instances.values()
            },
        }


class CarryingHost(InstanceHost):
    """One whose workloads keep their state: the agents in both generations carry it."""

    name = "carrying"
    scenarios = plans.CARRYING

    def do(self, step: Step, context: StepContext) -> dict[str, Any]:
        with self._seen_afterwards(step):
            return super().do(step, context)

    def undo(self, step: Step, context: StepContext) -> dict[str, Any]:
        with self._seen_afterwards(step):
            return super().undo(step, context)

    def do_half(self, step: Step, context: StepContext) -> None:
        with self._seen_afterwards(step):
            super().do_half(step, context)

    @contextmanager
    def _seen_afterwards(self, step: Step) -> Iterator[None]:
        """A call that failed may have had its whole effect: an answer was lost, or it was cut off
        behind it."""
        try:
            yield
        finally:
            if step.kind in _CARRYING:
                (self.done.add if self.agents.has_come(step) else self.done.discard)(step.id)

    def reset(self, kernel: str | None = None) -> None:
        """It ends workloads where they run; what the host's disk keeps of one, also behind an
        undoing that nobody answered for, counts as taken again."""
        super().reset(kernel)
        takes = (s for s in self.graph.steps if s.kind == Kind.TAKE_WORKLOAD)
        self.done |= {s.id for s in takes if self.agents.has_come(s)}

    def changes_of(self, step: Step) -> int:
        return 40 if step.kind in _CARRYING else super().changes_of(step)
