"""Decompression with a limit, by the compressor's magic number. Input is hostile.

gzip, bzip2, xz and lzma are in Python's library; zstd from 3.14 on, before that and for lz4
and lzo the programs of these names are asked.
"""

from __future__ import annotations

import bz2
import importlib
import lzma
import zlib
from typing import Protocol

from orchestrator.model.errors import MkupgradeError
from orchestrator.system import subprocesses

MAGICS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x5d\x00\x00": "lzma",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x02\x21\x4c\x18": "lz4",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x89LZO": "lzo",
}
LIMIT = 256 << 20
"""Bytes; a kernel with all its data has well under a hundred MiB."""
_DICTIONARY = 160 << 20
"""Bytes that xz may take for itself; kernels are packed with dictionaries of up to 128 MiB."""
_STEP = 1 << 20
_PROGRAMS = {"zstd": ["zstd", "-dcq"], "lz4": ["lz4", "-dcq"], "lzo": ["lzop", "-dcq"]}
_TIMEOUT = 60.0
"""Seconds for such a program."""


class _Decompressor(Protocol):
    """What bz2, lzma and compression.zstd have in common."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class DecompressError(MkupgradeError):
    """The data is damaged, cut off, larger than allowed, or of an unknown compression."""

    code = "decompress"


def compression(data: bytes) -> str | None:
    """Name of the compression that data starts like, or None."""
    return next((name for magic, name in MAGICS.items() if data.startswith(magic)), None)


def decompress(data: bytes, limit: int = LIMIT) -> bytes:
    """The first compressed stream in `data`; what follows it is ignored (kernel images append
    the uncompressed size).

    Raises:
        DecompressError
        NotSupportedError: a program is needed for it and is not installed.
    """
    kind = compression(data)
    if kind is None:
        raise DecompressError(f"not compressed in a known way (starts with {data[:6].hex(' ')})")
    if kind == "gzip":
        return _gunzip(data, limit)
    decompressor = _decompressor(kind)
    if decompressor is None:
        return _by_program(kind, data, limit)
    return _stream(decompressor, kind, data, limit)


def _decompressor(kind: str) -> _Decompressor | None:
    if kind == "bzip2":
        return bz2.BZ2Decompressor()
    if kind in {"xz", "lzma"}:
        form = lzma.FORMAT_XZ if kind == "xz" else lzma.FORMAT_ALONE
        return lzma.LZMADecompressor(form, memlimit=_DICTIONARY)
    if kind == "zstd":
        try:
            module = importlib.import_module("compression.zstd")
        except ImportError:
            return None
        found: _Decompressor = module.ZstdDecompressor()
        return found
    return None


def _stream(decompressor: _Decompressor, kind: str, data: bytes, limit: int) -> bytes:
    out: list[bytes] = []
    size = 0
    view = memoryview(data)
    fed = 0
    try:
        while not decompressor.eof:
            piece = b""
            if getattr(decompressor, "needs_input", True):
                if fed >= len(view):
                    raise DecompressError(f"cut off: {kind} data ends in the middle")
                piece = bytes(view[fed : fed + _STEP])
                fed += len(piece)
            out.append(decompressor.decompress(piece, _STEP))
            size += len(out[-1])
            _hold(size, limit)
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise DecompressError(f"damaged {kind} data: {error}") from error
    except Exception as error:
        if type(error).__name__ == "ZstdError":
            raise DecompressError(f"damaged {kind} data: {error}") from error
        raise
    return b"".join(out)


def _gunzip(data: bytes, limit: int) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        found = unpacker.decompress(data, limit + 1)
    except zlib.error as error:
        raise DecompressError(f"damaged gzip data: {error}") from error
    _hold(len(found), limit)
    if not unpacker.eof:
        raise DecompressError("cut off: gzip data ends in the middle")
    return found


def _by_program(kind: str, data: bytes, limit: int) -> bytes:
    argv = _PROGRAMS[kind]
    if subprocesses.available(argv[0]) is None:
        raise subprocesses.missing(argv[0])
    done = subprocesses.run_filter(argv, data, limit=limit, timeout=_TIMEOUT)
    _hold(len(done.stdout), limit)
    if done.returncode != 0 and not _only_trailing(done, data):
        said = done.error_text.splitlines()
        raise DecompressError(f"damaged {kind} data: {said[-1] if said else 'no reason given'}")
    return done.stdout


def _only_trailing(done: subprocesses.Completed, data: bytes) -> bool:
    """The program stumbled over the size that kernel images append, and over nothing else."""
    return len(done.stdout) == int.from_bytes(data[-4:], "little")


def _hold(size: int, limit: int) -> None:
    if size > limit:
        raise DecompressError(f"unpacks to more than {limit >> 20} MiB: refused")
