"""`clean-up`: give back what is kept past its time."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from orchestrator.cli.command import Call, verb
from orchestrator.cli.terminal import clean
from orchestrator.model.outcomes import ExitCode


@verb(
    "clean-up",
    state=True,
    examples="""
    mkupgrade clean-up
    mkupgrade clean-up --state-dir /srv/mkupgrade --json
    """,
)
def clean_up(call: Call, state_dir: Path) -> ExitCode:
    """Give back what committed transactions keep past its time, as the next apply would.

    Old generations of instances beside this kernel go with their CPUs and memory once
    rollback.keep_old_kernel is over, and `mkupgrade rollback` cannot bring them back any more.
    Harmless at any time, and made for a timer. Exit code 6 while another mkupgrade is at work.
    """
    from orchestrator.cli.tidying import Pruning, over
    from orchestrator.cli.verbs.apply import refuse_if_unfinished
    from orchestrator.cli.wiring import SIMULATED_HOST, driver_named
    from orchestrator.engine.lock import holding

    pruned: list[str] = []
    if state_dir.is_dir() and not (state_dir / SIMULATED_HOST).exists():
        refuse_if_unfinished(state_dir)
        with closing(driver_named("auto", state_dir)) as driver, holding(state_dir, "clean-up"):
            if isinstance(driver, Pruning):
                pruned = driver.prune(over(state_dir))
    if call.json:
        call.out_json({"removed": pruned})
    elif pruned:
        call.out(f"Removed: {', '.join(clean(name) for name in pruned)}.")
    else:
        call.out("Nothing is kept past its time.")
    return ExitCode.DONE
