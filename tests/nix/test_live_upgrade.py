"""nix/tests/live-upgrade.nix as far as it goes without a VM: its machine and its script."""

from __future__ import annotations

import ast
import builtins
import json
from typing import Any

import pytest

from orchestrator.loading import load_spec
from tests.support.nix import evaluate, needs_nix

pytestmark = needs_nix

# What NixOS' test driver gives a script (NixOS manual, "Writing Tests").
DRIVER = {"machine", "subtest", "start_all"}
MACHINE = {
    "connect", "connected", "crash", "execute", "fail", "start", "succeed",
    "wait_for_open_port", "wait_for_unit", "wait_until_succeeds",
}  # fmt: skip


@pytest.fixture(scope="module")
def test_case(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return evaluate(tmp_path_factory.mktemp("nix"), 'import (at + "/live-upgrade.nix") { }')


def test_its_script_compiles_and_uses_what_the_driver_has(test_case: Any) -> None:
    tree = ast.parse(test_case["testScript"])
    compile(tree, "testScript", "exec")
    nodes = list(ast.walk(tree))
    made = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    made |= {n.name for n in nodes if isinstance(n, ast.FunctionDef)}
    made |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    made |= {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    used = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    assert used - made - set(dir(builtins)) <= DRIVER
    asked = {
        n.attr
        for n in nodes
        if isinstance(n, ast.Attribute)
        and isinstance(n.value, ast.Name)
        and n.value.id == "machine"
    }
    assert asked <= MACHINE


def test_its_machine_is_a_system_and_its_plan_a_plan(test_case: Any) -> None:
    assert test_case["failed"] == []
    plan = test_case["plan"]
    load_spec(json.dumps(plan), "upgrade.yaml")
    [instance] = plan["instances"]
    assert instance["kernel"]["release"] != "7.2.13", "the other kernel"
    assert plan["rollback"]["kernel"]["image"].endswith("7.2.13/bzImage")
