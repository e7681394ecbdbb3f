"""Is the host still the one of the plan?"""

from __future__ import annotations

import pytest

from orchestrator import planning
from orchestrator.model.errors import StalePlanError
from orchestrator.model.outcomes import ExitCode

IMAGE = "artifacts__/boot/vmlinuz-7.3.4"


@pytest.fixture
def pair(make_spec, make_host):
    """(graph, how to make the host of now)."""
    spec = make_spec()
    graph = planning.plan(spec, make_host(spec))
    return graph, lambda **changes: make_host(spec, **changes)


@pytest.mark.parametrize(
    "change",
    [
        {"boot_id": "boot-2"},
        {"memory_available_bytes": 5},
        {"workloads__counter__pids": [7]},
        {"workloads__counter__memory_bytes": 5},
        {"boot__entries": {"old": "7.2.13", "extra": "6.1"}},
        {"capabilities__systemd": {"available": False, "reason": "nobody requires it"}},
        {"capabilities__kho": {"available": True, "reason": "said differently"}},
    ],
)
def test_what_comes_and_goes_makes_no_plan_stale(pair, change):
    graph, host = pair
    assert planning.staleness(graph, host(**change)) == []
    planning.ensure_fresh(graph, host(**change))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"kernel__release": "7.3.4"}, "kernel.release: 7.2.13 -> 7.3.4"),
        ({"machine_id": "other"}, "machine_id: c0ffee -> other"),
        ({"kernel__cmdline": "quiet"}, "kernel.cmdline: "),
        ({"kexec_loaded": True}, "kexec_loaded: False -> True"),
        ({"boot__default": "new"}, "boot.default: old -> new"),
        ({f"{IMAGE}__sha256": "d" * 64}, f"artifacts./boot/vmlinuz-7.3.4.sha256: {'a' * 64} -> "),
        ({f"{IMAGE}__error": "gone"}, "artifacts./boot/vmlinuz-7.3.4.error: none -> gone"),
        ({"workloads__counter__pids": []}, "workloads.counter: running -> not running"),
        ({"workloads": {}}, "workloads.counter: running -> not looked for"),
        (
            {"capabilities__kho": {"available": False, "reason": "kho=off"}},
            "capabilities.kho: available -> not available (kho=off)",
        ),
        ({"memory_bytes": 2**30}, "memory_bytes: 0 -> 1073741824"),
    ],
)
def test_what_the_plan_rests_on_makes_it_stale(pair, change, line):
    graph, host = pair
    lines = planning.staleness(graph, host(**change))
    assert len(lines) == 1
    assert lines[0].startswith(line)
    with pytest.raises(StalePlanError) as caught:
        planning.ensure_fresh(graph, host(**change))
    assert caught.value.exit_code is ExitCode.STALE_PLAN
    assert caught.value.details == tuple(lines)


def test_all_differences_are_told_at_once(pair):
    graph, host = pair
    now = host(kernel__release="7.3.4", kexec_loaded=True, workloads__counter__pids=[])
    assert len(planning.staleness(graph, now)) == 3
