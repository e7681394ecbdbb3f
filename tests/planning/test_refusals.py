"""What is refused, and that every cause is named at once."""

from __future__ import annotations

import pytest

from orchestrator import planning
from orchestrator.model.errors import PlanError
from orchestrator.planning.references import rings

IMAGE = "/boot/vmlinuz-7.3.4"


def causes(spec, host) -> str:
    with pytest.raises(PlanError) as caught:
        planning.plan(spec, host)
    error = caught.value
    assert error.state == "nothing was changed"
    assert error.next_command
    assert all(": " in line for line in error.details)
    return "\n".join(error.details)


def refused(make_spec, make_host, spec=None, **host) -> str:
    spec = make_spec(**(spec or {}))
    return causes(spec, make_host(spec, **host))


# -- names


def test_unknown_names_are_refused_with_the_nearest_known_one(make_spec, make_host, workload_data):
    workloads = [
        workload_data("database"),
        workload_data("web", after=["databse"]),
        workload_data("cache", instance="hots"),
    ]
    said = refused(make_spec, make_host, {"workloads": workloads})
    assert 'workloads.web.after: there is no workload "databse" (did you mean "database"?)' in said
    assert 'workloads.cache.instance: there is no instance "hots" (did you mean "host"?)' in said


def test_names_used_twice_are_refused(make_spec, make_host, workload_data):
    check = {"name": "alive", "kind": "tcp", "port": 80}
    workloads = [workload_data("a", checks=[check]), workload_data("a", checks=[check])]
    said = refused(make_spec, make_host, {"workloads": workloads})
    assert "workloads.a: the name is used 2 times" in said
    assert "checks.alive: the name is used 2 times" in said


def test_workloads_that_wait_for_each_other_are_refused(make_spec, make_host, workload_data):
    workloads = [
        workload_data("a", after=["c"]),
        workload_data("b", after=["a"]),
        workload_data("c", after=["b"]),
        workload_data("self", after=["self"]),
    ]
    said = refused(make_spec, make_host, {"workloads": workloads})
    assert "waits for itself: a -> c -> b -> a" in said
    assert "workloads.self.after: waits for itself: self -> self" in said


def test_instances_that_wait_for_each_other_are_refused(make_spec, make_host):
    kernel = {"image": IMAGE, "release": "7.3.4"}
    instances = [
        {"name": "host", "kernel": kernel, "after": ["other"]},
        {"name": "other", "kernel": kernel, "after": ["host"]},
    ]
    said = refused(make_spec, make_host, {"instances": instances})
    assert "instances.host.after: waits for itself: host -> other -> host" in said


def test_rings_are_found_once_per_knot():
    assert rings({"a": ["b"], "b": ["a"], "c": ["a"], "d": ["d"]}) == [["a", "b"], ["d"]]


# -- artifacts


def test_everything_wrong_with_the_files_is_told_at_once(make_spec, make_host):
    spec = {
        "instances__0__kernel": {
            "image": IMAGE,
            "release": "7.3.4",
            "sha256": "c" * 64,
            "signature": "required",
            "initrd": "/boot/initrd",
            "modules": "/lib/modules/7.3.4",
        }
    }
    artifacts = {
        IMAGE: {"path": IMAGE, "kind": "image", "sha256": "a" * 64, "release": "7.3.5"},
        "/boot/initrd": {"path": "/boot/initrd", "kind": "initrd", "error": "no such file"},
    }
    said = refused(make_spec, make_host, spec, artifacts=artifacts)
    assert f"{IMAGE}: sha256 is {'a' * 64}, but the spec says {'c' * 64}" in said
    assert f"{IMAGE}: the release string inside is 7.3.5, but the spec says 7.3.4" in said
    assert f"{IMAGE}: carries no PE signature, and the spec requires one" in said
    assert "/boot/initrd: no such file" in said
    assert "/lib/modules/7.3.4: driver simulated did not look at it" in said


def test_an_unreadable_image_is_refused_with_the_reason(make_spec, make_host):
    broken = {"path": IMAGE, "kind": "image", "error": "truncated after 100 bytes"}
    said = refused(make_spec, make_host, artifacts={IMAGE: broken})
    assert f"{IMAGE}: truncated after 100 bytes" in said


def test_an_unsigned_image_is_refused_only_where_signatures_are_enforced(make_spec, make_host):
    said = refused(make_spec, make_host, signature_enforced=True)
    assert "loads signed images only" in said
    spec = make_spec(instances__0__kernel__signature="none")
    assert planning.plan(spec, make_host(spec, signature_enforced=True)).steps


# -- channels


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ({"artifacts__/boot/vmlinuz-7.3.4__kho_config": False}, "CONFIG_KEXEC_HANDOVER"),
        ({"kernel__abi__luo": "luo-v4"}, "luo: luo-v4 here, luo-v5 there"),
        ({"kernel__abi": {}}, "kho: none here, kho-v4 there"),
    ],
)
def test_kho_that_cannot_be_is_refused_and_auto_becomes_disk(make_spec, make_host, host, why):
    spec = {"workloads__0__channel": "kho"}
    said = refused(make_spec, make_host, spec, **host)
    assert "workloads.counter.channel: kho cannot be used: " in said
    assert why in said
    automatic = make_spec()
    graph = planning.plan(automatic, make_host(automatic, **host))
    assert graph.step("checkpoint/counter").params["channel"] == "disk"
    assert any(n.startswith("channel disk for counter: ") and why in n for n in graph.notes)


def test_kho_that_the_running_kernel_lacks_is_refused_with_its_reason(
    make_spec, make_host, without
):
    spec = make_spec(workloads__0__channel="kho")
    said = causes(spec, without(make_host(spec), "kho", "luo"))
    assert "kho is not available: kho is broken here" in said
    assert "luo is not available: luo is broken here" in said


def test_a_command_line_that_switches_kho_off_is_a_reason_against_it(make_spec, make_host):
    spec = {"workloads__0__channel": "kho", "instances__0__cmdline": {"append": ["kho=off"]}}
    assert "the command line of the new kernel says kho=off" in refused(make_spec, make_host, spec)


# -- the host


def test_missing_capabilities_are_told_once_each_with_reason_and_steps(
    make_spec, make_host, without
):
    spec = make_spec(rollback={"watchdog": "/dev/watchdog0"})
    missing = ("kexec-file", "criu", "criu-tcp", "watchdog", "durable-state")
    said = causes(spec, without(make_host(spec), *missing))
    for name in missing:
        assert f"{name}: {name} is broken here (needed by " in said
        assert said.count(f"{name} is broken here") == 1


def test_tcp_repair_is_not_asked_for_where_no_connection_is_carried(make_spec, make_host, without):
    spec = make_spec(workloads__0__migrate={"method": "criu", "tcp_established": False})
    assert planning.plan(spec, without(make_host(spec), "criu-tcp")).steps


@pytest.mark.parametrize("kind", ["surge", "rolling"])
def test_strategies_that_the_driver_cannot_do_are_refused_with_the_reason(
    make_spec, make_host, without, kind
):
    spec = make_spec(strategy={"kind": kind})
    said = causes(spec, without(make_host(spec), "side-by-side"))
    assert f'strategy.kind: driver simulated cannot do "{kind}" (it can: in-place)' in said
    assert "side-by-side is broken here" in said


def test_several_instances_are_refused_with_the_reason(make_spec, make_host, without):
    kernel = {"image": IMAGE, "release": "7.3.4"}
    instances = [{"name": n, "kernel": kernel} for n in ("host", "other")]
    spec = make_spec(instances=instances)
    said = causes(spec, without(make_host(spec), "side-by-side"))
    assert "instances: 2 of them (host, other): driver simulated runs one kernel at a time" in said


def test_a_workload_that_does_not_run_is_refused_unless_it_is_only_restarted(
    make_spec, make_host, workload_data
):
    gone = {"counter": {"name": "counter", "error": "no process matches"}}
    said = refused(make_spec, make_host, workloads=gone)
    assert "workloads.counter: no process matches; method criu carries" in said
    restart = {"method": "restart", "start": ["counter"]}
    spec = make_spec(workloads=[workload_data(migrate=restart)])
    graph = planning.plan(spec, make_host(spec, workloads=gone))
    assert any("counter does not run now (no process matches)" in n for n in graph.notes)


def test_an_old_kernel_that_is_named_and_is_another_one_is_refused(make_spec, make_host):
    spec = {"rollback": {"kernel": {"image": "/boot/vmlinuz-7.2.13"}}}
    change = {"artifacts__/boot/vmlinuz-7.2.13__release": "7.1.1"}
    said = refused(make_spec, make_host, spec, **change)
    assert "rollback.kernel: /boot/vmlinuz-7.2.13 holds Linux 7.1.1, but 7.2.13 is running" in said


def test_a_soak_that_is_longer_than_the_whole_may_take_is_refused(make_spec, make_host):
    spec = {"soak": {"duration": "2h"}, "rollback": {"deadline": "1h"}}
    assert "rollback.deadline: 3600s for everything up to commit" in refused(
        make_spec, make_host, spec
    )


def test_a_command_line_that_a_kernel_would_cut_off_is_refused(make_spec, make_host):
    append = [f"parameter{n}={'x' * 400}" for n in range(5)]
    said = refused(make_spec, make_host, {"instances__0__cmdline": {"append": append}})
    assert "instances.host.cmdline: " in said
    assert "a kernel keeps 2047" in said


def test_an_image_that_somebody_else_has_loaded_is_not_thrown_away(make_spec, make_host):
    assert "kexec: a kernel is loaded already" in refused(make_spec, make_host, kexec_loaded=True)


def test_causes_of_different_kinds_come_together(make_spec, make_host):
    gone = {"counter": {"name": "counter", "error": "no process matches"}}
    said = refused(make_spec, make_host, {"instances__0__kernel__sha256": "c" * 64}, workloads=gone)
    assert "no process matches" in said
    assert "sha256 is" in said
