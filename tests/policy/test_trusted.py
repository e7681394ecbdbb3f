"""Paths that only their owner can change, and every way in which others could."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.system import trusted
from orchestrator.system.trusted import Trust, UntrustedPathError

Put = Callable[..., Path]


def refused(path: Path, trust: Trust) -> UntrustedPathError:
    with pytest.raises(UntrustedPathError) as caught:
        trusted.resolve(path, trust)
    return caught.value


def test_what_only_root_can_change_is_trusted(put: Put, trust: Trust) -> None:
    path = put("boot/vmlinuz", b"kernel")
    assert trusted.resolve(path, trust) == path
    assert trusted.read(path, 100, trust) == b"kernel"


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_can_write_is_refused(put: Put, trust: Trust, mode: int) -> None:
    path = put("boot/vmlinuz", b"", mode)
    error = refused(path, trust)
    assert f"can be written by others (mode {mode:04o})" in error.what
    assert error.next_command == f"chmod go-w {path}"


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777, 0o1777, 0o1757])
def test_a_directory_above_that_others_can_write_is_refused(
    root: Path, put: Put, trust: Trust, mode: int
) -> None:
    path = put("boot/deep/er/vmlinuz")
    (root / "boot" / "deep").chmod(mode)
    assert str(root / "boot" / "deep") in refused(path, trust).what


def test_names_of_ours_in_a_sticky_directory_of_a_group_are_trusted(
    root: Path, put: Put, trust: Trust
) -> None:
    """The Nix store is root:nixbld, mode 1775."""
    path = put("store/hash-linux/bzImage")
    (root / "store").chmod(0o1775)
    assert trusted.resolve(path, trust) == path


def test_links_of_ours_are_followed(root: Path, put: Put, trust: Trust) -> None:
    path = put("store/linux/bzImage")
    (root / "boot/current").symlink_to("../store/linux")
    (root / "boot/kernel").symlink_to(root / "boot/current/bzImage")
    assert trusted.resolve(root / "boot/kernel", trust) == path


def test_a_link_into_a_place_of_others_is_refused(root: Path, put: Put, trust: Trust) -> None:
    put("tmp/evil")
    (root / "tmp").chmod(0o777)
    (root / "boot/kernel").symlink_to(root / "tmp/evil")
    assert str(root / "tmp") in refused(root / "boot/kernel", trust).what


def test_a_link_that_others_put_there_is_not_followed(root: Path, put: Put, trust: Trust) -> None:
    put("boot/kernel")
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o777)
    (root / "tmp/link").symlink_to(root / "boot/kernel")
    assert str(root / "tmp") in refused(root / "tmp/link", trust).what


def test_what_belongs_to_somebody_else_is_refused(put: Put, trust: Trust) -> None:
    path = put("boot/kernel")
    error = refused(path, Trust(owner=trust.owner + 1, top=path))
    assert f"belongs to user {trust.owner}" in error.what


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_directory_of_somebody_else_is_refused(root: Path, put: Put, trust: Trust) -> None:
    path = put("boot/sub/kernel")
    os.chown(root / "boot/sub", 12345, -1)
    error = refused(path, trust)
    assert "belongs to user 12345" in error.what
    assert error.next_command == f"chown {trust.owner} {root / 'boot/sub'}"


def test_links_in_a_circle_end(root: Path, trust: Trust) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        trusted.resolve(root / "a", trust)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_not_read(
    root: Path, trust: Trust, make: Callable[[Path], None]
) -> None:
    make(root / "thing")
    (root / "thing").chmod(0o755)
    with pytest.raises((UntrustedPathError, OSError)):
        trusted.read(root / "thing", 100, trust)


def test_no_more_is_read_than_allowed(put: Put, trust: Trust) -> None:
    with pytest.raises(UntrustedPathError, match="larger than 3 bytes"):
        trusted.read(put("x", b"four"), 3, trust)


def test_the_real_root_is_trusted() -> None:
    assert trusted.resolve(Path("/")) == Path("/")
