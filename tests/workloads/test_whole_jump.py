"""A whole jump around CRIU, played in namespaces of its own (`criu_conformance`)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("criu_conformance.py")


def played(*arguments: str) -> list[str]:
    argv = [sys.executable, str(SCRIPT), *arguments]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=100)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, "\n".join([*lines, done.stderr])
    return [line for line in lines if line.startswith("pass")]


def needs(*programs: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("namespaces of one's own need root")
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    probe = ["unshare", "--pid", "--fork", "--mount-proc", "--net", "true"]
    if subprocess.run(probe, check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine grants no namespaces")


@pytest.mark.slow
def test_everything_around_criu_holds_over_a_jump() -> None:
    needs("unshare", "ip", "setsid", "nsenter")
    assert len(played("--fake")) > 14


def test_a_connection_and_a_clock_live_through_two_jumps_with_the_real_criu() -> None:
    needs("unshare", "ip", "setsid", "nsenter", "criu", "nft")
    assert len(played()) > 25
