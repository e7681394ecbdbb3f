"""Runs in the guest: an upgrade whose process dies at one event after the other, before the jump.

    crash.py PLAN.json every [SECONDS]
    crash.py PLAN.json once EVENT

Each case: one process begins the transaction and kills itself (SIGKILL) as soon as event number N,
of those that have a commit of their own, is durable; another one resumes it. On the way to the jump
that is every event; among those of the way back, every third. The driver is the real
one but for the jump, which it refuses once everything before it is in place, so that each case ends
in the old kernel: the resume went all the way forward, and then everything was reverted. Then a
case in which nobody dies, and one in which the process dies so many seconds into a checkpoint. One
JSON line per case.

"once": the unaltered driver, and the process dies at the named event ("performed preserve/host").
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from orchestrator.drivers.live_update import LiveUpdateDriver
from orchestrator.engine.events import Envelope
from orchestrator.engine.journal import Journal
from orchestrator.engine.queries import report_of, unfinished
from orchestrator.engine.transaction import Engine
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.seams import Result, StepContext
from orchestrator.model.steps import Inspected, Step, StepGraph
from orchestrator.planning import load
from orchestrator.system.open_files import lost_at_reset

STATE_DIR = Path("/var/lib/mkupgrade")


_WITH_ANOTHER = frozenset({"intended", "revert_intended"})
"""Durable in one commit with the answer of the step before: to die here is to die there."""


class RefusesToJump(LiveUpdateDriver):
    """The real driver, but for the very last call: it stays in this kernel."""

    def perform(self, step: Step, context: StepContext) -> Result:
        if step.kind == "jump":
            raise MkupgradeError("everything is in place, and this test does not jump")
        return super().perform(step, context)

    def inspect(self, step: Step, context: StepContext) -> Inspected:
        found = super().inspect(step, context)
        seen = {"step": step.id, "verdict": found.verdict, "reason": found.reason}
        print(json.dumps(seen), file=sys.stderr)
        return found


class Killer:
    """Kills this process when an event is durable, or some time after it."""

    def __init__(self, number: int, at: str | None = None, after: float = 0.0) -> None:
        self._left, self._at, self._after = number, at, after

    def event(self, envelope: Envelope) -> None:
        self._left -= envelope.event.type not in _WITH_ANOTHER
        named = f"{envelope.event.type} {getattr(envelope.event, 'step', '')}"
        if named == self._at and not self._after:
            os.kill(os.getpid(), signal.SIGKILL)
        if named == self._at:
            threading.Timer(self._after, os.kill, (os.getpid(), signal.SIGKILL)).start()
        if self._left == 0 and self._at is None:
            os.kill(os.getpid(), signal.SIGKILL)

    def progress(self, step: Step, text: str, fraction: float | None) -> None:
        pass


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a process of its own; how it ended, as os.waitstatus_to_exitcode says."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except Exception:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def begin_and_die(graph: StepGraph, killer: Killer, kind: type[LiveUpdateDriver]) -> None:
    with (
        closing(Journal.open(STATE_DIR, volatile=lost_at_reset)) as journal,
        closing(kind(STATE_DIR)) as driver,
        Engine(driver, journal, reporter=killer) as engine,
    ):
        engine.run(engine.begin(graph, again=True))


def resume() -> None:
    with (
        closing(Journal.open(STATE_DIR, volatile=lost_at_reset)) as journal,
        closing(RefusesToJump(STATE_DIR)) as driver,
    ):
        transaction = unfinished(journal)
        if transaction is not None:
            with Engine(driver, journal) as engine:
                engine.resume(transaction)


def last_case() -> dict[str, Any]:
    """How the last transaction ended, and every step's attempts."""
    journal = Journal.open_readonly(STATE_DIR)
    if journal is None:
        return {}
    with closing(journal):
        name = journal.transactions()[-1].id
        report = report_of(journal, name)
    attempts = {s.id: [f"{a.kind} {a.answer}" for a in s.attempts] for s in report.steps}
    return {
        "outcome": report.outcome,
        "reason": report.reason,
        "attempts": {k: v for k, v in attempts.items() if v},
        "kexec_loaded": Path("/sys/kernel/kexec_loaded").read_text().strip(),
        "left": sorted(p.name for p in STATE_DIR.rglob("payload-*")),
    }


def on_the_way_back() -> bool:
    """Has the last transaction begun to revert?"""
    with closing(Journal.open_readonly(STATE_DIR) or Journal.open(STATE_DIR)) as journal:
        log = list(journal.log(journal.transactions()[-1].id))
    return any(envelope.event.type == "turned_back" for envelope in log)


def case(graph: StepGraph, killer: Killer) -> dict[str, Any]:
    died = in_child(lambda: begin_and_die(graph, killer, RefusesToJump)) == -signal.SIGKILL
    back = on_the_way_back()
    resumed = in_child(resume)
    return {"died": died, "back": back, "resumed": resumed, **last_case()}


def every(graph: StepGraph, seconds: float) -> None:
    number, step, died = 0, 1, True
    while died:
        number += step
        found = case(graph, Killer(number))
        died = found["died"]
        step = 3 if found["back"] else 1
        print(json.dumps({"event": number, **found}), flush=True)
    step = next(s.id for s in graph.steps if s.kind == "checkpoint")
    found = case(graph, Killer(0, f"intended {step}", seconds))
    print(json.dumps({"event": "in flight", **found}), flush=True)


def main() -> int:
    path, what, detail = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    graph = load(path.read_bytes(), str(path))
    if what == "every":
        every(graph, float(detail))
        return 0
    killer = Killer(0, detail)
    died = in_child(lambda: begin_and_die(graph, killer, LiveUpdateDriver)) == -signal.SIGKILL
    return 0 if died else 1


if __name__ == "__main__":
    sys.exit(main())
