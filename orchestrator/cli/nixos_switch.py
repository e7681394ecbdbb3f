"""What `nixos upgrade` does where the kernel stays: a switch, held to the plan's checks."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.command import Call
from orchestrator.cli.signals import forwarded, tell_stderr
from orchestrator.cli.terminal import clean
from orchestrator.model.errors import CheckFailedError, MkupgradeError
from orchestrator.model.outcomes import ExitCode
from orchestrator.nixos.errors import UNCHANGED
from orchestrator.system.limited import Limited

if TYPE_CHECKING:
    from orchestrator.checks import Checker
    from orchestrator.engine.interrupts import Interrupts
    from orchestrator.model.spec import UpgradeSpec
    from orchestrator.model.spec.checks import Check, Phase
    from orchestrator.model.spec.policy import Soak
    from orchestrator.nixos.deciding import Decision
    from orchestrator.nixos.switching import Switch, Switched

_SECONDS = 4 * 3600.0
"""For each of: the switch, and the way back. nixos-rebuild has no limit at all."""


@dataclass(frozen=True)
class Wish:
    """What a switch is held to."""

    found: Decision
    plan: Path | None
    """Whose checks must hold; None: none."""
    state_dir: Path
    """Whose lock is held meanwhile, where there is no plan."""
    yes: bool
    command: str
    """The same with --yes, for whoever was not asked."""


class _Held(Limited):
    """Hears of Ctrl-C."""

    def __init__(self, interrupts: Interrupts, seconds: float) -> None:
        super().__init__(seconds)
        self._interrupts = interrupts

    def stopped(self) -> bool:
        return self._interrupts.count > 0


def switch_to(call: Call, wish: Wish, difference: list[str]) -> ExitCode:
    """Ask, switch, and hold the system to the plan's checks; it is switched back if they fail.

    Raises:
        MkupgradeError: refused, and nothing was changed; or failed, with exit code 3 where
            everything is as it was and 4 where it is not.
    """
    from orchestrator.checks import Checker, baseline_now
    from orchestrator.cli.verbs.apply import (
        confirm,
        refuse_if_busy,
        refuse_if_unfinished,
        refuse_without_answer,
    )
    from orchestrator.engine.interrupts import Interrupts
    from orchestrator.engine.lock import holding
    from orchestrator.nixos import systems
    from orchestrator.nixos.switching import Switch
    from orchestrator.system.files import make_private_directory

    spec = _spec(wish.plan) if wish.plan is not None else None
    state_dir = Path(spec.host.state_dir) if spec is not None else wish.state_dir
    refuse_without_answer(call, wish.found.wanted, yes=wish.yes, command=wish.command)
    refuse_if_busy(state_dir)
    refuse_if_unfinished(state_dir)
    if not wish.yes:
        confirm("Switch to it?")
    interrupts = Interrupts()
    make_private_directory(state_dir)
    with forwarded(interrupts, tell_stderr), holding(state_dir, "nixos upgrade"):
        checks = _Checks(call, spec, interrupts, Checker(baseline_now()))
        checks.before()
        _drop_preloaded(call, state_dir)
        tell: Callable[[str], None] = lambda line: call.note(clean(line))  # noqa: E731
        switch = Switch(systems.REAL, wish.found.wanted, Limited(_SECONDS), tell)
        done = switch.there()
        try:
            checks.after()
        except MkupgradeError as error:
            _back(call, switch, error)
    return _tell(call, wish, done, difference)


def _spec(plan: Path) -> UpgradeSpec:
    """The plan, if this host's policy allows it. Raises: SpecError, PolicyError."""
    from orchestrator.cli.wiring import read_target
    from orchestrator.policy import in_force

    policy, target = in_force(), read_target(plan)
    if policy is not None:
        policy.require_signature(target.data, plan)
    spec, _ = target.load()
    if policy is not None:
        policy.hold_spec(spec, target.text, str(plan))
    return spec


def _drop_preloaded(call: Call, state_dir: Path) -> None:
    """The boot loader's hook may not, while we hold the lock: a restart would end in a system that
    is not pending any more. Raises: MkupgradeError."""
    from orchestrator.nixos import preloading, staging
    from orchestrator.system import proc

    boot_id = proc.boot_id()
    if staging.preloaded(state_dir, boot_id) is None:
        return
    from orchestrator.cli.staged import machine

    dropped = preloading.drop(machine(), state_dir, boot_id)
    if dropped is not None:
        call.note(f"The kernel of {clean(dropped.toplevel)}, preloaded before, is unloaded.")


@dataclass(frozen=True)
class _Checks:
    """The plan's, against how the kernel was before anything was changed."""

    call: Call
    spec: UpgradeSpec | None
    interrupts: Interrupts
    checker: Checker

    def before(self) -> None:
        """Raises: CheckFailedError, also where it was stopped."""
        try:
            self.checker.require(self._of("before"), self._control())
            self._unless_stopped()
        except CheckFailedError as error:
            error.state = UNCHANGED
            raise

    def after(self) -> None:
        """And the soak, as behind a jump. Raises: CheckFailedError, also where it was stopped."""
        self._unless_stopped()
        self.checker.require_within(self._of("after"), self._control())
        if self.spec is not None and self._of("soak"):
            self._soak(self.spec.soak)
        self._unless_stopped()

    def _soak(self, times: Soak) -> None:
        from orchestrator.checks import soak

        self.call.note(f"Soak: {times.duration:g} s")
        soak(
            self.checker,
            self._of("soak"),
            self._control(times.duration),
            duration=times.duration,
            interval=times.interval,
            max_failures=times.max_failures,
        )

    def _unless_stopped(self) -> None:
        """A request that came while a check ran is not lost with it."""
        if self.interrupts.count:
            raise CheckFailedError("it was stopped on request")

    def _of(self, phase: Phase) -> list[Check]:
        return self.spec.checks_of(phase) if self.spec is not None else []

    def _control(self, longer: float = 0.0) -> _Held:
        return _Held(self.interrupts, _SECONDS + longer)


def _back(call: Call, switch: Switch, why: MkupgradeError) -> None:
    """Switch back, and say why. Raises: always."""
    from orchestrator.nixos.switching import AS_IT_WAS, SwitchError

    call.note(f"Switching back: {clean(why.what)}")
    switch.back(why)
    raise SwitchError(
        f"switched back: {why.what}",
        where=why.where,
        state=AS_IT_WAS,
        next_command=why.next_command,
        details=why.details,
    ) from why


def _tell(call: Call, wish: Wish, done: Switched, difference: list[str]) -> ExitCode:
    code = ExitCode.DEGRADED if done.degraded else ExitCode.DONE
    if call.json:
        told = {
            "decision": wish.found.model_dump(mode="json"),
            "difference": difference,
            "switched": done.model_dump(mode="json"),
            "exit_code": code,
        }
        call.out_json(told)
        return code
    call.out(f"Switched to {clean(done.toplevel)}; the kernel runs on.")
    if done.degraded:
        names = ", ".join(clean(unit) for unit in done.failed_units) or "some units"
        call.note(f"Not all of it started: {names}. The system is switched to.")
        units = [shlex.quote(unit) for unit in done.failed_units]
        call.note("  " + clean(" ".join(["systemctl status", *units])))
    return code
