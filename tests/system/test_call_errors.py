"""Every refusal says what to do next."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.model.errors import SystemCallError
from orchestrator.system import call_errors as ce

Root = Callable[[dict[str, str | bytes]], Path]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("proc/sys/kernel/kexec_load_disabled", "1\n", "switched off until the next reboot"),
        ("proc/sys/kernel/kexec_load_limit_reboot", "0\n", "no more kernels"),
        ("sys/kernel/security/lockdown", "none [integrity] confidentiality\n", "locked down"),
    ],
)
def test_eperm_of_loading_tells_which_refusal_it_was(
    name: str, content: str, said: str, host_root: Root
) -> None:
    error = ce.kexec_load_error(errno.EPERM, "/boot/vmlinuz", host_root({name: content}))
    assert type(error) is ce.LockdownError
    assert said in error.what


def test_eperm_without_a_policy_is_a_missing_capability(host_root: Root) -> None:
    root = host_root(
        {
            "proc/sys/kernel/kexec_load_disabled": "0\n",
            "proc/sys/kernel/kexec_load_limit_reboot": "-1\n",
            "sys/kernel/security/lockdown": "[none] integrity confidentiality\n",
        }
    )
    assert type(ce.kexec_load_error(errno.EPERM, None, root)) is ce.NotPermittedError


@pytest.mark.parametrize(
    "kind", [ce.LockdownError, ce.SignatureError, ce.NoKhoError, ce.NotPermittedError]
)
def test_a_policys_refusal_is_never_worth_a_retry(kind: type[SystemCallError]) -> None:
    assert kind.error_class.value == "refused"


def test_every_meaning_that_is_refused_names_a_command() -> None:
    tables = [v for v in vars(ce).values() if isinstance(v, dict) and v]
    meanings = [m for table in tables for m in table.values() if isinstance(m, ce.Meaning)]
    assert len(meanings) > 40
    refused = [m for m in meanings if (m.error_class or m.kind.error_class).value == "refused"]
    assert [m.text for m in refused if not m.next_command] == []


def test_an_errno_without_a_meaning_keeps_its_name_and_text() -> None:
    error = ce.call_error(errno.EXDEV, "call", {})
    assert error.what == "call: Invalid cross-device link (EXDEV)"


def test_a_result_that_is_no_error_is_handed_through() -> None:
    assert ce.check(7, "call", {}) == 7


def test_the_command_names_the_image() -> None:
    error = ce.kexec_load_error(errno.EKEYREJECTED, "/boot/vmlinuz")
    assert error.next_command == "sbverify --list /boot/vmlinuz"
