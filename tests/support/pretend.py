"""A pretend host, made anew for each life of a real process, and how it should look after it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.engine.journal import Journal
from orchestrator.engine.queries import history
from orchestrator.model.outcomes import Outcome
from tests.support.warm import SPEC, Life, Warm

OLD, NEW = "7.2.13", "7.3.4"


@dataclass
class Host:
    """A pretend host that can be made anew, and the command on it."""

    warm: Warm
    directory: Path

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def plan(self) -> Path:
        return self.directory / "plan.json"

    def make(self) -> None:
        """Once: the host as it is before an upgrade, and the plan."""
        spec = self.directory / "plan.yaml"
        spec.write_text(SPEC.format(state=self.state), encoding="utf-8")
        assert self.warm.run("plan", spec, "-o", self.plan).code == 0
        self.keep("before")

    def keep(self, name: str) -> None:
        """Everything as it is now, for `start_over`."""
        shutil.copytree(self.state, self.directory / name)

    def start_over(self, kept: str = "before", **keys: Any) -> None:
        """From what was kept, with these keys of the host changed."""
        shutil.rmtree(self.state, ignore_errors=True)
        shutil.copytree(self.directory / kept, self.state)
        (self.state / "simulated-host.json").write_text(json.dumps(self.world() | keys))

    def world(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.state / "simulated-host.json").read_text())
        return found

    def run(self, verb: str, *options: object, **limits: Any) -> Life:
        there = [self.plan] if verb == "apply" else ["--state-dir", self.state]
        return self.warm.run(verb, *there, *options, **limits)

    def outcome(self) -> Outcome | None:
        """Of the one transaction; None: it never began."""
        journal = Journal.open_readonly(self.state)
        if journal is None:
            return None
        with journal:
            found = history(journal)
            assert len(found) <= 1
            assert not found or found[0].outcome is not None, "it has not ended"
            return found[0].outcome if found else None

    def reason(self) -> str:
        """Why the one transaction ended as it did; empty: it never began."""
        journal = Journal.open_readonly(self.state)
        if journal is None:
            return ""
        with journal:
            return "".join(found.reason for found in history(journal))

    def transactions(self) -> list[str]:
        """Of which there is at most one."""
        journal = Journal.open_readonly(self.state)
        if journal is None:
            return []
        with journal:
            return [t.id for t in journal.transactions()]

    def left_behind(self) -> dict[str, Any]:
        """What of the host must not depend on how often somebody was killed."""
        world = self.world()
        kept = ("staged", "sessions", "incoming", "spilled", "manifests")
        return {
            "kernel": world["kernel"]["release"],
            "after a reset": world["entries"][world["default"]]["release"],
            "commits": len(world["commits"]),
            "loaded": world["loaded"] is not None,
            "workloads": {n: (w["status"], w["life"]) for n, w in world["workloads"].items()},
            "kept": [name for name in kept if any(world[name].values())],
            "half done": world["half_done"] + world["in_doubt"],
        }

    def verified(self) -> bool:
        journal = Journal.open_readonly(self.state)
        if journal is None:
            return True
        with journal:
            return journal.verify().problem is None


def as_wanted(outcome: Outcome | None) -> dict[str, Any]:
    """What a host looks like that is wholly in the one kernel or the other."""
    release = NEW if outcome is Outcome.COMMITTED else OLD
    return {
        "kernel": release,
        "after a reset": release,
        "commits": int(outcome is Outcome.COMMITTED),
        "loaded": False,
        "workloads": {"counter": ("running", 1)},  # never started from nothing
        "kept": [],
        "half done": [],
    }
