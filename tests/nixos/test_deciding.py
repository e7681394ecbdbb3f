"""Whether another kernel is needed, in all of its reasons; and that nothing else is one."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest

from orchestrator.nixos import systems
from orchestrator.nixos.deciding import Decision, decide
from tests.support.nixos import STORE, PretendNixos

SAME: dict[str, Any] = {
    "triggers": {"dbus": "a", "firmware": "b"}, "inhibitors": {"dbus-implementation": "broker"},
}  # fmt: skip


def decided(nixos: PretendNixos, wanted: PurePosixPath) -> Decision:
    places = nixos.places
    read = systems.read_system(places, wanted)
    return decide(systems.booted(places), systems.current(places), read)


def test_two_generations_with_equal_kernels_take_a_switch(nixos: PretendNixos) -> None:
    nixos.boot(nixos.system("old", **SAME))
    found = decided(nixos, nixos.system("new", **SAME))
    assert (found.enough, found.reasons) == ("switch", [])


def test_what_is_booted_and_current_takes_nothing(nixos: PretendNixos) -> None:
    top = nixos.system("a")
    nixos.boot(top)
    assert decided(nixos, top).enough == "nothing"


def test_what_is_booted_and_was_switched_away_from_takes_a_switch(nixos: PretendNixos) -> None:
    booted = nixos.system("a")
    nixos.boot(booted)
    nixos.link("current-system", nixos.system("b"))
    assert decided(nixos, booted).enough == "switch"


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"kernel": "6.12.1-patched", "modules": "6.12.1"}, ["kernel"]),
        ({"initrd": "b"}, ["initrd"]),
        ({"initrd": None}, ["initrd"]),
        ({"params": ["console=ttyS0"]}, ["parameters"]),
        ({"params": ["loglevel=4", "console=ttyS0"]}, ["parameters"]),
        ({"modules": "with-zfs"}, ["modules"]),
        ({"release": "6.18.2"}, ["kernel", "modules"]),
        ({"triggers": {"dbus": "A", "firmware": "B"}},
         ["reboot-triggers.dbus", "reboot-triggers.firmware"]),
        ({"inhibitors": {"dbus-implementation": "dbus"}},
         ["switch-inhibitors.dbus-implementation"]),
        ({"init_interface": "systemd-3"}, ["init-interface-version"]),
    ],
)  # fmt: skip
def test_every_reason_is_told_with_what_it_was_and_will_be(
    nixos: PretendNixos, changed: dict[str, Any], names: list[str]
) -> None:
    nixos.boot(nixos.system("old", **SAME))
    found = decided(nixos, nixos.system("new", **{**SAME, **changed}))
    assert found.enough == "kernel-transition"
    assert [reason.name for reason in found.reasons] == names
    assert all(reason.before != reason.after for reason in found.reasons)


@pytest.mark.parametrize("lists", [{}, {"triggers": {}, "inhibitors": {"new": "x"}}])
def test_keys_that_only_one_system_has_are_no_reason(
    nixos: PretendNixos, lists: dict[str, Any]
) -> None:
    nixos.boot(nixos.system("old", **SAME))
    assert decided(nixos, nixos.system("new", **lists)).enough == "switch"


def test_kernels_are_held_to_what_was_booted_and_inhibitors_to_what_is_active(
    nixos: PretendNixos,
) -> None:
    """After a switch to another kernel's system, the running kernel is still the booted one."""
    booted = nixos.system("a", release="6.12.1", inhibitors={"x": "1"})
    nixos.boot(booted)
    nixos.link("current-system", nixos.system("b", release="6.18.2", inhibitors={"x": "2"}))
    back = decided(nixos, booted)
    assert [str(reason) for reason in back.reasons] == ["switch-inhibitors.x: 2 -> 1"]
    onward = decided(nixos, nixos.system("c", release="6.18.2", inhibitors={"x": "2"}))
    assert onward.reasons[0].before == str(STORE / "linux-6.12.1/bzImage")
    assert [reason.name for reason in onward.reasons] == ["kernel", "modules"]
