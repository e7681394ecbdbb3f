"""`history` and `report`: what was done on this host."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.command import Call, transaction_argument, verb
from orchestrator.cli.terminal import clean, styled
from orchestrator.model.errors import JournalError
from orchestrator.model.outcomes import ExitCode

if TYPE_CHECKING:
    from orchestrator.engine.journal import Journal


@verb(
    "history",
    state=True,
    examples="""
    mkupgrade history
    mkupgrade history 20261123-140307-k3xw
    mkupgrade history --verify
    mkupgrade history --json | jq -r '.transactions[].outcome'
    """,
)
@transaction_argument
@click.option("--verify", is_flag=True, help="Prove the hash chain of the journal.")
def history(call: Call, transaction: str | None, *, state_dir: Path, verify: bool) -> ExitCode:
    """List the transactions of this host, or the events of one.

    With --verify the whole journal is read, every event is held to the hash of the one before,
    and every plan to its digest. Exit code 1 if anything was changed. A journal that was cut
    off at its end is found by journal.anchor beside it; against somebody who may write both,
    compare the head with one that you noted elsewhere.
    """
    from orchestrator.cli.journals import find, reading

    with reading(state_dir, damaged=verify) as journal:
        verified = _verify(journal, state_dir) if verify else None
        shown: dict[str, Any] = {"verified": verified} if verify else {}
        if verified is not None and verified["problem"] is not None:
            raise _broken(verified, state_dir)
        if transaction is not None:
            name = find(journal, transaction, state_dir)
            assert journal is not None  # noqa: S101 - `find` found it there
            _events(call, journal, name, shown)
        elif not (verify and not call.json):
            _transactions(call, journal, shown)
    if verified is not None and not call.json:
        good = styled("whole", sys.stdout, fg="green", bold=True)
        call.out(f"The journal is {good}: {verified['events']} events, head {verified['head']}")
        if verified["note"] is not None:
            call.note(verified["note"])
    return ExitCode.DONE


def _verify(journal: Journal | None, state_dir: Path) -> dict[str, Any]:
    from orchestrator.engine import anchor
    from orchestrator.engine.verify import GENESIS, Verified

    if journal is not None:
        return journal.verify().model_dump(mode="json")
    nothing = Verified(events=0, head=GENESIS)  # which an anchor may know better
    return anchor.hold(nothing, anchor.read(state_dir), lambda _: None).model_dump(mode="json")


def _broken(verified: dict[str, Any], state_dir: Path) -> JournalError:
    where = "" if verified["bad_seq"] is None else f" at event {verified['bad_seq']}"
    kept = shlex.quote(str(state_dir))
    return JournalError(
        f"the journal was changed{where}: {verified['problem']}",
        where=str(state_dir),
        state="nothing was changed by this command",
        next_command=f"cp -a {kept} {kept}.damaged",
        details=(f"{verified['events']} events before it are whole, head {verified['head']}",),
    )


def _transactions(call: Call, journal: Journal | None, shown: dict[str, Any]) -> None:
    from orchestrator.engine.queries import history as summaries

    found = summaries(journal) if journal is not None else []
    if call.json:
        listed = [s.model_dump(mode="json") for s in found]
        call.out_json({"transactions": listed, **shown})
        return
    from orchestrator.cli.render.history import show_transactions

    show_transactions(call.console(), found)


def _events(call: Call, journal: Journal, name: str, shown: dict[str, Any]) -> None:
    log = journal.log(name)
    if call.json:
        listed = [e.as_dict() for e in log]
        call.out_json({"transaction": name, "events": listed, **shown})
        return
    from orchestrator.cli.render.history import show_events

    show_events(call.console(), journal.plan(name)[0], log)


@verb(
    "report",
    state=True,
    examples="""
    mkupgrade report
    mkupgrade report 20261123-140307-k3xw --format html > report.html
    mkupgrade report --json | jq '.workloads'
    """,
    json_help="Short for --format json.",
)
@transaction_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "html"]),
    default="text",
    show_default=True,
)
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write it there."
)
def report(
    call: Call, transaction: str | None, *, state_dir: Path, form: str, output: Path | None
) -> None:
    """Report on a transaction, by default the last: steps, durations, blackout per workload,
    what was undone and why. HTML is one file with the timeline drawn."""
    from orchestrator.cli.journals import find, reading
    from orchestrator.cli.render.view import report_json, view_of
    from orchestrator.engine.queries import report_of

    with reading(state_dir) as journal:
        name = find(journal, transaction, state_dir)
        assert journal is not None  # noqa: S101 - `find` found it there
        view = view_of(report_of(journal, name), journal.plan(name)[0])
    if call.json or form == "json":
        import json

        made = json.dumps(report_json(view))
    elif form == "html":
        from orchestrator.cli.render.html import report_html

        made = report_html(view)
    else:
        from orchestrator.cli.render.report import report_text

        made = report_text(view, None if output else sys.stdout)
    if output is not None:
        from orchestrator.cli.files import write_text

        write_text(output, made.rstrip("\n") + "\n")
        call.note(f"Written to {clean(output)}.")
    else:
        call.out(made.rstrip("\n"))
