"""Writes tests/handover/vectors: run it only when the protocol's version changes.

    python3 tests/handover/make_vectors.py

The vectors are what docs/handover.md says, byte by byte; `test_vectors` holds the program to
them, so that two versions of it understand each other across a jump.
"""

from __future__ import annotations

import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.handover.manifest import Manifest
from orchestrator.handover.payload import write_payload

VECTORS = Path(__file__).with_name("vectors")


def directory(root: Path) -> Path:
    """What the payload holds."""
    (root / "images").mkdir(parents=True)
    (root / "images" / "inventory.img").write_bytes(b"inventory")
    (root / "images" / "pages-1.img").write_bytes(bytes(range(256)) * 3)
    (root / "meta.json").write_bytes(b"{}")
    (root / "run").write_bytes(b"#!/bin/sh\n")
    (root / "run").chmod(0o700)
    (root / ("long-name-" * 11)).write_bytes(b"pax\n")
    return root


def payload(root: Path) -> bytes:
    with tempfile.TemporaryFile() as file:
        write_payload(directory(root), file.fileno(), 1)
        size = os.fstat(file.fileno()).st_size
        return os.pread(file.fileno(), size, 0)


def manifest(frame: bytes) -> Manifest:
    return Manifest.model_validate(
        {
            "transaction": "t-20260901-ab12cd",
            "plan_digest": "ab" * 32,
            "section": "forward",
            "source": {
                "release": "7.2.13",
                "boot_id": "5b7e2c6e-0000-4000-8000-000000000001",
            },
            "created": datetime(2026, 9, 1, 12, 0, tzinfo=UTC),
            "workloads": [
                {
                    "name": "counter",
                    "method": "criu",
                    "payload": {
                        "kind": "directory",
                        "token": 1,
                        "length": len(frame) - 64,
                        "sha256": frame[32:64].hex(),
                    },
                    "meta": {"method": "criu", "pids": [1002, 1004], "tasks": [1002, 1004]},
                },
                {"name": "cron", "method": "restart", "payload": None, "meta": {}},
            ],
            "extra": {"note": "kept as it is: é"},
        }
    )


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        frame = payload(Path(scratch) / "state")
    VECTORS.mkdir(exist_ok=True)
    (VECTORS / "payload-000001").write_bytes(frame)
    (VECTORS / "manifest").write_bytes(manifest(frame).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
