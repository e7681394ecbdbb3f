"""One schedule: a host, a plan, an operator, and everything that goes wrong, until it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.engine.fold import fold, start
from orchestrator.engine.state import TransactionState
from orchestrator.model.errors import JournalError, MkupgradeError
from orchestrator.model.outcomes import Outcome
from orchestrator.model.steps import Section
from tests.crash.choices import Choices
from tests.crash.coverage import Coverage
from tests.crash.driver_host import DriverHost
from tests.crash.graph_host import GraphHost
from tests.crash.hosts import Host
from tests.crash.instance_host import CarryingHost, InstanceHost
from tests.crash.invariants import Invariant, Violation
from tests.crash.ledger import Ledger
from tests.crash.memory_disk import MemoryDisk
from tests.crash.processes import Process
from tests.crash.simulation import Died, Simulation, VirtualLock

MOST_LIVES = 30
OVER = {Outcome.COMMITTED, Outcome.ROLLED_BACK}


@dataclass(frozen=True)
class Setup:
    """What schedules are made of, by share."""

    hosts: tuple[tuple[Callable[[Simulation], Host], int], ...]
    """(host model, weight)."""
    files_in: int = 10
    """One schedule in so many has its journal in real files; 0: none, 1: all."""
    lies: bool = False
    """Their fsync does nothing: acknowledged events must be seen to get lost."""
    report_in: int = 8
    """One in so many lives asks for the whole report, too."""


@dataclass
class Result:
    violation: Violation | None
    stream: list[int]
    outcome: str
    trace: list[str] = field(default_factory=list)


HOSTS = ((GraphHost, 35), (DriverHost, 5), (InstanceHost, 1))
"""The real multikernel driver takes about six times as long as bare effects."""

SETUPS = {
    "fast": Setup(hosts=HOSTS),
    "vfs": Setup(hosts=HOSTS, files_in=1),
    "memory": Setup(hosts=HOSTS, files_in=0),
    "graph": Setup(hosts=((GraphHost, 1),), files_in=0),
    "instances": Setup(hosts=((InstanceHost, 3), (CarryingHost, 1)), files_in=0),
    "carrying": Setup(hosts=((CarryingHost, 1),), files_in=0),
    "driver": Setup(hosts=((DriverHost, 1),), files_in=0),
    "lying-fsync": Setup(hosts=((GraphHost, 1),), files_in=1, lies=True),
}
"""By name, for the command line."""


def run(
    setup: Setup,
    coverage: Coverage,
    *,
    seed: int | None = None,
    stream: Sequence[int] | None = None,
    traced: bool = False,
) -> Result:
    """Carry out the schedule of this seed, or of this stream. Inside `simulation.pretended`."""
    choices = Choices(seed, stream)
    sim = Simulation(choices, coverage, traced=traced)
    VirtualLock.simulation = sim
    violation, outcome = None, "none"
    try:
        _prepare(sim, setup)
        outcome = _carry_out(sim, setup)
    except Violation as found:
        violation = found
        sim.say("VIOLATION", found)
    except Died as died:
        raise AssertionError("a death outside of a process") from died
    finally:
        sim.disk.kill()  # an open database of apsw keeps the whole schedule in memory
    coverage.outcomes[outcome] += 1
    coverage.events += sim.ledger.count
    return Result(violation, choices.drawn, outcome, sim.trace or [])


def _prepare(sim: Simulation, setup: Setup) -> None:
    choices = sim.choices
    model = choices.pick([model for model, weight in setup.hosts for _ in range(weight)])
    on_files = setup.files_in > 0 and choices.below(setup.files_in) == setup.files_in - 1
    sim.ledger = Ledger(sim)
    sim.host = model(sim)
    sim.disk = _file_disk(sim, setup.lies) if on_files else MemoryDisk(sim)
    sim.coverage.hosts[f"{sim.host.name} on {sim.disk.name}"] += 1
    if sim.trace is not None:
        for step in sim.host.graph.steps:
            sim.say("step", step.id, "behind", *sim.host.before[step.id])


def _file_disk(sim: Simulation, lies: bool) -> Any:
    from tests.crash.file_disk import FileDisk  # apsw is loaded only where it is used

    disk = FileDisk(sim)
    disk.lies = lies
    return disk


def _carry_out(sim: Simulation, setup: Setup) -> str:
    """Processes one after the other, as the operator and the boot start them."""
    operator, choices = Operator(sim), sim.choices
    verb: str | None = "apply"
    for _ in range(MOST_LIVES):
        verb = _one_process(sim, setup, operator, verb)
        if verb is None:
            sim.ledger.read(sim.disk.rows(), sim.disk.reader())
            if choices.chance(1 / setup.report_in):
                sim.ledger.check_chain(sim.disk.reader())
            return operator.outcome
    raise Violation(Invariant.ENDS, f"still not over after {MOST_LIVES} processes")


def _one_process(sim: Simulation, setup: Setup, operator: Operator, verb: str) -> str | None:
    """Returns what the operator does next; None: it is over."""
    with_report = sim.choices.chance(1 / setup.report_in)
    sim.host.doubted.clear()
    process = None
    try:
        process = Process(sim, with_report=with_report)
        state = process.live(verb)
        _check(sim, process, state)
        process.exit()
    except Died:
        return operator.after_death()
    except JournalError as error:
        sim.say("the journal:", error)
    except MkupgradeError as error:
        raise Violation(Invariant.NO_BUG, f"{verb}: {error}") from error
    except Exception as error:
        raise Violation(Invariant.NO_BUG, f"{verb}: {type(error).__name__}: {error}") from error
    else:
        return operator.after_stop(state)
    try:
        if process is not None:
            process.exit()
    except (Died, JournalError):
        pass
    return operator.after_death()


def _check(sim: Simulation, process: Process, state: TransactionState) -> None:
    host = sim.host
    host.check_now()
    if not process.abandoned:
        host.check_known(state)
    host.check_doubt(state, abandoned=process.abandoned)
    host.check_stop(state)
    if state.outcome is not None and state.outcome is not Outcome.UNKNOWN:
        host.check_end(state, died_after=False)


class Operator:
    """What people and the boot do between two processes."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.outcome = "none"
        self._tried_again = self._regretted = self._unknown = 0

    def after_death(self) -> str | None:
        """The process died, or could not write its journal."""
        sim = self.sim
        rows = sim.disk.rows()
        if not rows:
            return "apply"
        if rows[-1][2] == "ended":
            sim.ledger.read(rows, sim.disk.reader())
            log = sim.ledger.log
            state = fold(start(sim.host.graph), log)
            if state.outcome in OVER:
                sim.host.check_end(state, died_after=True)
                self.outcome = str(state.outcome)
                return None
        self._leave_third_kernel()
        return "resume"

    def after_stop(self, state: TransactionState) -> str | None:
        """The process ended by itself."""
        sim, choices = self.sim, self.sim.choices
        sim.say("stands still:", state.outcome or "interrupted", state.reason)
        self.outcome = str(state.outcome)
        match state.outcome:
            case Outcome.COMMITTED:
                way_back = bool(sim.host.graph.section(Section.RETURN))
                if way_back and self._regretted < 1 and choices.chance(0.15):
                    self._regretted += 1
                    return "rollback"
                return None
            case Outcome.ROLLED_BACK:
                return None
            case Outcome.ROLLBACK_INCOMPLETE:
                if self._tried_again < 2 and choices.chance(0.4):
                    self._tried_again += 1
                    return "resume"
                return None
        if state.outcome is Outcome.UNKNOWN:
            self._help()
        self._leave_third_kernel()
        likely = 0.5 if state.waiting else 0.15
        return "rollback" if choices.chance(likely) else "resume"

    def _help(self) -> None:
        """As the report asks for; where looking did not help, boot the old kernel."""
        self._unknown += 1
        if self._unknown > 3:
            self.sim.say("boots the old kernel by hand")
            self.sim.host.boot_old()
            self.sim.disk.cut()
        self.sim.host.look_after()

    def _leave_third_kernel(self) -> None:
        """Somebody switches it off and on; perhaps only after a look in the third kernel."""
        sim = self.sim
        if sim.host.in_third_kernel and not sim.choices.chance(0.3):
            sim.say("power cycle")
            sim.host.reset()
            sim.disk.cut()
