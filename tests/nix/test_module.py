"""The NixOS module, evaluated for the configurations in cases.nix.

By default over a stand-in for nixpkgs' lib and the options of NixOS that the module uses
(tests/nix/stub). With NIXPKGS (a checkout of nixpkgs) or NIXPKGS_LIB (its lib alone) the same cases
are evaluated over the real lib, too, and both must say the same.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.nix import ROOT, evaluate, evaluation, needs_nix, run, unit_file

pytestmark = needs_nix

SHOWN = """
builtins.mapAttrs (_: case: (import (at + "/eval.nix") (case // {more})).shown)
  (import (at + "/cases.nix")).evaluated
"""
DOCUMENTED = '(import (at + "/eval.nix") {more}).documented'
VM_TEST = 'import (at + "/live-upgrade.nix") {more}'

REFUSED = {
    "unknown-option": "does not exist",
    "unknown-option-of-nixos": "does not exist",
    "text-for-a-switch": "is not of type",
    "no-time": "is not of type",
    "no-such-choice": "is not of type",
    "no-port": "is not of type",
    "function-in-plan": "is not of type",
    "auto-apply-without-plan": "no value defined",
}
WORDS_OF_THE_REAL_LIB = {"no value defined": "used but not defined"}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """case -> what comes out of it: units, files in /etc, checks, failed assertions, ..."""
    return evaluate(tmp_path_factory.mktemp("nix"), SHOWN.replace("{more}", "{ }"))


def _real_lib() -> str | None:
    nixpkgs = os.environ.get("NIXPKGS")
    return os.environ.get("NIXPKGS_LIB") or (nixpkgs and f"{nixpkgs}/lib")


needs_nixpkgs = pytest.mark.skipif(
    _real_lib() is None, reason="neither NIXPKGS nor NIXPKGS_LIB says where nixpkgs' lib is"
)


def test_nothing_is_there_unless_enabled(shown: Any) -> None:
    found = shown["disabled"]
    assert not any(
        found[key]
        for key in ("etc", "packages", "checks", "services", "timers", "unitsOf", "kernelParams")
    )


def test_good_configurations_fail_no_assertion(shown: Any) -> None:
    good = {
        "agent", "agent-with-key", "alone", "auto-apply", "auto-apply-of-the-next-boot",
        "definitions-of-several-modules", "disabled", "exporter", "exporter-for-all", "hooks",
        "hooks-on-25_11", "live-update", "live-update-built", "live-update-of-manual-kernel",
        "live-update-of-silent-kernel", "multikernel", "plan-and-policy", "preload",
    }  # fmt: skip
    assert {case for case, found in shown.items() if not found["failed"]} == good


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("agent-with-key-in-store", ["agent.keyFile"]),
        ("auto-apply-beside-reboots", ["system.autoUpgrade.allowReboot"]),
        ("auto-apply-of-instances", ["autoApply.profile"]),
        ("auto-apply-of-nothing", ["no services.mkupgrade.plans.weekly", "which is never"]),
        ("inhibitors-on-25_11", ["26.05"]),
        ("live-update-not-offered", ["CONFIG_LIVEUPDATE;"]),
        ("live-update-refused", ["CONFIG_LIVEUPDATE_MEMFD;"]),
        ("live-update-of-read-kernel", ["CONFIG_LIVEUPDATE_MEMFD;"]),
        ("live-update-too-old", ["6.19"]),
        ("multikernel-without", ["boot.multikernel"]),
        ("preload-without-stage", ["services.mkupgrade.nixos.stage"]),
        ("stage-without-loader", ["extraInstallCommands"]),
    ],
)
def test_what_cannot_work_is_an_assertion_that_says_so(
    shown: Any, case: str, words: list[str]
) -> None:
    failed = shown[case]["failed"]
    assert len(failed) == len(words)
    for message, word in zip(failed, words, strict=True):
        assert message.startswith("services.mkupgrade.")
        assert word in message


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_option_takes_is_refused(case: str, tmp_path: Path) -> None:
    expression = f'(import (at + "/eval.nix") (import (at + "/cases.nix")).refused.{case}).shown'
    done = run(tmp_path, *evaluation(expression))
    assert done.returncode != 0
    assert REFUSED[case] in done.stderr
    assert "services.mkupgrade." in done.stderr


def test_plans_and_policy_are_files_and_checked_at_build(shown: Any) -> None:
    found = shown["plan-and-policy"]
    assert found["etc"]["mkupgrade/plans.d/weekly.yaml"] == {
        "api_version": "mkupgrade/v1",
        "metadata": {"name": "weekly", "labels": {"rack": "b12"}},
        "instances": [
            {"name": "host", "kernel": {"image": "/boot/vmlinuz-7.3.4", "release": "7.3.4"}}
        ],
        "soak": {"duration": "2m"},
    }
    policy = found["etc"]["mkupgrade/policy.yaml"]
    assert policy["api_version"] == "mkupgrade-policy/v1"
    assert policy["commands"] == {"hooks": []}
    commands = {check["name"]: check["command"] for check in found["checks"]}
    assert "mkupgrade validate " in commands["mkupgrade-plan-weekly"]
    assert "--schemafile" in commands["mkupgrade-policy"]
    assert "mkupgrade/policy.yaml" not in shown["alone"]["etc"], "every plan may be carried out"


def test_hooks_gate_stage_and_confirm(shown: Any) -> None:
    found = shown["hooks"]
    assert found["preSwitchChecks"]["mkupgrade"].endswith(
        '/bin/mkupgrade nixos preflight "${1-}" "${2-}"\n'
    ), "the last command: `set -e` is off there"
    for commands in found["loaders"].values():
        assert commands.endswith('/bin/mkupgrade nixos stage "${1-}" || true\n')
    for commands in shown["preload"]["loaders"].values():
        assert commands.endswith('/bin/mkupgrade nixos stage --preload "${1-}" || true\n')
    assert set(found["inhibitors"]) == {"kernel", "kernel-modules"}
    confirm = found["services"]["mkupgrade-confirm"]
    assert confirm["serviceConfig"]["ExecStart"].endswith("/bin/mkupgrade nixos confirm")
    assert confirm["wantedBy"] == ["multi-user.target"]
    # It waits for a resume that it starts itself, and has something to say of a host that staged.
    assert confirm["path"] == ["systemd"]
    assert confirm["serviceConfig"]["Type"] == "exec"  # the boot does not wait for a soak
    assert confirm["serviceConfig"]["SuccessExitStatus"] == 6
    assert "AF_UNIX" in confirm["serviceConfig"]["RestrictAddressFamilies"]
    assert confirm["unitConfig"]["ConditionPathExists"] == [
        "|/var/lib/mkupgrade/journal.db",
        "|/var/lib/mkupgrade/nixos-staged.json",
    ]
    [check] = [c["command"] for c in found["checks"] if c["name"] == "mkupgrade-hooks"]
    for verb in ("preflight", "stage", "confirm"):
        assert f"mkupgrade nixos {verb} --help" in check
    assert "metrics" not in check
    names = {c["name"] for c in shown["preload"]["checks"]}
    assert names == {"mkupgrade-hooks", "mkupgrade-preload"}


def test_release_without_inhibitors_is_left_alone(shown: Any) -> None:
    found = shown["hooks-on-25_11"]
    assert found["inhibitors"] is None
    assert set(found["loaders"]) == {"grub", "systemd-boot"}
    assert found["preSwitchChecks"]


def test_unit_that_jumps_is_in_no_namespace_and_lives_through_a_switch(shown: Any) -> None:
    unit = shown["auto-apply"]["services"]["mkupgrade-apply"]
    settings = unit["serviceConfig"]
    # Whatever else systemd could be told here would be a namespace or inherited by workloads.
    assert set(settings) == {
        "Type", "ExecStart", "ExecCondition", "KillMode", "Delegate", "TimeoutStartSec",
    }  # fmt: skip
    assert settings["ExecStart"].endswith(" apply --yes /etc/mkupgrade/plans.d/weekly.yaml")
    assert settings["ExecCondition"].endswith("/bin/mkupgrade-window 23:00 05:00 wait")
    assert unit["startAt"] == ["Sun 23:30"]
    timer = shown["auto-apply"]["timers"]["mkupgrade-apply"]
    assert timer["wantedBy"] == ["timers.target"]
    assert timer["timerConfig"] == {
        "OnCalendar": ["Sun 23:30"],
        "RandomizedDelaySec": "30min",
        "Persistent": True,
    }
    assert "nixos-upgrade.service" in unit["after"]


def test_exporter_has_no_capability_and_writes_nowhere(shown: Any) -> None:
    settings = shown["exporter"]["services"]["mkupgrade-exporter"]["serviceConfig"]
    assert settings["ExecStart"].endswith("/bin/mkupgrade metrics --listen 127.0.0.1:9925")
    assert settings["CapabilityBoundingSet"] == ""
    assert settings["ProtectSystem"] == "strict"
    assert not {"StateDirectory", "ReadWritePaths", "BindPaths"} & set(settings)
    assert settings["Type"] == "notify"
    assert "AF_UNIX" in settings["RestrictAddressFamilies"], "of systemd's socket"
    assert shown["exporter"]["firewall"] == []
    [check] = shown["exporter"]["checks"]
    assert check["name"] == "mkupgrade-hooks"
    assert "mkupgrade metrics --help" in check["command"]
    assert "nixos" not in check["command"]
    for_all = shown["exporter-for-all"]
    started = for_all["services"]["mkupgrade-exporter"]["serviceConfig"]["ExecStart"]
    assert started.endswith(" --listen [::]:9100")
    assert for_all["firewall"] == [9100]


def test_plan_of_the_next_boot_goes_behind_the_upgrade_of_the_profile(shown: Any) -> None:
    found = shown["auto-apply-of-the-next-boot"]
    plan = found["etc"]["mkupgrade/plans.d/weekly.yaml"]
    assert plan["instances"] == [{"name": "host", "kernel": {"nixos": {"profile": "system"}}}]
    unit = found["services"]["mkupgrade-apply"]
    assert "nixos-upgrade.service" in unit["after"]
    command = unit["serviceConfig"]["ExecStart"].partition("/bin/mkupgrade ")[2]
    assert command == (
        "nixos upgrade --profile system --plan /etc/mkupgrade/plans.d/weekly.yaml --yes"
    )


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_knows_every_setting_and_confirm_is_out_of_the_kernels_reach(
    shown: Any, tmp_path: Path
) -> None:
    apply, confirm = tmp_path / "mkupgrade-apply.service", tmp_path / "mkupgrade-confirm.service"
    exporter = tmp_path / "mkupgrade-exporter.service"
    exporter.write_text(unit_file(shown["exporter"]["services"]["mkupgrade-exporter"]))
    apply.write_text(unit_file(shown["auto-apply"]["services"]["mkupgrade-apply"]))
    confirm.write_text(unit_file(shown["hooks"]["services"]["mkupgrade-confirm"]))
    for argv in (
        ["systemd-analyze", "verify", "--man=no", str(apply), str(confirm), str(exporter)],
        ["systemd-analyze", "--offline=true", "--threshold=30", "security", str(exporter)],
        ["systemd-analyze", "--offline=true", "--threshold=40", "security", str(confirm)],
    ):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "ignoring" not in done.stderr
    assert "@reboot" in confirm.read_text()


def test_units_that_hold_an_upgrade_outlive_a_switch(shown: Any) -> None:
    for case, name in [
        ("auto-apply", "mkupgrade-apply"),
        ("auto-apply", "mkupgrade-resume"),
        ("hooks", "mkupgrade-confirm"),
    ]:
        unit = shown[case]["services"][name]
        assert unit["restartIfChanged"] is False
        assert unit["unitConfig"]["X-StopOnRemoval"] is False


def test_units_of_the_package_are_installed_and_resume_is_started(shown: Any) -> None:
    found = shown["alone"]
    assert found["unitsOf"] == ["mkupgrade"]
    assert found["services"]["mkupgrade-resume"]["wantedBy"] == ["basic.target"]
    assert found["timers"]["mkupgrade-clean-up"]["wantedBy"] == ["timers.target"]
    # Settings for units that the package does not have would start something else.
    shipped = {path.stem for path in ROOT.glob("orchestrator/**/*.service")}
    ours = {"mkupgrade-apply", "mkupgrade-confirm", "mkupgrade-exporter"}
    for case in shown.values():
        assert set(case["services"]) - ours <= shipped


def test_agent_is_the_packages_unit_with_another_key(shown: Any) -> None:
    plain = shown["agent"]["services"]["mkupgrade-agent"]
    assert plain["wantedBy"] == ["multi-user.target"]
    assert plain["serviceConfig"] == {}
    other = shown["agent-with-key"]["services"]["mkupgrade-agent-work"]
    assert other["serviceConfig"]["LoadCredential"] == ["", "agent.key:/run/keys/agent.key"]
    assert other["unitConfig"]["ConditionPathExists"] == ["", "/run/keys/agent.key"]


def test_live_update_asks_the_kernel_package(shown: Any) -> None:
    assert shown["live-update"]["kernelParams"] == ["kho=on", "liveupdate=on"]
    assert shown["live-update"]["kernelPatches"] == []
    [patch] = shown["live-update-built"]["kernelPatches"]
    assert {name: how["tristate"] for name, how in patch["structuredExtraConfig"].items()} == {
        "KEXEC_FILE": "y",
        "KEXEC_HANDOVER": "y",
        "LIVEUPDATE": "y",
        "LIVEUPDATE_MEMFD": "y",
    }
    # A symbol that a kernel does not know must not end its build.
    optional = [name for name, how in patch["structuredExtraConfig"].items() if how["optional"]]
    assert optional == ["LIVEUPDATE_MEMFD"]
    for case in ("live-update-of-silent-kernel", "live-update-of-manual-kernel"):
        [warning] = shown[case]["warnings"]
        assert "mkupgrade doctor" in warning


def test_instances_of_boot_multikernel_become_those_of_a_plan(shown: Any) -> None:
    plan = shown["multikernel"]["etc"]["mkupgrade/plans.d/instances.yaml"]
    assert plan["host"] == {"driver": "multikernel", "pool": {"cpus": 8, "memory": "8GiB"}}
    [instance] = plan["instances"]  # the other one is not enabled
    assert instance["name"] == "web"
    assert instance["resources"] == {"cpus": 2, "memory": "2GiB", "devices": ["0000:00:05.0"]}
    assert instance["cmdline"] == {"inherit": False, "append": ["console=mktty0"]}
    assert plan["strategy"] == {"kind": "surge"}, "what the plan says itself stays"


def test_what_users_set_over_the_module_holds(shown: Any) -> None:
    found = shown["definitions-of-several-modules"]
    assert set(found["etc"]) == {"mkupgrade/plans.d/weekly.yaml"}, "one plan was not to be"
    plan = found["etc"]["mkupgrade/plans.d/weekly.yaml"]
    assert [instance["name"] for instance in plan["instances"]] == ["first", "host"]
    assert plan["soak"] == {"duration": "5m"}
    assert "strategy" not in plan
    assert found["services"]["mkupgrade-exporter"]["serviceConfig"]["ExecStart"] == "/bin/other"
    timer = found["timers"]["mkupgrade-apply"]["timerConfig"]
    assert timer["RandomizedDelaySec"] == "1h"
    assert timer["Persistent"] is True, "what was not set over stays"


def test_every_option_is_documented(tmp_path: Path) -> None:
    found = evaluate(tmp_path, DOCUMENTED.replace("{more}", "{ }"))
    assert len(found) > 25
    assert [option["name"] for option in found if not option["description"]] == []
    assert {"services.mkupgrade.plans.<name>.metadata.name"} <= {o["name"] for o in found}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plan", "word"),
    [
        ('instances = [{ name = "host"; kernel = { image = "/k"; release = "7.3.4"; }; }];', None),
        ('instances = [{ name = "host"; kernel.nixos.profile = "system"; }];', None),
        ("instances = [ ];", "instances"),
        ('soak.duration = 5; instances = [ { name = "host"; } ];', "soak.duration"),
    ],
)  # fmt: skip
def test_plan_is_validated_by_the_real_command_when_a_system_is_built(
    plan: str, word: str | None, tmp_path: Path
) -> None:
    command = f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m orchestrator.cli "$@"\n'
    case = f"{{ services.mkupgrade = {{ enable = true; plans.weekly = {{ {plan} }}; }}; }}"
    done = run(
        tmp_path, "nix-build", "--no-out-link", str(ROOT / "tests/nix/eval.nix"),
        "-A", "checks", "--arg", "config", case,
        "--argstr", "mkupgrade", command,
    )  # fmt: skip
    assert (done.returncode == 0) == (word is None), done.stderr
    assert word is None or word in done.stderr


def _unordered(value: Any) -> Any:
    """Without the order of lists: that of definitions in several modules is nobody's business."""
    if isinstance(value, dict):
        return {key: _unordered(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return sorted(map(_unordered, value), key=lambda inner: json.dumps(inner, sort_keys=True))
    return value


@needs_nixpkgs
@pytest.mark.parametrize(
    "expression",
    [SHOWN, DOCUMENTED, VM_TEST],
    ids=["configuration", "documentation", "machine-of-the-vm-test"],
)
def test_stand_in_and_nixpkgs_lib_say_the_same(expression: str, tmp_path: Path) -> None:
    real = expression.replace("{more}", f"{{ lib = import {_real_lib()}; }}")
    ours = expression.replace("{more}", "{ }")

    assert _unordered(evaluate(tmp_path, real)) == _unordered(evaluate(tmp_path, ours))


@needs_nixpkgs
@pytest.mark.parametrize("case", REFUSED)
def test_nixpkgs_lib_refuses_what_the_stand_in_refuses(case: str, tmp_path: Path) -> None:
    done = run(
        tmp_path,
        *evaluation(
            f'(import (at + "/eval.nix") ((import (at + "/cases.nix")).refused.{case}'
            f" // {{ lib = import {_real_lib()}; }})).shown"
        ),
    )
    assert done.returncode != 0
    word = REFUSED[case]
    assert any(w in done.stderr for w in (word, WORDS_OF_THE_REAL_LIB.get(word, word)))


@needs_nixpkgs
def test_manual_of_nixos_can_show_every_option(tmp_path: Path) -> None:
    real = f'(import (at + "/eval.nix") {{ lib = import {_real_lib()}; }}).manual'
    found = {option["name"]: option for option in evaluate(tmp_path, real)}
    assert len(found) > 25
    assert [name for name, option in found.items() if not option["description"]] == []
    package = found["services.mkupgrade.package"]
    assert package["default"] == {"_type": "literalExpression", "text": "pkgs.mkupgrade"}
