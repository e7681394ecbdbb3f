"""Every verb explains itself, quickly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from orchestrator.cli.catalogue import ENTRIES
from orchestrator.cli.command import Verb
from orchestrator.cli.main import cli


def commands() -> dict[str, click.Command]:
    context = click.Context(cli, info_name="mkupgrade")
    found: dict[str, click.Command] = {}
    for name in ENTRIES:
        command = cli.get_command(context, name)
        assert command is not None
        subs = command.commands if isinstance(command, click.Group) else {"": command}
        found |= {f"{name} {sub}".strip(): c for sub, c in subs.items()}
    return found


@pytest.mark.parametrize("name", commands())
def test_every_help_shows_an_example(run: Any, name: str) -> None:
    shown = run(*name.split(), "--help")
    assert shown.exit_code == 0
    examples = shown.output.partition("Examples:")[2]
    assert f"mkupgrade {name}" in examples


@pytest.mark.parametrize("name", commands())
def test_every_verb_has_json(name: str) -> None:
    command = commands()[name]
    assert isinstance(command, Verb)
    assert "--json" in [o for p in command.params for o in p.opts]


@pytest.mark.parametrize("name", commands())
def test_examples_are_commands_that_parse(name: str) -> None:
    """Options and verbs in the examples exist: they were not invented."""
    command = commands()[name]
    assert isinstance(command, Verb)
    known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--"}
    for line in command.examples:
        for part in line.replace("&&", ";").replace("|", ";").split(";"):
            words = part.split("#")[0].split()
            words = words[words.index("mkupgrade") + 1 :] if "mkupgrade" in words else []
            if words[: len(name.split())] == name.split():
                assert {w for w in words if w.startswith("-")} <= known, line


def test_the_list_of_verbs_names_every_one(run: Any) -> None:
    shown = run("--help").output
    assert all(f"  {name}" in shown for name in ENTRIES)
    assert all(entry.short_help in " ".join(shown.split()) for entry in ENTRIES.values())


def test_without_a_verb_help_goes_to_stderr(run: Any) -> None:
    shown = run()
    assert shown.exit_code == 1
    assert shown.stdout == ""
    assert "Usage: mkupgrade" in shown.stderr


def test_a_mistyped_verb_is_guessed(run: Any) -> None:
    shown = run("aply")
    assert shown.exit_code == 1
    assert 'did you mean "apply"?' in shown.stderr


def test_usage_errors_never_look_like_pending_changes(run: Any) -> None:
    assert run("plan", "--no-such-option").exit_code == 1
    shown = run("graph", "x", "--format", "png", "--json")
    assert shown.exit_code == 1
    assert json.loads(shown.stderr)["error"]["code"] == "usage"


@pytest.mark.parametrize("arguments", [["--help"], ["apply", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from orchestrator.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'networkx', 'rich', 'yaml', 'structlog', 'sqlite3', 'tenacity'}\n"
        "sys.exit(','.join(heavy & set(sys.modules)) or 0)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, timeout=30, check=False, cwd=root,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_shells_script(run: Any, shell: str) -> None:
    shown = run("completion", shell)
    assert "_MKUPGRADE_COMPLETE" in shown.stdout
    assert json.loads(run("completion", shell, "--json").stdout)["shell"] == shell


@pytest.mark.slow
def test_completion_knows_verbs_and_transactions(mkupgrade: Any) -> None:
    mkupgrade("apply", mkupgrade.spec, "--yes")
    known = mkupgrade.json("history")["transactions"][0]["transaction"]

    def complete(words: str, number: int) -> str:
        environment = {"_MKUPGRADE_COMPLETE": "fish_complete", "COMP_WORDS": words}
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator.cli"],
            env=mkupgrade.environment | environment | {"COMP_CWORD": words.split()[number]},
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        return done.stdout

    assert "rollback" in complete("mkupgrade ro", 1)
    assert known in complete(f"mkupgrade report {known[:4]}", 2)


def test_the_manual_names_every_verb_and_option() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    for name, command in commands().items():
        assert f"`{name}" in manual, name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert any(option in manual for option in parameter.opts), parameter.opts
