"""The parts of the power-cut harness that need no guest: disks that forget, and the verdict."""

from __future__ import annotations

import io
import random
import struct
from typing import Any

import pytest

from tests.vm.power import promises, write_log
from tests.vm.power.write_log import DISCARD, FLUSH, FUA, SECTOR

SIZE = 64


def log_of(*requests: tuple[int, int, bytes]) -> io.BytesIO:
    """A log as blklogwrites leaves it: (sector, flags, data), with room behind it."""
    log = struct.pack("<QQQI", 0x6A736677736872, 1, 0, SECTOR).ljust(SECTOR, b"\0")
    for sector, flags, data in requests:
        header = struct.pack("<QQQQ", sector, len(data) // SECTOR, flags, len(data))
        log += header.ljust(SECTOR, b"\0") + (b"" if flags & DISCARD else data)
    return io.BytesIO(log + bytes(8 * SECTOR))


def filled(byte: int, count: int = 1) -> bytes:
    return bytes([byte]) * (SECTOR * count)


def after(log: io.BytesIO, seed: int, lost_flushes: int = 0, whole: range = range(0)) -> bytes:
    """The first byte of each sector of a disk of zeros that went through this."""
    disk = io.BytesIO(bytes(SIZE * SECTOR))
    write_log.replay(log, disk, random.Random(seed), lost_flushes=lost_flushes, whole=whole)
    return disk.getvalue()[::SECTOR]


def test_what_was_flushed_is_there_whatever_is_drawn() -> None:
    log = log_of((3, 0, filled(1, 2)), (4, 0, filled(2)), (0, FLUSH, b""), (9, 0, filled(3)))
    for seed in range(20):
        assert after(log, seed)[3:5] == b"\1\2"


def test_what_was_not_flushed_is_old_or_any_later_version_sector_by_sector() -> None:
    log = log_of((7, 0, filled(1, 2)), (0, FLUSH, b""), (7, 0, filled(2, 2)), (8, 0, filled(3)))
    seen = {after(log, seed)[7:9] for seed in range(200)}
    assert seen == {bytes([a, b]) for a in (1, 2) for b in (1, 2, 3)}


def test_sectors_that_are_written_whole_are_never_torn() -> None:
    log = log_of((6, 0, filled(1, 4)), (0, FLUSH, b""), (6, 0, filled(2, 3)), (7, 0, filled(3, 3)))
    seen = {after(log, seed, whole=range(7, 9)) for seed in range(200)}
    assert {disk[7:9] for disk in seen} == {b"\1\1", b"\2\2", b"\3\3"}
    assert {disk[6] for disk in seen} == {1, 2} and {disk[9] for disk in seen} == {1, 3}


def test_a_flush_keeps_a_discard_as_zeros() -> None:
    log = log_of((5, 0, filled(1, 2)), (5, DISCARD, filled(0)), (0, FLUSH, b""))
    assert after(log, 1)[5:7] == b"\0\1"


def test_a_disk_that_lies_loses_what_was_flushed() -> None:
    log = log_of((2, 0, filled(1)), (0, FLUSH, b""))
    assert {after(log, seed, lost_flushes=1)[2] for seed in range(50)} == {0, 1}


def test_the_same_draw_gives_the_same_disk() -> None:
    log = log_of(*((n % SIZE, 0, filled(n)) for n in range(1, 200)))
    assert after(log, 4) == after(log, 4) != after(log, 5)


def test_a_log_that_was_cut_off_ends_at_its_last_whole_request() -> None:
    whole = log_of((1, 0, filled(1)), (2, 0, filled(2, 4))).getvalue()
    cut = io.BytesIO(whole[: 4 * SECTOR + 100])
    assert [e.sector for e in write_log.entries(cut)] == [1]


@pytest.mark.parametrize("damage", [b"\0" * SECTOR, b"x" * SECTOR])
def test_what_is_no_log_is_refused(damage: bytes) -> None:
    with pytest.raises(write_log.BadLogError):
        list(write_log.entries(io.BytesIO(damage)))


def test_a_write_that_would_be_safe_by_itself_is_not_taken_for_a_common_one() -> None:
    with pytest.raises(write_log.BadLogError):
        after(log_of((1, FUA, filled(1))), 1)


def seen(**fields: Any) -> dict[str, Any]:
    """A host that has kept every promise."""
    events = [
        {"boot": "a", "type": "began"},
        {"boot": "a", "type": "intended", "step": "jump/host"},
        {"boot": "b", "type": "ended", "outcome": "rolled-back"},
    ]
    return {
        "transactions": [{"id": "t", "events": events}],
        "verified": None,
        "planned": None,
        "kexec_loaded": "0",
        "writers": ["20001"],
        "ledger": "1 7.2\n2 7.3\n3 7.2\n",
    } | fields


def judge(told: int = 3, **fields: Any) -> promises.Judged:
    return promises.judge(seen(**fields), told, frozenset({"a"}))


def test_a_host_that_kept_its_promises_is_told_with_the_moment_of_the_cut() -> None:
    assert judge() == promises.Judged("rolled-back", "intended jump/host", ())
    assert judge(transactions=[], verified=None).outcome == "none"


@pytest.mark.parametrize(
    ("told", "fields", "words"),
    [
        (4, {}, "told of"),
        (0, {"ledger": "1 a\n3 a\n"}, "line 2"),
        (0, {"ledger": "1 a\n2 a\n2 a\n"}, "line 3"),
        (0, {"ledger": "1 a\n2"}, "half a line"),
        (0, {"writers": []}, "processes"),
        (0, {"writers": ["3", "4"]}, "processes"),
        (0, {"kexec_loaded": "1"}, "loaded"),
        (0, {"planned": "no"}, "refused"),
        (0, {"verified": "broken"}, "not whole"),
        (0, {"transactions": [{"events": [{"boot": "a", "type": "began"}]}]}, "unfinished"),
    ],
)
def test_each_broken_promise_is_seen(told: int, fields: dict[str, Any], words: str) -> None:
    (problem,) = judge(told, **fields).broken
    assert words in problem
