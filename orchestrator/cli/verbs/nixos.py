"""`nixos`: what a NixOS system takes of this host."""

from __future__ import annotations

import re
import shlex
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click

from orchestrator.cli.command import Call, verb
from orchestrator.cli.next_command import complete
from orchestrator.cli.terminal import clean
from orchestrator.model.errors import MkupgradeError, NotSupportedError
from orchestrator.model.outcomes import ExitCode

if TYPE_CHECKING:
    from orchestrator.nixos.deciding import Decision


_NIX_ENV_SECONDS = 60.0


@click.group("nixos")
def nixos() -> None:
    """On NixOS: say whether a system takes another kernel, and why, and carry it through."""


@verb(
    "decide",
    examples="""
    mkupgrade nixos decide
    mkupgrade nixos decide ./result --detailed-exitcode; test $? = 2 && echo another kernel
    mkupgrade nixos decide --generation 41
    mkupgrade nixos decide --json | jq -r '.reasons[].what'
    """,
)
@click.argument("toplevel", metavar="[TOPLEVEL]", required=False)
@click.option("--profile", metavar="NAME", help="Of this profile instead of system.")
@click.option("--generation", type=click.IntRange(min=1), help="This generation of the profile.")
@click.option("--specialisation", metavar="NAME", help="This specialisation of the system.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit 2 when another kernel is needed.")
def decide(
    call: Call,
    *,
    toplevel: str | None,
    profile: str | None,
    generation: int | None,
    specialisation: str | None,
    detailed_exitcode: bool,
) -> ExitCode:
    """Say whether a system takes a kernel transition, and exactly why, or a plain switch is enough.

    TOPLEVEL is a built system; by default it is the one that the system profile leads to. It is
    held to the booted system (kernel, initrd, parameters, modules, reboot-triggers) and to the
    current one (switch-inhibitors, init-interface-version). Changes nothing.
    """
    from orchestrator.nixos import deciding, systems

    if toplevel is not None and (profile is not None or generation is not None):
        raise click.UsageError("a TOPLEVEL, or --profile and --generation")
    places, name = systems.REAL, profile or systems.SYSTEM
    booted, current = systems.booted(places), systems.current(places)
    if toplevel is not None:
        path = _absolute(toplevel)
    elif generation is not None:
        path = systems.generation(places, generation, name)
    else:
        path = systems.next_system(places, name)
    found = deciding.decide(booted, current, systems.read_system(places, path, specialisation))
    if call.json:
        call.out_json(found.model_dump(mode="json") | {"transition": found.transition})
    else:
        _show(call, found)
    pending = detailed_exitcode and found.transition
    return ExitCode.CHANGES_PENDING if pending else ExitCode.DONE


def _show(call: Call, found: Decision) -> None:
    call.out(f"Booted   {clean(found.booted)}")
    call.out(f"Current  {clean(found.current)}")
    call.out(f"Wanted   {clean(found.wanted)}")
    call.out()
    if found.enough == "nothing":
        call.out("Nothing to do: it is booted and current.")
    elif found.enough == "switch":
        call.out("A plain switch is enough: the kernel stays as it is.")
        call.out(f"  {clean(found.wanted)}/bin/switch-to-configuration switch")
    else:
        call.out("Another kernel is needed:")
        for reason in found.reasons:
            call.out(f"  {clean(reason)}")


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
    "upgrade",
    state=True,
    examples="""
    sudo mkupgrade nixos upgrade --flake .#web --plan plan.yaml
    sudo mkupgrade nixos upgrade --store-path ./result --yes
    sudo mkupgrade nixos upgrade --rollback
    """,
    json_help="JSON lines: events while it runs, the report at the end.",
)
@click.option("--flake", metavar="FLAKE#HOST", help="Build this host's system and take it.")
@click.option("--store-path", metavar="TOPLEVEL", help="Take this built system.")
@click.option("--rollback", is_flag=True, help="Take the generation before the profile's own.")
@click.option("--specialisation", metavar="NAME", help="This specialisation of the system.")
@click.option(
    "--plan",
    metavar="PLAN.yaml",
    type=click.Path(path_type=Path),
    help="Workloads, checks and all else; its kernel is replaced.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--again", is_flag=True, help="Even if it was rolled back before.")
def upgrade(
    call: Call,
    *,
    flake: str | None,
    store_path: str | None,
    rollback: bool,
    specialisation: str | None,
    plan: Path | None,
    state_dir: Path,
    yes: bool,
    again: bool,
) -> ExitCode:
    """Carry a system's kernel through: build or find it, hold it, decide, and apply a plan for it.

    The plan is written to nixos-upgrade.yaml in the state directory and carried out as `mkupgrade
    apply` does: the system's own pre-switch checks come first, profile and boot menu stay the old
    ones until commit, and are again if anything fails. Where a plain switch is enough nothing is
    done, and exit code 1 comes with the command to switch.
    """
    from orchestrator.cli.nixos_plan import write_plan
    from orchestrator.cli.verbs.apply import apply_file
    from orchestrator.nixos import building, changing, deciding, systems

    chosen = [flake is not None, store_path is not None, rollback]
    if chosen.count(True) != 1:
        raise click.UsageError("one of --flake, --store-path and --rollback")
    places = systems.REAL
    booted, current = systems.booted(places), systems.current(places)
    if flake is not None:
        path = building.build(places, _flake(flake), lambda line: call.note(clean(line)))
    elif store_path is not None:
        path = _absolute(store_path)
    else:
        path = systems.before_the_last(systems.generations(places))
    found = deciding.decide(booted, current, systems.read_system(places, path, specialisation))
    if not found.transition:
        return _without_transition(call, found)
    changing.want(places, found.wanted)
    if not call.json:
        _show(call, found)
        call.out()
    written = write_plan(found.wanted, plan, state_dir)
    as_apply = Call(verb="apply", json=call.json)
    return apply_file(as_apply, written, yes=yes, again=again, report_html=None)


def _without_transition(call: Call, found: Decision) -> ExitCode:
    if found.enough == "switch":
        raise NotSupportedError(
            "a plain switch is enough, and `nixos upgrade` carries kernels through only",
            where=found.wanted,
            state="nothing was changed",
            next_command=f"nixos-rebuild switch --store-path {shlex.quote(found.wanted)}",
        )
    if call.json:
        call.out_json(found.model_dump(mode="json") | {"changes_pending": False})
    else:
        _show(call, found)
    return ExitCode.DONE


def _flake(text: str) -> str:
    if not re.fullmatch(r"(?!-)[^#\s\"]*#[A-Za-z0-9_.-]+", text):
        raise click.UsageError(f"{text!r} is no flake and a host in it, such as .#web")
    return text


def _absolute(text: str) -> PurePosixPath:
    path = PurePosixPath(text)
    return path if path.is_absolute() else PurePosixPath(Path.cwd()) / path


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


nixos.add_command(decide)
nixos.add_command(upgrade)
nixos.add_command(preflight)
nixos.add_command(stage)
nixos.add_command(confirm)
