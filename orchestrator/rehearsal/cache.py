"""Files that are dear to make: kept under the digest of everything they are made from."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SOURCE_ROOT = Path(__file__).resolve().parents[2]
"""The source tree, when the package runs from one (see `in_source_tree`)."""


def in_source_tree() -> bool:
    """Does this package run from its source tree, so that a wheel can be built from it?"""
    return (SOURCE_ROOT / "pyproject.toml").is_file() and (SOURCE_ROOT / "native").is_dir()


def cache_dir() -> Path:
    """$MKUPGRADE_CACHE; else .cache of the source tree; else the user's cache directory."""
    chosen = os.environ.get("MKUPGRADE_CACHE")
    if chosen:
        return Path(chosen).absolute()
    if in_source_tree():
        return SOURCE_ROOT / ".cache"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "mkupgrade"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; a holder that dies lets go of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def kept(kind: str, digest: str, suffix: str, make: Callable[[Path, Path], None]) -> Path:
    """The cached file `<kind>-<digest><suffix>`, made first if it is not there.

    Args:
        make: called with the path to write and an empty directory to work in, both on the
            cache's file system. What it leaves at the path appears in the cache whole or
            not at all; two processes that want the same file make it once.
    """
    root = cache_dir()
    entry = root / f"{kind}-{digest[:16]}{suffix}"
    with locked(root / f".{kind}.lock"):
        if entry.exists():
            entry.touch()  # so that `drop_old` knows what is used
            return entry
        with tempfile.TemporaryDirectory(prefix=f".making-{kind}-", dir=root) as scratch:
            work = Path(scratch) / "work"
            work.mkdir()
            product = Path(scratch) / "product"
            make(product, work)
            product.replace(entry)
    return entry


def drop_old(kind: str, keep: int) -> None:
    """Remove all but the `keep` most recently used entries of a kind."""
    with locked(cache_dir() / f".{kind}.lock"):
        entries = [p for p in cache_dir().glob(f"{kind}-*") if not p.name.startswith(".")]
        entries.sort(key=lambda p: p.stat().st_mtime, reverse=True)
        for entry in entries[keep:]:
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)


def kernel_rooms() -> list[Path]:
    """Directories that may hold kernels made for rehearsals, best first.

    $MKUPGRADE_KERNELS; the directory shared/kernels beside the source tree; the cache that
    `make kernels` fills.
    """
    chosen = os.environ.get("MKUPGRADE_KERNELS")
    rooms = [Path(chosen)] if chosen else [SOURCE_ROOT.parent / "shared" / "kernels"]
    return [*rooms, cache_dir() / "kernels"]
