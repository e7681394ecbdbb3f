"""Kernel configurations: text, gzip'd text, or embedded in an image (CONFIG_IKCONFIG)."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from orchestrator.model.errors import MkupgradeError
from orchestrator.system import decompress, files

Config = dict[str, str]
"""Symbol with CONFIG_ -> "y", "m", or a value without quotes; what is not set is not in it."""

_LIMIT = 4 << 20
"""Bytes; a full configuration has about 300 KiB."""
_START, _END = b"IKCFG_ST", b"IKCFG_ED"
_LINE = re.compile(r"^(CONFIG_\w+)=(.*)$", re.MULTILINE)


def parse(text: str) -> Config:
    return {name: value.strip().strip('"') for name, value in _LINE.findall(text)}


def read(path: Path) -> Config | None:
    """A configuration file, compressed or not; None: none there, or none that can be read."""
    try:
        raw = (
            path.read_bytes()
            if str(path).startswith("/proc/")
            else files.read_regular(path, _LIMIT)
        )
        return dict(_understood(raw)) or None
    except (OSError, MkupgradeError):
        return None


@lru_cache(maxsize=1)
def _understood(raw: bytes) -> Config:
    """Kept, because one look at a host asks for the running kernel's several times, at five
    milliseconds each."""
    if decompress.compression(raw):
        raw = decompress.decompress(raw, _LIMIT)
    return parse(raw.decode("utf-8", "replace"))


def embedded(image: bytes) -> Config | None:
    """The configuration inside an uncompressed kernel; None: it holds none that is whole."""
    start = image.find(_START)
    end = image.find(_END, start)
    if start < 0 or end < 0 or end - start > _LIMIT:
        return None
    try:
        text = decompress.decompress(image[start + len(_START) : end], _LIMIT)
    except MkupgradeError:
        return None
    return parse(text.decode("utf-8", "replace")) or None


def installed(release: str, root: Path = Path("/"), beside: Path | None = None) -> Config | None:
    """The configuration that a distribution installed for a release.

    Args:
        beside: directory of the image, looked into first.
    """
    if "/" in release or release in {"", ".", ".."}:
        return None
    places = [
        root / "usr/lib/modules" / release / "config",
        root / "lib/modules" / release / "config",
        root / "boot" / f"config-{release}",
    ]
    if beside is not None:
        places[:0] = [beside / f"config-{release}", beside / "config"]
    return next((config for place in places if (config := read(place)) is not None), None)


def hands_over(config: Config) -> bool:
    """Can a kernel of this configuration preserve memfds over a kexec?"""
    return all(
        config.get(f"CONFIG_{name}") == "y"
        for name in ("KEXEC_HANDOVER", "LIVEUPDATE", "LIVEUPDATE_MEMFD")
    )
