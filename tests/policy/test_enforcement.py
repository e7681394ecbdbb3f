"""The policy at the verbs: what it refuses is refused before anything begins."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.loading.schema import schema_text
from orchestrator.model.errors import PolicyError
from orchestrator.model.policy import Policy
from orchestrator.policy import signatures
from tests.cli.conftest import Command

needs_ssh_keygen = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="no program ssh-keygen (package openssh-client)"
)
Write = Callable[..., Path]


@pytest.fixture
def mkupgrade(tmp_path: Path) -> Command:
    return Command(tmp_path)


def demand_signatures(policy: Write, put: Write, *lines: str, more: str = "") -> None:
    put("etc/mkupgrade/allowed_signers", "".join(lines))
    policy(f"signatures: {{allowed_signers: ROOT/etc/mkupgrade/allowed_signers{more}}}")


def nothing_happened(mkupgrade: Command) -> bool:
    return not (mkupgrade.state / "journal.db").exists()


def test_without_a_policy_every_plan_may_be_carried_out(mkupgrade: Command, policy: Write) -> None:
    mkupgrade("apply", mkupgrade.spec, "--yes")


def test_a_forbidden_command_is_refused_with_line_column_and_rule(
    mkupgrade: Command, policy: Write
) -> None:
    with mkupgrade.spec.open("a") as file:
        file.write("hooks:\n  before:\n    - name: drain\n      run: [/bin/drain, now]\n")
    policy("commands:\n  hooks: []")
    refused = mkupgrade("apply", mkupgrade.spec, "--yes", "--json", code=1)
    error = json.loads(refused.stderr)["error"]
    assert error["code"] == "policy"
    assert error["class"] == "refused"
    assert error["where"] == f"{mkupgrade.spec}:15:12"
    assert "hooks.before[0].run" in error["details"][0]
    assert '"/bin/drain now" is allowed by no rule' in error["details"][0]
    assert error["details"][0].endswith("policy.yaml: commands.hooks)")
    assert nothing_happened(mkupgrade)


def test_a_saved_plan_is_held_to_the_rules_at_its_steps(mkupgrade: Command, policy: Write) -> None:
    saved = mkupgrade.directory / "plan.json"
    mkupgrade("plan", mkupgrade.spec, "-o", saved)
    policy("images: {directories: [ROOT/boot]}")
    refused = mkupgrade("apply", saved, "--json", code=1)
    details = json.loads(refused.stderr)["error"]["details"]
    assert any("steps[0].params.image" in line for line in details)
    assert nothing_happened(mkupgrade)


def test_a_state_directory_that_the_policy_does_not_name_is_refused(
    mkupgrade: Command, policy: Write
) -> None:
    policy("state: {directories: [/var/lib/mkupgrade]}")
    refused = mkupgrade("apply", mkupgrade.spec, "--yes", code=1)
    assert "host.state_dir" in refused.stderr
    assert nothing_happened(mkupgrade)


@pytest.mark.slow
def test_going_on_by_hand_is_held_to_the_policy_and_at_boot_is_not(
    mkupgrade: Command, policy: Write
) -> None:
    """At boot workloads stand still, and nobody is there who could put a policy right."""
    mkupgrade.change_host(faults={"check/after": {"kind": "die-before"}})
    mkupgrade.process("apply", mkupgrade.spec, "--yes", code=-9)
    before = mkupgrade.json("history")["transactions"]
    for text, rule in (
        ("images: {directories: [ROOT/boot]}", "images.directories"),
        ("state: {directories: [/var/lib/mkupgrade]}", "state.directories"),
        ("state: [", "cannot be relied on"),
    ):
        policy(text)
        for verb in (["rollback", "--yes"], ["resume"], ["abort"]):
            refused = mkupgrade(*verb, code=1)
            assert rule in refused.stderr
    assert mkupgrade.json("history")["transactions"] == before
    mkupgrade("resume", "--boot")
    assert mkupgrade.json("history")["transactions"][0]["outcome"] == "committed"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_text("{"),
        lambda path: path.write_text("api_version: mkupgrade-policy/v9"),
        lambda path: path.write_bytes(b"\xff\xfe"),
        lambda path: path.write_text(""),
        lambda path: path.chmod(0o666),
        lambda path: path.parent.chmod(0o777),
        lambda path: (path.unlink(), path.mkdir(), path.chmod(0o755)),
        lambda path: (path.unlink(), os.mkfifo(path, 0o600)),
        lambda path: (path.unlink(), path.symlink_to(path)),
    ],
)
def test_a_policy_that_cannot_be_relied_on_refuses_everything(
    mkupgrade: Command, policy: Write, spoil: Callable[[Path], object]
) -> None:
    spoil(policy(""))
    refused = mkupgrade("apply", mkupgrade.spec, "--yes", code=1)
    assert "the policy of this host cannot be relied on" in refused.stderr
    assert nothing_happened(mkupgrade)
    assert not mkupgrade.json("status", mkupgrade.spec)["will_act"]
    assert not mkupgrade.json("status")["will_act"]
    doctor = mkupgrade("doctor", mkupgrade.spec)
    assert "Changes are refused" in doctor.stdout


def test_doctor_shows_the_policy_in_force(mkupgrade: Command, policy: Write) -> None:
    path = policy(
        "images: {directories: [/boot]}\n"
        "commands: {hooks: [{program: /bin/a}, {argv: [/bin/b, 'c d']}], checks: []}"
    )
    shown = " ".join(mkupgrade("doctor", mkupgrade.spec).stdout.split())
    assert f"Policy: {path} is in force" in shown
    assert "Policy: kernels come from /boot" in shown
    assert "Policy: commands of hooks: /bin/a …, /bin/b 'c d'" in shown
    assert "Policy: commands of checks: none" in shown
    found = mkupgrade.json("doctor", mkupgrade.spec)
    assert found["policy"]["images"] == {"directories": ["/boot"]}
    assert any("images.directories" in line for line in found["objections"])


def test_status_says_that_the_policy_would_refuse(mkupgrade: Command, policy: Write) -> None:
    policy("images: {directories: [/boot]}")
    found = mkupgrade.json("status", mkupgrade.spec)
    assert not found["will_act"]
    assert any("images.directories" in line for line in found["why_not"])


def test_the_schema_of_the_policy_is_printed(mkupgrade: Command) -> None:
    assert mkupgrade("schema", "--policy").stdout == schema_text(Policy)


# -- signatures


@needs_ssh_keygen
@pytest.mark.parametrize("form", ["plan.yaml", "plan.json"])
def test_a_signed_plan_is_carried_out_and_its_signer_named(
    mkupgrade: Command, policy: Write, put: Write, make_key: Any, form: str
) -> None:
    key = make_key()
    plan = mkupgrade.directory / form
    if form == "plan.json":
        mkupgrade("plan", mkupgrade.spec, "-o", plan)
    demand_signatures(policy, put, key.signer())
    mkupgrade("sign", plan, "--key", key.path)
    assert (
        "signed by ops@example.org (ED25519 SHA256:" in mkupgrade("sign", "--verify", plan).stdout
    )
    done = mkupgrade("apply", plan, "--yes", "--json")
    first = json.loads(done.stdout.splitlines()[0])
    assert first["signed_by"].startswith("ops@example.org (ED25519 SHA256:")


@needs_ssh_keygen
def test_a_plan_without_a_signature_waits_for_one(
    mkupgrade: Command, policy: Write, put: Write, make_key: Any
) -> None:
    demand_signatures(policy, put, make_key().signer())
    refused = mkupgrade("apply", mkupgrade.spec, "--yes", code=6)
    assert "this one has no signature" in refused.stderr
    assert "mkupgrade sign" in refused.stderr
    assert nothing_happened(mkupgrade)


@needs_ssh_keygen
def test_a_signature_is_void_for_any_other_bytes_namespace_or_key(
    mkupgrade: Command, policy: Write, put: Write, make_key: Any
) -> None:
    key, other = make_key("key"), make_key("other")
    demand_signatures(policy, put, key.signer())
    plan, good = mkupgrade.spec, mkupgrade.spec.read_bytes()
    place = signatures.signature_path(plan)

    def refused() -> bool:
        said = mkupgrade("apply", plan, "--yes", code=1).stderr
        return "the policy demands signed plans" in said and nothing_happened(mkupgrade)

    place.write_bytes(signatures.sign(good, key.path))
    plan.write_bytes(good + b"\n")
    assert refused(), "one byte more"
    plan.write_bytes(good)
    place.write_bytes(signatures.sign(good, other.path))
    assert refused(), "a key that is not allowed"
    text = signatures.sign(good, key.path)
    for damaged in (b"", b"x", text[:-40], text.replace(b"U1NIU0lH", b"U1NIU0lI"), text * 400):
        place.write_bytes(damaged)
        assert mkupgrade("apply", plan, "--yes", code=1)
    place.unlink()
    place.symlink_to("/dev/zero")
    assert mkupgrade("apply", plan, "--yes", code=1)
    place.unlink()
    place.write_bytes(signatures.sign(good, key.path))
    mkupgrade("apply", plan, "--yes")


@needs_ssh_keygen
def test_a_signature_for_something_else_is_none_for_a_plan(
    mkupgrade: Command, policy: Write, put: Write, make_key: Any, monkeypatch: Any
) -> None:
    key = make_key()
    demand_signatures(policy, put, f"ops@example.org {key.public}\n")
    with monkeypatch.context() as patch:
        patch.setattr(signatures, "NAMESPACE", "git")
        made = signatures.sign(mkupgrade.spec.read_bytes(), key.path)
    signatures.signature_path(mkupgrade.spec).write_bytes(made)
    refused = mkupgrade("apply", mkupgrade.spec, "--yes", code=1)
    assert "namespace does not match" in refused.stderr


@needs_ssh_keygen
def test_a_signer_counts_only_while_the_file_says_so(make_key: Any) -> None:
    key = make_key()
    signature = signatures.sign(b"plan", key.path)

    def verified(options: str) -> str:
        line = f"a@x,b@x {options} {key.public}\n".encode()
        return signatures.verify(b"plan", signature, line, None).principal

    assert verified("") == "a@x"
    for options in ('valid-before="20200101"', 'valid-after="20990101"', 'namespaces="git"'):
        with pytest.raises(PolicyError):
            verified(options)


@needs_ssh_keygen
def test_a_revoked_key_does_not_count(
    mkupgrade: Command, policy: Write, put: Write, make_key: Any
) -> None:
    key = make_key()
    put("etc/mkupgrade/revoked", key.public + "\n")
    more = ", revoked_keys: ROOT/etc/mkupgrade/revoked"
    demand_signatures(policy, put, key.signer(), more=more)
    mkupgrade("sign", mkupgrade.spec, "--key", key.path)
    refused = mkupgrade("apply", mkupgrade.spec, "--yes", code=1)
    assert "revoked" in refused.stderr


@needs_ssh_keygen
@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: path.chmod(0o666),
        lambda path: path.parent.chmod(0o775),
    ],
)
def test_allowed_signers_that_others_could_change_refuse_everything(
    mkupgrade: Command, policy: Write, put: Write, make_key: Any, spoil: Callable[[Path], object]
) -> None:
    key = make_key()
    mkupgrade("sign", mkupgrade.spec, "--key", key.path)
    demand_signatures(policy, put, key.signer())
    spoil(put("etc/mkupgrade/allowed_signers", key.signer()))
    refused = mkupgrade("apply", mkupgrade.spec, "--yes", code=1)
    assert "cannot be relied on" in refused.stderr
    assert nothing_happened(mkupgrade)


@needs_ssh_keygen
def test_what_was_verified_is_what_is_carried_out(
    mkupgrade: Command, policy: Write, put: Write, make_key: Any, monkeypatch: Any
) -> None:
    """Somebody exchanges the file right after the signature was looked at."""
    key = make_key()
    demand_signatures(policy, put, key.signer())
    mkupgrade("sign", mkupgrade.spec, "--key", key.path)
    evil = mkupgrade.spec.read_text().replace("test-upgrade", "evil-upgrade")
    really = signatures.verify

    def then_exchanged(*arguments: Any) -> Any:
        signer = really(*arguments)
        mkupgrade.spec.write_text(evil)
        return signer

    monkeypatch.setattr(signatures, "verify", then_exchanged)
    mkupgrade("apply", mkupgrade.spec, "--yes")
    [done] = mkupgrade.json("history")["transactions"]
    assert done["name"] == "test-upgrade"


@needs_ssh_keygen
def test_without_ssh_keygen_nothing_counts_as_signed(
    mkupgrade: Command, policy: Write, put: Write, make_key: Any, monkeypatch: Any
) -> None:
    key = make_key()
    demand_signatures(policy, put, key.signer())
    mkupgrade("sign", mkupgrade.spec, "--key", key.path)
    mkupgrade.environment["PATH"] = str(mkupgrade.directory)
    refused = mkupgrade("apply", mkupgrade.spec, "--yes", code=1)
    assert "ssh-keygen is not installed" in refused.stderr
    assert "next:  apt install openssh-client" in refused.stderr
    assert nothing_happened(mkupgrade)


@needs_ssh_keygen
def test_a_file_that_no_host_would_take_is_not_signed(mkupgrade: Command, make_key: Any) -> None:
    mkupgrade.spec.write_text("api_version: 1")
    key = make_key()
    mkupgrade("sign", mkupgrade.spec, "--key", key.path, code=1)
    assert not signatures.signature_path(mkupgrade.spec).exists()


@needs_ssh_keygen
def test_signing_says_what_is_missing(mkupgrade: Command, make_key: Any) -> None:
    assert "--key" in mkupgrade("sign", mkupgrade.spec, code=1).stderr
    nowhere = mkupgrade.directory / "nowhere"
    assert "was not signed" in mkupgrade("sign", mkupgrade.spec, "--key", nowhere, code=1).stderr
    assert "no signature" in mkupgrade("sign", "--verify", mkupgrade.spec, code=1).stderr
    key = make_key()
    signers = mkupgrade.directory / "signers"
    signers.write_text(key.signer())
    mkupgrade("sign", mkupgrade.spec, "--key", key.path)
    options = ("--verify", mkupgrade.spec, "--allowed-signers", signers)
    assert mkupgrade.json("sign", *options)["principal"] == "ops@example.org"
