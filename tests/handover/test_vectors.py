"""The committed vectors are what this program writes and reads, byte by byte.

If one of these fails, the protocol has changed: raise its version (docs/handover.md), or two
kernels with two versions of mkupgrade will not understand each other.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import struct
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

from orchestrator.handover.frame import FrameKind, Header
from orchestrator.handover.manifest import Manifest
from orchestrator.handover.payload import unpack_payload, verify_payload

VECTORS = Path(__file__).with_name("vectors")


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    path = Path(__file__).with_name("make_vectors.py")
    spec = importlib.util.spec_from_file_location("make_vectors", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_same_payload_is_written(maker: ModuleType, tmp_path: Path) -> None:
    assert maker.payload(tmp_path / "state") == (VECTORS / "payload-000001").read_bytes()


def test_the_same_manifest_is_written(maker: ModuleType) -> None:
    frame = (VECTORS / "payload-000001").read_bytes()
    assert maker.manifest(frame).encode() == (VECTORS / "manifest").read_bytes()


def test_the_header_has_the_documented_offsets() -> None:
    data = (VECTORS / "payload-000001").read_bytes()
    assert data[0:8] == b"MKUPHAND"
    major, minor, kind, reserved = struct.unpack_from("<HHHH", data, 8)
    assert (major, minor, kind, reserved) == (1, 0, 2, 0)
    assert struct.unpack_from("<QQ", data, 16) == (1, len(data) - 64)
    assert data[32:64] == hashlib.sha256(data[64:]).digest()


def test_the_vectors_are_read(tmp_path: Path, maker: ModuleType) -> None:
    manifest = Manifest.decode((VECTORS / "manifest").read_bytes())
    carried = manifest.workload("counter").payload
    assert carried is not None
    header = Header(FrameKind.DIRECTORY, carried.token, carried.length, carried.sha256)
    with (VECTORS / "payload-000001").open("rb") as file:
        verify_payload(file.fileno(), header, "vector")
        unpack_payload(file.fileno(), header.length, tmp_path / "out")
    expected = maker.directory(tmp_path / "expected")
    names = {p.relative_to(expected) for p in expected.rglob("*")}
    assert {p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*")} == names
    for name in names:
        if (expected / name).is_file():
            assert (tmp_path / "out" / name).read_bytes() == (expected / name).read_bytes()


def test_json_and_tar_alone_can_read_the_vectors() -> None:
    """What an operator has at hand, should mkupgrade itself be gone."""
    body = (VECTORS / "manifest").read_bytes()[64:]
    assert json.loads(body)["workloads"][0]["name"] == "counter"
    with tarfile.open(fileobj=io.BytesIO((VECTORS / "payload-000001").read_bytes()[64:])) as tar:
        assert "images/inventory.img" in tar.getnames()
