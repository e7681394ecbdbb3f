"""Valid examples of everything that is fuzzed, made by the project's own writers."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import sqlite3
import struct
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from click.testing import CliRunner

from orchestrator import planning
from orchestrator.cli.main import cli
from orchestrator.drivers.multikernel.trees.changes import CreateInstance, Tag
from orchestrator.drivers.multikernel.trees.forms import (
    Baseline,
    InstanceTree,
    MemoryRegion,
    MemoryRequest,
    PciDevice,
    PlatformDevice,
    PoolTree,
)
from orchestrator.drivers.multikernel.trees.overlay import Overlay
from orchestrator.drivers.multikernel.trees.writing import (
    baseline_tree,
    instance_tree,
    pool_tree,
)
from orchestrator.engine.journal import FILE
from orchestrator.handover import archive
from orchestrator.handover.frame import SIZE, FrameKind, Header
from orchestrator.handover.payload import write_payload
from orchestrator.loading import load_spec
from orchestrator.model.base import digest
from orchestrator.model.host import HostState
from orchestrator.policy import signatures as signatures_of_plans
from tests.support.hosts import host_data, spec_data, workload
from tests.support.images import bz_image, kernel

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests" / "handover" / "vectors"
CONFIG = 'CONFIG_KEXEC_HANDOVER=y\nCONFIG_LIVEUPDATE=y\n# CONFIG_X is not set\nCONFIG_N="a b"\n'


@cache
def specs() -> list[bytes]:
    return [path.read_bytes() for path in sorted((ROOT / "plans").glob("*.yaml"))]


@cache
def plans() -> list[bytes]:
    check = {"name": "answers", "kind": "command", "run": ["true"]}
    document = spec_data(workloads=[workload("shop")], checks=[check])
    spec = load_spec(json.dumps(document))
    host = HostState.model_validate(host_data(spec))
    return [planning.save(planning.plan(spec, host)).encode()]


def resealed(data: bytes) -> bytes:
    """A plan's text with the digest that fits it: what somebody writes who knows the format."""
    try:
        body = json.loads(data)
        body.pop("digest", None)
        return json.dumps({"digest": digest(body), **body}).encode()
    except (ValueError, AttributeError, TypeError, RecursionError):
        return data


@cache
def _upgraded() -> tuple[bytes, bytes]:
    """A pretend upgrade that was committed and then rolled back: its journal, made small, and its
    host."""
    with tempfile.TemporaryDirectory() as name:
        state = Path(name) / "state"
        document = spec_data(
            host={"driver": "simulated", "state_dir": str(state)},
            instances=[
                {"name": "host", "kernel": {"image": f"{state}/boot/k", "release": "7.3.4"}}
            ],
            soak={"duration": "10ms", "interval": "10ms"},
        )
        spec = Path(name) / "plan.yaml"
        spec.write_text(json.dumps(document))
        for arguments in (["apply", str(spec)], ["rollback", "--state-dir", str(state)]):
            done = CliRunner().invoke(cli, [*arguments, "--yes"])
            assert done.exit_code == 0, done.output
        with sqlite3.connect(state / FILE) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("VACUUM")
        connection.close()
        return (state / FILE).read_bytes(), (state / "simulated-host.json").read_bytes()


def journals() -> list[bytes]:
    return [_upgraded()[0]]


def pretend_hosts() -> list[bytes]:
    return [_upgraded()[1]]


SIGNED = b"api_version: mkupgrade/v1\n"


@cache
def _signed_by_a_key() -> tuple[bytes, bytes]:
    with tempfile.TemporaryDirectory() as name:
        key = Path(name) / "key"
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "fuzz", "-f", str(key)]
        subprocess.run(argv, check=True)
        public = key.with_name("key.pub").read_bytes()
        return signatures_of_plans.sign(SIGNED, key), b"fuzz@example.org " + public


def signatures() -> list[bytes]:
    return [_signed_by_a_key()[0]]


def signers() -> bytes:
    return _signed_by_a_key()[1]


@cache
def rows() -> list[bytes]:
    """Two bytes that choose a column and a row, and what is to be put there."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(journals()[0])
        file.flush()
        with sqlite3.connect(file.name) as connection:
            bodies = [row[0] for row in connection.execute("SELECT body FROM events")]
            plan = connection.execute("SELECT plan FROM transactions").fetchone()[0]
        connection.close()
    found = [bytes((0, n)) + body.encode() for n, body in enumerate(bodies)]
    return [*found, b"\x01\x00" + plan.encode(), *(bytes((n, 1)) + b"7" for n in range(2, 10))]


@cache
def manifests() -> list[bytes]:
    return [(VECTORS / "manifest").read_bytes()]


@cache
def manifest_bodies() -> list[bytes]:
    return [data[SIZE:] for data in manifests()]


@cache
def payloads() -> list[bytes]:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        _tree(root / "tree")
        with (root / "payload").open("w+b") as file:
            write_payload(root / "tree", file.fileno(), 1)
        return [(root / "payload").read_bytes(), (VECTORS / "payload-000001").read_bytes()]


@cache
def archives() -> list[bytes]:
    with tempfile.TemporaryDirectory() as name:
        out = io.BytesIO()
        _tree(Path(name) / "tree")
        archive.write(Path(name) / "tree", out)
        return [out.getvalue()]


def _tree(root: Path) -> None:
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "sub" / "deep" / ("long-" * 30)).write_bytes(b"pax")
    (root / "pages").write_bytes(bytes(range(256)) * 3)
    (root / "run").write_bytes(b"#!")
    (root / "run").chmod(0o700)


@cache
def images() -> list[bytes]:
    packers: list[Callable[[bytes], bytes]] = [
        gzip.compress,
        lzma.compress,
        lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    ]
    found = [bytes(bz_image(pack(kernel(config=CONFIG)))) for pack in packers]
    arm = bytearray(8192)
    struct.pack_into("<Q", arm, 16, 8192)
    arm[56:60] = b"ARM\x64"
    packed = gzip.compress(kernel())
    zboot = bytearray(b"MZ\0\0zimg" + struct.pack("<II", 64, len(packed)) + bytes(48)) + packed
    return [*found, bytes(arm) + kernel(config=CONFIG), bytes(zboot), _signed(found[0])]


def _signed(image: bytes) -> bytes:
    """With a PE header that names a certificate table."""
    data = bytearray(image)
    data[:2] = b"MZ"
    struct.pack_into("<I", data, 0x3C, 0x80)
    data[0x80:0x84] = b"PE\0\0"
    struct.pack_into("<H", data, 0x98, 0x20B)
    struct.pack_into("<I", data, 0x98 + 108, 6)
    struct.pack_into("<II", data, 0x98 + 112 + 32, len(data), 16)
    return bytes(data) + struct.pack("<IHH", 16, 0x200, 2) + bytes(8)


@cache
def compressed() -> list[bytes]:
    data = kernel(config=CONFIG) + bytes(5000)
    alone = lzma.compress(data, lzma.FORMAT_ALONE)
    return [gzip.compress(data), bz2.compress(data), lzma.compress(data), alone]


def sealed_manifest(body: bytes) -> bytes:
    """A manifest's frame around any body."""
    header = Header(FrameKind.MANIFEST, 0, len(body), hashlib.sha256(body).hexdigest())
    return header.pack() + body


CELLS = (
    b"\xd0\x0d\xfe\xed", b"\0\0\0\1", b"\0\0\0\2", b"\0\0\0\3", b"\0\0\0\4", b"\0\0\0\x09",
    b"memory@0\0\0\0\0", b"pci@0\0\0\0", b"cpus", b"reg\0", b"/instances/web\0",
)  # fmt: skip


@cache
def device_trees() -> list[bytes]:
    """One of each form."""
    nic = PciDevice("0000:09:00.0", 0x1AF4, 0x1041, "enp9s0")
    ser = PlatformDevice("ser", "serial8250")
    memory = MemoryRegion(1 << 32, 1 << 30, 0)
    change = CreateInstance("web-g2", 7, (2, 3), 1 << 30, 0)
    return [
        baseline_tree(Baseline((2, 3), (MemoryRequest(1 << 30, 0),), {"nic": nic}, (ser,))),
        pool_tree(PoolTree((2, 3), (3,), (memory,), (nic,), (ser,), 1 << 27)),
        instance_tree(InstanceTree("web", 3, (2,), 1 << 32, 1 << 27, (nic,), (ser,))),
        Overlay(change, Tag("20261127-024500-ab12", "create-instance/web", 1)).encode(),
    ]
