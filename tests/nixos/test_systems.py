"""Systems, profiles and generations, over pretend hosts whose store is not at /nix/store."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from orchestrator.model.errors import MkupgradeError, NotSupportedError
from orchestrator.nixos import systems
from orchestrator.nixos.errors import BootspecError, NotASystemError
from tests.support.nixos import STORE, PretendNixos


def test_a_system_is_read_through_any_link_to_it(nixos: PretendNixos) -> None:
    top = nixos.system("a", release="6.12.1", triggers={"dbus": "x"}, params=["quiet"])
    nixos.generation(1, top)
    nixos.boot(PurePosixPath("/nix/var/nix/profiles/system"))
    found = systems.booted(nixos.places)
    assert found == systems.read_system(nixos.places, top)
    assert found.toplevel == str(top)
    assert (found.release, found.version) == ("6.12.1", "26.11.pretend")
    assert found.modules == str(STORE / "kernel-modules-6.12.1")
    assert found.triggers == {"dbus": "x"}
    assert found.inhibitors is None


def test_booted_current_and_next_are_three_things(nixos: PretendNixos) -> None:
    old, switched, new = (nixos.system(name) for name in ("old", "switched", "new"))
    nixos.link("booted-system", old)
    nixos.link("current-system", switched)
    nixos.generation(1, old)
    nixos.generation(2, new)
    assert systems.booted(nixos.places).toplevel == str(old)
    assert systems.current(nixos.places).toplevel == str(switched)
    assert systems.next_system(nixos.places) == new


def test_generations_of_named_profiles_are_found(nixos: PretendNixos) -> None:
    first, second = nixos.system("first"), nixos.system("second")
    for number, top in ((1, first), (10, second), (9, first)):
        nixos.generation(number, top)
    nixos.generation(3, second, "test")
    found = systems.generations(nixos.places)
    assert [(g.number, g.toplevel, g.current) for g in found] == [
        (1, first, False), (9, first, True), (10, second, False),
    ]  # fmt: skip
    assert systems.generation(nixos.places, 3, "test") == second
    assert systems.next_system(nixos.places, "test") == second
    assert systems.profiles(nixos.places) == ["system", "test"]
    assert systems.generations(nixos.places, "no-such") == []


def test_a_generation_that_is_gone_is_told_with_those_that_are_there(nixos: PretendNixos) -> None:
    nixos.generation(4, nixos.system("a"))
    with pytest.raises(NotASystemError, match=r"no generation 5; .*: 4"):
        systems.generation(nixos.places, 5)
    nixos.generation(6, STORE / "collected")
    assert systems.generations(nixos.places)[-1].toplevel is None
    with pytest.raises(NotASystemError, match="no NixOS system"):
        systems.next_system(nixos.places)


def test_a_specialisation_is_a_system_of_its_own(nixos: PretendNixos) -> None:
    inner = nixos.system("inner", release="6.18.2")
    outer = nixos.system("outer", specialisations={"rt": inner})
    found = systems.read_system(nixos.places, outer, "rt")
    assert (found.toplevel, found.release) == (str(inner), "6.18.2")
    assert systems.read_system(nixos.places, outer / "specialisation/rt") == found


def test_a_bootspec_of_another_system_is_refused(nixos: PretendNixos) -> None:
    a, b = nixos.system("a"), nixos.system("b")
    (nixos.outside(a) / "boot.json").write_bytes((nixos.outside(b) / "boot.json").read_bytes())
    with pytest.raises(BootspecError, match="of another system"):
        systems.read_system(nixos.places, a)


def test_no_nixos_says_so(nixos: PretendNixos) -> None:
    with pytest.raises(NotSupportedError, match="this is no NixOS"):
        systems.booted(nixos.places)


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "system-1-link", "a\n"])
def test_no_name_of_a_profile_leads_elsewhere(nixos: PretendNixos, name: str) -> None:
    with pytest.raises(NotASystemError, match="no name of a profile"):
        nixos.places.profile(name)


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', "[" * 100_000])
def test_reasons_that_cannot_be_read_are_not_taken_for_none(nixos: PretendNixos, text: str) -> None:
    top = nixos.system("a")
    (nixos.outside(top) / "reboot-triggers").write_text(text, encoding="utf-8")
    with pytest.raises(NotASystemError):
        systems.read_system(nixos.places, top)


def test_links_never_lead_out_of_the_root(nixos: PretendNixos) -> None:
    (nixos.run / "up").symlink_to("../../../../../../etc")
    (nixos.run / "a").symlink_to("b")
    (nixos.run / "b").symlink_to("a")
    tree = nixos.places.tree
    assert tree.target(PurePosixPath("/run/up")) is None
    assert tree.target(PurePosixPath("/run/a")) is None
    assert tree.names(PurePosixPath("/run/up")) == []
    with pytest.raises((OSError, MkupgradeError)):
        tree.read(PurePosixPath("/run/up/passwd"), 10)
