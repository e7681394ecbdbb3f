"""What a process holds in memory only."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.system import calls, open_files
from orchestrator.system.open_files import Mount, mount_of

MOUNTINFO = """\
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
22 21 0:21 / /proc rw,nosuid shared:2 - proc proc rw
24 21 0:23 / /run rw shared:3 master:1 - tmpfs tmpfs rw,size=100k
25 24 0:24 / /run/with\\040blank rw - tmpfs a\\040b rw
26 21 254:1 /sub /srv rw - ext4 /dev/vdb rw
27 24 254:1 / /run/disk rw - ext4 /dev/vdb rw
28 21 0:30 / /merged rw - overlay overlay rw,lowerdir=/,upperdir=/run/up,workdir=/run/w
not a line
29 21 0:x / /bad rw - tmpfs t rw
"""


@pytest.fixture
def mounts(tmp_path: Path) -> list[Mount]:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/mountinfo").write_text(MOUNTINFO)
    return open_files.mounts("self", tmp_path)


@pytest.mark.parametrize(
    ("path", "point", "volatile"),
    [
        ("/", "/", False),
        ("/etc/passwd", "/", False),
        ("/run", "/run", True),
        ("/run/x/../y", "/run", True),
        ("/running", "/", False),
        ("/run/with blank/x", "/run/with blank", True),
        ("/run/disk/x", "/run/disk", False),
        ("/srv/x", "/srv", False),
    ],
)
def test_the_innermost_mount_holds_a_path(
    path: str, point: str, volatile: bool, mounts: list[Mount]
) -> None:
    found = mount_of(path, mounts)
    assert found is not None
    assert (found.point, found.volatile) == (point, volatile)


def test_a_mount_on_top_hides_the_one_below(mounts: list[Mount]) -> None:
    on_top = Mount("/srv", "tmpfs", "tmpfs", (0, 99), "/", ())
    assert mount_of("/srv/x", [*mounts, on_top]) == on_top


def test_options_of_mount_and_file_system_are_told(mounts: list[Mount]) -> None:
    merged = mount_of("/merged", mounts)
    assert merged is not None
    assert "upperdir=/run/up" in merged.options
    assert len(mounts) == 7


@pytest.mark.parametrize(
    ("path", "lost_with"),
    [
        ("/srv/state", None),
        ("/run/state", "tmpfs"),
        ("/run/disk/state", None),
        ("/merged/state", "overlay on tmpfs"),
        ("/durable/state", None),
        ("/hidden/state", "an overlay that does not show what is below"),
        ("/dev/state", "devtmpfs"),
    ],
)
def test_an_overlay_is_lost_with_its_upper_layer(
    path: str, lost_with: str | None, mounts: list[Mount]
) -> None:
    def mount(point: str, kind: str, *options: str) -> Mount:
        return Mount(point, kind, kind, (0, 98), "/", options)

    more = [
        mount("/durable", "overlay", "rw", "lowerdir=/", "upperdir=/srv/up"),
        mount("/hidden", "overlay", "rw"),
        mount("/dev", "devtmpfs", "rw"),
    ]
    assert open_files.lost_at_reset(path, [*mounts, *more]) == lost_with


@given(st.text(max_size=200))
@example("21 1 \u00b2:0 / / rw - ext4 /dev/vda rw")
@example(f"21 1 {'9' * 5000}:0 / / rw - ext4 /dev/vda rw")
def test_no_line_raises(line: str) -> None:
    open_files._parse_mount(line)


def test_this_process_shows_what_it_has_open(tmp_path: Path) -> None:
    memory = calls.memfd("x")
    with (tmp_path / "gone").open("w") as gone, socket.socket() as sock:
        (tmp_path / "gone").unlink()
        found = {f.fd: f for f in open_files.open_files(os.getpid())}
        assert found[gone.fileno()].deleted
        assert found[gone.fileno()].target == str(tmp_path / "gone")
        assert not found[memory].is_path
        inode = os.fstat(sock.fileno()).st_ino
        assert found[sock.fileno()].socket_inode == inode
        assert inode in open_files.socket_inodes([os.getpid()])
    os.close(memory)


@pytest.mark.skipif(
    not open_files.is_volatile("/dev/shm/x"), reason="/dev/shm is no tmpfs on this machine"
)
def test_a_file_on_tmpfs_is_named_unless_it_is_deleted() -> None:
    path = Path(f"/dev/shm/mkupgrade-test-{os.getpid()}")
    with path.open("w"):
        try:
            assert str(path) in open_files.volatile_files([os.getpid()])
        finally:
            path.unlink()
        assert str(path) not in open_files.volatile_files([os.getpid()])


def test_a_process_that_is_gone_has_nothing_open() -> None:
    assert open_files.open_files(2**22 + 1) == []
    assert open_files.volatile_files([2**22 + 1]) == []
