"""The file system and calls of the multikernel kernel: what is asked before anything is done."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.model.errors import ErrorClass, NotSupportedError, SystemCallError
from orchestrator.system.call_errors import BusyError, NotPermittedError
from orchestrator.system.guard import HostGuard
from orchestrator.system.multikernel import MAGIC, FileSystem
from orchestrator.system.multikernel_errors import GoneError
from tests.support.native import FakeCalls

Root = Callable[[dict[str, str | bytes]], Path]

FILES: dict[str, str | bytes] = {
    "device_tree": b"tree",
    "overlays/new": b"",
    "instances/web/id": "7\n",
    "instances/web/status": "loaded\n",
}

CHANGES: dict[str, Callable[[FileSystem, HostGuard], None]] = {
    "load": lambda fs, host: fs.load(host, "web", 7, kernel_fd=3, initrd_fd=None, cmdline="quiet"),
    "unload": lambda fs, host: fs.unload(host, "web", 7),
    "start": lambda fs, host: fs.start(host, "web", 7),
    "halt": lambda fs, host: fs.halt(host, "web", 7),
    "halt_force": lambda fs, host: fs.halt_force(host, "web", 7),
}


@pytest.fixture
def fs(fake_calls: FakeCalls, host_root: Root) -> FileSystem:
    """A directory that says it is the file system, and no native function behind it."""
    fake_calls.answers["sys_fstatfs_type"] = MAGIC
    return FileSystem(host_root(FILES))


def _made(fake_calls: FakeCalls) -> list[tuple[Any, ...]]:
    return [asked for asked in fake_calls.asked if asked[0] != "sys_fstatfs_type"]


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_without_the_file_systems_magic_no_call_is_made(
    change: str, fs: FileSystem, fake_calls: FakeCalls
) -> None:
    """The hazard: elsewhere these flags change the host's own image."""
    fake_calls.answers["sys_fstatfs_type"] = 0x62656572
    with pytest.raises(NotSupportedError, match="no multikernel file system is mounted"):
        CHANGES[change](fs, HostGuard.open())
    assert _made(fake_calls) == []


@pytest.mark.parametrize("change", sorted(CHANGES))
@pytest.mark.parametrize("said", ["8\n", "", "7 7\n", "77\n"])
def test_an_instance_of_another_id_is_not_touched(
    change: str, said: str, fs: FileSystem, fake_calls: FakeCalls
) -> None:
    (fs.root / "instances/web/id").write_text(said)
    with pytest.raises(GoneError, match="made anew"):
        CHANGES[change](fs, HostGuard.open())
    assert _made(fake_calls) == []


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_an_instance_that_is_not_there_is_gone(
    change: str, fs: FileSystem, fake_calls: FakeCalls
) -> None:
    (fs.root / "instances/web/id").unlink()
    with pytest.raises(GoneError) as caught:
        CHANGES[change](fs, HostGuard.open())
    assert str(caught.value.where).endswith("instances/web/id")
    assert _made(fake_calls) == []


def test_the_calls_have_the_flags_and_ids_of_the_interface(
    fs: FileSystem, fake_calls: FakeCalls
) -> None:
    host = HostGuard.open()
    for name in ("load", "unload", "start", "halt", "halt_force"):
        CHANGES[name](fs, host)
    fs.load(host, "web", 7, kernel_fd=3, initrd_fd=4, cmdline="a")
    load, unload, start, halt, force, with_initrd = _made(fake_calls)
    assert load == ("sys_kexec_file_load", 3, -1, b"quiet", 6, 0x10 | 7 << 5 | 4)
    assert (unload[1], unload[2], unload[4], unload[5]) == (-1, -1, 0, 0x1 | 0x10 | 7 << 5)
    assert start == ("sys_reboot_multikernel", 7)
    assert halt == ("sys_reboot_multikernel_halt", 7)
    assert force == ("sys_reboot_multikernel_halt_force", 7)
    assert with_initrd == ("sys_kexec_file_load", 3, 4, b"a", 2, 0x10 | 7 << 5)


def test_the_image_of_a_running_instance_is_not_unloaded(
    fs: FileSystem, fake_calls: FakeCalls
) -> None:
    (fs.root / "instances/web/status").write_text("active\n")
    with pytest.raises(BusyError, match="cannot be unloaded under it"):
        fs.unload(HostGuard.open(), "web", 7)
    assert _made(fake_calls) == []


@pytest.mark.parametrize("number", [0, -1, 512, 2048])
def test_an_id_that_no_flag_can_say_is_refused(
    number: int, fs: FileSystem, fake_calls: FakeCalls
) -> None:
    (fs.root / "instances/web/id").write_text(f"{number}\n")
    with pytest.raises(SystemCallError, match="no id of an instance"):
        fs.load(HostGuard.open(), "web", number, kernel_fd=3, initrd_fd=None, cmdline="")
    assert _made(fake_calls) == []


@pytest.mark.parametrize(
    ("change", "number", "kind", "error_class", "says"),
    [
        ("load", errno.EBUSY, BusyError, ErrorClass.BUSY, "has an image already"),
        ("load", errno.ENOEXEC, SystemCallError, ErrorClass.INVALID, "ELF vmlinux"),
        ("load", errno.EPERM, NotPermittedError, ErrorClass.REFUSED, "kexec_file_load"),
        ("unload", errno.ENOENT, GoneError, ErrorClass.INVALID, "no image"),
        ("start", errno.EINVAL, SystemCallError, ErrorClass.INVALID, "no image or no CPU"),
        ("start", errno.EBUSY, BusyError, ErrorClass.BUSY, "not at rest"),
        ("halt", errno.ETIMEDOUT, SystemCallError, ErrorClass.TIMEOUT, "30 s"),
        ("halt_force", errno.EBUSY, BusyError, ErrorClass.BUSY, "another kexec call"),
    ],
)
def test_each_refusal_of_the_kernel_says_what_it_means(
    change: str, number: int, kind: type[SystemCallError], error_class: ErrorClass, says: str,
    *, fs: FileSystem, fake_calls: FakeCalls,
) -> None:  # fmt: skip
    for name in ("sys_kexec_file_load", "sys_reboot_multikernel", "sys_reboot_multikernel_halt",
                 "sys_reboot_multikernel_halt_force"):  # fmt: skip
        fake_calls.answers[name] = -number
    with pytest.raises(kind, match=says) as caught:
        CHANGES[change](fs, HostGuard.open())
    assert caught.value.errno == number
    assert caught.value.error_class is error_class


def test_a_tree_is_written_whole_to_the_two_files_that_take_one(fs: FileSystem) -> None:
    host = HostGuard.open()
    fs.write(host, "overlays/new", b"x" * 4096)
    assert (fs.root / "overlays/new").stat().st_size == 4096
    for path, size in (("overlays/new", 4097), ("device_tree", (1 << 20) + 1),
                       ("overlays/new", 0), ("instances/web/id", 1)):  # fmt: skip
        with pytest.raises(SystemCallError, match="cannot be written there"):
            fs.write(host, path, b"y" * size)
    assert (fs.root / "device_tree").read_bytes() == b"tree"


def test_files_are_read_whole_or_refused(fs: FileSystem) -> None:
    (fs.root / "device_tree").write_bytes(b"z" * 9000)
    assert fs.read("device_tree", 9000) == b"z" * 9000
    with pytest.raises(SystemCallError, match="more than 8999 bytes"):
        fs.read("device_tree", 8999)
    assert sorted(fs.names("instances/web")) == ["id", "status"]


@pytest.mark.parametrize("path", ["../x", "a/../b", "/etc/passwd", "a//b", ".", "", "a/", "a\0b"])
def test_no_path_leads_out_of_the_file_system(path: str, fs: FileSystem) -> None:
    with pytest.raises(SystemCallError, match="no path"):
        fs.read(path, 10)


def test_links_are_not_followed(fs: FileSystem) -> None:
    (fs.root / "link").symlink_to("/etc/hostname")
    with pytest.raises(SystemCallError):
        fs.read("link", 1000)


def test_a_kernel_without_the_file_system_says_so(tmp_path: Path, fake_calls: FakeCalls) -> None:
    fake_calls.answers["sys_fstatfs_type"] = 0x62656572
    assert "CONFIG_MULTIKERNEL" in str(FileSystem(tmp_path / "none").why_not())
    assert "mounted" in str(FileSystem(tmp_path).why_not())
    fake_calls.answers["sys_fstatfs_type"] = MAGIC
    assert FileSystem(tmp_path).why_not() is None
    assert FileSystem().root == Path("/sys/fs/multikernel")
