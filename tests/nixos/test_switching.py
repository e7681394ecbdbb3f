"""A switch under the same kernel, by the real nix-env and a recorded switch-to-configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.model.errors import MkupgradeError
from orchestrator.model.outcomes import ExitCode
from orchestrator.nixos.changing import PreSwitchError
from orchestrator.nixos.switching import NeedsAStartError, Switch, SwitchBackError, SwitchError
from orchestrator.system import systemd
from orchestrator.system.limited import Limited
from tests.support.nix_store import NixStore, needs_nix

pytestmark = [pytest.mark.slow, needs_nix]


class Host:
    """It runs `old`, the profile's generation 1; `new` has the same kernel."""

    def __init__(self, store: NixStore) -> None:
        self.store = store
        self.old, self.new = store.system("old"), store.system("new")
        store.set(self.old)
        store.boot(self.old)
        self.said: list[str] = []

    def switch(self) -> Switch:
        return Switch(self.store.places, self.new, Limited(60), self.said.append)

    def stands(self) -> tuple[list[int], str | None, str | None, str]:
        return self.store.stands()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(systemd, "is_running", lambda: False)
    return Host(NixStore(tmp_path, monkeypatch))


def test_a_switch_checks_sets_the_profile_and_switches_in_this_order(host: Host) -> None:
    done = host.switch().there()
    assert host.store.calls() == ["check new system-1-link", "switch new system-2-link"]
    assert host.stands() == ([1, 2], host.new, "new", host.new)
    assert (done.degraded, done.failed_units) == (False, [])


def test_units_that_fail_are_told_and_the_system_stays_switched_to(host: Host) -> None:
    host.store.end_with("new", "switch", 4)
    done = host.switch().there()
    assert (done.degraded, done.failed_units) == (True, ["shop.service", "mail.service"])
    assert host.stands()[1:] == (host.new, "new", host.new)
    assert host.said == ["warning: the following units failed: shop.service, mail.service"]


def test_a_refusal_by_the_systems_own_checks_changes_nothing(host: Host) -> None:
    host.store.fail("new", "check")
    before = host.stands()
    with pytest.raises(PreSwitchError):
        host.switch().there()
    assert host.stands() == before


@pytest.mark.parametrize("code", [2, 3, 17])
def test_an_activation_that_fails_is_put_back_and_the_old_system_activated(
    host: Host, code: int
) -> None:
    host.store.end_with("new", "switch", code)
    with pytest.raises(SwitchError) as caught:
        host.switch().there()
    assert caught.value.exit_code is ExitCode.ROLLED_BACK
    assert host.stands() == ([1], host.old, "old", host.old)
    asked = [call.split()[:2] for call in host.store.calls()[2:]]
    assert asked == [["boot", "old"], ["test", "old"]]


def test_what_does_not_begin_is_put_back_without_an_activation(host: Host) -> None:
    """As where somebody else is switching."""
    host.store.fail("new", "switch")
    with pytest.raises(SwitchError, match="ended with 1"):
        host.switch().there()
    assert host.stands() == ([1], host.old, "old", host.old)
    assert not any(call.startswith("test") for call in host.store.calls())


def test_a_system_for_the_next_start_is_not_left_half_way(host: Host) -> None:
    host.store.end_with("new", "switch", 100)
    with pytest.raises(NeedsAStartError) as caught:
        host.switch().there()
    assert caught.value.exit_code is ExitCode.COLD_REBOOT_NEEDED
    assert host.stands() == ([1], host.old, "old", host.old)


def test_a_way_back_that_fails_says_what_is_left(host: Host) -> None:
    host.store.end_with("new", "switch", 2)
    host.store.fail("old", "test")
    with pytest.raises(SwitchBackError) as caught:
        host.switch().there()
    assert caught.value.exit_code is ExitCode.ROLLBACK_INCOMPLETE
    assert caught.value.next_command == f"{host.old}/bin/switch-to-configuration switch"


def test_a_switch_is_taken_back_to_what_was_pending_before(host: Host) -> None:
    third = host.store.system("third")
    host.store.set(third)
    switch = host.switch()
    switch.there()
    assert host.stands()[1:] == (host.new, "new", host.new)
    switch.back(MkupgradeError("a check failed"))
    assert host.stands() == ([1, 2], third, "third", host.old)


def test_without_a_profile_nothing_is_begun(host: Host) -> None:
    Path(host.store.profile).unlink()
    with pytest.raises(MkupgradeError, match="nothing could be put back"):
        host.switch()
