"""mkupgrade-window, run by bash with a clock of the test's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.nix import ROOT

SCRIPT = ROOT / "nix/module/window.sh"


def _run(tmp_path: Path, times: list[str], *argv: str) -> subprocess.CompletedProcess[str]:
    """With `date` that says these times, a minute's sleep taking it to the next one."""
    clock = tmp_path / "clock"
    clock.write_text("\n".join(times))
    for name, text in {
        "date": f'read -r now <"{clock}"; echo "$now"',
        "sleep": f'echo slept >>"{tmp_path}/slept"; sed -i 1d "{clock}"',
    }.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/bash\n{text}\n")
        program.chmod(0o755)
    return subprocess.run(
        ["bash", str(SCRIPT), *argv],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("now", "lower", "upper", "inside"),
    [
        ("01:00", "01:00", "05:00", True),
        ("04:59", "01:00", "05:00", True),
        ("05:00", "01:00", "05:00", False),
        ("00:59", "01:00", "05:00", False),
        ("08:09", "08:08", "09:09", True),
        ("23:00", "23:00", "05:00", True),
        ("00:00", "23:00", "05:00", True),
        ("05:00", "23:00", "05:00", False),
        ("12:00", "23:00", "05:00", False),
    ],
)
def test_window_includes_its_first_minute_and_not_its_last(
    now: str, lower: str, upper: str, inside: bool, tmp_path: Path
) -> None:
    done = _run(tmp_path, [now], lower, upper, "skip")
    assert done.returncode == (0 if inside else 1), done.stderr
    assert done.stderr == ""
    assert inside or f"outside of {lower}-{upper}" in done.stdout


def test_window_is_waited_for_by_the_clock(tmp_path: Path) -> None:
    times = ["22:58", "22:59", "23:00"]
    done = _run(tmp_path, times, "23:00", "05:00", "wait")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "slept").read_text().count("slept") == 2
    assert done.stdout.count("waiting for 23:00") == 1
