"""The disk that firmware boots from: a GPT with an ESP, and every file on it as it was given."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from orchestrator.model.errors import RehearsalError
from orchestrator.rehearsal import boot_disks, firmware
from orchestrator.rehearsal.kernels import RehearsalKernel
from orchestrator.rehearsal.tools import find_tool, run_tool

ESP_TYPE = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
"""UEFI specification, 5.3.3."""
SECTOR = 512
START = 1 << 20


def has_tools() -> bool:
    try:
        return bool(find_tool("sgdisk") and find_tool("mcopy"))
    except RehearsalError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not has_tools(), reason="sgdisk or mtools missing: scripts/bootstrap loaders")
def test_an_esp_holds_what_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKUPGRADE_CACHE", str(tmp_path))
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * 5000)
    given = {"EFI/BOOT/BOOTX64.EFI": large, "loader/entries/0-7.2.13+x.conf": b"title x\n"}
    disk = firmware.esp_disk(given)
    assert disk == firmware.esp_disk(given), "made once"

    table = disk.read_bytes()[: 3 * SECTOR]
    assert table[SECTOR : SECTOR + 8] == b"EFI PART"
    entry = table[2 * SECTOR :]
    assert uuid.UUID(bytes_le=entry[:16]) == ESP_TYPE
    assert int.from_bytes(entry[32:40], "little") * SECTOR == START
    for path, content in given.items():
        copy = tmp_path / "copy"
        copy.unlink(missing_ok=True)
        argv: list[str | Path] = ["mcopy", "-n", "-i", f"{disk}@@{START}", f"::/{path}", copy]
        run_tool(argv, timeout=30, what="read the ESP")
        assert copy.read_bytes() == (content if isinstance(content, bytes) else large.read_bytes())


def test_firmware_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firmware, "_OVMF", tmp_path)
    with pytest.raises(RehearsalError, match="no UEFI firmware") as caught:
        firmware.ovmf(tmp_path / "disk")
    assert caught.value.next_command == "apt-get install ovmf"


def test_every_kernel_has_an_entry_and_the_loader_is_where_firmware_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: dict[str, bytes | Path] = {}

    def keep(given: dict[str, bytes | Path]) -> Path:
        files.update(given)
        return tmp_path

    monkeypatch.setattr(boot_disks, "esp_disk", keep)
    monkeypatch.setattr(boot_disks, "_loader", lambda *_: tmp_path / "loader.efi")
    kernels = [
        RehearsalKernel(Path("a"), "7.2.12", Path("b")),
        RehearsalKernel(Path("c"), "7.3.4"),
    ]
    boot_disks.systemd_boot_disk(tmp_path, "0b1", kernels, "quiet", "7.2.12")
    assert files["EFI/BOOT/BOOTX64.EFI"] == tmp_path / "loader.efi"
    assert b"default 0b1-7.2.12.conf\n" in files["loader/loader.conf"]
    old, new = (files[f"loader/entries/0b1-{k.release}.conf"] for k in kernels)
    assert b"linux /0b1/7.2.12/linux\ninitrd /0b1/7.2.12/initrd\n" in old
    assert b"initrd" not in new
    assert (files["0b1/7.2.12/initrd"], files["0b1/7.3.4/linux"]) == (Path("b"), Path("c"))
