"""How the host stands: what `status` shows, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cli.next_command import complete
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.kinds import Kind
from orchestrator.model.landing import marks
from orchestrator.model.outcomes import Outcome

if TYPE_CHECKING:
    from orchestrator.cli.offered import Offered
    from orchestrator.cli.wiring import Target
    from orchestrator.engine.identity import Identity
    from orchestrator.engine.journal import Journal
    from orchestrator.engine.lock import Holder
    from orchestrator.engine.report import StepReport, Summary, TransactionReport
    from orchestrator.model.host import SideBySide
    from orchestrator.model.spec import UpgradeSpec
    from orchestrator.model.steps import StepGraph

_MULTIKERNEL = Path("/sys/fs/multikernel")
"""Where it is not there, nothing that reads it is imported."""


@dataclass
class Standing:
    """All that is known of a host without a plan, and with one what the plan would do."""

    state_dir: Path
    identity: Identity
    holder: Holder | None = None
    unfinished: TransactionReport | None = None
    last: Summary | None = None
    entered_by: str | None = None
    """The transaction whose jump started this boot; None: it was no jump of ours."""
    unclaimed: str | None = None
    """State of a transaction that the journal does not know may be waiting in this kernel."""
    beside: SideBySide | None = None
    """Pool and instances; None: this is no multikernel host."""
    beside_error: MkupgradeError | None = None
    """Why they are not known."""
    offers: list[Offered] = field(default_factory=list)
    """Kernels that packages have brought, and nobody has applied."""
    objections: list[str] = field(default_factory=list)
    """Why an apply would not begin now."""
    plan: StepGraph | None = None
    plan_error: MkupgradeError | None = None

    @property
    def will_act(self) -> bool:
        return not self.objections and self.plan_error is None

    @property
    def proof(self) -> str:
        """Whether this kernel is known to start by itself."""
        if self.entered_by is None:
            return "started by a boot of its own"
        return (
            f"not proven by a cold boot: entered by kexec in transaction {self.entered_by}, "
            "and the machine has not started into it by itself since"
        )


def standing(state_dir: Path) -> Standing:
    """Look at journal, lock and kernel; changes nothing."""
    from orchestrator.cli.journals import reading, refuse_if_closed
    from orchestrator.cli.wiring import identity_at
    from orchestrator.engine.lock import current_holder
    from orchestrator.engine.queries import history, report_of, unfinished

    refuse_if_closed(state_dir)
    found = Standing(state_dir, identity_at(state_dir), holder=current_holder(state_dir))
    committed: list[str] = []
    with reading(state_dir) as journal:
        if journal is not None:
            name = unfinished(journal)
            found.unfinished = report_of(journal, name) if name else None
            ended = [s for s in history(journal) if s.outcome is not None]
            found.last = ended[-1] if ended else None
            committed = [s.transaction for s in ended if s.outcome is Outcome.COMMITTED]
            found.entered_by = entered_by(journal, found.identity.boot_id)
        found.unclaimed = _unclaimed(state_dir, journal, {"memory", "disk"})
    try:
        found.beside = _side_by_side(state_dir, committed)
    except MkupgradeError as error:
        found.beside_error = error
    found.offers = _offers(found)
    found.objections = _objections(found)
    return found


def look_at_plan(found: Standing, path: Path) -> None:
    """Plan, to say what an apply of this spec would do here and now."""
    from contextlib import closing

    from orchestrator.cli.journals import reading
    from orchestrator.cli.wiring import hold_to_host, make_plan, open_driver, read_target
    from orchestrator.engine.queries import rolled_back_before

    try:
        target = read_target(path)
        spec, saved = target.load()
        found.objections += policy_objections(target, spec, saved)
        with closing(open_driver(spec)) as driver:
            found.plan = saved or make_plan(spec, driver, build=False)
            if saved is not None:
                hold_to_host(saved, spec, driver)
            if driver.name != "simulated":
                found.objections += guard_objections()
    except MkupgradeError as error:
        found.plan_error = error
        return
    with reading(found.state_dir) as journal:
        before = rolled_back_before(journal, found.plan.intent_digest) if journal else None
    if before is not None and not found.plan.is_empty:
        found.objections.append(
            f"this upgrade was rolled back before, by transaction {before.transaction} "
            f"({before.reason}); only `{complete('mkupgrade apply --again')}` tries it again"
        )


def state_in_memory(state_dir: Path) -> str | None:
    """What to do if this kernel was entered by a transaction that the journal does not know.

    Its workloads' state may still be waiting in memory; nobody must drop it by a restart.
    """
    from orchestrator.cli.journals import reading
    from orchestrator.system import proc

    if not marks(proc.cmdline()):
        return None
    with reading(state_dir) as journal:
        return _unclaimed(state_dir, journal, {"memory"})


def _unclaimed(state_dir: Path, journal: Journal | None, media: set[str]) -> str | None:
    """What to do about state that belongs to no transaction of the journal; that in memory comes
    first."""
    from orchestrator.cli.wiring import SIMULATED_HOST
    from orchestrator.handover.unclaimed import find_unclaimed
    from orchestrator.system import proc

    if (state_dir / SIMULATED_HOST).exists():
        return None
    known = [t.id for t in journal.transactions()] if journal is not None else []
    found = find_unclaimed(state_dir, known, proc.cmdline())
    told = (state for state in found if state.medium in media)
    return next((state.advice(state_dir) for state in told), None)


def _side_by_side(state_dir: Path, committed: list[str]) -> SideBySide | None:
    from orchestrator.cli.wiring import SIMULATED_HOST

    if not _MULTIKERNEL.is_dir() or (state_dir / SIMULATED_HOST).exists():
        return None
    from orchestrator.drivers.multikernel.observing import seen_here

    return seen_here(state_dir, committed)


def _offers(found: Standing) -> list[Offered]:
    """Where there is no directory of them, nothing that reads it is imported."""
    if not (found.state_dir / "offers").is_dir():
        return []
    from orchestrator.cli.offered import waiting

    running = found.identity.release if found.beside is None else None
    return waiting(found.state_dir, running)


def policy_problem() -> list[str]:
    """Why the policy of this host cannot be relied on, so that every plan would be refused."""
    from orchestrator.policy import in_force

    try:
        in_force()
    except MkupgradeError as error:
        return [str(error), *error.details]
    return []


def policy_objections(target: Target, spec: UpgradeSpec, saved: StepGraph | None) -> list[str]:
    """Why the policy of this host would refuse an apply of this file."""
    from orchestrator.policy import in_force

    try:
        policy = in_force()
        if policy is not None:
            policy.require_signature(target.data, target.path)
            if saved is not None:
                policy.hold_graph(saved, str(target.path))
            else:
                policy.hold_spec(spec, target.text, str(target.path))
    except MkupgradeError as error:
        return list(error.details) if error.details else [error.what]
    return []


def guard_objections() -> list[str]:
    """Why calls that change this machine's kernel would be refused."""
    from orchestrator.system.guard import HostGuard

    return HostGuard.open().objections()


def _objections(found: Standing) -> list[str]:
    objections = []
    if found.holder is not None:
        objections.append(f"process {found.holder.pid} (mkupgrade {found.holder.verb}) is at work")
    if found.unfinished is not None:
        objections.append(f"transaction {found.unfinished.transaction} is not finished")
    elif found.last is not None and found.last.outcome in {
        Outcome.UNKNOWN,
        Outcome.ROLLBACK_INCOMPLETE,
    }:
        word = "unknown" if found.last.outcome is Outcome.UNKNOWN else "an incomplete rollback"
        objections.append(f"transaction {found.last.transaction} ended in {word}: look first")
    if found.unclaimed is not None:
        objections.append(found.unclaimed)
    return objections


def entered_by(journal: Journal, boot_id: str) -> str | None:
    """The last transaction that jumped into this boot. A reset into it is a proof, no jump."""
    from orchestrator.engine.queries import report_of

    for stored in reversed(journal.transactions()):
        report = report_of(journal, stored.id)
        boots = [b.boot_id for b in report.boots]
        if boot_id in boots[1:]:
            graph = journal.plan(stored.id)[0]
            return stored.id if _jumped(report, graph, boots.index(boot_id)) else None
        if boot_id in boots[:1]:
            return None
    return None


def _jumped(report: TransactionReport, graph: StepGraph, index: int) -> bool:
    """Did a pivot by kexec, and not a reset, lead into the boot at `index`?"""
    methods = {s.id: s.params.get("method") for s in graph.steps}
    since = report.boots[index].first
    pivots = [
        (attempt.started, step.id, step.state)
        for step in report.steps
        if step.kind == Kind.JUMP
        for attempt in step.attempts
        if attempt.started <= since
    ]
    if not pivots:
        return False
    _, step_id, state = max(pivots)
    return state != "lost" and methods.get(step_id) != "reset"


def standing_json(found: Standing) -> dict[str, Any]:
    """The stable form of `status --json`."""
    report, holder, last = found.unfinished, found.holder, found.last
    return {
        "kernel": found.identity.release,
        "boot_id": found.identity.boot_id,
        "proven_by_cold_boot": found.entered_by is None,
        "proof": found.proof,
        "running": holder.model_dump(mode="json") if holder else None,
        "unfinished": None if report is None else _unfinished_json(report),
        "last": last.model_dump(mode="json") if last else None,
        "unclaimed": found.unclaimed,
        "offers": [offer.as_dict() for offer in found.offers],
        "side_by_side": found.beside.model_dump(mode="json") if found.beside else None,
        "will_act": found.will_act,
        "why_not": found.objections,
        "plan": _plan_json(found),
    }


def _unfinished_json(report: TransactionReport) -> dict[str, Any]:
    done, steps = of_section(report)
    return {
        "transaction": report.transaction,
        "name": report.name,
        "section": report.section.value,
        "reverting": report.reverting,
        "interrupted": report.interrupted,
        "waiting": report.waiting,
        "reason": report.reason,
        "steps_performed": done,
        "steps": len(steps),
        "running": [s.id for s in steps if s.state in {"intended", "reverting"}],
        "next_command": report.next_command and complete(report.next_command),
    }


def of_section(report: TransactionReport) -> tuple[int, list[StepReport]]:
    """How many steps of the running section are performed, and all of them."""
    steps = [s for s in report.steps if s.section is report.section]
    return sum(s.state == "performed" for s in steps), steps


def _plan_json(found: Standing) -> dict[str, Any] | None:
    if found.plan_error is not None:
        return {"error": found.plan_error.as_dict()}
    if found.plan is None:
        return None
    from orchestrator.cli.render.plan import summary

    return {
        "name": found.plan.name,
        "changes_pending": not found.plan.is_empty,
        "summary": summary(found.plan),
    }
