"""The simulated driver's host under plans of the real planner, with invariants of real meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.drivers.simulated import SimulatedDriver, booting
from orchestrator.drivers.simulated.driver import EFFECTS
from orchestrator.drivers.simulated.jobs import Job, Look
from orchestrator.drivers.simulated.process import is_alive
from orchestrator.drivers.simulated.world import Kernel, World
from orchestrator.engine.identity import Identity
from orchestrator.engine.state import TransactionState
from orchestrator.model.kinds import Kind
from orchestrator.model.landing import marks, without_marks
from orchestrator.model.outcomes import Outcome
from orchestrator.model.seams import StepContext
from orchestrator.model.steps import Inspected, Inspection, Section, Step
from tests.crash import plans
from tests.crash.hosts import COMMIT, PARTIAL, PIVOT, Host
from tests.crash.invariants import Invariant, Violation, hold
from tests.crash.memory_store import MemoryStore
from tests.crash.simulation import Simulation

COMMITTED = "commit/host"
RESCUE = Kernel(release="6.1.0-rescue", kho=False)
GONE = ("staged", "sessions", "manifests", "landed", "spilled", "fallbacks", "incoming")
"""What a transaction that was rolled back leaves nothing of."""
_GOALS = frozenset({Kind.RESTORE.value, Kind.RESTORE_BOOT_DEFAULT.value, Kind.CLEAN_UP.value})
_CHECKS = frozenset({Kind.CHECK.value, Kind.SOAK.value})


class DriverHost(Host):
    """`SimulatedDriver` over a store in memory; a new one, as its process would, at each start."""

    name = "simulated"
    deadline = 60.0

    def __init__(self, sim: Simulation) -> None:
        self.scenario = plans.scenario(sim.choices.pick(plans.NAMES))
        super().__init__(sim, self.scenario.graph)
        self.store = MemoryStore(self.scenario.world)
        self.driver = self._start()
        self.excused: set[str] = set()
        """Workloads whose state a fault took that the plan does not guard against."""
        self.passed: set[str] = set()
        """Checks that passed in this boot."""
        self.left_by_hand = False
        """Somebody booted the old kernel when the new one was the default already."""
        where = sim.choices.fault(0.3, (plans.NEW, "*"))
        if where is not None:
            world = self.store.read()
            world.failing_checks = dict.fromkeys(("release", "alive"), where)
        self._before = _fields(self.store.read())
        self._known_as: tuple[int, Identity] | None = None

    @property
    def world(self) -> World:
        return self.store.read()

    @property
    def kernel_name(self) -> str:  # type: ignore[override]
        return self.world.kernel.release

    @property
    def in_third_kernel(self) -> bool:
        return self.world.kernel.release == RESCUE.release

    def identity(self) -> Identity:
        world = self.world
        if self._known_as is None or self._known_as[0] != world.boots:
            identity = Identity(boot_id=world.boot_id, release=world.kernel.release, pid=1)
            self._known_as = (world.boots, identity)
        return self._known_as[1]

    def _start(self) -> SimulatedDriver:
        return SimulatedDriver(Path("/nowhere/host"), store=self.store)

    # -- effects

    def do(self, step: Step, context: StepContext) -> dict[str, Any]:
        boots, unguarded, kept = self.world.boots, self._unguarded(), self._handed_on()
        try:
            result = self.driver.perform(step, context)
        finally:
            if self.world.boots != boots:
                self.passed.clear()
            # The kernel did not come up; or it is left with state that was never retrieved,
            # and what no retrieve has found, the way back does not carry.
            if self.world.boots > boots + 1 or step.section is Section.RETURN:
                came_up = self.world.boots == boots + 1
                self._excuse(unguarded - kept if came_up else unguarded)
        if step.kind in _CHECKS:
            self.passed.add(step.id)
        return result

    def do_half(self, step: Step, context: StepContext) -> None:
        with self.store.change() as world:
            world.half_done.append(f"{context.transaction}:{step.id}")

    def undo(self, step: Step, context: StepContext) -> dict[str, Any]:
        return self.driver.revert(step, context)

    def _undo(self, step: Step, context: StepContext) -> dict[str, Any]:
        """Where there was nothing to undo, that is still so: no effect went."""
        ran = f"{context.transaction}:{step.id}" in self.world.hooks
        stands = step.id in self.done and _is_undoing(step) and not ran
        result = super()._undo(step, context)
        if stands:
            self.done.add(step.id)
        return result

    def look(self, step: Step, context: StepContext) -> Inspected:
        return self.driver.inspect(step, context)

    def truth(self, step: Step) -> Inspection | None:
        effect = EFFECTS[Kind(step.kind)]
        if isinstance(effect, Look) or step.reversibility is PIVOT:
            return None
        if _is_undoing(step):
            return None
        job = Job(step, self._context(step), self.driver._process)
        if job.effect in self.world.half_done:
            return PARTIAL
        return effect.inspect(self.world, effect.parse(step), job).verdict

    def is_goal(self, step: Step) -> bool:
        return step.kind in _GOALS

    def _context(self, step: Step) -> StepContext:
        return StepContext(
            transaction="t1",
            plan_digest="",
            state_dir=Path("/nowhere"),
            section=step.section,
            attempt=1,
            results={},
            control=None,  # type: ignore[arg-type]
        )

    # -- the machine

    def reset(self, kernel: str | None = None) -> None:
        self._reset(None if kernel is None else RESCUE)

    def boot_old(self) -> None:
        self.left_by_hand |= COMMITTED in self.done
        self._reset(self.scenario.world.kernel)

    def _reset(self, kernel: Kernel | None) -> None:
        unguarded = self._unguarded()
        if COMMITTED in self.done:
            self.excused |= {n for n, w in self.world.workloads.items() if w.status == "running"}
        with self.store.change() as world:
            booting.reset(world, "power cut")
            if kernel is not None:
                world.kernel = kernel.model_copy()
        self.passed.clear()
        self._excuse(unguarded)

    def process_died(self) -> None:
        self.driver.die()
        with self.store.change() as world:
            booting.drop_what_died(world)
        self.driver = self._start()

    def damage_payload(self, *, lost: bool) -> None:
        with self.store.change() as world:
            for payloads in world.incoming.values():
                if not payloads:
                    continue
                name = self.sim.choices.pick(sorted(payloads))
                if lost:
                    del payloads[name]
                else:
                    payloads[name] = payloads[name].model_copy(update={"sha256": "0" * 64})
                if name not in self.scenario.durable:
                    self.excused.add(name)

    def look_after(self) -> None:
        """The operator starts by hand what a fault took; and says so by starting it anew."""
        with self.store.change() as world:
            world.in_doubt.clear()
            for name, workload in world.workloads.items():
                stopped = any(name in states for states in world.staged.values())
                if workload.status == "gone" and not (stopped or _state_of(world, name)):
                    workload.status, workload.boot_id = "running", world.boot_id
                    workload.life, workload.counter = workload.life + 1, 0
                    self.excused.add(name)

    # -- where states are

    def _unguarded(self) -> set[str]:
        """Of whose state a reset may take all: who runs, or was not to be kept on disk."""
        world, durable = self.world, self.scenario.durable
        return {n for n, w in world.workloads.items() if w.status == "running" or n not in durable}

    def _handed_on(self) -> set[str]:
        """Whose state this process holds for the next kernel, in the running section."""
        world = self.world
        return {name for session in world.sessions.values() for name in session.payloads}

    def _excuse(self, unguarded: set[str]) -> None:
        """After a reset: those of them of which nothing is left that recovery looks for."""
        world, durable = self.world, self.scenario.durable
        self.excused |= {n for n in unguarded if n not in durable or not _state_of(world, n)}

    # -- what holds

    def check_now(self) -> None:
        world = self.world
        if not self.commit_begun:
            default = self.scenario.world.default
            hold(
                Invariant.BOOT_DEFAULT, world.default == default, f"a reset ends in {world.default}"
            )
        for name, workload in world.workloads.items():
            if workload.status != "gone":
                if workload.boot_id != world.boot_id:
                    raise Violation(Invariant.ONE_KERNEL, f"{name} runs in another kernel")
            elif name not in self.excused and name not in self.scenario.stateless:
                there = _state_of(world, name)
                hold(Invariant.STATE_SOMEWHERE, there, f"nothing is left of {name}")

    def check_known(self, state: TransactionState) -> None:
        """Clean-up takes what others left, with intent."""
        prefix = "" if state.section is Section.FORWARD else f"{state.section.value}."
        if f"{prefix}clean-up/host" not in self.done:
            super().check_known(state)

    def _may_decide(self, step: Step) -> None:
        super()._may_decide(step)
        if step.reversibility is COMMIT:
            for other in self.graph.section(Section.FORWARD):
                needed = other.kind in _CHECKS and not other.id.endswith("/before")
                hold(Invariant.CHECKED, not needed or other.id in self.passed, other.id)
        elif step.reversibility is PIVOT:
            for name, workload in self.world.workloads.items():
                still = workload.status == "running"
                hold(Invariant.ONE_KERNEL, not still, f"{name} runs while the kernel is left")

    def check_end(self, state: TransactionState, *, died_after: bool) -> None:
        match state.outcome:
            case Outcome.COMMITTED:
                self._check_committed()
            case Outcome.ROLLED_BACK:
                self._check_as_before()
            case Outcome.ROLLBACK_INCOMPLETE:
                pass
            case _:
                raise Violation(Invariant.ENDS, f"no end: {state.outcome} {state.reason}")

    def _check_committed(self) -> None:
        world = self.world
        release = self.graph.step(COMMITTED).params["release"]
        if world.loader == "none" and not marks(world.kernel.cmdline):
            return  # reset behind the commit, and nobody could tell the boot loader
        there = world.kernel.release == release or self.left_by_hand
        hold(Invariant.COMMITTED, there, "not in the new kernel")
        default = world.entries[world.default].release
        lands = world.loader == "none" or default == release
        hold(Invariant.COMMITTED, lands, f"a reset ends in Linux {default}")
        self._check_workloads(Invariant.COMMITTED)

    def _check_as_before(self) -> None:
        now = _fields(self.world)
        for key, value in self._before.items():
            if now[key] != value:
                what = f"{key} was {value!r} and is {now[key]!r}"
                raise Violation(Invariant.ROLLED_BACK, what)
        self._check_workloads(Invariant.ROLLED_BACK)

    def _check_workloads(self, invariant: Invariant) -> None:
        world = self.world
        for name, was in self.scenario.world.workloads.items():
            workload = world.workloads[name]
            if name in self.excused:
                continue
            hold(invariant, workload.status == "running", f"{name} is {workload.status}")
            if name not in self.scenario.stateless:
                hold(invariant, workload.life == was.life, f"{name} was started anew")
                hold(invariant, workload.counter >= was.counter, f"{name} lost what it counted")


def _is_undoing(step: Step) -> bool:
    """Is it the hook of a way back that undoes one of the way there?"""
    return step.kind == Kind.RUN_HOOK.value and step.params["undoes"] is not None


def _fields(world: World) -> dict[str, Any]:
    """What a rollback has to bring back, field by field."""
    fields: dict[str, Any] = {
        name: [key for key, value in getattr(world, name).items() if value] for name in GONE
    }
    kernel = world.kernel
    return fields | {
        "release": kernel.release,
        "abi": kernel.abi,
        "command line": set(without_marks(kernel.cmdline).split()) >= {"root=/dev/vda", "kho=on"},
        "mitigations": "mitigations=off" in kernel.cmdline,
        "default": world.default,
        "entry": world.entries[world.default],
        "loaded": world.loaded,
        "watchdog": world.watchdog,
        # Behind a jump, halves of forward steps went with the kernel that they were in.
        "half done": world.half_done if world.boots == 1 else [],
        "commits": world.commits,
        "hooks": _hooks_left(world),
    }


def _hooks_left(world: World) -> list[str]:
    """Run, and not undone: neither by a revert nor by the step of the way back."""
    undone = {h.split(".", 1)[1] for h in world.hooks if "." in h}
    return [h for h in world.hooks if "." not in h and h.split(":", 1)[1] not in undone]


def _state_of(world: World, name: str) -> bool:
    """Is its state in at least one place from which it can be brought back?"""
    if world.workloads[name].status != "gone":
        return True
    places: list[Any] = [*world.spilled.values(), *world.landed.values(), *world.incoming.values()]
    for places_of_one in places:
        payload = places_of_one.get(name)
        if payload is not None and payload.is_whole:
            return True
    staged = (states.get(name) for states in world.staged.values())
    if any(s and s.payload and (s.durable or is_alive(s.owner)) for s in staged):
        return True
    return any(name in s.payloads and is_alive(s.owner) for s in world.sessions.values())
