"""What a policy lets through and what it does not, in specs and in plans."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from pydantic import BaseModel

from orchestrator import planning
from orchestrator.loading import load_policy, load_spec
from orchestrator.loading.problems import format_path
from orchestrator.loading.schema import models
from orchestrator.model.host import HostState
from orchestrator.model.kinds import Kind
from orchestrator.model.params import params_of
from orchestrator.model.policy import Policy
from orchestrator.model.spec.names import Argv
from orchestrator.model.steps import StepGraph
from orchestrator.policy.rules import COMMANDS, graph_objections, spec_objections
from orchestrator.system.trusted import UntrustedPathError
from tests.support.hosts import host_data, spec_data, workload

Found = list[tuple[str, str]]


def policy(**sections: Any) -> Policy:
    return load_policy(json.dumps({"api_version": "mkupgrade-policy/v1", **sections}))


def there(path: Path) -> Path:
    """Everything leads where it says; what has "evil" in it is not trusted."""
    if "evil" in str(path):
        raise UntrustedPathError(f"{path} can be written by others (mode 0777)")
    return path


def in_spec(made: Policy, **spec: Any) -> Found:
    document = load_spec(json.dumps(spec_data(**spec)))
    return [(format_path(o.place), o.rule) for o in spec_objections(made, document, there)]


def plan_of(**spec: Any) -> StepGraph:
    document = load_spec(json.dumps(spec_data(**spec)))
    return planning.plan(document, HostState.model_validate(host_data(document)))


def in_plan(made: Policy, graph: StepGraph) -> set[tuple[str, str]]:
    kinds = {n: s.kind for n, s in enumerate(graph.steps)}
    found = set()
    for o in graph_objections(made, graph, there):
        place = list(o.place)
        if place[0] == "steps":
            place[1] = kinds[int(place[1])]
        found.add((".".join(map(str, place)), o.rule))
    return found


HOOK = {"name": "drain", "run": ["/bin/drain", "now"], "undo": ["/bin/fill"]}
CHECK = {"name": "ok", "kind": "command", "run": ["/bin/check"]}
SAVES = {"method": "hooks", "save": ["/bin/save"], "load": ["/bin/load"]}


def test_an_empty_policy_restricts_nothing() -> None:
    assert in_spec(policy(), hooks={"before": [HOOK]}, checks=[CHECK]) == []
    assert in_plan(policy(commands={}), plan_of(hooks={"before": [HOOK]})) == set()


def test_an_empty_list_allows_nothing() -> None:
    nothing = policy(commands={"hooks": [], "checks": [], "workloads": []})
    found = in_spec(
        nothing,
        hooks={"before": [HOOK]},
        checks=[CHECK],
        workloads=[workload("a", migrate=SAVES, checks=[CHECK | {"name": "b"}])],
    )
    assert found == [
        ("workloads[0].migrate.save", "commands.workloads"),
        ("workloads[0].migrate.load", "commands.workloads"),
        ("workloads[0].checks[0].run", "commands.checks"),
        ("checks[0].run", "commands.checks"),
        ("hooks.before[0].run", "commands.hooks"),
        ("hooks.before[0].undo", "commands.hooks"),
    ]


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ({"program": "/bin/drain"}, True),
        ({"argv": ["/bin/drain", "now"]}, True),
        ({"argv": ["/bin/drain"]}, False),
        ({"argv": ["/bin/drain", "now", "x"]}, False),
        ({"program": "/bin/dra"}, False),
        ({"program": "/bin"}, False),
    ],
)
def test_a_rule_allows_a_program_or_one_command_exactly(rule: Any, allowed: bool) -> None:
    made = policy(commands={"hooks": [rule, {"program": "/bin/fill"}]})
    found = in_spec(made, hooks={"before": [HOOK]})
    assert found == ([] if allowed else [("hooks.before[0].run", "commands.hooks")])


@pytest.mark.parametrize("program", ["drain", "./bin/drain", "bin/drain"])
def test_programs_are_named_by_absolute_paths(program: str) -> None:
    made = policy(commands={"hooks": [{"program": "/bin/drain"}]})
    hook = {"name": "x", "run": [program]}
    assert in_spec(made, hooks={"before": [hook]}) == [("hooks.before[0].run", "commands.hooks")]


def test_an_allowed_program_that_others_can_change_is_refused() -> None:
    made = policy(commands={"hooks": [{"program": "/opt/evil/x"}]})
    hook = {"name": "x", "run": ["/opt/evil/x"]}
    document = load_spec(json.dumps(spec_data(hooks={"before": [hook]})))
    [found] = spec_objections(made, document, there)
    assert "can be written by others" in found.message


@pytest.mark.parametrize(
    ("commands", "refused"),
    [
        ({}, []),
        ({"workloads": []}, [0, 1]),
        ({"criu_arguments": []}, [0, 1]),
        ({"workloads": [], "criu_arguments": ["--skip-in-flight"]}, [1]),
    ],
)
def test_arguments_for_criu_can_run_programs_and_are_held_to_a_rule(
    commands: Any, refused: list[int]
) -> None:
    migrate = {"method": "criu", "extra": ["--skip-in-flight", "--action-script=/tmp/x"]}
    found = in_spec(policy(commands=commands), workloads=[workload("a", migrate=migrate)])
    assert found == [
        (f"workloads[0].migrate.extra[{n}]", "commands.criu_arguments") for n in refused
    ]


def test_kernels_come_from_allowed_directories() -> None:
    kernel = {"image": "/boot/k", "initrd": "/boot2/i", "modules": "/evil/m", "release": "7.3.4"}
    made = policy(images={"directories": ["/boot", "/evil"]})
    found = in_spec(
        made,
        instances=[{"name": "host", "kernel": kernel}],
        rollback={"kernel": {"image": "/srv/k"}},
    )
    assert found == [
        ("instances[0].kernel.initrd", "images.directories"),
        ("instances[0].kernel.modules", "images.directories"),
        ("rollback.kernel.image", "images.directories"),
    ]


def test_a_link_counts_as_what_it_leads_to() -> None:
    made = policy(images={"directories": ["/boot"]})
    document = load_spec(json.dumps(spec_data()))

    def elsewhere(path: Path) -> Path:
        return Path("/home/x/kernel") if path.name.startswith("vmlinuz") else path

    [found] = spec_objections(made, document, elsewhere)
    assert found.message == '"/home/x/kernel" is not below /boot'


def test_state_is_kept_in_an_allowed_directory() -> None:
    made = policy(state={"directories": ["/var/lib/mkupgrade", "/srv/mk"]})
    assert in_spec(made) == []
    assert in_spec(made, host={"state_dir": "/srv/mk"}) == []
    assert in_spec(made, host={"state_dir": "/srv/mk/below"}) == [
        ("host.state_dir", "state.directories")
    ]


def test_the_steps_of_a_plan_are_held_to_the_rules_whatever_its_spec_says() -> None:
    graph = plan_of(
        hooks={"before": [HOOK]},
        checks=[CHECK],
        workloads=[workload("a", migrate=SAVES)],
        host={"state_dir": "/srv/mk"},
    )
    graph = graph.model_copy(update={"spec": None})
    made = policy(
        images={"directories": []},
        commands={"hooks": [], "checks": [], "workloads": []},
        state={"directories": ["/var/lib/mkupgrade"]},
    )
    assert in_plan(made, graph) == {
        ("state_dir", "state.directories"),
        ("steps.check-artifacts.params.image", "images.directories"),
        ("steps.load-kernel.params.image", "images.directories"),
        ("steps.arm-fallback.params.image", "images.directories"),
        ("steps.commit.params.image", "images.directories"),
        ("steps.run-hook.params.hook.run", "commands.hooks"),
        ("steps.run-hook.params.hook.undo", "commands.hooks"),
        ("steps.check.params.checks.0.run", "commands.checks"),
        ("steps.soak.params.checks.0.run", "commands.checks"),
        ("steps.preflight.params.workloads.0.migrate.save", "commands.workloads"),
        ("steps.preflight.params.workloads.0.migrate.load", "commands.workloads"),
        ("steps.checkpoint.params.workload.migrate.save", "commands.workloads"),
        ("steps.checkpoint.params.workload.migrate.load", "commands.workloads"),
        ("steps.restore.params.workload.migrate.save", "commands.workloads"),
        ("steps.restore.params.workload.migrate.load", "commands.workloads"),
    }


def test_a_step_that_cannot_be_judged_is_refused() -> None:
    graph = plan_of()
    changes: list[dict[str, Any]] = [{"kind": "run-anything"}, {"params": {"argv": ["/bin/evil"]}}]
    for change in changes:
        steps = [replace(graph.steps[0], **change), *graph.steps[1:]]
        found = graph_objections(policy(), graph.model_copy(update={"steps": steps}), there)
        assert [(o.place, o.rule) for o in found] == [(("steps", 0, "params"), "steps")]


def _commands(model: type[BaseModel]) -> Iterator[str]:
    """Fields that hold a command, by their type."""
    for name, hint in get_type_hints(model, include_extras=True).items():
        if Argv in (hint, *get_args(hint)):
            yield name


def test_no_command_of_the_model_is_forgotten() -> None:
    found = {
        model: tuple(names)
        for model in (*models(), *map(params_of, Kind))
        if (names := list(_commands(model)))
    }
    assert found == {model: fields for model, (_, fields) in COMMANDS.items()}


def test_the_example_of_the_manual_is_a_policy() -> None:
    manual = Path(__file__).parents[2] / "docs" / "policy.md"
    text = manual.read_text(encoding="utf-8").split("\n\n")
    example = next(part for part in text if part.startswith("    api_version:"))
    made = load_policy(textwrap.dedent(example))
    assert made.commands is not None and made.commands.workloads == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("images: {}", '2:1: images: required key "directories" is missing'),
        ("imags: {directories: []}", '2:1: imags: unknown key; did you mean "images"?'),
        ("commands: {hooks: [{}]}", "2:20: commands.hooks[0]: exactly one of program, argv"),
        ("commands: {hooks: [{argv: [ls]}]}", "argv must begin with the absolute path"),
        ("state: {directories: []}", "expected a list with at least 1 item"),
        ("images: {directories: [boot]}", "expected an absolute path"),
        ("commands: [", "not valid YAML"),
    ],
)
def test_a_bad_policy_is_told_with_its_place(text: str, line: str) -> None:
    from orchestrator.loading import InvalidSpecError

    with pytest.raises(InvalidSpecError) as caught:
        load_policy(f"api_version: mkupgrade-policy/v1\n{text}\n")
    assert caught.value.what.startswith("the policy has ")
    assert any(line in detail for detail in caught.value.details), caught.value.details


def test_a_program_that_appends_secrets_to_an_initrd_is_a_command_and_a_file_of_the_kernel() -> (
    None
):
    kernel = {
        "image": "/boot/k", "release": "7.3.4", "initrd": "/boot/i",
        "initrd_secrets": "/sbin/append",
    }  # fmt: skip
    spec = {"instances": [{"name": "host", "kernel": kernel}]}
    place = "instances[0].kernel.initrd_secrets"
    images = {"directories": ["/boot"]}
    allowed = [{"program": "/sbin/append"}]
    assert in_spec(policy(commands={"hooks": []}), **spec) == [(place, "commands.hooks")]
    assert in_spec(policy(commands={"hooks": allowed}), **spec) == []
    assert in_spec(policy(commands={"checks": []}), **spec) == []
    assert in_spec(policy(images=images), **spec) == [(place, "images.directories")]
