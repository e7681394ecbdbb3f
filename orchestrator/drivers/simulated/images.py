"""Pretend kernel images: small JSON files that say what the kernel inside would be like."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from orchestrator.drivers.simulated.world import ABI
from orchestrator.model.base import Strict
from orchestrator.model.host import Abi, Artifact

SIZE_LIMIT = 64 * 2**10
"""Bytes of a pretend image."""


class PretendImage(Strict):
    """The content of a pretend image."""

    format: Literal["mkupgrade-pretend-image/v1"] = "mkupgrade-pretend-image/v1"
    release: str
    abi: Abi = ABI
    kho: bool = True
    signed: bool = False
    behaviour: Literal["ok", "panic-at-boot", "hang"] = "ok"


def write_image(path: Path, image: PretendImage) -> str:
    """Write a pretend image; returns its SHA-256 (hex)."""
    data = (image.model_dump_json(indent=1) + "\n").encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def read_image(path: str) -> tuple[PretendImage, str]:
    """The image and its SHA-256.

    Raises:
        ValueError: it cannot be read or is no pretend image; the text is for people.
    """
    data = _bytes(path)
    try:
        return PretendImage.model_validate_json(data), hashlib.sha256(data).hexdigest()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(p) for p in first["loc"]) or "the file"
        raise ValueError(f"no pretend kernel image: {place}: {first['msg']}") from error


def artifact(path: str, kind: Literal["image", "initrd", "modules"]) -> Artifact:
    """A file as the planner wants to see it; never raises."""
    try:
        if kind == "modules":
            return _directory(path)
        if kind == "initrd":
            data = _bytes(path)
            return Artifact(
                path=path, kind=kind, size=len(data), sha256=hashlib.sha256(data).hexdigest()
            )
        image, sha256 = read_image(path)
    except ValueError as error:
        return Artifact(path=path, kind=kind, error=str(error))
    return Artifact(
        path=path,
        kind=kind,
        size=Path(path).stat().st_size,
        sha256=sha256,
        release=image.release,
        abi=image.abi,
        kho_config=image.kho,
        pe_signed=image.signed,
    )


def _directory(path: str) -> Artifact:
    error = None if Path(path).is_dir() else "no such directory"
    return Artifact(path=path, kind="modules", error=error)


def _bytes(path: str) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    if len(data) > SIZE_LIMIT:
        raise ValueError(f"larger than a pretend file may be ({SIZE_LIMIT} bytes)")
    return data
