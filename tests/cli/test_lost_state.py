"""The state directory goes away under a running apply; on a pretend host, the host with it."""

from __future__ import annotations

import json
from typing import Any

import pytest

SLOW = {"kind": "slow", "seconds": 0.5}


@pytest.mark.slow
@pytest.mark.parametrize("step", ["load-kernel/host", "restore/counter"])
def test_an_apply_whose_state_directory_goes_away_fails_with_an_error_that_helps(
    mkupgrade: Any, step: str
) -> None:
    mkupgrade.change_host(faults={step: SLOW})
    apply = mkupgrade.start("apply", mkupgrade.spec, "--yes", "--json")
    mkupgrade.wait_for(step)
    mkupgrade.state.rename(mkupgrade.directory / "away")  # at once, unlike rm -r
    out, err = apply.communicate(timeout=90)
    assert apply.returncode == 7, (out, err)
    assert "Traceback" not in err
    error = json.loads(err.splitlines()[-1])["error"]
    assert error["code"] != "bug"
    assert error["state"]
    assert error["next_command"]
