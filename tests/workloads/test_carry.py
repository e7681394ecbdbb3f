"""Files on volatile file systems travel, and come back to such places only."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.model.errors import MkupgradeError, WorkloadError
from orchestrator.system import open_files
from orchestrator.workloads import carry
from orchestrator.workloads.meta import Carried, CarriedFile, Directory

SHM = Path("/dev/shm")


@pytest.fixture
def volatile() -> Iterator[Path]:
    """A directory of our own on a tmpfs."""
    if not open_files.is_volatile(SHM):
        pytest.skip("/dev/shm is no tmpfs here")
    path = SHM / f"mkupgrade-{uuid.uuid4().hex}"
    path.mkdir(mode=0o750)
    yield path
    for root, directories, names in os.walk(path, topdown=False):
        for name in names:
            (Path(root) / name).unlink()
        for name in directories:
            entry = Path(root) / name
            entry.unlink() if entry.is_symlink() else entry.rmdir()
    path.rmdir()


def taken(volatile: Path, tmp_path: Path) -> Carried:
    (volatile / "sub").mkdir(mode=0o711)
    (volatile / "sub").chmod(0o711)
    file = volatile / "sub" / "journal"
    file.write_bytes(b"1\n2\n")
    file.chmod(0o640)
    paths = [str(file)]
    return carry.take(paths, carry.directories_of(paths), tmp_path / "carry")


def wipe(volatile: Path) -> None:
    (volatile / "sub" / "journal").unlink()
    (volatile / "sub").rmdir()


def test_files_and_their_directories_come_back_as_they_were(volatile: Path, tmp_path: Path) -> None:
    carried = taken(volatile, tmp_path)
    assert [Path(d.path).name for d in carried.directories] == [volatile.name, "sub"]
    wipe(volatile)
    carry.verify(carried, tmp_path / "carry")
    assert carry.put_back(carried, tmp_path / "carry") == [str(volatile / "sub" / "journal")]
    file = volatile / "sub" / "journal"
    assert file.read_bytes() == b"1\n2\n"
    assert file.stat().st_mode & 0o7777 == 0o640
    assert file.parent.stat().st_mode & 0o7777 == 0o711


def test_in_the_same_kernel_what_is_there_is_left_alone(volatile: Path, tmp_path: Path) -> None:
    carried = taken(volatile, tmp_path)
    (volatile / "sub" / "journal").write_bytes(b"newer")
    carry.put_back(carried, tmp_path / "carry", replace=False)
    assert (volatile / "sub" / "journal").read_bytes() == b"newer"
    carry.put_back(carried, tmp_path / "carry")
    assert (volatile / "sub" / "journal").read_bytes() == b"1\n2\n"


def test_a_file_is_never_put_on_a_disk(tmp_path: Path, volatile: Path) -> None:
    """A handover that was tampered with must not replace /etc/shadow."""
    if open_files.is_volatile(tmp_path):
        pytest.skip("the temporary directory is a tmpfs here")
    carried = taken(volatile, tmp_path)
    target = tmp_path / "shadow"
    planted = carried.files[0].model_copy(update={"path": str(target)})
    with pytest.raises(WorkloadError, match="not volatile: refused"):
        carry.put_back(Carried(files=[planted]), tmp_path / "carry")
    assert not target.exists()
    directory = Directory(path=str(tmp_path / "new"), mode=0o755, uid=0, gid=0)
    with pytest.raises(WorkloadError, match="not volatile: refused"):
        carry.put_back(Carried(directories=[directory]), tmp_path / "carry")


def test_no_link_is_followed_on_the_way(volatile: Path, tmp_path: Path) -> None:
    carried = taken(volatile, tmp_path)
    wipe(volatile)
    (tmp_path / "elsewhere").mkdir()
    (volatile / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WorkloadError):
        carry.put_back(carried, tmp_path / "carry")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_link_in_the_place_of_the_file_is_replaced_not_followed(
    volatile: Path, tmp_path: Path
) -> None:
    carried = taken(volatile, tmp_path)
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    (volatile / "sub" / "journal").unlink()
    (volatile / "sub" / "journal").symlink_to(victim)
    carry.put_back(carried, tmp_path / "carry")
    assert victim.read_bytes() == b"untouched"
    assert not (volatile / "sub" / "journal").is_symlink()


def test_a_damaged_file_is_found_before_anything_is_put_back(
    volatile: Path, tmp_path: Path
) -> None:
    carried = taken(volatile, tmp_path)
    (tmp_path / "carry" / "000000").write_bytes(b"other")
    with pytest.raises(WorkloadError, match="damaged"):
        carry.verify(carried, tmp_path / "carry")


def test_what_is_no_regular_file_is_not_carried(volatile: Path, tmp_path: Path) -> None:
    os.mkfifo(volatile / "pipe")
    (volatile / "link").symlink_to("/etc/passwd")
    for name in ("pipe", "link"):
        with pytest.raises(MkupgradeError):
            carry.take([str(volatile / name)], [], tmp_path / f"carry-{name}")


def test_a_stored_name_cannot_lead_elsewhere() -> None:
    fields = {"path": "/run/x", "mode": 0o600, "uid": 0, "gid": 0, "size": 1, "sha256": "0" * 64}
    for stored in ("../../etc/shadow", "/etc/shadow", "1", ""):
        with pytest.raises(ValueError, match="stored"):
            CarriedFile(stored=stored, **fields)
