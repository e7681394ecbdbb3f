"""Which worker of pytest-xdist boots which guests: the dearest first, each about as long at work.

`--dist worksteal` deals the tests out in the order of their collection, each worker an unbroken
run of it, and takes from the end of a run what another one has no more time for. A long test that
comes late leaves the other workers idle.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

SECONDS = {
    "test_systemd_boot_starts_the_old_kernel_until_commit_and_the_new_one_behind_it": 310,
    "test_a_killed_engine_is_resumed_all_the_way_or_reverted_and_never_both": 260,
    "test_bad_input_is_refused_and_the_host_is_as_it_was": 200,
    "test_an_offer_is_taken_by_the_timer_and_a_service_stays_a_service": 245,
    "test_grub_starts_the_old_kernel_until_commit_and_the_new_one_behind_it": 185,
    "test_workloads_live_through_two_kernels_and_a_failed_third_jump_by_the_disk": 220,
    "test_the_unit_takes_state_over_vsock_in_its_sandbox": 110,
    "test_debians_own_kernels_need_nothing_but_the_disk": 130,
    "test_a_nixos_system_is_taken_by_live_update_and_left_again_by_rollback": 240,
    "test_state_that_is_nowhere_left_ends_in_a_fresh_start_that_is_told": 150,
    "test_what_dies_in_the_new_kernel_costs_neither_memory_nor_truth": 120,
    "test_workloads_live_on_in_the_new_kernel_by_kho": 115,
    "test_a_plan_that_fails_behind_the_jump_is_told_as_rolled_back": 115,
    "test_a_target_that_refuses_leaves_the_workload_running_in_the_source": 115,
    "test_a_workload_is_carried_from_a_running_kernel_to_another_that_runs_and_back": 90,
    "test_a_kernel_that_dies_behind_the_restore_leaves_a_workload_that_starts_anew": 90,
    "test_the_demo_holds_and_kho_carries_the_state": 80,
}
"""About what a test takes where two guests are emulated at once on two cores. Only shares count."""

USUAL = 30
"""What any other test that boots a guest is taken for."""


def dealt(items: Sequence[pytest.Item], room: Path, workers: int) -> list[pytest.Item]:
    """`items` in the order in which `workers` get them: first guests, then what fills up.

    Tests that share one guest stay together where a worker's run has room for them.

    Args:
        room: the directory whose tests boot guests.
    """
    # As worksteal counts them out.
    sizes = [(len(items) + number) // workers for number in range(workers)]
    runs: list[list[pytest.Item]] = [[] for _ in range(workers)]
    loads = [0] * workers
    groups: dict[str, list[pytest.Item]] = {}
    others = []
    for item in items:
        if room in item.path.parents:
            groups.setdefault(_shared_guest(item), []).append(item)
        else:
            others.append(item)
    for group in sorted(groups.values(), key=_seconds, reverse=True):
        fits = [n for n in range(workers) if len(runs[n]) + len(group) <= sizes[n]]
        for part in [group] if fits else [[item] for item in group]:
            open_runs = [n for n in range(workers) if len(runs[n]) + len(part) <= sizes[n]]
            least = min(open_runs, key=loads.__getitem__)
            runs[least] += part
            loads[least] += _seconds(part)
    for run, size in zip(runs, sizes, strict=True):
        missing = size - len(run)
        run.extend(others[:missing])
        del others[:missing]
    return [item for run in runs for item in run]


def _shared_guest(item: pytest.Item) -> str:
    """The same for tests of a file's one guest, or its guests; else the test's own."""
    shared = {"guest", "guests"}.intersection(getattr(item, "fixturenames", ()))
    return str(item.path) if shared else item.nodeid


def _seconds(group: Sequence[pytest.Item]) -> int:
    names = (getattr(item, "originalname", item.name) for item in group)
    return sum(SECONDS.get(name, USUAL) for name in names)
