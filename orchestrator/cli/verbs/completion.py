"""`completion`: the shells' own scripts, as click makes them."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

from orchestrator.cli.command import Call, verb


@verb(
    "completion",
    examples="""
    mkupgrade completion bash > /etc/bash_completion.d/mkupgrade
    mkupgrade completion zsh > "${fpath[1]}/_mkupgrade"
    mkupgrade completion fish > ~/.config/fish/completions/mkupgrade.fish
    """,
    json_help='Print {"shell": …, "script": …}.',
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(call: Call, shell: str) -> None:
    """Print the completion script of a shell."""
    maker = get_completion_class(shell)
    assert maker is not None  # noqa: S101 - the choices are click's own shells
    from orchestrator.cli.main import cli

    # The base class's source(): bash's own would start bash to look at its version.
    script = ShellComplete.source(maker(cli, {}, "mkupgrade", "_MKUPGRADE_COMPLETE"))
    if call.json:
        call.out_json({"shell": shell, "script": script})
    else:
        call.out(script.rstrip("\n"))
