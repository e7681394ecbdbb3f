"""What is preloaded is the staged system's, or nothing; what others have loaded stays."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

import pytest

from orchestrator.model.errors import MkupgradeError
from orchestrator.nixos import preloading, staging, systems
from orchestrator.nixos.staging import Preloaded, Staged
from orchestrator.system.limited import Limited
from tests.support.kexec import PretendKexec
from tests.support.nixos import PretendNixos

BOOT = "boot-1"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory whose note says that something was staged."""
    staging.remember(tmp_path / "state", Staged(toplevel="/store/x", boot_id=BOOT))
    return tmp_path / "state"


def load(nixos: PretendNixos, machine: PretendKexec, top: PurePosixPath, state: Path) -> None:
    preloading.load(
        machine,
        nixos.places,
        systems.read_system(nixos.places, top),
        state_dir=state,
        boot_id=BOOT,
        scratch=state.parent / "run",
        control=Limited(20),
    )


def test_kernel_initrd_and_command_line_are_those_of_its_boot_json(
    nixos: PretendNixos, state: Path
) -> None:
    machine = PretendKexec()
    top = nixos.system("new", release="6.18.2", params=["console=ttyS0", 'x="a b"', "--", "s"])
    load(nixos, machine, top, state)
    image = nixos.outside(nixos.store / "linux-6.18.2/bzImage")
    assert machine.loaded == (image, f'init={top}/init console=ttyS0 x="a b" -- s')
    assert machine.sha256 == hashlib.sha256(image.read_bytes()).hexdigest()
    assert machine.initrd == b"initrd a"
    assert staging.preloaded(state, BOOT) == Preloaded(toplevel=str(top), boot_id=BOOT)


def test_secrets_are_loaded_and_left_nowhere(nixos: PretendNixos, state: Path) -> None:
    program = nixos.store / "append-secrets"
    top = nixos.system("new", secrets=program)
    nixos.outside(program).write_text('#!/bin/sh\nprintf " secret" >> "$1"\n', encoding="ascii")
    nixos.outside(program).chmod(0o755)
    machine = PretendKexec()
    load(nixos, machine, top, state)
    assert machine.initrd == b"initrd a secret"
    assert list((state.parent / "run").iterdir()) == []


def test_what_was_not_loaded_is_not_claimed(nixos: PretendNixos, state: Path) -> None:
    machine = PretendKexec(fails=MkupgradeError("no room"))
    with pytest.raises(MkupgradeError, match="no room"):
        load(nixos, machine, nixos.system("new"), state)
    assert staging.preloaded(state, BOOT) is None


def test_a_crash_inside_the_call_leaves_an_image_that_is_known(
    nixos: PretendNixos, state: Path
) -> None:
    machine = PretendKexec(dies_behind=True)
    with pytest.raises(KeyboardInterrupt):
        load(nixos, machine, nixos.system("new"), state)
    assert preloading.is_ours(machine, state, BOOT)
    assert preloading.drop(machine, state, BOOT) is not None
    assert machine.loaded is None


def test_only_what_this_boot_preloaded_is_dropped(nixos: PretendNixos, state: Path) -> None:
    machine = PretendKexec()
    load(nixos, machine, nixos.system("new"), state)
    assert preloading.drop(machine, state, "another boot") is None
    assert machine.loaded is not None
    dropped = preloading.drop(machine, state, BOOT)
    assert dropped is not None
    assert machine.loaded is None
    machine.loaded = (Path("/somebody/else"), "")
    assert preloading.drop(machine, state, BOOT) is None
    assert not preloading.is_ours(machine, state, BOOT)
    assert machine.loaded is not None


def test_what_cannot_be_unloaded_is_claimed_still(nixos: PretendNixos, state: Path) -> None:
    machine = PretendKexec()
    load(nixos, machine, nixos.system("new"), state)
    machine.fails = MkupgradeError("no permit")
    with pytest.raises(MkupgradeError, match="no permit"):
        preloading.drop(machine, state, BOOT)
    assert preloading.is_ours(machine, state, BOOT)


def test_an_image_that_somebody_unloaded_is_forgotten(nixos: PretendNixos, state: Path) -> None:
    machine = PretendKexec()
    load(nixos, machine, nixos.system("new"), state)
    machine.loaded = None
    assert preloading.drop(machine, state, BOOT) is None
    assert staging.preloaded(state, BOOT) is None
