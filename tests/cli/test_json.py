"""The shapes that scripts rely on: keys may be added, never renamed or removed."""

from __future__ import annotations

import json
from typing import Any

SHAPES: dict[str, set[str]] = {
    "validate": {"valid", "path", "name", "spec_digest", "instances", "workloads", "checks"},
    "plan": {"changes_pending", "plan_digest", "summary", "plan"},
    "status": {
        "kernel", "boot_id", "proven_by_cold_boot", "proof", "running", "unfinished", "last",
        "will_act", "why_not", "plan",
    },
    "doctor": {"driver", "kernel", "capabilities", "artifacts", "workloads", "boot"},
    "graph": {"nodes", "links", "directed"},
}  # fmt: skip


def test_verbs_that_take_a_spec(mkupgrade: Any) -> None:
    for verb, keys in SHAPES.items():
        found = mkupgrade.json(verb, mkupgrade.spec)
        assert keys <= set(found), verb
    status = mkupgrade.json("status", mkupgrade.spec)
    assert set(status["plan"]) == {"name", "changes_pending", "summary"}
    assert set(status["plan"]["summary"]) == {
        "kernels", "workloads_carried", "workloads_restarted", "instances",
        "instances_resized", "pool_changed", "workloads_moved",
        "steps", "expected_blackout_seconds",
    }  # fmt: skip


def test_verbs_that_look_back(mkupgrade: Any) -> None:
    assert mkupgrade.json("history") == {"transactions": []}
    assert mkupgrade.json("resume") == {"transaction": None, "unfinished": False}
    mkupgrade("apply", mkupgrade.spec, "--yes")
    listed = mkupgrade.json("history", "--verify")
    assert set(listed["verified"]) == {"events", "head", "bad_seq", "problem", "note"}
    assert set(listed["transactions"][0]) >= {
        "transaction", "name", "started", "ended", "outcome", "reason",
    }  # fmt: skip
    of_one = mkupgrade.json("history", listed["transactions"][0]["transaction"])
    assert set(of_one["events"][0]) == {
        "seq", "transaction", "stamp", "event", "prev_hash", "hash",
    }  # fmt: skip
    report = mkupgrade.json("report")
    assert set(report) >= {
        "transaction", "outcome", "exit_code", "steps", "boots", "kernels", "workloads", "seconds",
        "rollback_cause", "next_command",
    }  # fmt: skip
    assert set(report["workloads"]["counter"]) == {"how", "blackout_seconds", "windows"}


def test_an_apply_that_has_nothing_to_do(mkupgrade: Any) -> None:
    mkupgrade("apply", mkupgrade.spec, "--yes")
    found = mkupgrade.json("apply", mkupgrade.spec, "--yes")
    assert found["changes_pending"] is False


def test_the_schema_is_json_schema(run: Any) -> None:
    found = json.loads(run("schema").stdout)
    assert found["$schema"].startswith("https://json-schema.org/")
    assert "workloads" in found["properties"]


def test_json_is_ascii_whatever_a_plan_holds(mkupgrade: Any) -> None:
    text = mkupgrade.spec.read_text(encoding="utf-8")
    text = text.replace("{name: test-upgrade}", '{name: test-upgrade, description: "\\e[2Jü"}')
    mkupgrade.spec.write_text(text, encoding="utf-8")
    shown = mkupgrade("plan", mkupgrade.spec, "--json").stdout
    assert shown.isascii()
    assert json.loads(shown)["plan"]["spec"]["metadata"]["description"] == "\x1b[2Jü"


def test_doctor_says_why_a_plan_cannot_be_carried_out(mkupgrade: Any) -> None:
    assert mkupgrade.json("doctor", mkupgrade.spec)["plan_error"] is None
    cannot = {"available": False, "reason": "CONFIG_KEXEC_FILE is not set"}
    mkupgrade.change_host(capabilities={"kexec-file": cannot})
    found = mkupgrade.json("doctor", mkupgrade.spec, code=1)
    assert "CONFIG_KEXEC_FILE" in json.dumps(found["plan_error"])
    shown = mkupgrade("doctor", mkupgrade.spec, code=1)
    assert "CONFIG_KEXEC_FILE is not set" in shown.stdout
    assert "CONFIG_KEXEC_FILE is not set" in shown.stderr


def test_rehearse_hands_its_options_over(mkupgrade: Any, monkeypatch: Any) -> None:
    from orchestrator.rehearsal import command

    asked: dict[str, Any] = {}

    def rehearse(plan: Any, _last_report: Any, **options: Any) -> int:
        asked.update(options, plan=plan)
        return 3

    monkeypatch.setattr(command, "rehearse", rehearse)
    mkupgrade(
        "rehearse",
        mkupgrade.spec,
        "--from",
        "a",
        "--to",
        "b",
        "--channel",
        "disk",
        "--json",
        code=3,
    )
    assert (str(asked["source"]), str(asked["target"])) == ("a", "b")
    assert (asked["channel"], asked["as_json"]) == ("disk", True)
