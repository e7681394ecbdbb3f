"""The kernel's log, as /dev/kmsg gives it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.system import kernel_log
from orchestrator.system.kernel_log import Record


@pytest.mark.parametrize(
    ("raw", "record"),
    [
        (
            b"6,339,5140900,-;NET: Registered protocol family 10\n SUBSYSTEM=net\n",
            Record(6, 339, 5.1409, "NET: Registered protocol family 10"),
        ),
        (
            b"14,1,0,-,caller=T1;luo: a;b \\x1b[0m\n",
            Record(6, 1, 0.0, "luo: a;b \x1b[0m"),
        ),
        (b"", None),
        (b"6,339", None),
        (b"x,1,2,-;text", None),
    ],
)
def test_a_record_is_read(raw: bytes, record: Record | None) -> None:
    assert kernel_log.parse(raw) == record


@given(st.binary(max_size=200))
def test_no_record_raises(raw: bytes) -> None:
    kernel_log.parse(raw)


def test_a_log_that_may_not_be_read_is_empty(tmp_path: Path) -> None:
    assert kernel_log.read(tmp_path / "kmsg") == []


def test_matching_keeps_the_order() -> None:
    records = [Record(6, n, 0.0, text) for n, text in enumerate(["KHO: a", "x", "KHO: b"])]
    assert kernel_log.matching("^KHO:", records) == ["KHO: a", "KHO: b"]


def test_reading_the_live_log_ends() -> None:
    found = kernel_log.read(limit=50)
    assert len(found) <= 50
    assert [r.sequence for r in found] == sorted(r.sequence for r in found)
