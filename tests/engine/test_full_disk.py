"""A disk that fills up before or while a real apply runs: an end that `resume` can go on from.

With no file system of its own to fill (namespaces forbidden), RLIMIT_FSIZE says no instead.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from orchestrator.model.outcomes import ExitCode, Outcome
from tests.support.pretend import Host, as_wanted
from tests.support.profile import slow
from tests.support.warm import ROOT, Life

NAMESPACE = ["unshare", "--map-root-user", "--mount"]
ENDS = {ExitCode.DONE, ExitCode.ROLLED_BACK}
CAN_GO_ON = {ExitCode.ROLLBACK_INCOMPLETE, ExitCode.INTERRUPTED, ExitCode.UNKNOWN}


def may_unshare() -> bool:
    try:
        return (
            subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
        )
    except OSError:
        return False


def goes(number: int, seed: int) -> list[dict[str, Any]]:
    program = [sys.executable, "-m", "tests.support.full_disk", str(number), str(seed)]
    done = subprocess.run(
        [*NAMESPACE, *program], cwd=ROOT, text=True, capture_output=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def hold_error(code: int, stderr: str, *, began: bool, next_command: str) -> None:
    """Exit code 1 promises that nothing was changed, and each error what to do next."""
    assert "Traceback" not in stderr
    assert code in ENDS | CAN_GO_ON | {ExitCode.ERROR}
    if code == ExitCode.ERROR:
        error = json.loads(stderr.splitlines()[-1])["error"]
        assert error["class"] == "io"
        assert error["state"]
        assert error["next_command"].startswith(next_command)
        assert not began


@pytest.mark.skipif(not may_unshare(), reason="no mount namespace may be made here")
@pytest.mark.parametrize("seed", [slow(1), slow(2)])
def test_a_disk_that_fills_up_leaves_a_transaction_that_can_be_resumed(seed: int) -> None:
    for number, gone in enumerate(goes(20, seed)):
        full, resumed = gone["full"], gone["resumed"]
        outcome = Outcome(gone["outcome"]) if gone["outcome"] else None
        began = outcome is not None
        hold_error(full["code"], full["stderr"], began=began, next_command="df -h ")
        assert resumed["code"] in ENDS, (number, gone)
        found = gone["left_behind"]
        found["workloads"] = {n: tuple(w) for n, w in found["workloads"].items()}
        wanted = as_wanted(outcome)
        if gone["reason"].endswith("not done behind it: clean-up/host"):
            # The disk was full at the last step: committed all the same, and it is said.
            assert outcome is Outcome.COMMITTED
            wanted["kept"] = found["kept"]
        assert found == wanted, (number, gone)
        assert gone["whole"], number


@pytest.mark.slow
def test_files_that_may_not_grow_leave_a_transaction_that_can_be_resumed(host: Host) -> None:
    codes = set()
    for kib in (0, 1, 3, 40, 500, 1500, 1540, 1560, 1600, 2000):
        host.start_over()
        life: Life = host.run("apply", "--json", most_bytes=kib * 1024)
        codes.add(life.code)
        hold_error(life.code, life.stderr, began=bool(host.transactions()), next_command="")
        if life.code in CAN_GO_ON:
            life = host.run("resume", *host.transactions(), "--json")
            assert life.code in ENDS, life.stderr
        assert host.left_behind() == as_wanted(host.outcome()), kib
        assert host.verified(), kib
    assert {ExitCode.ERROR, ExitCode.DONE} <= codes
