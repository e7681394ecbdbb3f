"""Where the ids of the next kernel begin: far below any that a workload needs back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.system.pids import END, FIRST, unused


@given(st.sets(st.integers(1, 4_194_304), max_size=300))
def test_what_is_taken_is_not_met_for_a_long_while(taken: set[int]) -> None:
    begin = unused(taken)
    assert FIRST <= begin < END
    first_met = min((pid for pid in taken if pid > begin), default=END)
    fair_share = (END - FIRST) // (len(taken) + 1)
    assert min(first_met, END) - begin >= fair_share // 2 - 1


def test_room_is_left_for_what_starts_before_the_jump() -> None:
    assert unused([2, 128, 700, 1500]) == 2500
    assert unused([]) == FIRST - 1 + 1000


def test_ids_that_a_booting_kernel_cannot_reach_do_not_count() -> None:
    assert unused([40_000, 4_000_000]) == unused([])
