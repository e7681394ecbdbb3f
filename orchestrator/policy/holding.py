"""Holding plans to the policy in force, before anything begins."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.loading.load import place_of_path
from orchestrator.loading.problems import format_path
from orchestrator.model.errors import MkupgradeError, PolicyError
from orchestrator.model.outcomes import ExitCode
from orchestrator.model.policy import CommandRule, Policy
from orchestrator.model.spec import UpgradeSpec
from orchestrator.model.steps import StepGraph
from orchestrator.policy import signatures
from orchestrator.policy.enforce import REAL, UNCHANGED, Place, unusable
from orchestrator.policy.rules import Objection, graph_objections, spec_objections
from orchestrator.policy.signatures import Signer
from orchestrator.system import trusted
from orchestrator.system.trusted import UntrustedPathError

_SHOWN = 20


@dataclass(frozen=True)
class InForce:
    """A policy that can be relied on."""

    policy: Policy
    place: Place = REAL

    def lines(self) -> list[str]:
        """What it demands, for people; the first line says where it is."""
        policy, commands = self.policy, self.policy.commands
        found = [f"{self.place.path} is in force"]
        if policy.signatures is not None:
            found.append(f"plans must be signed by one of {policy.signatures.allowed_signers}")
        if policy.images is not None:
            found.append(f"kernels come from {_listed(policy.images.directories)}")
        for kind in ("hooks", "checks", "workloads") if commands is not None else ():
            rules: list[CommandRule] | None = getattr(commands, kind)
            if rules is not None:
                shown = [shlex.join(r.argv) if r.argv else f"{r.program} …" for r in rules]
                found.append(f"commands of {kind}: {_listed(shown)}")
        if commands is not None and commands.criu_arguments is not None:
            found.append(f"arguments for CRIU: {_listed(commands.criu_arguments)}")
        if policy.state is not None:
            found.append(f"state is kept in {_listed(policy.state.directories)}")
        return found

    def require_signature(self, data: bytes, path: Path) -> Signer | None:
        """Hold a plan's bytes to the signature beside `path`; load these very bytes afterwards.

        Returns:
            Who signed; None: the policy demands no signatures.

        Raises:
            PolicyError: not signed (exit code 6), or not by an allowed signer.
        """
        wanted = self.policy.signatures
        if wanted is None:
            return None
        signature = signatures.read_signature(path)
        if signature is None:
            error = PolicyError(
                "the policy demands signed plans: this one has no signature",
                where=str(path),
                state=UNCHANGED,
                next_command=f"mkupgrade sign {shlex.quote(str(path))} --key KEY",
                details=(f"signatures: {self.place.path}",),
            )
            error.exit_code = ExitCode.WAITING
            raise error
        signers = self._read(Path(wanted.allowed_signers), "signatures.allowed_signers")
        revoked: bytes | None = None
        if wanted.revoked_keys is not None:
            revoked = self._read(Path(wanted.revoked_keys), "signatures.revoked_keys")
        try:
            return signatures.verify(data, signature, signers, revoked)
        except MkupgradeError as error:
            raise signatures.refusal(error, path) from error

    def hold_spec(self, spec: UpgradeSpec, text: str, filename: str) -> None:
        """Hold a spec to the rules.

        Args:
            text: what it was loaded from, for line and column of what is refused.

        Raises:
            PolicyError: one line in `details` for each thing that is not allowed.
        """

        def where(objection: Objection) -> str:
            line, column = place_of_path(text, objection.place)
            return f"{filename}:{line}:{column}"

        found = spec_objections(self.policy, spec, self._resolve)
        self._refuse(found, filename, where)

    def hold_graph(self, graph: StepGraph, filename: str) -> None:
        """Hold the steps of a plan to the rules: they are what is carried out.

        Raises:
            PolicyError: as `hold_spec`; places are JSON paths of the plan.
        """
        found = graph_objections(self.policy, graph, self._resolve)
        self._refuse(found, filename, lambda _: filename)

    def hold_state_dir(self, state_dir: Path) -> None:
        """Hold the place of a journal to the rules, before it is opened.

        Raises:
            PolicyError
        """
        state = self.policy.state
        if state is not None and str(state_dir.absolute()) not in map(str, state.directories):
            known = ", ".join(str(d) for d in state.directories)
            message = f"{state_dir} is none of {known}"
            objection = Objection((), "state.directories", message)
            self._refuse([objection], str(state_dir), lambda _: str(state_dir))

    def _resolve(self, path: Path) -> Path:
        return trusted.resolve(path, self.place.trust)

    def _read(self, path: Path, rule: str) -> bytes:
        try:
            return trusted.read(path, signatures.SIGNERS_LIMIT, self.place.trust)
        except UntrustedPathError as error:
            raise unusable(path, f"{rule}: {error.what}", error.next_command) from error
        except OSError as error:
            raise unusable(path, f"{rule}: {error.strerror}") from error

    def _refuse(
        self, found: list[Objection], filename: str, where: Callable[[Objection], str]
    ) -> None:
        if not found:
            return
        lines = []
        for objection in found[:_SHOWN]:
            path = format_path(objection.place)
            parts = [where(objection), *([path] if path else []), objection.message]
            lines.append(f"{': '.join(parts)} ({self.place.path}: {objection.rule})")
        if len(found) > _SHOWN:
            lines.append(f"… and {len(found) - _SHOWN} more")
        rules = ", ".join(sorted({objection.rule for objection in found}))
        raise PolicyError(
            f"the policy of this host does not allow this plan: {rules}",
            where=where(found[0]),
            state=UNCHANGED,
            next_command="mkupgrade doctor",
            details=tuple(lines),
        )


def _listed(things: Iterable[object]) -> str:
    return ", ".join(map(str, things)) or "none"
