"""Decompression: bounded, and never an exception of a library."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.errors import MkupgradeError, NotSupportedError
from orchestrator.system import decompress, subprocesses
from orchestrator.system.decompress import DecompressError

PACKED = {
    "gzip": gzip.compress(b"content" * 999, mtime=0),
    "bzip2": bz2.compress(b"content" * 999),
    "xz": lzma.compress(b"content" * 999),
    "lzma": lzma.compress(b"content" * 999, lzma.FORMAT_ALONE),
}


@pytest.mark.parametrize("kind", sorted(PACKED))
def test_what_follows_the_stream_is_ignored(kind: str) -> None:
    assert decompress.compression(PACKED[kind]) == kind
    assert decompress.decompress(PACKED[kind] + b"\1\2\3\4") == b"content" * 999


@pytest.mark.parametrize("kind", sorted(PACKED))
def test_a_cut_stream_is_an_error(kind: str) -> None:
    with pytest.raises(DecompressError):
        decompress.decompress(PACKED[kind][:-12])


@pytest.mark.parametrize("kind", sorted(PACKED))
def test_the_limit_holds(kind: str) -> None:
    assert decompress.decompress(PACKED[kind], limit=7 * 999)
    with pytest.raises(DecompressError, match="more than"):
        decompress.decompress(PACKED[kind], limit=7 * 999 - 1)


@pytest.mark.skipif(not shutil.which("zstd"), reason="no program zstd")
def test_the_limit_holds_for_a_program_and_ends_it() -> None:
    packed = subprocess.run(
        ["zstd", "-cq"], input=bytes(8 << 20), capture_output=True, check=True
    ).stdout
    with pytest.raises(DecompressError, match="more than 1 MiB"):
        decompress._by_program("zstd", packed, 1 << 20)
    assert decompress._by_program("zstd", packed, 8 << 20) == bytes(8 << 20)


@pytest.mark.skipif(not shutil.which("zstd"), reason="no program zstd")
def test_a_damaged_stream_of_a_program_is_an_error() -> None:
    packed = subprocess.run(
        ["zstd", "-cq"], input=bytes(range(256)) * 99, capture_output=True, check=True
    ).stdout
    with pytest.raises(DecompressError, match="damaged zstd data"):
        decompress._by_program("zstd", packed[:-20], 1 << 20)


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocesses, "available", lambda _: None)
    with pytest.raises(NotSupportedError) as error:
        decompress.decompress(b"\x02\x21\x4c\x18" + bytes(20))
    assert error.value.next_command == "apt install lz4"


@given(st.sampled_from(sorted(decompress.MAGICS)), st.binary(max_size=200))
def test_damage_raises_errors_of_ours_only(magic: bytes, rest: bytes) -> None:
    if decompress.MAGICS[magic] in {"zstd", "lz4", "lzo"}:
        return
    try:
        decompress.decompress(magic + rest)
    except MkupgradeError as error:
        assert error.what
