"""Plans without a host, and the command run in this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli.main import cli
from orchestrator.cli.render.plan import in_order
from orchestrator.cli.render.view import View, view_of
from orchestrator.engine import events
from orchestrator.engine.events import Envelope
from orchestrator.engine.journal import Journal
from orchestrator.engine.report import report
from orchestrator.model.errors import CheckFailedError, MkupgradeError
from orchestrator.model.host import HostState
from orchestrator.model.outcomes import Outcome
from orchestrator.model.spec import UpgradeSpec
from orchestrator.model.steps import Inspection, Reversibility, Section, StepGraph
from orchestrator.nixos import systems
from orchestrator.planning import plan
from tests.support.hosts import host_data, spec_data, workload
from tests.support.nixos import PretendNixos

Run = Callable[..., Result]
GraphMaker = Callable[..., StepGraph]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("plan", path)`: the command in this process; output and exit code in the result."""
    for name in ("NO_COLOR", "FORCE_COLOR", "MKUPGRADE_STATE_DIR", "MKUPGRADE_LOG"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: object, **options: Any) -> Result:
        result = CliRunner().invoke(cli, [str(a) for a in arguments], **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


@pytest.fixture
def make_graph() -> GraphMaker:
    """A plan for two workloads; `host` replaces keys of the host, others keys of the spec."""

    def make(host: dict[str, Any] | None = None, **rest: Any) -> StepGraph:
        two = [workload("counter"), workload("shop")]
        spec = UpgradeSpec.model_validate(spec_data(workloads=two) | rest)
        return plan(spec, HostState.model_validate(host_data(spec, **(host or {}))))

    return make


class Log:
    """Events of a pretend transaction, one second or so a step, across a change of kernel."""

    def __init__(self, graph: StepGraph) -> None:
        self.graph = graph
        self.time = 1_795_000_000.0
        self.boot, self.release = "boot-1", "7.2.13"
        self.events: list[Envelope] = []
        self.add(
            events.Began(
                name=graph.name,
                plan_digest=graph.digest(),
                intent_digest=graph.intent_digest,
                driver=graph.driver,
            )
        )

    def add(self, event: Any, seconds: float = 0.0) -> None:
        self.time += seconds
        stamp = events.Stamp(time=self.time, boot_id=self.boot, release=self.release, pid=42)
        self.events.append(
            Envelope(
                seq=len(self.events) + 1, transaction="tx-1", stamp=stamp, event=event,
                prev_hash="", hash="",
            )
        )  # fmt: skip

    def run(self, section: Section, *, until: str = "", boots: tuple[str, str] = ("", "")) -> None:
        """Perform the steps of a section; `until`: the kind before which to stop."""
        for step in in_order(self.graph, section):
            if step.kind == until:
                return
            self.add(events.StepIntended(step=step.id, attempt=1))
            took = step.estimate * 1.2
            if step.reversibility is Reversibility.PIVOT:
                self.time += took
                self.boot, self.release = boots
                seen = events.StepInspected(
                    step=step.id, verdict=Inspection.PRESENT, reason=f"{boots[1]} runs, mark fits"
                )
                self.add(events.Resumed(reason="after the jump"))
                self.add(seen, 0.01)
            else:
                self.add(events.StepPerformed(step=step.id, attempt=1, seconds=took), took)

    def fail(self, kind: str, error: MkupgradeError, section: Section = Section.FORWARD) -> None:
        step = next(s for s in self.graph.section(section) if s.kind == kind)
        self.add(events.StepIntended(step=step.id, attempt=1))
        self.add(
            events.StepFailed(step=step.id, attempt=1, error=error.as_dict(), seconds=2.5), 2.5
        )
        self.add(
            events.StepInspected(
                step=step.id, verdict=Inspection.ABSENT, reason="a check has no effect"
            )
        )

    def view(self) -> View:
        return view_of(report("tx-1", self.graph, self.graph.digest(), self.events), self.graph)


@pytest.fixture
def committed(make_graph: GraphMaker) -> Log:
    """The log of a transaction that went well."""
    log = Log(make_graph())
    log.run(Section.FORWARD, boots=("boot-2", "7.3.4"))
    log.add(events.Ended(outcome=Outcome.COMMITTED, reason="every step is performed"), 0.1)
    return log


@pytest.fixture
def rolled_back(make_graph: GraphMaker) -> Log:
    """The log of one whose check failed in the new kernel."""
    check = {"name": "answers", "kind": "tcp", "port": 80}
    log = Log(make_graph(checks=[check]))
    log.run(Section.FORWARD, until="check", boots=("boot-2", "7.3.4"))
    error = CheckFailedError(
        "check answers failed: connection refused", where="127.0.0.1:80", details=("tried 3 times",)
    )
    log.fail("check", error)
    log.add(events.SectionEntered(section=Section.RETURN, reason="check/after failed"))
    log.run(Section.RETURN, boots=("boot-3", "7.2.13"))
    log.add(events.SectionEntered(section=Section.RECOVER, reason="back in Linux 7.2.13"))
    log.run(Section.RECOVER)
    log.add(events.Ended(outcome=Outcome.ROLLED_BACK, reason="every workload runs again"), 0.1)
    return log


@pytest.fixture
def undone(make_graph: GraphMaker) -> Log:
    """The log of one that failed before the pivot and was reverted."""
    log = Log(make_graph())
    log.run(Section.FORWARD, until="preserve")
    log.fail("preserve", MkupgradeError("no space left on device", where="/dev/liveupdate"))
    log.add(events.TurnedBack(section=Section.FORWARD, reason="preserve/host failed"))
    for step in reversed(in_order(log.graph, Section.FORWARD)):
        if any(isinstance(e.event, events.StepPerformed) and e.event.step == step.id
               for e in log.events):  # fmt: skip
            log.add(events.RevertIntended(step=step.id, attempt=1))
            log.add(events.StepReverted(step=step.id, attempt=1, seconds=0.3), 0.3)
    log.add(events.Ended(outcome=Outcome.ROLLED_BACK, reason="every step is reverted"))
    return log


class Command:
    """`mkupgrade` as a real process, on a pretend host of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.spec = directory / "plan.yaml"
        self.spec.write_text(SPEC.format(state=self.state), encoding="utf-8")
        self.environment = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "MKUPGRADE_STATE_DIR": str(self.state),
        }

    def __call__(self, *arguments: object, code: int = 0) -> Result:
        """Run it in this process; `code`: the exit code that it must have."""
        result = CliRunner(env=self.environment).invoke(cli, [str(a) for a in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
        return result

    def process(self, *arguments: object, code: int = 0) -> tuple[str, str]:
        """Run it as a process of its own; stdout and stderr."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=60)
        assert "Traceback" not in err, err
        if "the policy of this host cannot be relied on" in err and Path("/").stat().st_uid != 0:
            pytest.skip("/ is not root's here, and a process asks for the real policy")
        assert process.returncode == code, (process.returncode, out, err)
        return out, err

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.argv(*arguments), env=self.environment, cwd=self.directory, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def json(self, *arguments: object, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code).stdout)

    def argv(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "orchestrator.cli", *map(str, arguments)]

    # -- the pretend host

    @property
    def host_file(self) -> Path:
        return self.state / "simulated-host.json"

    def host(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.host_file.read_text(encoding="utf-8"))
        return found

    def change_host(self, **keys: Any) -> None:
        """Make the host if need be, then replace keys of it."""
        if not self.host_file.exists():
            self("plan", self.spec)
        self.host_file.write_text(json.dumps(self.host() | keys), encoding="utf-8")

    def wait_for(self, step: str, event: str = "intended") -> None:
        """Until the journal says that this step was begun."""
        end = time.monotonic() + 30.0
        while time.monotonic() < end:
            journal = Journal.open_readonly(self.state) if self.state.exists() else None
            if journal is not None:
                with journal:
                    names = [t.id for t in journal.transactions()]
                    log = list(journal.log(names[-1])) if names else []
                if any(e.event.type == event and getattr(e.event, "step", "") == step for e in log):
                    return
            time.sleep(0.02)
        raise AssertionError(f"{step} was not begun")


SPEC = """\
api_version: mkupgrade/v1
metadata: {{name: test-upgrade}}
host: {{driver: simulated, state_dir: "{state}"}}
instances:
  - name: host
    kernel: {{image: "{state}/boot/vmlinuz-7.3.4", release: 7.3.4}}
workloads:
  - {{name: counter, instance: host, find: {{cmdline: counter}}, migrate: {{method: criu}}}}
checks:
  - {{name: answers, kind: tcp, port: 80}}
soak: {{duration: "20ms", interval: "10ms"}}
"""


@pytest.fixture
def mkupgrade(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def nixos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PretendNixos:
    """A host that booted generation 1 and whose profile leads to 2; the verbs see no other."""
    host = PretendNixos(tmp_path / "host")
    monkeypatch.setattr(systems, "REAL", host.places)
    old = host.system("old", release="6.12.1")
    host.boot(old)
    host.generation(1, old)
    host.generation(2, host.system("new", release="6.18.2", params=["quiet"]))
    return host
