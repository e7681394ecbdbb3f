"""`nixos`: what a NixOS system takes of this host."""

from __future__ import annotations

import re
import shlex
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click

from orchestrator.cli.command import Call, verb
from orchestrator.cli.terminal import clean
from orchestrator.cli.verbs.nixos_hooks import confirm, preflight, stage
from orchestrator.model.outcomes import ExitCode

if TYPE_CHECKING:
    from orchestrator.nixos.deciding import Decision
    from orchestrator.nixos.systems import Places

_MOST_LINES = 60


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
    places = systems.REAL
    booted, current = systems.booted(places), systems.current(places)
    if toplevel is not None:
        path = _absolute(toplevel)
    else:
        path = systems.of_profile(places, profile, generation)
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
        call.out(f"  mkupgrade nixos upgrade --store-path {clean(shlex.quote(found.wanted))}")
    else:
        call.out("Another kernel is needed:")
        for reason in found.reasons:
            call.out(f"  {clean(reason)}")


@verb(
    "upgrade",
    state=True,
    examples="""
    sudo mkupgrade nixos upgrade --flake .#web --plan plan.yaml
    sudo mkupgrade nixos upgrade --store-path ./result --yes
    sudo mkupgrade nixos upgrade --profile system --plan plan.yaml
    sudo mkupgrade nixos upgrade --rollback
    """,
    json_help="JSON lines: events while it runs, the report at the end.",
)
@click.option("--flake", metavar="FLAKE#HOST", help="Build this host's system and take it.")
@click.option("--store-path", metavar="TOPLEVEL", help="Take this built system.")
@click.option("--profile", metavar="NAME", help="Take what this profile leads to.")
@click.option("--generation", type=click.IntRange(min=1), help="Take this one of the profile.")
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
    profile: str | None,
    generation: int | None,
    rollback: bool,
    specialisation: str | None,
    plan: Path | None,
    state_dir: Path,
    yes: bool,
    again: bool,
) -> ExitCode:
    """Go to another system: with its kernel, where it takes another one, else by a switch.

    The system is built or found, held against garbage collection, and shown with what it changes.
    Its own pre-switch checks come first.

    Another kernel: a plan for it is written to nixos-upgrade.yaml in the state directory and
    carried out as `mkupgrade apply` does. Profile and boot menu are the old ones until commit, and
    again if anything fails.

    The same kernel: the profile is set and the system switched to; the plan's checks must hold
    before and after, and through the soak. If anything fails the profile, the boot menu and what
    runs are the old ones again (exit code 3). Units that do not start are no failure (exit code
    9): the checks say what matters.
    """
    from orchestrator.cli.nixos_plan import write_plan
    from orchestrator.cli.verbs.apply import apply_file
    from orchestrator.nixos import building, changing, deciding, systems

    of_profile = profile is not None or generation is not None
    chosen = [flake is not None, store_path is not None, of_profile, rollback]
    if chosen.count(True) != 1:
        raise click.UsageError("one of --flake, --store-path, --profile and --rollback")
    places = systems.REAL
    booted, current = systems.booted(places), systems.current(places)
    if flake is not None:
        path = building.build(places, _flake(flake), lambda line: call.note(clean(line)))
    elif store_path is not None:
        path = _absolute(store_path)
    elif rollback:
        path = systems.before_the_last(systems.generations(places))
    else:
        path = systems.of_profile(places, profile, generation)
    found = deciding.decide(booted, current, systems.read_system(places, path, specialisation))
    if _is_settled(found, places):
        return _nothing_to_do(call, found)
    changing.want(places, found.wanted)
    difference = building.difference(found.current, found.wanted)
    if not call.json:
        _show(call, found)
        _show_difference(call, difference)
        call.out()
    if not found.transition:
        from orchestrator.cli.nixos_switch import Wish, switch_to

        command = f"mkupgrade nixos upgrade --store-path {shlex.quote(found.wanted)}"
        command += f" --plan {shlex.quote(str(plan))}" if plan is not None else ""
        wish = Wish(found, plan, state_dir, yes, f"{command} --yes")
        return switch_to(call, wish, difference)
    if call.json:
        call.out_json({"decision": found.model_dump(mode="json"), "difference": difference})
    written = write_plan(found.wanted, plan, state_dir)
    as_apply = Call(verb="apply", json=call.json)
    return apply_file(as_apply, written, yes=yes, again=again, report_html=None)


def _is_settled(found: Decision, places: Places) -> bool:
    """It is what runs, and what the next start of the machine ends in."""
    from orchestrator.nixos import changing

    here = not found.transition and found.current == found.wanted
    return here and changing.profile_state(places).leads_to == found.wanted


def _nothing_to_do(call: Call, found: Decision) -> ExitCode:
    if call.json:
        call.out_json(found.model_dump(mode="json") | {"changes_pending": False})
    else:
        _show(call, found)
    return ExitCode.DONE


def _show_difference(call: Call, difference: list[str]) -> None:
    for line in difference[:_MOST_LINES]:
        call.out(f"  {clean(line)}")
    if len(difference) > _MOST_LINES:
        call.out(f"  and {len(difference) - _MOST_LINES} more")


def _flake(text: str) -> str:
    if not re.fullmatch(r"(?!-)[^#\s\"]*#[A-Za-z0-9_.-]+", text):
        raise click.UsageError(f"{text!r} is no flake and a host in it, such as .#web")
    return text


def _absolute(text: str) -> PurePosixPath:
    path = PurePosixPath(text)
    return path if path.is_absolute() else PurePosixPath(Path.cwd()) / path


nixos.add_command(decide)
nixos.add_command(upgrade)
nixos.add_command(preflight)
nixos.add_command(stage)
nixos.add_command(confirm)
