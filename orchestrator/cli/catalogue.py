"""The verbs, known by name and one line until one of them is called."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import click


@dataclass(frozen=True)
class Entry:
    module: str
    attribute: str
    short_help: str


def _entry(module: str, attribute: str, short_help: str) -> Entry:
    return Entry(f"orchestrator.cli.verbs.{module}", attribute, short_help)


FAMILIES: dict[str, dict[str, Entry]] = {
    "Prepare": {
        "validate": _entry("validate", "validate", "Check a spec; needs neither root nor host."),
        "schema": _entry("validate", "schema", "Print the JSON Schema of plan.yaml."),
        "doctor": _entry("doctor", "doctor", "Show what this host can do, and why not."),
        "plan": _entry("plan", "plan", "Show what an apply would do; change nothing."),
        "graph": _entry("plan", "graph", "Draw the step graph."),
        "sign": _entry("sign", "sign", "Sign a plan, or say who did."),
        "rehearse": _entry("rehearse", "rehearse", "Run the plan in a throw-away VM."),
        "offer": _entry("offer", "offer", "Offer a kernel that a package has brought."),
    },
    "Change the kernel": {
        "apply": _entry("apply", "apply", "Carry out a plan as one transaction."),
        "nixos": _entry("nixos", "nixos", "Carry a NixOS system's kernel through."),
        "resume": _entry("resume", "resume", "Go on with an unfinished transaction."),
        "rollback": _entry("resume", "rollback", "Bring the old kernel back."),
        "abort": _entry("resume", "abort", "Stop the running transaction and revert it."),
        "clean-up": _entry("clean_up", "clean_up", "Give back what is kept past its time."),
    },
    "Look": {
        "status": _entry("status", "status", "Show what runs, what ended, and what is next."),
        "history": _entry("history", "history", "List transactions or events; verify them."),
        "report": _entry("history", "report", "Report on a transaction: text, JSON or HTML."),
        "metrics": _entry("metrics", "metrics", "Print the journal in numbers, for Prometheus."),
    },
    "Set up": {
        "host": _entry("host", "host", "Permit or forbid changing this machine's kernel."),
        "agent": _entry("agent", "agent", "Take state from another running kernel."),
        "completion": _entry("completion", "completion", "Print a shell's completion script."),
    },
}

ENTRIES: dict[str, Entry] = {n: e for family in FAMILIES.values() for n, e in family.items()}


class Catalogue(click.Group):
    """A group whose verbs are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(ENTRIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = ENTRIES.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(entry.module), entry.attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - for the type checker
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for family, verbs in FAMILIES.items():
            with formatter.section(family):
                formatter.write_dl(
                    [(name, entry.short_help) for name, entry in verbs.items()], col_max=12
                )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in ENTRIES:
            # Not at import: only a mistake pays for it.
            from difflib import get_close_matches

            near = get_close_matches(args[0], ENTRIES, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            raise click.UsageError(f'there is no verb "{args[0]}"{hint}', ctx)
        return super().resolve_command(ctx, args)
