"""One try of a check; rounds of tries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from orchestrator.checks.filesystem import check_file
from orchestrator.checks.kernel import Sources, check_kernel
from orchestrator.checks.programs import check_command, check_systemd
from orchestrator.checks.results import Baseline, CheckResult, Clock, NotHeldError, failed, shown
from orchestrator.model.errors import CheckFailedError, DeadlineError, MkupgradeError
from orchestrator.model.seams import Control
from orchestrator.model.spec.checks import (
    Check,
    CommandCheck,
    HttpCheck,
    KernelCheck,
    SystemdCheck,
    TcpCheck,
)

_AT_ONCE = 8
"""Checks that run side by side."""
_GLANCE = 0.2
"""Seconds between looks at `control` while we wait."""
_SHORTEST = 0.05
"""Seconds that a try is given, and that lie between two, at least."""


@dataclass(frozen=True)
class Checker:
    """Runs checks on this host.

    Args:
        baseline: what kernel checks compare with.
        clock: time between tries; the tries themselves take real time.
        sources: where the kernel is read from.
        env: added to the environment of commands.
    """

    baseline: Baseline = field(default_factory=Baseline)
    clock: Clock = field(default_factory=Clock)
    sources: Sources = field(default_factory=Sources)
    env: Mapping[str, str] = field(default_factory=dict)

    def run(self, check: Check, control: Control) -> CheckResult:
        """One try, within the check's timeout and the step's deadline. Raises nothing that a
        check could be the cause of: what goes wrong is the result.

        Raises:
            DeadlineError: the step's time is over.
        """
        left = control.remaining()
        if left <= 0:
            raise DeadlineError("no time is left for checks", where=check.name)
        timeout = max(_SHORTEST, min(check.timeout, left))
        began = self.clock.now()
        try:
            detail, ok = self._look(check, timeout, control), True
        except NotHeldError as error:
            detail, ok = str(error), False
        except MkupgradeError as error:
            detail, ok = shown(error.what)[1:-1], False
        return CheckResult(check.name, ok, detail, self.clock.now() - began)

    def run_all(self, checks: Sequence[Check], control: Control) -> list[CheckResult]:
        """One try of each, side by side; results in the order of the checks."""
        return self._side_by_side(checks, lambda check: self.run(check, control))

    def require(self, checks: Sequence[Check], control: Control) -> list[CheckResult]:
        """One try of each, and all must hold: the phase "before".

        Raises:
            CheckFailedError: names each that failed, and what it saw.
        """
        results = self.run_all(checks, control)
        if not all(r.ok for r in results):
            raise failed(results, checks)
        return results

    def require_within(self, checks: Sequence[Check], control: Control) -> list[CheckResult]:
        """Each again and again until it holds or its `within` is over: the phase "after".

        Raises:
            CheckFailedError: names each that never held, and what it saw last; or stopped.
            DeadlineError: the step's time is over.
        """
        began = self.clock.now()
        results = self._side_by_side(checks, lambda check: self._until(check, began, control))
        if not all(r.ok for r in results):
            raise failed(results, checks)
        return results

    def pause(self, seconds: float, control: Control) -> None:
        """Wait, but hear of a stop and of the deadline.

        Raises:
            CheckFailedError: stopped on request. DeadlineError: the step's time is over.
        """
        end = self.clock.now() + seconds
        while True:
            if control.stopped():
                raise CheckFailedError("the checks were stopped on request")
            if control.remaining() <= 0:
                raise DeadlineError("the step's time was over before the checks held")
            left = end - self.clock.now()
            if left <= 0:
                return
            self.clock.sleep(min(left, _GLANCE))

    def _look(self, check: Check, timeout: float, control: Control) -> str:
        if isinstance(check, HttpCheck | TcpCheck):
            return _over_the_network(check, timeout)
        if isinstance(check, CommandCheck):
            return check_command(check, timeout, control.stopped, self.env)
        if isinstance(check, SystemdCheck):
            return check_systemd(check)
        if isinstance(check, KernelCheck):
            return check_kernel(check, self.baseline, self.sources)
        return check_file(check, timeout)

    def _until(self, check: Check, began: float, control: Control) -> CheckResult:
        from tenacity import RetryCallState, Retrying, retry_if_result

        def left(_: RetryCallState) -> float:
            return began + check.within - self.clock.now()

        def tell(state: RetryCallState) -> None:
            seen = state.outcome.result() if state.outcome else None
            control.progress(f"{seen} (try {state.attempt_number})")

        tries = Retrying(
            retry=retry_if_result(lambda result: not result.ok),
            stop=lambda state: left(state) <= 0,
            wait=lambda state: min(max(check.interval, _SHORTEST), left(state)),
            sleep=lambda seconds: self.pause(seconds, control),
            before_sleep=tell,
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        result: CheckResult = tries(self.run, check, control)
        return result

    def _side_by_side(
        self, checks: Sequence[Check], work: Callable[[Check], CheckResult]
    ) -> list[CheckResult]:
        if len(checks) <= 1:
            return [work(check) for check in checks]
        with ThreadPoolExecutor(min(_AT_ONCE, len(checks)), "check") as pool:
            return list(pool.map(work, checks))


def _over_the_network(check: HttpCheck | TcpCheck, timeout: float) -> str:
    # TLS takes 30 ms to import, and every verb would pay for it.
    from orchestrator.checks.network import check_http, check_tcp

    return check_http(check, timeout) if isinstance(check, HttpCheck) else check_tcp(check, timeout)


@dataclass
class SoakReport:
    """How a soak went."""

    rounds: int = 0
    failures: list[CheckResult] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {"rounds": self.rounds, "failures": [f.as_dict() for f in self.failures]}

    def add(self, results: Iterable[CheckResult]) -> None:
        self.rounds += 1
        self.failures += [r for r in results if not r.ok]


def soak(
    checker: Checker,
    checks: Sequence[Check],
    control: Control,
    *,
    duration: float,
    interval: float,
    max_failures: int,
    on_progress: Callable[[str, float], None] | None = None,
) -> SoakReport:
    """Every check, every interval, until the time is over; the last round is at its very end.

    Args:
        duration, interval: seconds. A duration of 0 is one round.
        max_failures: failed tries that are forgiven, all rounds together.
        on_progress: gets a text and a fraction of 0..1; default: `control.progress`.

    Raises:
        CheckFailedError: more failures than that; names the checks and what they saw; or stopped.
        DeadlineError: the step's time is over.
    """
    tell = on_progress or control.progress
    report, began = SoakReport(), checker.clock.now()
    while True:
        report.add(checker.run_all(checks, control))
        if len(report.failures) > max_failures:
            what = f"the soak failed: {len(report.failures)} failures, {max_failures} allowed"
            raise failed(report.failures, checks, what=what)
        left = began + duration - checker.clock.now()
        if left <= 0:
            tell(f"{report.rounds} rounds", 1.0)
            return report
        tell(f"round {report.rounds}, {left:.0f} s left", min(1.0, 1 - left / duration))
        checker.pause(min(max(interval, _SHORTEST), left), control)
