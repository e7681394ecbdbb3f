"""The archive: what tar can read, and nothing else comes in."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.handover import archive
from orchestrator.handover.frame import SIZE
from orchestrator.handover.payload import (
    unpack_payload,
    verify_directory,
    verify_payload,
    write_payload,
)
from orchestrator.model.errors import HandoverError
from tests.support.profile import examples


def packed(root: Path) -> bytes:
    out = io.BytesIO()
    archive.write(root, out)
    return out.getvalue()


def unpacked(data: bytes, into: Path) -> dict[str, bytes | None]:
    into.mkdir(mode=0o700)
    archive.read(io.BytesIO(data), into)
    return tree(into)


def tree(root: Path) -> dict[str, bytes | None]:
    return {
        str(p.relative_to(root)): None if p.is_dir() else p.read_bytes() for p in root.rglob("*")
    }


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    root = tmp_path / "sample"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "sub.img").write_bytes(b"sorts after what is in sub")
    (root / "sub" / "deep" / ("long-" * 30)).write_bytes(b"pax")
    (root / "sub" / "é €").write_bytes(b"")
    (root / "pages").write_bytes(os.urandom(3_000_001))
    (root / "run").write_bytes(b"#!")
    (root / "run").chmod(0o755)
    return root


def test_what_goes_in_comes_out(sample: Path, tmp_path: Path) -> None:
    assert unpacked(packed(sample), tmp_path / "out") == tree(sample)
    modes = {p.name: p.stat().st_mode & 0o7777 for p in (tmp_path / "out").rglob("*")}
    assert modes["run"] == modes["sub"] == 0o700
    assert modes["pages"] == 0o600


def test_tar_reads_it(sample: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(packed(sample))) as found:
        names = {m.name: m.size for m in found}
    assert names == {name: len(content or b"") for name, content in tree(sample).items()}


def test_the_same_content_gives_the_same_bytes(sample: Path, tmp_path: Path) -> None:
    first = packed(sample)
    for path in sample.rglob("*"):
        os.utime(path, (1, 1))
    assert packed(sample) == first


_name = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=60)
_content = st.binary(max_size=1500)


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.dictionaries(
        _name, st.dictionaries(_name, _content, max_size=4) | _content, max_size=6
    )
)
def test_any_tree_round_trips(files: dict[str, dict[str, bytes] | bytes], tmp_path: Path) -> None:
    root = tmp_path / os.urandom(6).hex()
    root.mkdir()
    for name, content in files.items():
        if name in (".", ".."):
            continue
        if isinstance(content, bytes):
            (root / name).write_bytes(content)
            continue
        (root / name).mkdir()
        for inner, data in content.items():
            if inner not in (".", ".."):
                (root / name / inner).write_bytes(data)
    assert unpacked(packed(root), tmp_path / os.urandom(6).hex()) == tree(root)


def foreign(*members: tuple[str, bytes, bytes]) -> bytes:
    """An archive made by Python's tarfile: (name, type, content)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as made:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.mode = kind, len(content), 0o600
            info.linkname = "/etc/shadow" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            made.addfile(info, io.BytesIO(content))
    return out.getvalue()


def ours(*members: tuple[bytes, bytes, int, bytes]) -> bytes:
    """An archive with our own headers: (name, type, mode, content)."""
    data = b""
    for name, kind, mode, content in members:
        data += archive._header(name, kind, mode, len(content)) + archive._padded(content)
    return data + bytes(1024)


@pytest.mark.parametrize(
    "data",
    [
        foreign(("x", tarfile.SYMTYPE, b"")),
        foreign(("x", tarfile.LNKTYPE, b"")),
        foreign(("x", tarfile.CHRTYPE, b"")),
        foreign(("x", tarfile.FIFOTYPE, b"")),
        ours((b"../x", b"0", 0o600, b"")),
        ours((b"/etc/x", b"0", 0o600, b"")),
        ours((b"a/../x", b"0", 0o600, b"")),
        ours((b"./x", b"0", 0o600, b"")),
        ours((b"x/", b"5", 0o700, b"")),
        ours((b"", b"0", 0o600, b"")),
        ours((b"dir/x", b"0", 0o600, b"")),
        ours((b"x", b"0", 0o600, b"1"), (b"x", b"0", 0o600, b"2")),
        ours((b"x", b"0", 0o600, b""), (b"x/y", b"0", 0o600, b"")),
        ours((b"b", b"0", 0o600, b""), (b"a", b"0", 0o600, b"")),
        ours((b"x", b"2", 0o600, b"")),
        ours((b"x", b"5", 0o700, b"content")),
        ours((b"x", b"0", 0o4755, b"")),
        ours((b"x", b"0", 0o600, b""))[:-1],
        ours((b"x", b"0", 0o600, b"")) + b"\0",
        ours((b"x", b"0", 0o600, b"y"))[:512],
        ours((b"x", b"0", 0o600, b"y"))[:700] + b"\1" + ours((b"x", b"0", 0o600, b"y"))[701:],
        ours((b"././@PaxHeader", b"x", 0o600, b"20 path=" + b"y" * 11 + b"\n")),
        ours((b"././@PaxHeader", b"x", 0o600, b"15 uname=roots\n"), (b"x", b"0", 0o600, b"")),
        ours((b"././@PaxHeader", b"x", 0o600, b"9" * 5000)),
        b"",
    ],
)
def test_what_no_handover_writes_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(HandoverError):
        unpacked(data, tmp_path / "out")
    assert not (tmp_path / "x").exists()


def test_a_hostile_directory_is_not_packed(tmp_path: Path) -> None:
    for make in (
        lambda p: p.symlink_to("/etc"),
        os.mkfifo,
        lambda p: os.mknod(p, 0o600 | 0o020000, os.makedev(1, 3)),
    ):
        root = tmp_path / os.urandom(4).hex()
        root.mkdir()
        try:
            make(root / "x")
        except PermissionError:
            continue
        with pytest.raises(HandoverError, match="not a file or directory"):
            packed(root)


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_archive_is_refused_or_read_within_its_directory(
    data: st.DataObject, tmp_path: Path
) -> None:
    whole = bytearray(ours((b"a", b"5", 0o700, b""), (b"a/x", b"0", 0o600, b"y" * 700)))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    box = tmp_path / os.urandom(6).hex()
    box.mkdir()
    with suppress(HandoverError):
        unpacked(bytes(whole), box / "in")
    assert [p.name for p in box.iterdir()] == ["in"]


@pytest.mark.slow
def test_64_mib_pass_through_in_constant_memory(tmp_path: Path) -> None:
    import tracemalloc

    root = tmp_path / "big"
    root.mkdir()
    with (root / "pages-1.img").open("wb") as file:
        for number in range(65):
            file.write(bytes([number]) * (1 << 20))
    fd = os.memfd_create("big")
    tracemalloc.start()
    header = write_payload(root, fd, 1)
    verify_payload(fd, header, "token 1")
    unpack_payload(fd, header.length, tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert header.length > 65 << 20
    assert peak < 8 << 20
    assert verify_directory(tmp_path / "out", header)
    digest = hashlib.sha256()
    with os.fdopen(fd, "rb") as body:
        body.seek(SIZE)
        while chunk := body.read(1 << 20):
            digest.update(chunk)
    assert digest.hexdigest() == header.sha256
