"""Secrets are appended to a private copy, by a real program, and leave nothing behind."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from orchestrator.model.errors import MkupgradeError, ToolError
from orchestrator.nixos.initrd import with_secrets
from orchestrator.system.limited import Limited

PLAIN = b"070701" + b"plain" * 1000


def program(directory: Path, body: str) -> Path:
    path = directory / "append-initrd-secrets"
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="ascii")
    path.chmod(0o755)
    return path


def appended(directory: Path, body: str, sha256: str = hashlib.sha256(PLAIN).hexdigest()) -> bytes:
    initrd = directory / "initrd"
    initrd.write_bytes(PLAIN)
    private = directory / "run/secrets"
    try:
        with with_secrets(initrd, program(directory, body), sha256, private, Limited(20)) as copy:
            assert copy.stat().st_mode & 0o777 == 0o600
            assert copy.parent.stat().st_mode & 0o777 == 0o700
            return copy.read_bytes()
    finally:
        assert initrd.read_bytes() == PLAIN
        assert not private.exists() or list(private.iterdir()) == []


def test_secrets_are_appended_to_a_private_copy(tmp_path: Path) -> None:
    assert appended(tmp_path, 'printf secret >> "$1"; chmod 644 "$1"') == PLAIN + b"secret"


def test_another_initrd_is_refused_before_the_program_runs(tmp_path: Path) -> None:
    with pytest.raises(MkupgradeError, match="sha256"):
        appended(tmp_path, "touch ran", sha256="0" * 64)
    assert not (tmp_path / "run/secrets/ran").exists()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('printf x > "$1"', "bytes before"),
        ('tr p q < "$1" > t; cat t > "$1"; rm t; echo >> "$1"', "does not begin with"),
        ('rm "$1"; ln -s /etc/passwd "$1"', "link"),
    ],
)
def test_a_program_that_puts_something_else_there_is_refused(
    tmp_path: Path, body: str, says: str
) -> None:
    with pytest.raises(MkupgradeError, match=says):
        appended(tmp_path, body)


def test_a_program_that_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(ToolError):
        appended(tmp_path, "echo no key >&2; exit 3")
