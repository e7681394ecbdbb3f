"""Finishing what a restart interrupted: by the unit that is made for it, else in this process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.command import Call
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.outcomes import ExitCode, Outcome

if TYPE_CHECKING:
    from orchestrator.engine.report import TransactionReport
    from orchestrator.model.steps import StepGraph

ENDS_WELL = {Outcome.COMMITTED, Outcome.ROLLED_BACK}
"""The host is in one piece: in the new kernel, or put right in the old one."""


def finish(
    call: Call, name: str, graph: StepGraph, report: TransactionReport, state_dir: Path
) -> ExitCode:
    """Go on with an unfinished transaction as at boot, tell how it goes, and show its report.

    mkupgrade-resume.service is started where it looks after this state directory: it has the right
    place and limits. Elsewhere this process does what it would.

    Returns:
        DONE where it ended well, also where it was rolled back: putting right what a fallback left
        is what was asked for. Else the code of how it ended.

    Raises:
        LockedError: somebody is at work on the host.
        MkupgradeError: it waits for the operator (exit code 6), or stands still half-way (7).
    """
    from orchestrator.cli.verbs import apply, resume
    from orchestrator.system import resume_unit

    apply.refuse_if_busy(state_dir)
    if report.waiting:
        raise resume.waiting(name, report)
    if not resume_unit.will_go_on(state_dir):
        code = resume.go_on_at_boot(call, name, graph, report, state_dir)
        return ExitCode.DONE if code is ExitCode.ROLLED_BACK else code
    ended = _by_unit(call, name, graph, state_dir)
    if ended.waiting:
        raise resume.waiting(name, ended)
    if ended.outcome is None:
        error = MkupgradeError(
            f"{resume_unit.NAME} did not finish transaction {name}",
            state="what was done is in the journal; it is looked at before anything goes on",
            next_command=f"journalctl --boot --unit={resume_unit.NAME}",
        )
        error.exit_code = ExitCode.INTERRUPTED
        raise error
    return ExitCode.DONE if ended.outcome in ENDS_WELL else ended.exit_code


def _by_unit(call: Call, name: str, graph: StepGraph, state_dir: Path) -> TransactionReport:
    from orchestrator.cli.carry import show_result, teller_for
    from orchestrator.cli.journals import follow, reading
    from orchestrator.cli.render.view import view_of
    from orchestrator.system import resume_unit, systemd

    with reading(state_dir) as journal:
        last = journal.last(name) if journal is not None else None
    if not resume_unit.is_at_work():
        systemd.begin(resume_unit.NAME)
    if not call.json:
        call.note(f"{resume_unit.NAME} goes on with transaction {name}:")
    report = follow(
        state_dir,
        name,
        teller_for(call, graph),
        after=last.seq if last is not None else 0,
        at_work=resume_unit.is_at_work,
    )
    if report.outcome is not None:
        show_result(call, view_of(report, graph))
        sys.stdout.flush()
    return report
