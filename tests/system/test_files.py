"""Files: replaced whole or not at all, private, and reached through no link."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from orchestrator.model.errors import ErrorClass, MkupgradeError, NotSupportedError, SystemCallError
from orchestrator.system import files


def test_a_durable_write_replaces_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "state"
    files.write_durably(path, b"one")
    files.write_durably(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "state"
    files.write_durably(path, b"old")
    with pytest.raises(ZeroDivisionError), files.durable_file(path) as file:
        file.write(b"half of the new")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_data_is_on_disk_before_the_name_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    really_sync, really_replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("sync"), really_sync(fd))[1])
    monkeypatch.setattr(
        Path, "replace", lambda self, to: (order.append("rename"), really_replace(self, to))[1]
    )
    files.write_durably(tmp_path / "state", b"x")
    assert order == ["sync", "rename", "sync"]


def test_a_full_disk_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SystemCallError, match="no space left") as error:
        files.write_durably(tmp_path / "state", b"x")
    assert error.value.error_class is ErrorClass.IO
    assert list(tmp_path.iterdir()) == []


def test_a_link_a_pipe_and_a_directory_are_no_regular_files(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to("real")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", ".", "missing"):
        with pytest.raises(SystemCallError):
            files.open_regular(tmp_path / name)
    with files.open_regular(tmp_path / "real") as file:
        assert file.read() == b"x"
    with files.open_followed(tmp_path / "link") as file:
        assert file.read() == b"x"


def test_reading_stops_at_the_limit(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(100))
    assert files.read_regular(tmp_path / "x", 100) == bytes(100)
    with pytest.raises(SystemCallError):
        files.read_regular(tmp_path / "x", 99)


def test_a_private_directory_is_made_and_held_to(tmp_path: Path) -> None:
    path = tmp_path / "a" / "state"
    assert files.make_private_directory(path) == path
    assert path.stat().st_mode & 0o777 == 0o700
    files.make_private_directory(path)
    path.chmod(0o750)
    with pytest.raises(MkupgradeError, match="open to others") as error:
        files.make_private_directory(path)
    assert error.value.next_command == f"chmod 700 {path}"


def test_a_link_is_no_private_directory(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(MkupgradeError, match="links are not followed"):
        files.make_private_directory(tmp_path / "link")


def test_a_digest_counts_and_streams(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    (tmp_path / "x").write_bytes(data)
    assert files.sha256_path(tmp_path / "x") == (hashlib.sha256(data).hexdigest(), len(data))


def test_the_digest_of_a_tree_sees_every_change(tmp_path: Path) -> None:
    root = tmp_path / "t"
    (root / "d").mkdir(parents=True)
    (root / "d/x").write_bytes(b"abc")
    (root / "l").symlink_to("d")
    seen = {files.sha256_tree(root)[0]}
    assert files.sha256_tree(root)[1] == 3
    for change in (
        lambda: (root / "d/x").write_bytes(b"abd"),
        lambda: (root / "d/x").chmod(0o755),
        lambda: (root / "d/x").rename(root / "d/y"),
        lambda: ((root / "l").unlink(), (root / "l").symlink_to("e")),
        (root / "empty").mkdir,
    ):
        change()
        digest, _ = files.sha256_tree(root)
        assert digest not in seen
        seen.add(digest)


def test_too_little_room_says_how_much(tmp_path: Path) -> None:
    files.require_free(tmp_path / "not" / "yet", 1)
    with pytest.raises(NotSupportedError, match="bytes are needed") as error:
        files.require_free(tmp_path, 1 << 62)
    assert error.value.error_class is ErrorClass.IO
