"""The kernel's log, as /dev/kmsg gives it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.system import kernel_log
from orchestrator.system.kernel_log import Record


@pytest.mark.parametrize(
    ("raw", "records"),
    [
        (
            b"6,339,5140900,-;NET: Registered protocol family 10\n SUBSYSTEM=net\n",
            [Record(6, 0, 339, 5.1409, "NET: Registered protocol family 10")],
        ),
        (
            b"14,1,0,-,caller=T1;luo: a;b \\x1b[0m\n",
            [Record(6, 1, 1, 0.0, "luo: a;b \x1b[0m")],
        ),
        (
            b"6,1,0,-;one\nx,2,0,-;none\n12,3,0,-;two\n",
            [Record(6, 0, 1, 0.0, "one"), Record(4, 1, 3, 0.0, "two")],
        ),
        (b"", []),
        (b"6,339", []),
        (b"x,1,2,-;text", []),
        ("6,\u00b2,2,-;a superscript is no number".encode(), []),
        (b"6," + b"9" * 5000 + b",2,-;text", []),
    ],
)
def test_records_are_read_and_what_is_none_is_passed_over(
    raw: bytes, records: list[Record]
) -> None:
    assert kernel_log.parse(raw) == records


@given(st.binary(max_size=200))
def test_no_record_raises(raw: bytes) -> None:
    kernel_log.parse(raw)


def test_a_log_that_may_not_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        kernel_log.read(tmp_path / "kmsg")


def _readable() -> bool:
    try:
        kernel_log.read(limit=1)
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _readable(), reason="/dev/kmsg may not be read here")
def test_reading_the_live_log_ends() -> None:
    found = kernel_log.read(limit=50)
    assert len(found) <= 50
    assert [r.sequence for r in found] == sorted(r.sequence for r in found)
