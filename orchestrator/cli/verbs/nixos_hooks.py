"""`nixos preflight`, `stage` and `confirm`: what a NixOS system's own hooks call."""

from __future__ import annotations

import shlex
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click

from orchestrator.cli.command import Call, verb
from orchestrator.cli.next_command import complete
from orchestrator.cli.terminal import clean
from orchestrator.model.outcomes import ExitCode

if TYPE_CHECKING:
    from orchestrator.engine.report import TransactionReport
    from orchestrator.nixos.deciding import Decision
    from orchestrator.nixos.staging import Staged

_NIX_ENV_SECONDS = 60.0


@verb(
    "preflight",
    examples="""
    mkupgrade nixos preflight /nix/store/…-nixos-system-web switch
    mkupgrade nixos preflight "$1" "$2" || exit 1    # in system.preSwitchChecks
    """,
)
@click.argument("toplevel", metavar="TOPLEVEL")
@click.argument("action", type=click.Choice(["check", "switch", "boot", "test", "dry-activate"]))
def preflight(call: Call, *, toplevel: str, action: str) -> ExitCode:
    """For `system.preSwitchChecks`: refuse a switch that would take another kernel.

    Actions `switch` and `test` are refused, with every reason, where the running kernel is not the
    one that the system asks for; a switch sets the system profile before it asks, so that it is
    made to lead to the old system again. Other actions pass. Quick, and safe to call again.
    """
    from orchestrator.nixos import deciding, systems

    places = systems.REAL
    found = deciding.decide(
        systems.booted(places),
        systems.current(places),
        systems.read_system(places, PurePosixPath(toplevel)),
    )
    refused = found.transition and action in ("switch", "test")
    back = _take_back(found.wanted) if refused and action == "switch" else None
    if call.json:
        call.out_json(
            found.model_dump(mode="json")
            | {"action": action, "passes": not refused, "profile_put_back_to": back}
        )
    elif refused:
        _tell_refusal(call, found, back)
    return ExitCode.ERROR if refused else ExitCode.DONE


def _take_back(toplevel: str) -> int | None:
    from orchestrator.nixos import changing, systems
    from orchestrator.system.limited import Limited

    return changing.take_back(systems.REAL, toplevel, Limited(_NIX_ENV_SECONDS))


def _tell_refusal(call: Call, found: Decision, back: int | None) -> None:
    call.note("mkupgrade: this system takes another kernel; nothing was switched:")
    for reason in found.reasons:
        call.note(f"  {clean(reason)}")
    if back is not None:
        call.note(f"The system profile leads to generation {back} again.")
    call.note("To carry the kernel through (--plan names the workloads):")
    call.note(f"  mkupgrade nixos upgrade --store-path {clean(shlex.quote(found.wanted))}")
    call.note("NIXOS_NO_CHECK=1 switches all the same.")


@verb(
    "stage",
    state=True,
    examples="""
    mkupgrade nixos stage /nix/store/…-nixos-system-web
    mkupgrade nixos stage "$1" || true    # in extraInstallCommands of a boot loader
    mkupgrade nixos stage --preload "$1" || true
    """,
)
@click.argument("toplevel", metavar="TOPLEVEL")
@click.option(
    "--preload", is_flag=True, help="Load its kernel for kexec, where the next start takes it."
)
def stage(call: Call, *, toplevel: str, preload: bool, state_dir: Path) -> None:
    """For a boot loader's extraInstallCommands: remember the system that it was given.

    Says if the next start takes another kernel. With --preload that kernel is loaded, so that
    `systemctl kexec` and `systemctl reboot` start it without the firmware; what was preloaded
    before is unloaded, with --preload and without. Never fails: what goes wrong is told on stderr.
    Safe to call again.
    """
    from orchestrator.cli.staged import stage_system

    told = stage_system(state_dir, PurePosixPath(toplevel), preload=preload)
    if call.json:
        call.out_json(told.as_dict())
        return
    for line in told.lines:
        call.note(f"mkupgrade: {clean(line)}")


@verb(
    "confirm",
    state=True,
    examples="""
    mkupgrade nixos confirm
    mkupgrade nixos confirm --json | jq -r 'select(has("booted")).staged_started'
    """,
    json_help="JSON lines: what was found; then, where a transaction is finished, its events and "
    "its report.",
)
def confirm(call: Call, *, state_dir: Path) -> ExitCode:
    """For a unit at boot: say whether the system that was staged has started, and finish a
    transaction that a fallback reboot left.

    It is gone on with by mkupgrade-resume.service, which is started and waited for; where that
    unit does not look after the state directory, as `mkupgrade resume --boot` does. Exit code 0:
    nothing is unfinished any more, be it committed or rolled back; 6: somebody is at work on it,
    or it waits for you; 4, 7 and 8 as of `resume`. What was staged is forgotten once it has
    started. Safe to call again.
    """
    from orchestrator.cli.finishing import finish
    from orchestrator.cli.verbs.resume import left_open
    from orchestrator.nixos import staging, systems
    from orchestrator.system import proc

    booted = systems.booted(systems.REAL).toplevel
    staged = staging.recall(state_dir)
    started = None
    if staged is not None and staged.toplevel == booted:
        started = True
        if staging.preloaded(state_dir, proc.boot_id()) is None:
            staging.forget(state_dir)
    elif staged is not None and staged.boot_id != proc.boot_id():
        started = False
    left = left_open(state_dir, None, or_unsettled=True)
    _tell_confirmed(call, booted, staged, started, left[2] if left is not None else None)
    if left is None:
        return ExitCode.DONE
    name, graph, report = left
    if report.outcome is not None:  # it is unknown where the host stands: not ours to try again
        return report.exit_code
    return finish(call, name, graph, report, state_dir)


def _tell_confirmed(
    call: Call,
    booted: str,
    staged: Staged | None,
    started: bool | None,
    left: TransactionReport | None,
) -> None:
    ended = left is not None and left.outcome is not None
    again = None
    if staged is not None and started is False:
        again = f"mkupgrade nixos upgrade --store-path {shlex.quote(staged.toplevel)}"
    if call.json:
        call.out_json(
            {
                "booted": booted,
                "staged": staged.model_dump(mode="json") if staged is not None else None,
                "staged_started": started,
                "unfinished": left.transaction if left is not None and not ended else None,
                "unsettled": left.transaction if left is not None and ended else None,
                "next_command": again,
            }
        )
        return
    call.out(f"Booted   {clean(booted)}")
    if staged is not None:
        words = {None: "waits for the next start", True: "has started", False: "has not started"}
        call.out(f"Staged   {clean(staged.toplevel)}: {words[started]}")
    if again is not None:
        call.note("The boot loader was given the staged system, and another one has started.")
        call.note("To carry it through with a way back:")
        call.note(f"  {clean(again)}")
    if left is not None and left.outcome is not None:
        call.note(f"Transaction {clean(left.transaction)} ended {left.outcome.value}: look first.")
        call.note(f"  {clean(complete('mkupgrade status'))}")
    elif left is not None:
        call.note(f"Transaction {clean(left.transaction)} is not finished.")
