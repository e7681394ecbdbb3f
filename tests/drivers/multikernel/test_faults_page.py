"""The page's table of faults names tests that there are, and all of them."""

from __future__ import annotations

import re

from tests.drivers.multikernel.examples import ROOT

PAGE = ROOT / "docs/multikernel.md"
TESTS = ROOT / "tests/drivers/multikernel/test_command_line_faults.py"


def test_the_table_of_faults_and_the_tests_name_each_other() -> None:
    _, _, section = PAGE.read_text(encoding="utf-8").partition("\n### Faults\n")
    rows = [line.split("|")[2] for line in section.splitlines() if line.startswith("| ")]
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)", row)}
    there = re.findall(r"^def test_(\w+)", TESTS.read_text(encoding="utf-8"), re.MULTILINE)
    assert named - {"test"} == set(there)
