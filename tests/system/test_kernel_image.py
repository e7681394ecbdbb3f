"""Kernel images: real ones are read right, hostile ones end in a text."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.model.host import Abi
from orchestrator.system import kernel_image
from orchestrator.system.kernel_image import image_facts, inspect_image
from tests.support.images import bz_image, kernel
from tests.support.profile import examples

Root = Callable[[dict[str, str | bytes]], Path]
ALL = Abi(kho="kho-v4", luo="luo-v5", memfd="memfd-v2")


def by_program(*argv: str) -> Callable[[bytes], bytes]:
    def run(data: bytes) -> bytes:
        if shutil.which(argv[0]) is None:
            pytest.skip(f"no program {argv[0]}")
        packed = subprocess.run(argv, input=data, capture_output=True, check=True).stdout
        return packed + struct.pack("<I", len(data))  # as the kernel's build appends it

    return run


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": lambda data: bz2.compress(data) + struct.pack("<I", len(data)),
    "xz": lambda data: lzma.compress(data) + struct.pack("<I", len(data)),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE) + struct.pack("<I", len(data)),
    "zstd": by_program("zstd", "-cq"),
    "lz4": by_program("lz4", "-lcq"),
}


@pytest.mark.parametrize("packer", sorted(PACKERS))
def test_every_compression_of_a_bzimage_is_read(packer: str, tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    data = bytes(bz_image(PACKERS[packer](kernel() + b"filler" * 5000)))
    path.write_bytes(data)
    found = inspect_image(path, root=tmp_path)
    assert found.error is None
    assert (found.release, found.abi, found.kho_config) == ("7.2.13", ALL, True)
    assert (found.size, found.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert not found.pe_signed


def test_a_kernel_without_the_strings_has_no_kho(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(bz_image(gzip.compress(kernel(kho=False))))
    found = inspect_image(path, root=tmp_path)
    assert (found.abi, found.kho_config, found.error) == (Abi(), False, None)


@pytest.mark.parametrize("missing", ["KEXEC_HANDOVER", "LIVEUPDATE", "LIVEUPDATE_MEMFD"])
def test_the_configuration_inside_decides(missing: str, tmp_path: Path) -> None:
    options = {"KEXEC_HANDOVER", "LIVEUPDATE", "LIVEUPDATE_MEMFD"}
    text = "".join(f"CONFIG_{name}=y\n" for name in sorted(options - {missing}))
    path = tmp_path / "vmlinuz"
    path.write_bytes(bz_image(gzip.compress(kernel(config=text))))
    assert inspect_image(path, root=tmp_path).kho_config is False
    whole = text + f"CONFIG_{missing}=y\n"
    path.write_bytes(bz_image(gzip.compress(kernel(config=whole))))
    assert inspect_image(path, root=tmp_path).kho_config is True


@pytest.mark.parametrize(
    "place", ["usr/lib/modules/7.2.13/config", "boot/config-7.2.13", "elsewhere/config-7.2.13"]
)
def test_an_installed_configuration_is_found(place: str, host_root: Root) -> None:
    root = host_root(
        {
            place: "CONFIG_KEXEC_HANDOVER=y\n# CONFIG_LIVEUPDATE is not set\n",
            "elsewhere/vmlinuz": bytes(bz_image(gzip.compress(kernel()))),
        }
    )
    assert inspect_image(root / "elsewhere/vmlinuz", root=root).kho_config is False


@pytest.mark.parametrize("release", ["../../etc", ".."])
def test_a_release_leads_nowhere_else(release: str, host_root: Root) -> None:
    root = host_root({"boot/config": "CONFIG_KEXEC_HANDOVER=y\n"})
    assert kernel_image.kernel_config.installed(release, root) is None


def test_several_versions_of_one_abi_are_all_told() -> None:
    found = kernel_image.abi_strings(b"\0memfd-v2\0memfd-v1\0kho-v4\0xkho-v9\0luo-v5 \0")
    assert found == Abi(kho="kho-v4", memfd="memfd-v1,memfd-v2")


def test_an_image_that_is_cut_off_says_so(tmp_path: Path) -> None:
    whole = bytes(bz_image(gzip.compress(kernel() + os.urandom(4096))))
    path = tmp_path / "vmlinuz"
    for length in (0, 100, 0x210, 600, len(whole) // 2, len(whole) - 20):
        path.write_bytes(whole[:length])
        found = inspect_image(path, root=tmp_path)
        assert found.error is not None, length
        assert ("cut off" in found.error) == (length >= 0x210), found.error


def test_a_header_that_does_not_fit_the_kernel_inside_is_an_error() -> None:
    facts = image_facts(bytes(bz_image(gzip.compress(kernel("7.3.4")))))
    assert facts.problem == "its header says Linux 7.2.13, the kernel inside Linux 7.3.4"


def test_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_image, "UNPACKED_LIMIT", 2 << 20)
    bomb = gzip.compress(bytes(3 << 20))
    facts = image_facts(bytes(bz_image(bomb)))
    assert facts.problem is not None
    assert "more than 2 MiB" in facts.problem
    assert facts.release == "7.2.13"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty file"),
        (b"\x7fELF" + bytes(1000), "an ELF file"),
        (gzip.compress(b"x" * 3000, mtime=0), "a gzip file"),
        (b"#!/bin/sh\n", "10 bytes only"),
        (bytes(4096), "no kernel image"),
        (bytes(bz_image(b"nonsense" * 9)), "cannot be unpacked"),
        (bytes(bz_image(b"", version=0x203)), "too old"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_image_says_what_it_is(data: bytes, said: str) -> None:
    facts = image_facts(data)
    assert facts.problem is not None
    assert said in facts.problem


@pytest.mark.parametrize("path", ["/does/not/exist", "/proc", "/dev/zero"])
def test_what_is_no_file_is_an_error_not_an_exception(path: str) -> None:
    assert inspect_image(path).error
    assert kernel_image.inspect_initrd(path).error
    assert kernel_image.inspect_modules(path).error


def test_a_signature_is_seen() -> None:
    unsigned = pe_image(signature=b"")
    signed = pe_image(signature=struct.pack("<IHH", 24, 0x200, 2) + bytes(16))
    assert not image_facts(unsigned).pe_signed
    assert image_facts(signed).pe_signed
    assert not image_facts(signed[:-8]).pe_signed


def pe_image(signature: bytes) -> bytes:
    """A bzImage that is a PE file too, as one with an EFI stub is."""
    image = bz_image(gzip.compress(kernel()))
    image[:2] = b"MZ"
    struct.pack_into("<I", image, 0x3C, 0x80)
    image[0x80:0x84] = b"PE\0\0"
    struct.pack_into("<H", image, 0x98, 0x20B)
    struct.pack_into("<I", image, 0x98 + 108, 6)
    struct.pack_into("<II", image, 0x98 + 112 + 32, len(image), len(signature))
    return bytes(image + signature)


def test_an_arm64_image_is_read() -> None:
    image = bytearray(4096)
    struct.pack_into("<Q", image, 16, 8192)
    image[56:60] = b"ARM\x64"
    facts = image_facts(bytes(image + kernel("7.3.4-arm64")))
    assert (facts.format, facts.release, facts.abi, facts.problem) == (
        "arm64 Image",
        "7.3.4-arm64",
        ALL,
        None,
    )


def test_a_zboot_image_is_read() -> None:
    payload = gzip.compress(kernel("7.3.4"))
    header = struct.pack("<4s4sII8x32s", b"MZ\0\0", b"zimg", 64, len(payload), b"gzip")
    facts = image_facts(header.ljust(64, b"\0") + payload)
    assert (facts.format, facts.release, facts.problem) == ("arm64 zboot", "7.3.4", None)
    cut = image_facts((header.ljust(64, b"\0") + payload)[:-10])
    assert cut.problem is not None
    assert "cut off" in cut.problem


@given(st.binary(max_size=2048))
def test_no_bytes_raise(data: bytes) -> None:
    facts = image_facts(data)
    assert facts.problem or facts.release


@settings(max_examples=examples(300))
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 0x2FF), st.binary(min_size=1, max_size=8)), max_size=6
    ),
    length=st.integers(0, 8000),
)
def test_no_change_of_a_header_raises(changes: list[tuple[int, bytes]], length: int) -> None:
    image = bytearray(pe_image(struct.pack("<IHH", 24, 0x200, 2) + bytes(16)))
    for offset, value in changes:
        image[offset : offset + len(value)] = value
    facts = image_facts(bytes(image[:length]))
    assert facts.problem or facts.release


def test_an_initrd_is_held_to_its_first_bytes(tmp_path: Path) -> None:
    path = tmp_path / "initrd.img"
    for content, right in (
        (b"070701" + bytes(100), True),
        (gzip.compress(b"070701"), True),
        (b"\x28\xb5\x2f\xfd" + bytes(20), True),
        (b"", False),
        (b"<html>not found</html>", False),
    ):
        path.write_bytes(content)
        found = kernel_image.inspect_initrd(path)
        assert (found.error is None) == right, content
        assert found.sha256 == hashlib.sha256(content).hexdigest()


def test_modules_need_a_modules_dep(tmp_path: Path) -> None:
    path = tmp_path / "7.3.4"
    path.mkdir()
    found = kernel_image.inspect_modules(path)
    assert found.error == "no modules.dep: run depmod"
    (path / "modules.dep").write_text("kernel/a.ko:\n")
    found = kernel_image.inspect_modules(path)
    assert (found.error, found.release) == (None, "7.3.4")


def real_kernels() -> list[Path]:
    named = os.environ.get("MKUPGRADE_TEST_KERNELS")
    beside = Path(__file__).resolve().parents[3] / "shared" / "kernels"
    directory = Path(named) if named else beside
    return sorted(directory.glob("bz[0-9]*")) if directory.is_dir() else []


@pytest.mark.slow
@pytest.mark.skipif(
    not real_kernels(), reason="no kernels: MKUPGRADE_TEST_KERNELS names a directory of bzNN"
)
def test_real_kernels_have_release_and_every_abi_string() -> None:
    for path in real_kernels():
        found = inspect_image(path)
        assert found.error is None
        assert found.release is not None
        assert found.release.replace(".", "").startswith(path.name.removeprefix("bz"))
        assert (found.abi, found.kho_config) == (ALL, True)


@pytest.mark.skipif(not real_kernels(), reason="no kernels: see MKUPGRADE_TEST_KERNELS")
def test_a_real_kernel_that_is_cut_off_says_so(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(real_kernels()[0].read_bytes()[:3_000_000])
    found = inspect_image(path)
    assert found.error is not None
    assert found.error.startswith("bzImage cut off: 3000000 bytes of ")


def test_an_image_is_unpacked_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(bz_image(gzip.compress(kernel("7.2.13") + os.urandom(16))))
    first = inspect_image(path, root=tmp_path)
    monkeypatch.setattr(kernel_image, "image_facts", lambda _: pytest.fail("unpacked again"))
    assert inspect_image(path, root=tmp_path) == first


def test_few_images_are_remembered() -> None:
    for number in range(20):
        kernel_image.known_facts(b"%d" % number)
    assert len(kernel_image._KNOWN) == kernel_image._KEEP
