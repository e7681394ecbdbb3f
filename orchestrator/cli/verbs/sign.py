"""`sign`: sign a plan, or look who did."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.command import Call, plan_argument, verb
from orchestrator.cli.terminal import clean, styled
from orchestrator.model.errors import ErrorClass, MkupgradeError, PolicyError
from orchestrator.model.outcomes import ExitCode

if TYPE_CHECKING:
    from orchestrator.cli.wiring import Target


@verb(
    "sign",
    examples="""
    mkupgrade sign plan.yaml --key ~/.ssh/id_ed25519
    mkupgrade sign plan.json --key ~/.ssh/id_ed25519_sk
    mkupgrade sign --verify plan.yaml
    mkupgrade sign --verify plan.yaml --allowed-signers signers
    """,
)
@plan_argument
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="Key of ssh-keygen.")
@click.option("--verify", is_flag=True, help="Do not sign: say who did.")
@click.option(
    "--allowed-signers",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --verify: whose signature counts; default: as the policy of this host says.",
)
def sign(
    call: Call, plan: Path, key: Path | None, *, verify: bool, allowed_signers: Path | None
) -> ExitCode:
    """Sign a spec or a saved plan with an SSH key, as git signs commits.

    The signature is written beside the plan, as PLAN.sig. A host whose policy demands signatures
    (/etc/mkupgrade/policy.yaml) carries out plans only if they are signed by one of its allowed
    signers. Any change of the file makes the signature void.
    """
    from orchestrator.cli.wiring import read_target

    target = read_target(plan)
    target.load()  # nobody should sign what no host would take
    if verify:
        return _verify(call, target, allowed_signers)
    if key is None:
        raise MkupgradeError(
            "which key? ssh-keygen makes one: ssh-keygen -t ed25519",
            state="nothing was changed",
            next_command=f"mkupgrade sign {shlex.quote(str(plan))} --key ~/.ssh/id_ed25519",
            error_class=ErrorClass.INVALID,
        )
    from orchestrator.cli.files import write_text
    from orchestrator.policy import signatures

    made = signatures.sign(target.data, key)
    path = signatures.signature_path(plan)
    write_text(path, made.decode("ascii", "replace"))
    if call.json:
        call.out_json({"plan": str(plan), "signature": str(path)})
    else:
        done = styled("signed", sys.stdout, fg="green", bold=True)
        call.out(f"{clean(plan)}: {done}: {clean(path)}")
    return ExitCode.DONE


def _verify(call: Call, target: Target, allowed_signers: Path | None) -> ExitCode:
    from orchestrator.policy import in_force, signatures

    signature = signatures.read_signature(target.path)
    if allowed_signers is not None and signature is not None:
        from orchestrator.system import files

        with files.open_followed(allowed_signers) as file:
            signers = file.read(signatures.SIGNERS_LIMIT)
        try:
            signer = signatures.verify(target.data, signature, signers, None)
        except PolicyError as error:
            error.where = str(target.path)
            raise
    else:
        policy = in_force()
        found = policy.require_signature(target.data, target.path) if policy is not None else None
        if found is None:
            raise MkupgradeError(
                "there is no signature" if signature is None else "no policy says who may sign",
                where=str(target.path),
                state="nothing was changed",
                next_command=f"mkupgrade sign --verify {shlex.quote(str(target.path))} "
                "--allowed-signers FILE",
                error_class=ErrorClass.REFUSED,
            )
        signer = found
    if call.json:
        call.out_json({"plan": str(target.path), "principal": signer.principal, "key": signer.key})
    else:
        good = styled("good", sys.stdout, fg="green", bold=True)
        call.out(f"{clean(target.path)}: {good}: signed by {clean(signer)}")
    return ExitCode.DONE
