"""The compiler holds our structs and numbers against the kernel's own header, where it is there."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from pathlib import Path

import pytest
from cffi import FFI

from tests.support.native import Tripwire

NATIVE = Path(__file__).resolve().parents[2] / "native"
SOURCES = ("syscalls.c", "liveupdate.c", "watchdog.c")

pytestmark = pytest.mark.skipif(
    not shutil.which("gcc") or not NATIVE.is_dir(), reason="needs gcc and the source tree"
)

# include/uapi/linux/liveupdate.h of Linux 7.2, down to what is compared.
HEADER = """
#pragma once
#include <linux/ioctl.h>
#include <linux/types.h>
#define LIVEUPDATE_SESSION_NAME_LENGTH 64
struct liveupdate_ioctl_create_session { __u32 size; __s32 fd; __u8 name[64]; };
struct liveupdate_ioctl_retrieve_session { __u32 size; __s32 fd; __u8 name[64]; };
struct liveupdate_session_preserve_fd { __u32 size; __s32 fd; __aligned_u64 token; };
struct liveupdate_session_retrieve_fd { __u32 size; __s32 fd; __aligned_u64 token; };
struct liveupdate_session_finish { __u32 size; __u32 reserved; };
struct liveupdate_session_get_name { __u32 size; __u32 reserved; __u8 name[64]; };
#define LIVEUPDATE_IOCTL_CREATE_SESSION _IO(0xBA, 0x00)
#define LIVEUPDATE_IOCTL_RETRIEVE_SESSION _IO(0xBA, 0x01)
#define LIVEUPDATE_SESSION_PRESERVE_FD _IO(0xBA, 0x40)
#define LIVEUPDATE_SESSION_RETRIEVE_FD _IO(0xBA, 0x41)
#define LIVEUPDATE_SESSION_FINISH _IO(0xBA, 0x42)
#define LIVEUPDATE_SESSION_GET_NAME _IO(0xBA, 0x43)
"""


def compile_with(
    header: str | None, source: str, directory: Path
) -> subprocess.CompletedProcess[str]:
    include = directory / "linux"
    include.mkdir(exist_ok=True)
    if header is not None:
        (include / "liveupdate.h").write_text(header)
    return subprocess.run(
        [
            "gcc",
            "-std=gnu11",
            "-Wall",
            "-Wextra",
            "-Werror",
            f"-I{directory}",
            "-fsyntax-only",
            str(NATIVE / source),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("source", SOURCES)
def test_each_source_compiles_without_a_warning(source: str, tmp_path: Path) -> None:
    done = compile_with(None, source, tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_kernels_own_header_is_accepted(tmp_path: Path) -> None:
    done = compile_with(HEADER, "liveupdate.c", tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_header_before_get_name_is_accepted(tmp_path: Path) -> None:
    older = "\n".join(
        line for line in HEADER.splitlines() if "get_name" not in line and "GET_NAME" not in line
    )
    done = compile_with(older, "liveupdate.c", tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("_IO(0xBA, 0x41)", "_IO(0xBA, 0x44)"),
        ("_IO(0xBA, 0x00)", "_IO(0xBB, 0x00)"),
        ("__s32 fd; __aligned_u64 token; };", "__s32 fd; __u32 x; __u32 token; };"),
        ("NAME_LENGTH 64", "NAME_LENGTH 128"),
        ("{ __u32 size; __u32 reserved; };", "{ __u32 size; __u32 reserved; __u64 more; };"),
    ],
)
def test_a_header_that_differs_stops_the_build(ours: str, theirs: str, tmp_path: Path) -> None:
    assert ours in HEADER
    done = compile_with(HEADER.replace(ours, theirs, 1), "liveupdate.c", tmp_path)
    assert done.returncode != 0
    assert "static assertion failed" in done.stderr


def test_every_declared_call_is_in_the_extension_and_in_its_types(tripwire: Tripwire) -> None:
    from orchestrator.system import _native

    declared = _declared("calls.h")
    stub = (Path(_native.__file__).parent / "_native.pyi").read_text()
    assert declared == set(dir(tripwire.real))
    assert not [name for name in declared if f"def {name}(" not in stub]


def test_every_declared_function_of_libfdt_is_in_its_extension_and_types() -> None:
    from orchestrator.system import _libfdt

    declared = _declared("flat_tree.h")
    stub = (Path(_libfdt.__file__).parent / "_libfdt.pyi").read_text()
    assert declared == set(dir(_libfdt.lib))
    assert not [n for n in declared if f"def {n}(" not in stub and f"{n}: int" not in stub]


def _declared(header: str) -> set[str]:
    ffi = FFI()
    ffi.cdef((NATIVE / header).read_text())
    return {key.split(" ", 1)[1] for key in ffi._parser._declarations}


@pytest.mark.parametrize("name", ["_native", "_libfdt"])
def test_each_extension_is_built_for_the_limited_api(name: str) -> None:
    module = importlib.import_module(f"orchestrator.system.{name}")
    assert Path(str(module.__file__)).name == f"{name}.abi3.so"
