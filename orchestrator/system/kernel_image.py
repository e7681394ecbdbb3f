"""What a kernel image, an initrd and a module directory say of themselves, without booting them.

Everything in these files is hostile: sizes are checked before they are used, decompression is
bounded, and a file that makes no sense ends in `Artifact.error`, never in an exception.
"""

from __future__ import annotations

import hashlib
import re
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from orchestrator.model.errors import MkupgradeError, SystemCallError
from orchestrator.model.host import Abi, Artifact
from orchestrator.system import decompress, files, image_formats, kernel_config

IMAGE_LIMIT = 256 << 20
"""Bytes; larger files are no kernel image."""
UNPACKED_LIMIT = decompress.LIMIT
_ABI = {name: f"{name}-v".encode() for name in ("kho", "luo", "memfd")}
_VERSION = re.compile(rb"(\d{1,4})\0")
_INSIDE_A_WORD = re.compile(rb"[\w-]")
_BANNER = re.compile(rb"Linux version ([^\0\n]{3,400})")
_ELF = b"\x7fELF"
_CPIO = (b"070701", b"070702", b"\xc7\x71", b"\x71\xc7")

Kind = Literal["image", "initrd", "modules"]


@dataclass(frozen=True)
class ImageFacts:
    """What is inside an image. `problem` set: the rest is what could be read nevertheless."""

    format: str = ""
    release: str | None = None
    build: str | None = None
    """What `uname -v` will say."""
    abi: Abi = field(default_factory=Abi)
    config: kernel_config.Config | None = None
    unpacked: bool = False
    """The kernel proper could be read, so that a string that was not found is not there."""
    pe_signed: bool = False
    problem: str | None = None


_LOCK = threading.Lock()
_KNOWN: dict[str, ImageFacts] = {}
_KEEP = 8
"""Images remembered, by digest."""


def inspect_image(path: str | Path, root: Path = Path("/")) -> Artifact:
    """Read a kernel image: x86 bzImage, arm64 Image, or EFI zboot around one.

    Fills in size, sha256, release (as `uname -r` will say), the ABI strings of KHO, LUO and
    memfd, kho_config and pe_signed. What is wrong is in `error`; what could be read is filled
    in nevertheless. kho_config comes from the configuration inside the image, else from
    /usr/lib/modules/RELEASE/config or config-RELEASE beside the image or in /boot, else from
    the ABI strings; None only when the image could not be unpacked and has no configuration.

    Args:
        root: where usr/lib/modules and boot are looked for.
    """
    path = Path(path)
    data, error = _read(path)
    if data is None:
        return Artifact(path=str(path), kind="image", error=error)
    digest, facts = known_facts(data)
    return Artifact(
        path=str(path),
        kind="image",
        error=facts.problem,
        size=len(data),
        sha256=digest,
        release=facts.release,
        abi=facts.abi,
        kho_config=_kho_config(facts, root, path.parent),
        pe_signed=facts.pe_signed,
    )


def inspect_instance_image(path: str | Path) -> Artifact:
    """What a kernel image is that an instance is to boot: also an ELF vmlinux, with the release of
    the banner inside it. Never raises for what is in the file."""
    path = Path(path)
    data, error = _read(path)
    if data is None:
        return Artifact(path=str(path), kind="image", error=error)
    if not data.startswith(_ELF):
        return inspect_image(path)
    return Artifact(
        path=str(path),
        kind="image",
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        release=image_formats.release_of(_banner(data)),
    )


def image_facts(data: bytes) -> ImageFacts:
    """As `inspect_image`, for an image in memory. Never raises for what is in it."""
    facts = header_facts(data)
    if facts.problem is not None:
        return facts
    header = image_formats.parse_header(data)
    offset, length = header.payload
    kernel = data[offset : offset + length]
    try:
        if header.compressed:
            kernel = decompress.decompress(kernel, UNPACKED_LIMIT)
    except MkupgradeError as error:
        return replace(facts, problem=_unpack_problem(header.format, error))
    inside = _banner(kernel)
    release = image_formats.release_of(inside)
    problem = None
    if facts.release and release and facts.release != release:
        problem = f"its header says Linux {facts.release}, the kernel inside Linux {release}"
    elif not (facts.release or release):
        problem = "no release string inside"
    return replace(
        facts,
        release=facts.release or release,
        build=facts.build or image_formats.build_of(inside),
        abi=abi_strings(kernel),
        config=kernel_config.embedded(kernel),
        unpacked=True,
        problem=problem,
    )


def header_facts(data: bytes) -> ImageFacts:
    """What an image says without being unpacked: format, signature, and of a bzImage the release
    and build."""
    signed = image_formats.pe_certificates(data)
    try:
        header = image_formats.parse_header(data)
    except image_formats.ImageFormatError as error:
        return ImageFacts(pe_signed=signed, problem=str(error))
    return ImageFacts(
        format=header.format,
        release=image_formats.release_of(header.banner),
        build=image_formats.build_of(header.banner),
        pe_signed=signed,
    )


def known_facts(data: bytes) -> tuple[str, ImageFacts]:
    """SHA-256 (hex) and `image_facts`, which are remembered: an image is looked at several times
    on the way to a jump, and unpacking is what takes long."""
    digest = hashlib.sha256(data).hexdigest()
    with _LOCK:
        facts = _KNOWN.get(digest)
    if facts is None:
        facts = image_facts(data)
        with _LOCK:
            while len(_KNOWN) >= _KEEP:
                del _KNOWN[next(iter(_KNOWN))]
            _KNOWN[digest] = facts
    return digest, facts


def abi_strings(kernel: bytes) -> Abi:
    """The ABI versions compiled into an uncompressed kernel, e.g. kho "kho-v4".

    Source: include/linux/kho/abi/{kexec_handover,luo,memfd}.h: NUL-ended string literals. A
    kernel that holds several versions of one gets all of them, comma-separated.
    """
    found: dict[str, set[int]] = {}
    for name, begin in _ABI.items():
        # Not by a pattern: `find` is five times as quick where the processor is emulated.
        at = kernel.find(begin)
        while at >= 0:
            match = _VERSION.match(kernel, at + len(begin))
            if match and not _INSIDE_A_WORD.match(kernel[max(0, at - 1) : at]):
                found.setdefault(name, set()).add(int(match[1]))
            at = kernel.find(begin, at + len(begin))
    joined = {
        name: ",".join(f"{name}-v{number}" for number in sorted(numbers))
        for name, numbers in found.items()
    }
    return Abi(kho=joined.get("kho"), luo=joined.get("luo"), memfd=joined.get("memfd"))


def inspect_initrd(path: str | Path) -> Artifact:
    """Read an initrd: size and sha256; `error` unless it starts like a cpio archive, compressed
    or not (what it holds is not looked at)."""
    path = Path(path)
    try:
        with files.open_followed(path) as file:
            start = file.read(8)
            file.seek(0)
            digest, size = files.sha256_file(file)
    except SystemCallError as error:
        return Artifact(path=str(path), kind="initrd", error=_without_path(error))
    error_text = None
    if size == 0:
        error_text = "empty file"
    elif not start.startswith(_CPIO) and decompress.compression(start) is None:
        error_text = "no initrd: neither a cpio archive nor compressed in a known way"
    return Artifact(path=str(path), kind="initrd", error=error_text, size=size, sha256=digest)


def inspect_modules(path: str | Path) -> Artifact:
    """Look at a module directory, /usr/lib/modules/RELEASE: its release is its name; sha256 and
    size are those of modules.dep, which changes whenever a module comes, goes or moves."""
    path = Path(path)
    try:
        with files.open_followed(path / "modules.dep") as file:
            digest, size = files.sha256_file(file)
    except SystemCallError as error:
        there = "no modules.dep: run depmod" if path.is_dir() else _without_path(error)
        return Artifact(path=str(path), kind="modules", error=there)
    release = path.resolve().name
    return Artifact(path=str(path), kind="modules", size=size, sha256=digest, release=release)


def _read(path: Path) -> tuple[bytes | None, str | None]:
    try:
        with files.open_followed(path) as file:
            data = file.read(IMAGE_LIMIT + 1)
    except SystemCallError as error:
        return None, _without_path(error)
    except OSError as error:
        return None, f"cannot be read: {error.strerror}"
    if len(data) > IMAGE_LIMIT:
        return None, f"larger than {IMAGE_LIMIT >> 20} MiB: no kernel image"
    return data, None


def _banner(kernel: bytes) -> str:
    match = _BANNER.search(kernel)
    return match[1].decode("ascii", "replace") if match else ""


def _kho_config(facts: ImageFacts, root: Path, beside: Path) -> bool | None:
    config = facts.config
    if config is None and facts.release is not None:
        config = kernel_config.installed(facts.release, root, beside)
    if config is not None:
        return kernel_config.hands_over(config)
    if not facts.unpacked:
        return None
    return None not in (facts.abi.kho, facts.abi.luo, facts.abi.memfd)


def _unpack_problem(form: str, error: MkupgradeError) -> str:
    advice = f" ({error.next_command})" if error.next_command else ""
    return f"the kernel inside the {form} cannot be unpacked: {error.what}{advice}"


def _without_path(error: SystemCallError) -> str:
    return error.what
