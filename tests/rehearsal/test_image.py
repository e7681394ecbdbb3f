"""Files laid over an image are there as asked, with the owner root, and nothing else changes."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from orchestrator.model.errors import RehearsalError
from orchestrator.rehearsal import image as image_module
from orchestrator.rehearsal.apt import AptHost
from orchestrator.rehearsal.image import (
    LayerFile,
    Recipe,
    copy_out,
    lay_over,
    names_in,
)
from orchestrator.rehearsal.tools import run_tool

pytestmark = pytest.mark.skipif(
    shutil.which("debugfs", path="/usr/sbin:/sbin:/usr/bin") is None, reason="needs e2fsprogs"
)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/hostname").write_text("old\n")
    (tree / "etc/kept").write_text("kept\n")
    target = tmp_path / "image.ext4"
    run_tool(["mke2fs", "-q", "-t", "ext4", "-d", tree, target, "8M"], timeout=30, what="test")
    return target


def read(image: Path, path: str, tmp_path: Path) -> bytes:
    target = tmp_path / "out"
    target.unlink(missing_ok=True)
    copy_out(image, path, target)
    return target.read_bytes()


def test_files_are_added_and_replaced_with_their_modes(image: Path, tmp_path: Path) -> None:
    source = tmp_path / "big"
    source.write_bytes(bytes(range(256)) * 4096)
    layer = {
        "/etc/hostname": LayerFile(b"new\n"),
        "/etc/deep/er/secret": LayerFile(b"s", 0o600),
        "/usr/bin/tool": LayerFile(source, 0o755),
        "/etc/link": "/etc/hostname",
    }
    lay_over(image, layer, tmp_path)
    assert read(image, "/etc/hostname", tmp_path) == b"new\n"
    assert read(image, "/usr/bin/tool", tmp_path) == source.read_bytes()
    assert read(image, "/etc/kept", tmp_path) == b"kept\n"
    assert {"deep", "hostname", "kept", "link"} <= set(names_in(image, "/etc"))
    said = run_tool(["debugfs", "-R", "stat /etc/deep/er/secret", image], timeout=10, what="test")
    assert "Mode:  0600" in said
    assert "User:     0" in said
    said = run_tool(["debugfs", "-R", "stat /usr/bin/tool", image], timeout=10, what="test")
    assert "Mode:  0755" in said
    run_tool(["e2fsck", "-fn", image], timeout=30, what="the file system is sound")


def test_a_file_that_is_not_there_is_an_error(image: Path, tmp_path: Path) -> None:
    with pytest.raises(RehearsalError):
        copy_out(image, "/etc/none", tmp_path / "out")


def test_an_image_without_room_is_an_error_not_a_short_file(image: Path, tmp_path: Path) -> None:
    with pytest.raises(RehearsalError):
        lay_over(image, {"/big": LayerFile(b"\1" * (16 << 20))}, tmp_path)


@pytest.mark.parametrize("path", ["/etc/a b", '/etc/"x"', "/etc/a\nrm /etc/kept", "/etc/a\\b"])
def test_a_path_that_debugfs_would_misread_is_refused(
    image: Path, tmp_path: Path, path: str
) -> None:
    with pytest.raises(RehearsalError, match="spaces or quotes"):
        lay_over(image, {path: LayerFile(b"")}, tmp_path)
    assert read(image, "/etc/kept", tmp_path) == b"kept\n"


def test_the_recipe_is_the_identity_of_the_tree() -> None:
    apt = AptHost("http://mirror.example/debian", None, ())
    plain = Recipe()
    assert plain.digest(apt) == Recipe().digest(apt)
    assert plain.digest(apt) != Recipe(suite="sid").digest(apt)
    assert plain.digest(apt) != Recipe(files={"/etc/x": "y"}).digest(apt)
    assert plain.digest(apt) != plain.digest(AptHost("http://other.example/debian", None, ()))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("fakeroot") is None, reason="needs fakeroot")
def test_without_root_owners_and_devices_survive_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree_tar = tmp_path / "tree.tar"
    with tarfile.open(tree_tar, "w") as archive:
        device = tarfile.TarInfo("./dev/null")
        device.type, device.mode = tarfile.CHRTYPE, 0o666
        device.devmajor, device.devminor = 1, 3
        owned = tarfile.TarInfo("./usr/bin/mount")
        owned.mode, owned.uid, owned.gid = 0o4755, 0, 42
        for member in (device, owned):
            archive.addfile(member)
    monkeypatch.setattr(image_module, "_IMAGE_SIZE", "8M")
    target = tmp_path / "image.ext4"
    image_module._tar_to_ext4(tree_tar, target, tmp_path)
    said = run_tool(["debugfs", "-R", "stat /usr/bin/mount", target], timeout=10, what="test")
    assert "Mode:  04755" in said
    assert "Group:    42" in said
    said = run_tool(["debugfs", "-R", "stat /dev/null", target], timeout=10, what="test")
    assert "character special" in said
