"""`nixos preflight`, `stage` and `confirm`: what a NixOS system's own hooks call."""

from __future__ import annotations

import shlex
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click

from orchestrator.cli.command import Call, verb
from orchestrator.cli.next_command import complete
from orchestrator.cli.terminal import clean
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.outcomes import ExitCode

if TYPE_CHECKING:
    from orchestrator.nixos.deciding import Decision

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
    """,
)
@click.argument("toplevel", metavar="TOPLEVEL")
def stage(call: Call, *, toplevel: str, state_dir: Path) -> None:
    """For a boot loader's extraInstallCommands: remember the system that it was given.

    Says if the next start takes another kernel. Loads nothing, and never fails: what goes wrong is
    told on stderr. Safe to call again.
    """
    from orchestrator.nixos import deciding, staging, systems
    from orchestrator.system import proc

    places, problem = systems.REAL, None
    found: Decision | None = None
    try:
        wanted = systems.read_system(places, PurePosixPath(toplevel))
        found = deciding.decide(systems.booted(places), systems.current(places), wanted)
        reasons = [str(reason) for reason in found.reasons]
        made = staging.Staged(toplevel=found.wanted, boot_id=proc.boot_id(), reasons=reasons)
        staging.remember(state_dir, made)
    except (MkupgradeError, OSError) as error:
        problem = str(error)
    if call.json:
        staged = found.wanted if found is not None and problem is None else None
        call.out_json({"staged": staged, "problem": problem})
    elif problem is not None:
        call.note(f"mkupgrade: the system was not remembered: {clean(problem)}")
    elif found is not None and found.transition:
        call.note("mkupgrade: the next start of this machine takes another kernel")


@verb(
    "confirm",
    state=True,
    examples="""
    mkupgrade nixos confirm
    mkupgrade nixos confirm --json | jq .staged_started
    """,
)
def confirm(call: Call, *, state_dir: Path) -> ExitCode:
    """For a unit at boot: say whether the system that was staged has started, and what is left.

    Exit code 6 where a transaction is unfinished: `mkupgrade-resume.service`, or `mkupgrade
    resume` by hand, goes on with it; this jumps nowhere. Else 0. What was staged is forgotten once
    it has started.
    """
    from orchestrator.cli.journals import reading
    from orchestrator.engine.queries import unfinished
    from orchestrator.nixos import staging, systems
    from orchestrator.system import proc

    booted = systems.booted(systems.REAL).toplevel
    staged = staging.recall(state_dir)
    started = None
    if staged is not None and staged.boot_id != proc.boot_id():
        started = staged.toplevel == booted
        if started:
            staging.forget(state_dir)
    with reading(state_dir) as journal:
        left = unfinished(journal) if journal is not None else None
    if call.json:
        shown = staged.model_dump(mode="json") if staged is not None else None
        told = {"booted": booted, "staged": shown, "staged_started": started, "unfinished": left}
        call.out_json(told)
    else:
        call.out(f"Booted   {clean(booted)}")
        if staged is not None:
            words = {None: "waits for the next start", True: "has started"}
            call.out(f"Staged   {clean(staged.toplevel)}: {words.get(started, 'has not started')}")
        if left is not None:
            call.note(f"Transaction {clean(left)} is not finished.")
            call.note(f"  {clean(complete(f'mkupgrade resume {left}'))}")
    return ExitCode.WAITING if left is not None else ExitCode.DONE
