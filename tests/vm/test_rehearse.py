"""`mkupgrade rehearse`, as `make demo` calls it: the whole way, seen from outside the guest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.rehearsal.kernels import KernelPair

PLAN = Path(__file__).parents[2] / "plans" / "live-update.yaml"


def rehearse(plan: Path, *options: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "orchestrator.cli", "rehearse", str(plan), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=840, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def how(result: dict[str, Any]) -> str:
    return str(result["report"]["workloads"]["counter"]["how"])


@pytest.mark.usefixtures("kernels")
def test_the_demo_holds_and_kho_carries_the_state() -> None:
    code, result = rehearse(PLAN)
    assert (code, result["held"]) == (0, True), result["findings"]
    assert how(result) == "criu over kho"
    assert result["client"]["releases"] == [result["source"], result["target"]]


def test_debians_own_kernels_need_nothing_but_the_disk() -> None:
    code, result = rehearse(PLAN, "--stock")
    assert (code, result["held"]) == (0, True), result["findings"]
    assert "+deb" in result["source"]
    assert "+deb" in result["release_after"]
    assert how(result) == "criu over disk"


def test_a_plan_that_fails_behind_the_jump_is_told_as_rolled_back(
    tmp_path: Path, kernels: KernelPair
) -> None:
    text = PLAN.read_text()
    old = f"run: [grep, -qx, {kernels.source.release}, /proc/sys/kernel/osrelease]"
    wrong = f'{{name: only-before, kind: command, {old}, within: "1s"}}'
    plan = tmp_path / "plan.yaml"
    plan.write_text(text.replace("{name: kernel-is-well, kind: kernel}", wrong))
    code, result = rehearse(plan)
    assert (code, result["held"]) == (3, False)
    assert result["report"]["outcome"] == "rolled-back"
    assert result["release_after"] == kernels.source.release
    # There and back, and still every number came through the one connection.
    assert result["client"]["missing"] == result["client"]["repeated"] == 0
    assert result["client"]["ended"] is None
    assert result["client"]["releases"] == [kernels.source.release, kernels.target.release]
