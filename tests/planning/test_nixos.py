"""Plans for NixOS systems: what is a reason to jump, and what is looked at afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.model.errors import PlanError
from orchestrator.model.host import HostState
from orchestrator.model.spec import UpgradeSpec
from orchestrator.model.steps import Section, StepGraph
from orchestrator.planning import plan
from tests.support.hosts import IMAGE, OLD_IMAGE, host_data, spec_data

OLD, NEW = "/srv/store/old", "/srv/store/new"


def planned(
    *, reasons: list[str], release: str = "7.3.4", append: list[str] | None = None, **rest: Any
) -> StepGraph:
    """From OLD, which runs with `quiet`, to NEW."""
    image = IMAGE if release == "7.3.4" else OLD_IMAGE
    append = [f"init={NEW}/init", *(append if append is not None else ["quiet"])]
    instance = {
        "name": "host",
        "kernel": {"image": image, "release": release, "toplevel": NEW},
        "cmdline": {"inherit": False, "append": append},
    }
    spec = UpgradeSpec.model_validate(spec_data(instances=[instance]))
    state = {"toplevel": NEW, "reasons": reasons}
    host = host_data(spec, systems={NEW: state})
    host["kernel"] |= {"cmdline": f"init={OLD}/init quiet", "system": OLD}
    return plan(spec, HostState.model_validate(host | rest))


def systems_checked(graph: StepGraph, section: Section) -> list[Any]:
    steps = [step for step in graph.section(section) if step.kind == "check"]
    return [check["system"] for step in steps for check in step.params["checks"]]


def test_the_system_is_checked_behind_the_jump_and_the_old_one_behind_the_way_back() -> None:
    graph = planned(reasons=["kernel: a -> b"])
    assert systems_checked(graph, Section.FORWARD) == [NEW]
    assert systems_checked(graph, Section.RECOVER) == [OLD]
    assert f"NixOS system of instance host: {OLD} -> {NEW}" in graph.changes
    assert "a switch is not enough: kernel: a -> b" in graph.notes
    load = graph.step("load-kernel/host").params
    assert load["cmdline"].startswith(f"init={NEW}/init quiet")


def test_another_initrd_is_a_reason_though_release_and_parameters_are_the_same() -> None:
    assert planned(reasons=[], release="7.2.13").is_empty
    assert not planned(reasons=["initrd: a -> b"], release="7.2.13").is_empty


def test_where_only_the_generation_differs_a_switch_is_enough() -> None:
    graph = planned(reasons=[], release="7.2.13")
    assert graph.is_empty
    assert f"{NEW}/bin/switch-to-configuration switch" in graph.notes[-1]


def test_parameters_that_the_spec_adds_are_a_reason_too() -> None:
    assert not planned(reasons=[], release="7.2.13", append=["quiet", "nokaslr"]).is_empty


@pytest.mark.parametrize(
    ("systems", "says"),
    [({}, "did not look at it"), ({NEW: {"toplevel": NEW, "error": "gone"}}, "gone")],
)
def test_a_system_that_was_not_read_is_not_planned(systems: dict[str, Any], says: str) -> None:
    with pytest.raises(PlanError) as caught:
        planned(reasons=[], systems=systems)
    assert any(says in line for line in caught.value.details)


def test_a_system_that_was_not_looked_up_is_not_planned() -> None:
    instance = {"name": "host", "kernel": {"nixos": {"generation": 3}}}
    spec = UpgradeSpec.model_validate(spec_data(instances=[instance]))
    with pytest.raises(PlanError) as caught:
        plan(spec, HostState.model_validate(host_data(spec)))
    assert "instances.host.kernel.nixos: was not looked up on this host" in caught.value.details


PROFILE = {"link": "/profiles/system", "leads_to": OLD, "generation": 4, "last": 6}


def with_profile(**rest: Any) -> StepGraph:
    state = {
        "toplevel": NEW, "reasons": ["kernel: a -> b"], "active": [OLD], "profile": PROFILE | rest,
    }  # fmt: skip
    return planned(reasons=[], systems={NEW: state})


def test_profile_and_menu_are_changed_by_commit_and_by_the_way_back_alone() -> None:
    graph = with_profile()
    changed = {s.id: s.params["nixos"] for s in graph.steps if s.params.get("nixos")}
    assert set(changed) == {
        "preflight/host", "arm-fallback/host", "commit/host",
        "return.restore-boot-default/host", "recover.restore-boot-default/host",
    }  # fmt: skip
    assert all(
        params == {"link": "/profiles/system", "toplevel": NEW, "previous": OLD,
                   "generation": 4, "last": 6, "pending": None}
        for params in changed.values()
    )  # fmt: skip
    commit = graph.step("commit/host")
    assert commit.params["previous_default"] is None
    assert f"system profile and boot menu: generation 4 -> {NEW}" in graph.changes


@pytest.mark.parametrize("pending", [NEW, "/srv/store/third"])
def test_what_is_pending_for_the_next_start_gives_way_to_what_runs_until_commit(
    pending: str,
) -> None:
    """As after `nixos-rebuild boot`."""
    graph = with_profile(leads_to=pending, generation=6, back_to=OLD, back=4)
    assert graph.step("commit/host").params["nixos"] == {
        "link": "/profiles/system", "toplevel": NEW, "previous": OLD, "generation": 4, "last": 6,
        "pending": {"toplevel": pending, "generation": 6},
    }  # fmt: skip
    assert any("generation 6 is pending" in line for line in graph.changes)


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        ({"leads_to": NEW}, "leads to the wanted system already (generation 4)"),
        ({"leads_to": "/srv/store/third"}, "leads to /srv/store/third already"),
        ({"leads_to": None}, "leads to no system"),
    ],
)
def test_a_profile_that_a_reset_would_not_end_well_by_is_refused(
    profile: dict[str, Any], says: str
) -> None:
    with pytest.raises(PlanError) as caught:
        with_profile(**profile)
    assert any(says in line for line in caught.value.details)


@pytest.mark.parametrize("key", ["toplevel", "initrd_secrets"])
def test_instances_beside_the_host_have_neither_systems_nor_secrets(key: str) -> None:
    kernel = {"image": IMAGE, "release": "7.3.4", "initrd": "/boot/i", key: "/srv/x"}
    instance = {"name": "a", "kernel": kernel}
    spec = UpgradeSpec.model_validate(
        spec_data(instances=[instance], workloads=[], strategy={"kind": "surge"})
    )
    host = host_data(spec, strategies=["in-place", "surge"])
    with pytest.raises(PlanError) as caught:
        plan(spec, HostState.model_validate(host))
    assert any(line.startswith(f"instances.a.kernel.{key}") for line in caught.value.details)


def test_secrets_are_appended_for_the_jump_and_for_the_way_back() -> None:
    initrds = {"new": "/boot/initrd-new", "old": "/boot/initrd-old"}
    kernel = {
        "image": IMAGE, "release": "7.3.4", "toplevel": NEW, "initrd": initrds["new"],
        "initrd_secrets": f"{NEW}/append",
    }  # fmt: skip
    instance = {"name": "host", "kernel": kernel, "cmdline": {"inherit": False}}
    spec = UpgradeSpec.model_validate(spec_data(instances=[instance]))
    host = host_data(spec, systems={NEW: {"toplevel": NEW, "reasons": ["kernel: a -> b"]}})
    host["kernel"] |= {"initrd": initrds["old"], "initrd_secrets": f"{OLD}/append"}
    for name, path in initrds.items():
        digest = {"new": "c", "old": "d"}[name] * 64
        host["artifacts"][path] = {"path": path, "kind": "initrd", "size": 9, "sha256": digest}
    graph = plan(spec, HostState.model_validate(host))
    there, back = (
        graph.step("load-kernel/host").params,
        graph.step("return.load-kernel/host").params,
    )
    assert (there["initrd_secrets"], there["initrd_sha256"]) == (f"{NEW}/append", "c" * 64)
    assert (back["initrd_secrets"], back["initrd_sha256"]) == (f"{OLD}/append", "d" * 64)
    del host["artifacts"][initrds["old"]]
    without = plan(spec, HostState.model_validate(host))
    assert without.step("return.jump/host").params["method"] == "reset"
