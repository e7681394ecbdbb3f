"""Boot loaders, from what their tools write."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.model.errors import NotSupportedError, ToolError
from orchestrator.model.host import BootState
from orchestrator.system import boot_loaders, grub, subprocesses
from orchestrator.system.guard import HostGuard
from tests.support.loaders import GRUB_CFG, NEW, OLD, Tools, grubenv
from tests.support.native import FakeCalls

Root = Callable[[dict[str, str | bytes]], Path]


def grub_host(host_root: Root, text: str = GRUB_CFG, **environment: str) -> Path:
    return host_root({"boot/grub/grub.cfg": text, "boot/grub/grubenv": grubenv(**environment)})


def test_the_entries_of_grub_are_read_with_their_releases(host_root: Root) -> None:
    found = boot_loaders.observe(grub_host(host_root, saved_entry=OLD))
    assert found.loader == "grub"
    assert found.entries == {
        "gnulinux-simple-11": "7.3.4+deb13-amd64",
        NEW: "7.3.4+deb13-amd64",
        "gnulinux-advanced-11>gnulinux-7.3.4+deb13-amd64-recovery-11":
            "Debian GNU/Linux, with Linux 7.3.4+deb13-amd64 (recovery mode)",
        OLD: "7.2.12+deb13-amd64",
        "Windows": "Windows",
    }  # fmt: skip
    assert (found.default, found.once) == (OLD, None)


@pytest.mark.parametrize(
    ("saved", "default"),
    [
        ("0", "gnulinux-simple-11"),
        ("1>2", OLD),
        ("1", NEW),
        ("Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux 7.2.12+deb13-amd64",
         OLD),
        ("9", None),
        ("gone", None),
        ("1>9", None),
        ("\u00b2", None),
        ("9" * 400, None),
    ],
)  # fmt: skip
def test_a_default_may_be_a_number_a_title_or_an_id(
    saved: str, default: str | None, host_root: Root
) -> None:
    assert boot_loaders.observe(grub_host(host_root, saved_entry=saved)).default == default


def test_an_entry_for_the_next_boot_only_is_told(host_root: Root) -> None:
    found = boot_loaders.observe(grub_host(host_root, saved_entry=OLD, next_entry=NEW))
    assert (found.default, found.once) == (OLD, NEW)


def test_the_entry_that_names_its_release_goes_before_the_newest_one(host_root: Root) -> None:
    found = boot_loaders.observe(grub_host(host_root))
    assert boot_loaders.entry_for(found, "7.3.4+deb13-amd64") == NEW
    assert boot_loaders.entry_for(found, "7.2.12+deb13-amd64") == OLD
    assert boot_loaders.entry_for(found, "6.1") is None


def test_two_entries_of_one_release_are_not_guessed_between() -> None:
    state = BootState(loader="grub", entries={"a": "7.3", "b": "7.3"})
    assert boot_loaders.entry_for(state, "7.3") is None


def test_grub_with_a_fixed_default_cannot_be_set(host_root: Root) -> None:
    text = GRUB_CFG.replace('"${saved_entry}"', '"0"')
    root = grub_host(host_root, text)
    state = boot_loaders.observe(root)
    assert state.default == "gnulinux-simple-11"
    found = boot_loaders.capability(state, root)
    assert not found.available
    assert "GRUB_DEFAULT=saved" in found.reason


def test_bls_entries_are_those_of_grub_with_blscfg(host_root: Root) -> None:
    text = 'set default="${saved_entry}"\nblscfg\n'
    root = host_root(
        {
            "boot/grub2/grub.cfg": text,
            "boot/grub2/grubenv": grubenv(saved_entry="0b1-7.2.13"),
            "boot/loader/entries/0b1-7.2.13.conf":
                "title Fedora (7.2.13)\nversion 7.2.13\nlinux /vmlinuz-7.2.13\noptions ro\n",
            "boot/loader/entries/0b1-7.3.4.conf": "title Fedora\nlinux /vmlinuz-7.3.4\n",
        }
    )  # fmt: skip
    found = boot_loaders.observe(root)
    assert found.entries == {"0b1-7.3.4": "7.3.4", "0b1-7.2.13": "7.2.13"}
    assert found.default == "0b1-7.2.13"


@pytest.mark.parametrize("text", ["", "}}}}", "menuentry {", "menuentry 'x' {\n" * 50, "\0"])
def test_a_damaged_grub_cfg_offers_less_and_raises_nothing(text: str, host_root: Root) -> None:
    assert boot_loaders.observe(grub_host(host_root, text)).loader == "grub"


def test_a_host_without_a_loader_says_so(tmp_path: Path) -> None:
    state = boot_loaders.observe(tmp_path)
    assert state == BootState()
    assert "no boot loader found" in boot_loaders.capability(state, tmp_path).reason


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    found = Tools(tmp_path)
    monkeypatch.setattr(subprocesses, "run", found.run)
    monkeypatch.setattr(
        subprocesses, "available", lambda p: p if p.startswith(("grub-", "bootctl")) else None
    )
    return found


def test_grub_is_set_by_its_own_tool_and_read_back(
    host_root: Root, tools: Tools, fake_calls: FakeCalls
) -> None:
    root = grub_host(host_root, saved_entry=OLD, next_entry=NEW)
    state = boot_loaders.observe(root)
    assert boot_loaders.capability(state, root).available
    boot_loaders.set_default(HostGuard.open(), state, NEW, root)
    assert boot_loaders.observe(root).default == NEW
    assert tools.ran == [
        ["grub-set-default", f"--boot-directory={root / 'boot'}", NEW],
        ["grub-editenv", str(root / "boot/grub/grubenv"), "unset", "next_entry"],
    ]


def test_what_grub_is_told_is_where_grub_reads_it_before_it_counts(
    host_root: Root, tools: Tools, fake_calls: FakeCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GRUB replays no journal: fsync alone may leave the new blocks of grubenv in there."""
    synced_after: list[int] = []
    monkeypatch.setattr(os, "sync", lambda: synced_after.append(len(tools.ran)))
    root = grub_host(host_root, saved_entry=OLD)
    boot_loaders.set_default(HostGuard.open(), boot_loaders.observe(root), NEW, root)
    assert synced_after == [len(tools.ran)]


@pytest.mark.parametrize(
    ("loader", "command"),
    [("systemd-boot", "bootctl set-default 'a b'"), ("grub", "grub-set-default 'a b'")],
)
def test_the_command_that_sets_a_default_can_be_copied(loader: Any, command: str) -> None:
    assert boot_loaders.command_to_set_default(BootState(loader=loader), "a b") == command


def test_a_default_that_was_not_taken_is_an_error(
    host_root: Root, tools: Tools, fake_calls: FakeCalls
) -> None:
    root = grub_host(host_root, saved_entry=OLD)
    tools.broken = True
    with pytest.raises(ToolError, match="holds"):
        boot_loaders.set_default(HostGuard.open(), boot_loaders.observe(root), NEW, root)


def test_an_entry_that_is_not_there_is_refused(
    host_root: Root, tools: Tools, fake_calls: FakeCalls
) -> None:
    root = grub_host(host_root)
    with pytest.raises(NotSupportedError, match="has no entry"):
        boot_loaders.set_default(HostGuard.open(), boot_loaders.observe(root), "x", root)
    assert tools.ran == []


LISTED = [
    {"type": "type1", "id": "debian-7.3.4.conf", "title": "Debian", "version": "7.3.4+deb13-amd64",
     "linux": "/0b1/7.3.4+deb13-amd64/linux", "isDefault": True, "isSelected": False},
    {"type": "type1", "id": "debian-7.2.12.conf", "title": "Debian",
     "linux": "/0b1/7.2.12+deb13-amd64/linux", "isDefault": False},
    {"type": "type1", "id": "nixos-generation-3.conf", "title": "NixOS",
     "version": "Generation 3 NixOS, Linux Kernel 7.2.13", "linux": "/EFI/nixos/x-bzImage.efi"},
    {"type": "auto", "id": "auto-reboot-to-firmware-setup", "title": "Reboot Into Firmware"},
    {"title": "no id"},
]  # fmt: skip


def efi(name: str, value: str) -> dict[str, str | bytes]:
    path = f"sys/firmware/efi/efivars/{name}-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
    return {path: b"\x06\0\0\0" + f"{value}\0".encode("utf-16-le")}


def test_systemd_boot_is_told_by_the_firmware_and_asked_through_bootctl(
    host_root: Root, tools: Tools
) -> None:
    tools.entries = [dict(entry) for entry in LISTED]
    root = host_root(
        {
            **efi("LoaderInfo", "systemd-boot 262"),
            **efi("LoaderEntryOneShot", "debian-7.2.12.conf"),
            "boot/grub/grub.cfg": GRUB_CFG,
        }
    )
    found = boot_loaders.observe(root)
    assert found.loader == "systemd-boot"
    assert (found.default, found.once) == ("debian-7.3.4.conf", "debian-7.2.12.conf")
    assert found.entries["debian-7.3.4.conf"] == "7.3.4+deb13-amd64"
    assert found.entries["debian-7.2.12.conf"] == "7.2.12+deb13-amd64"
    assert len(found.entries) == 4
    assert boot_loaders.capability(found, root).reason == "systemd-boot 262, set by bootctl"


@pytest.mark.parametrize(("set_to", "default"), [("old.conf", "old.conf"), (None, None)])
def test_what_bootctl_calls_the_default_may_be_the_entry_for_one_boot(
    set_to: str | None, default: str | None, host_root: Root, tools: Tools
) -> None:
    tools.entries = [
        {"id": "new.conf", "version": "7.3.4", "isDefault": True},
        {"id": "old.conf", "version": "7.2.12", "isDefault": False},
    ]
    variables = {**efi("LoaderInfo", "systemd-boot 262"), **efi("LoaderEntryOneShot", "new.conf")}
    if set_to is not None:
        variables |= efi("LoaderEntryDefault", set_to)
    found = boot_loaders.observe(host_root(variables))
    assert (found.default, found.once) == (default, "new.conf")


def test_a_preferred_entry_makes_every_default_useless(host_root: Root, tools: Tools) -> None:
    tools.entries = [dict(entry) for entry in LISTED]
    variables = efi("LoaderInfo", "systemd-boot 262")
    root = host_root({**variables, **efi("LoaderEntryPreferred", "debian-7.2.12.conf")})
    found = boot_loaders.capability(boot_loaders.observe(root), root)
    assert not found.available
    assert "bootctl set-preferred ''" in found.reason


def test_systemd_boot_is_set_and_read_back(
    host_root: Root, tools: Tools, fake_calls: FakeCalls
) -> None:
    tools.entries = [dict(entry) for entry in LISTED]
    root = host_root(efi("LoaderInfo", "systemd-boot 262"))
    state = boot_loaders.observe(root)
    boot_loaders.set_default(HostGuard.open(), state, "debian-7.2.12.conf", root)
    assert ["bootctl", "set-default", "debian-7.2.12.conf"] in tools.ran
    assert ["bootctl", "set-oneshot", ""] in tools.ran
    tools.broken = True
    with pytest.raises(ToolError, match="it is"):
        boot_loaders.set_default(HostGuard.open(), state, "debian-7.3.4.conf", root)


def test_another_efi_loader_is_not_taken_for_systemd_boot(host_root: Root) -> None:
    root = host_root({**efi("LoaderInfo", "GRUB 2.12"), "boot/grub/grub.cfg": GRUB_CFG})
    assert boot_loaders.observe(root).loader == "grub"


def test_a_damaged_grubenv_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "grubenv"
    path.write_text("saved_entry=0\n")
    assert grub.read_environment(path) == {}
