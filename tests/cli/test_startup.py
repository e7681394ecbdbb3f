"""What a verb does not need, it does not import: behind a jump, workloads wait for Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def imported(state_dir: Path, *arguments: str) -> set[str]:
    """Every module that a verb has imported when it ends."""
    code = (
        "import sys\n"
        "from orchestrator.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "sys.stderr.write('\\n'.join(sys.modules))\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"MKUPGRADE_STATE_DIR": str(state_dir)},
        capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_no_plugins_of_pydantic_are_looked_for(tmp_path: Path) -> None:
    found = imported(tmp_path, "status")
    assert "pydantic" in found
    assert "importlib.metadata" not in found


def test_status_imports_what_it_uses(tmp_path: Path) -> None:
    found = imported(tmp_path, "status", "--json")
    unused = {"loading", "planning", "handover.kho", "model.params", "policy.holding", "drivers"}
    assert "orchestrator.cli.standing" in found
    assert not {f"orchestrator.{name}" for name in unused} & found
    assert "rich" not in found


def test_a_host_without_instances_does_not_pay_for_their_map(tmp_path: Path) -> None:
    assert "orchestrator.cli.render.cpu_map" not in imported(tmp_path, "status")


def test_memory_is_not_looked_through_before_the_process_ends() -> None:
    code = (
        "import gc, sys\n"
        "from orchestrator.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: sys.exit(0 if gc.get_freeze_count() > 1000 else 1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--version"], timeout=60, check=False, cwd=ROOT
    )
    assert done.returncode == 0


def test_a_driver_is_opened_without_what_only_later_steps_need() -> None:
    code = (
        "import sys\n"
        "from orchestrator.drivers.live_update import LiveUpdateDriver\n"
        "sys.stdout.write('\\n'.join(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=60, check=True, cwd=ROOT,
    )  # fmt: skip
    found = set(done.stdout.split())
    assert "orchestrator.drivers.live_update.driver" in found
    later = {"checks", "drivers.live_update.preparing", "system.capabilities", "planning"}
    assert not {f"orchestrator.{name}" for name in later} & found
