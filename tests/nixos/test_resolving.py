"""A spec that names a NixOS system becomes one of its files, with nothing that it did not say."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.model.errors import MkupgradeError, NotSupportedError
from orchestrator.model.spec import Instance, UpgradeSpec
from orchestrator.model.spec.instances import NixosKernel
from orchestrator.nixos.errors import BootspecError, NotASystemError
from orchestrator.nixos.observing import booted_secrets, system_states
from orchestrator.nixos.resolving import resolve
from tests.support.hosts import spec_data
from tests.support.nixos import STORE, PretendNixos


def spec(nixos: dict[str, Any], kernel: dict[str, Any] | None = None, **rest: Any) -> UpgradeSpec:
    instance = {"name": "host", "kernel": {"nixos": nixos, **(kernel or {})}, **rest}
    return UpgradeSpec.model_validate(spec_data(instances=[instance]))


def resolved(nixos: PretendNixos, wanted: dict[str, Any], **rest: Any) -> Instance:
    return resolve(spec(wanted, **rest), nixos.places).instances[0]


@pytest.fixture
def host(nixos: PretendNixos) -> PretendNixos:
    old = nixos.system("old")
    nixos.boot(old)
    nixos.generation(1, old)
    nixos.generation(2, nixos.system("new", release="6.18.2", params=["quiet", "a=1 b=2"]))
    return nixos


def test_everything_comes_from_the_bootspec(host: PretendNixos) -> None:
    found = resolved(host, {"profile": "system"})
    kernel, cmdline = found.kernel, found.cmdline
    assert kernel.image == STORE / "linux-6.18.2/bzImage"
    assert kernel.initrd == STORE / "initrd-a/initrd"
    assert kernel.release == "6.18.2"
    assert kernel.toplevel == STORE / "new-nixos-system"
    assert kernel.nixos is None
    assert not cmdline.inherit
    assert cmdline.append == [f"init={STORE}/new-nixos-system/init", "quiet", "a=1", "b=2"]


@pytest.mark.parametrize(
    "wanted",
    [
        {"generation": 2},
        {"profile": "system", "generation": 2},
        {"system": str(STORE / "new-nixos-system")},
        {"system": "/nix/var/nix/profiles/system"},
    ],
)
def test_all_ways_to_name_a_system_lead_to_the_same_plan(
    host: PretendNixos, wanted: dict[str, Any]
) -> None:
    there = resolve(spec({"profile": "system"}), host.places)
    found = resolve(spec(wanted), host.places)
    assert found == there
    assert resolve(found, host.places) is found


def test_the_specs_own_edits_are_made_to_the_systems_parameters(host: PretendNixos) -> None:
    edits = {"remove": ["a=", "init="], "append": ["kho=on"]}
    found = resolved(host, {"generation": 2}, cmdline=edits)
    assert found.cmdline.append[1:] == ["quiet", "b=2", "kho=on"]
    assert found.cmdline.append[0].startswith("init=")
    bare = resolved(host, {"generation": 2}, cmdline={"inherit": False})
    assert [word.partition("=")[0] for word in bare.cmdline.append] == ["init"]


def test_other_keys_of_the_kernel_are_kept(host: PretendNixos) -> None:
    keys = {"sha256": "a" * 64, "initrd_sha256": "b" * 64, "signature": "none"}
    kernel = resolved(host, {"generation": 2}, kernel=keys).kernel
    assert (kernel.sha256, kernel.initrd_sha256, kernel.signature) == tuple(keys.values())


def test_modules_are_named_where_there_are_some(host: PretendNixos) -> None:
    assert resolved(host, {"generation": 2}).kernel.modules is None
    directory = STORE / "kernel-modules-6.18.2/lib/modules/6.18.2"
    (host.outside(directory) / "modules.dep").touch()
    assert resolved(host, {"generation": 2}).kernel.modules == directory


def test_a_specialisation_is_resolved_as_a_system_of_its_own(host: PretendNixos) -> None:
    inner = host.system("inner", release="6.18.9")
    outer = host.system("outer", specialisations={"rt": inner})
    kernel = resolved(host, {"system": str(outer), "specialisation": "rt"}).kernel
    assert (kernel.toplevel, kernel.release) == (inner, "6.18.9")


def test_a_flake_is_not_built_for_a_look(host: PretendNixos) -> None:
    with pytest.raises(NotSupportedError, match="not for a look"):
        resolved(host, {"flake": "/etc/nixos#web"})


@pytest.mark.parametrize(
    "flake", [".#web", "#web", "./x#web", "-x#web", '/x#we"b', "/x", "/x#", "/x#a#b", "/x y#a"]
)
def test_a_flake_of_a_plan_is_the_same_one_from_everywhere(flake: str) -> None:
    with pytest.raises(ValidationError):
        NixosKernel.model_validate({"flake": flake})


def test_the_program_that_appends_secrets_goes_into_the_plan(host: PretendNixos) -> None:
    program = PurePosixPath("/srv/append")
    top = host.system("secret", secrets=program)
    assert resolved(host, {"system": str(top)}).kernel.initrd_secrets == program
    assert booted_secrets(host.places) is None
    host.boot(top)
    assert booted_secrets(host.places) == str(program)


def test_secrets_without_an_initrd_are_refused(host: PretendNixos) -> None:
    top = host.system("odd", initrd=None, secrets=PurePosixPath("/srv/append"))
    with pytest.raises(BootspecError, match="initrd_secrets needs initrd"):
        resolved(host, {"system": str(top)})


@pytest.mark.parametrize(
    ("params", "says"),
    [(["quiet", "--", "single"], "arguments for init"), (['a"b"c"d"'], "no plan can hold")],
)
def test_parameters_that_no_plan_can_hold_are_refused(
    host: PretendNixos, params: list[str], says: str
) -> None:
    top = host.system("odd", params=params)
    with pytest.raises(BootspecError, match=says):
        resolved(host, {"system": str(top)})


def test_a_system_that_is_not_there_is_told(host: PretendNixos) -> None:
    with pytest.raises(NotASystemError, match="no generation 9"):
        resolved(host, {"generation": 9})
    with pytest.raises(NotASystemError, match="no NixOS system"):
        resolved(host, {"system": "/no/such"})


def test_without_modules_the_image_says_the_release_or_nobody_does(host: PretendNixos) -> None:
    top = host.system("bare", kernel="bare")
    (host.outside(top) / "kernel-modules").unlink()
    with pytest.raises(BootspecError, match="release is not known"):
        resolved(host, {"system": str(top)})


def test_a_spec_without_nixos_is_left_alone(host: PretendNixos) -> None:
    plain = UpgradeSpec.model_validate(spec_data())
    assert resolve(plain, host.places) is plain
    assert system_states(plain, host.places) == {}


def test_what_a_driver_sees_of_a_system_are_the_reasons(host: PretendNixos) -> None:
    wanted = resolve(spec({"generation": 2}), host.places)
    (state,) = system_states(wanted, host.places).values()
    assert [line.partition(":")[0] for line in state.reasons] == ["kernel", "parameters", "modules"]
    (host.run / "booted-system").unlink()
    (state,) = system_states(wanted, host.places).values()
    assert "this is no NixOS" in str(state.error)


def test_a_system_in_which_nobody_would_go_on_is_an_error(host: PretendNixos) -> None:
    wanted = resolve(spec({"generation": 2}), host.places)
    units = host.outside(STORE / "new-nixos-system") / "etc/systemd/system"
    (units / "basic.target.wants").mkdir(parents=True)
    (state,) = system_states(wanted, host.places).values()
    assert "does not start mkupgrade-resume.service" in str(state.error)
    (units / "basic.target.wants/mkupgrade-resume.service").touch()
    (state,) = system_states(wanted, host.places).values()
    assert state.error is None


def test_any_error_is_one_of_ours(host: PretendNixos) -> None:
    (host.outside(STORE / "new-nixos-system") / "boot.json").write_text("{}", encoding="utf-8")
    with pytest.raises(MkupgradeError):
        resolved(host, {"generation": 2})
