"""The graph of one live update: which steps, in which order, with what they say."""

from __future__ import annotations

import networkx as nx
import pytest

from orchestrator import planning
from orchestrator.model.errors import ErrorClass, PlanError
from orchestrator.model.host import Cap
from orchestrator.model.kinds import Kind
from orchestrator.model.params import params_of
from orchestrator.model.steps import Reversibility, Section

CHECKS = [
    {"name": "release", "kind": "kernel", "release": "7.3.4"},
    {"name": "port", "kind": "tcp", "port": 80, "when": ["before"]},
]
HOOKS = {
    "before": [
        {"name": "silence", "run": ["a"], "undo": ["b"]},
        {"name": "drain", "run": ["c"], "undo": ["d"]},
    ],
    "after": [{"name": "tell", "run": ["e"], "undo": ["f"]}, {"name": "log", "run": ["g"]}],
}


@pytest.fixture
def full(make_spec, make_host, workload_data):
    """A plan with a bit of everything."""
    alive = {"name": "alive", "kind": "tcp", "port": 81}
    restart = {"method": "restart", "start": ["mailer"], "stop": ["stop"]}
    workloads = [
        workload_data("db"),
        workload_data("web", after=["db"], checks=[alive]),
        workload_data("mailer", migrate=restart),
    ]
    spec = make_spec(workloads=workloads, checks=CHECKS, hooks=HOOKS)
    return planning.plan(spec, make_host(spec))


def order(graph, section):
    return list(nx.lexicographical_topological_sort(graph.as_networkx(section)))


def test_the_forward_section_is_in_the_documented_order(full):
    assert order(full, Section.FORWARD) == [
        "check-artifacts/host",
        "check/before",
        "preflight/host",
        "load-kernel/host",
        "arm-fallback/host",
        "run-hook/silence",
        "run-hook/drain",
        "checkpoint/mailer",
        "checkpoint/web",
        "checkpoint/db",
        "preserve/host",
        "jump/host",
        "retrieve/host",
        "restore/db",
        "restore/mailer",
        "restore/web",
        "check/after",
        "soak/host",
        "run-hook/tell",
        "run-hook/log",
        "commit/host",
        "clean-up/host",
    ]


def test_the_way_back_loads_the_old_kernel_before_any_workload_stops(full):
    assert order(full, Section.RETURN) == [
        "return.restore-boot-default/host",
        "return.load-kernel/host",
        "return.run-hook/tell",
        "return.checkpoint/mailer",
        "return.checkpoint/web",
        "return.checkpoint/db",
        "return.preserve/host",
        "return.jump/host",
    ]


def test_recovery_sets_the_boot_default_whatever_becomes_of_the_workloads(full):
    """A committed upgrade may be rolled back from the old kernel, booted by hand."""
    step = full.step("recover.restore-boot-default/host")
    assert step.params["boot_default"] == full.step("commit/host").params["previous_default"]
    assert not [edge for edge in full.edges if step.id in edge]


def test_recovery_restores_or_restarts_and_undoes_all_hooks(full):
    found = [s for s in order(full, Section.RECOVER) if "boot-default" not in s]
    assert found == [
        "recover.retrieve/host",
        "recover.restore/db",
        "recover.restore/mailer",
        "recover.restore/web",
        "recover.check/after",
        "recover.run-hook/tell",
        "recover.run-hook/drain",
        "recover.run-hook/silence",
        "recover.clean-up/host",
    ]
    assert full.step("recover.restore/db").params["or_restart"] is True
    assert full.step("restore/db").params["or_restart"] is False


def test_an_undone_hook_runs_the_undo_and_only_if_the_hook_was_performed(full):
    undo = full.step("recover.run-hook/drain").params
    assert undo["undoes"] == "run-hook/drain"
    assert undo["hook"]["run"] == ["d"]
    assert undo["hook"]["undo"] is None


def test_both_ways_back_undo_a_hook_that_ran_in_the_new_kernel(full):
    for undo in ("return.run-hook/tell", "recover.run-hook/tell"):
        assert full.step(undo).params["undoes"] == "run-hook/tell"


def test_checks_in_the_old_kernel_hold_it_to_the_old_release(full):
    new, old = (full.step(i).params["checks"] for i in ("check/after", "recover.check/after"))
    assert [c["name"] for c in new] == [c["name"] for c in old] == ["release", "alive"]
    assert [c.get("release") for c in new] == ["7.3.4", None]
    assert [c.get("release") for c in old] == ["7.2.13", None]


def test_every_step_says_all_that_is_asked_of_it(full):
    for step in full.steps:
        params_of(Kind(step.kind)).model_validate(step.params)
        assert step.id == step.id.strip()
        assert step.title[0].isupper()
        assert step.estimate > 0
        assert step.deadline > step.estimate
    pivots = [s.id for s in full.steps if s.reversibility is Reversibility.PIVOT]
    assert pivots == ["jump/host", "return.jump/host"]
    commits = [s.id for s in full.steps if s.reversibility is Reversibility.COMMIT]
    assert commits == ["commit/host"]


def test_steps_ask_for_the_capabilities_of_what_they_do(full):
    requires = {s.id: set(s.requires) for s in full.steps}
    assert requires["load-kernel/host"] == {Cap.ROOT, Cap.KEXEC_FILE}
    assert requires["return.load-kernel/host"] >= {Cap.OLD_KERNEL}
    assert requires["preserve/host"] == {Cap.KHO, Cap.LUO}
    assert requires["checkpoint/db"] == {Cap.ROOT, Cap.CRIU, Cap.CRIU_TCP, Cap.KHO, Cap.LUO} | {
        Cap.DURABLE_STATE
    }
    assert requires["checkpoint/mailer"] == set()
    assert requires["commit/host"] == {Cap.BOOT_DEFAULT}


def test_a_state_directory_that_a_reset_empties_is_taken_only_if_the_spec_says_so(
    make_spec, make_host, without
):
    refused, told = make_spec(), make_spec(host={"allow_volatile_state": True})
    with pytest.raises(PlanError) as error:
        planning.plan(refused, without(make_host(refused), "durable-state"))
    assert "durable-state is broken here" in "".join(error.value.details)
    graph = planning.plan(told, without(make_host(told), "durable-state"))
    assert any("host.allow_volatile_state" in n and "workloads stay down" in n for n in graph.notes)
    graph = planning.plan(told, make_host(told))
    assert not any("allow_volatile_state" in n for n in graph.notes)


def test_workloads_share_the_units_that_the_strategy_allows(make_spec, make_host):
    spec = make_spec(strategy={"parallel": 7})
    graph = planning.plan(spec, make_host(spec))
    assert graph.limits == {"workload": 7}
    assert graph.step("checkpoint/counter").resources == ["workload"]


def test_retry_policy_and_deadline_come_from_the_class_of_the_step(make_spec, make_host):
    retry = {
        "workload": {"attempts": 3, "on": ["failed"], "deadline": "7m"},
        "default": {"attempts": 2},
    }
    spec = make_spec(retry=retry)
    graph = planning.plan(spec, make_host(spec))
    restore, clean = graph.step("restore/counter"), graph.step("clean-up/host")
    assert (restore.retry.attempts, restore.retry.on) == (3, [ErrorClass.FAILED])
    assert restore.deadline == 420
    assert clean.retry.attempts == 2
    assert graph.step("load-kernel/host").retry.attempts == 5, "its class has a policy of its own"
    assert graph.step("preserve/host").retry.attempts == 2, "classes not named take the default"


def test_a_soak_lasts_no_longer_than_its_deadline(make_spec, make_host):
    spec = make_spec(soak={"duration": "10m", "interval": "30s"}, checks=CHECKS)
    step = planning.plan(spec, make_host(spec)).step("soak/host")
    assert step.estimate == 600
    assert step.deadline > 630


def test_without_an_old_image_the_way_back_is_a_reset_with_all_state_on_disk(
    make_spec, make_host, without
):
    spec = make_spec()
    graph = planning.plan(spec, without(make_host(spec), "old-kernel"))
    assert "return.load-kernel/host" not in [s.id for s in graph.steps]
    assert graph.step("return.jump/host").params["method"] == "reset"
    assert graph.step("return.checkpoint/counter").params["channel"] == "disk"
    assert graph.step("checkpoint/counter").params["channel"] == "kho"
    assert any("way back: a reset" in n and "old-kernel is broken here" in n for n in graph.notes)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kernel__image": None}, "did not say where"),
        ({"kernel__image": "/boot/other"}, "no digest of /boot/other"),
        ({"artifacts__/boot/vmlinuz-7.2.13__error": "gone"}, "gone"),
        ({"artifacts__/boot/vmlinuz-7.2.13__release": "7.2.1"}, "holds Linux 7.2.1"),
    ],
)
def test_an_old_image_that_cannot_be_trusted_is_not_jumped_into(make_spec, make_host, change, why):
    spec = make_spec()
    graph = planning.plan(spec, make_host(spec, **change))
    assert graph.step("return.jump/host").params["method"] == "reset"
    assert any(why in n for n in graph.notes)


def test_where_the_boot_default_cannot_be_set_commit_says_so_and_requires_nothing(
    make_spec, make_host, without
):
    spec = make_spec()
    graph = planning.plan(spec, without(make_host(spec), "boot-default"))
    commit = graph.step("commit/host")
    assert commit.params["previous_default"] is None
    assert commit.requires == []
    assert graph.step("return.restore-boot-default/host").params["boot_default"] is None
    assert any("whatever the boot loader defaults to" in n for n in graph.notes)


def test_kho_adds_its_parameters_to_both_command_lines_and_says_so(make_spec, make_host):
    spec = make_spec()
    graph = planning.plan(spec, make_host(spec))
    for step_id in ("load-kernel/host", "return.load-kernel/host"):
        words = graph.step(step_id).params["cmdline"].split()
        assert {"kho=on", "liveupdate=on", "panic=10", "root=/dev/vda"} <= set(words)
    assert any("kho=on" in n and "memory is handed over" in n for n in graph.notes)


def test_the_disk_channel_leaves_kho_off(make_spec, make_host):
    spec = make_spec(workloads__0__channel="disk")
    graph = planning.plan(spec, make_host(spec))
    assert "kho=on" not in graph.step("load-kernel/host").params["cmdline"]
    assert "channel disk for counter: the spec asks for it" in graph.notes


def test_a_host_without_workloads_hands_nothing_over(make_spec, make_host):
    spec = make_spec(workloads=[])
    kinds = {s.kind for s in planning.plan(spec, make_host(spec)).steps}
    assert not kinds & {"checkpoint", "preserve", "retrieve", "restore"}
    assert planning.expected_blackout(planning.plan(spec, make_host(spec))) == pytest.approx(10)


# -- what people read


def test_changes_and_keeps_read_as_promised(make_spec, make_host):
    spec = make_spec(
        workloads__0__channel="disk", instances__0__cmdline={"remove": ["quiet"], "append": ["ro"]}
    )
    graph = planning.plan(spec, make_host(spec))
    assert graph.changes == [
        "kernel of instance host: Linux 7.2.13 -> 7.3.4",
        "command line: + ro + panic=10 - quiet",
        "default boot entry: old -> Linux 7.3.4",
    ]
    assert "workload counter: 2 processes, 12.0 MiB, by criu over disk" in graph.keeps


def test_nothing_differs_is_an_empty_plan_that_says_so(make_spec, make_host):
    spec = make_spec()
    graph = planning.plan(spec, make_host(spec, kernel__release="7.3.4"))
    assert graph.is_empty
    assert graph.changes == []
    assert graph.notes[0].startswith("nothing to do: instance host runs Linux 7.3.4")


def test_another_command_line_is_a_change_although_the_release_is_right(make_spec, make_host):
    spec = make_spec(instances__0__cmdline={"append": ["mitigations=off"]})
    graph = planning.plan(spec, make_host(spec, kernel__release="7.3.4", artifacts={
        "/boot/vmlinuz-7.3.4": {
            "path": "/boot/vmlinuz-7.3.4", "kind": "image", "sha256": "a" * 64,
            "release": "7.3.4", "abi": {"kho": "kho-v4", "luo": "luo-v5", "memfd": "memfd-v2"},
        },
    }))  # fmt: skip
    assert not graph.is_empty
    assert "started anew" in graph.changes[0]


def test_the_intent_is_that_of_the_spec_and_its_files_and_not_of_the_host(make_spec, make_host):
    spec = make_spec()
    here = planning.plan(spec, make_host(spec))
    there = planning.plan(spec, make_host(spec, hostname="other", boot_id="boot-9"))
    other = planning.plan(
        spec, make_host(spec, **{"artifacts__/boot/vmlinuz-7.3.4__sha256": "d" * 64})
    )
    assert here.intent_digest == there.intent_digest
    assert here.digest() != there.digest()
    assert here.intent_digest != other.intent_digest


def test_files_on_volatile_file_systems_that_are_not_carried_are_named(make_spec, make_host):
    carry = {"method": "criu", "carry": ["/run/a.sock"]}
    spec = make_spec(workloads__0__migrate=carry)
    files = ["/run/a.sock", "/dev/shm/b"]
    graph = planning.plan(spec, make_host(spec, workloads__counter__volatile_files=files))
    lines = [n for n in graph.notes if "volatile" in n]
    assert len(lines) == 1
    assert "1 file open" in lines[0]
    assert "/dev/shm/b" in lines[0]


# -- time


def test_the_blackout_is_from_the_first_stop_to_the_last_start(make_spec, make_host, workload_data):
    workloads = [workload_data(f"w{n}") for n in range(8)]
    spec = make_spec(workloads=workloads, strategy={"parallel": 2})
    graph = planning.plan(spec, make_host(spec))
    one = graph.step("checkpoint/w0").estimate
    slots = planning.schedule(graph)
    starts = sorted(slots[f"checkpoint/w{n}"].start for n in range(8))
    assert starts[2] - starts[0] == pytest.approx(one), "only two at a time"
    whole = planning.expected_blackout(graph)
    each = planning.expected_blackouts(graph)
    assert len(each) == 8
    assert max(each.values()) <= whole <= planning.makespan(graph)


def test_more_state_is_expected_to_take_longer(make_spec, make_host):
    spec = make_spec()
    small = planning.plan(spec, make_host(spec))
    large = planning.plan(spec, make_host(spec, workloads__counter__memory_bytes=10 * 2**30))
    assert planning.expected_blackout(large) > planning.expected_blackout(small) + 60


def test_a_pid_file_and_what_is_carried_are_no_files_left_behind(make_spec, make_host):
    spec = make_spec(
        workloads__0__find={"pid_file": "/run/counter.pid"},
        workloads__0__migrate={"method": "criu", "carry": ["/run/counter.sock"]},
    )
    files = ["/run/counter.pid", "/run/counter.sock"]
    graph = planning.plan(spec, make_host(spec, workloads__counter__volatile_files=files))
    assert not [n for n in graph.notes if "volatile" in n]


def test_state_that_is_in_memory_only_is_named(make_spec, make_host):
    spec = make_spec(workloads__0__spill=False)
    graph = planning.plan(spec, make_host(spec))
    assert any("counter keeps no copy on disk" in n for n in graph.notes)


def test_resources_that_the_driver_has_no_use_for_are_named(make_spec, make_host, without):
    spec = make_spec(instances__0__resources={"cpus": 2})
    graph = planning.plan(spec, without(make_host(spec), "side-by-side"))
    assert any(n.startswith("instance host: resources are not used") for n in graph.notes)


@pytest.mark.parametrize(
    ("find", "told"), [({"cmdline": "db"}, True), ({"unit": "db.service"}, False)]
)
def test_a_workload_that_nobody_could_start_anew_is_named(make_spec, make_host, find, told):
    migrate = {"method": "hooks", "save": ["/bin/save"], "load": ["/bin/load"]}
    spec = make_spec(workloads__0__find=find, workloads__0__migrate=migrate)
    notes = planning.plan(spec, make_host(spec)).notes
    assert any("counter is no unit, so that nobody knows" in n for n in notes) is told
