"""A host with a policy, made of files; keys, and plans signed with them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.policy import enforce
from orchestrator.policy.enforce import Place
from orchestrator.policy.signatures import NAMESPACE
from orchestrator.system.trusted import Trust


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory that counts as the root of a host: only its owner can change it."""
    root = tmp_path / "host"
    for name in ("etc/mkupgrade", "boot", "bin"):
        (root / name).mkdir(parents=True)
    for path in (root, *root.rglob("*")):
        path.chmod(0o755)
    return root


@pytest.fixture
def trust(root: Path) -> Trust:
    return Trust(owner=os.geteuid(), top=root)


@pytest.fixture
def put(root: Path) -> Callable[..., Path]:
    """`put("etc/x", "text")`: a file below the root, writable by its owner only."""

    def write(name: str, content: str | bytes = "", mode: int = 0o644) -> Path:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return path

    return write


@pytest.fixture
def policy(
    root: Path, trust: Trust, put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """`policy("images: {directories: [ROOT/boot]}")`: from now on in force."""
    place = Place(root / "etc/mkupgrade/policy.yaml", trust)
    monkeypatch.setattr(enforce, "REAL", place)

    def write(text: str) -> Path:
        whole = f"api_version: mkupgrade-policy/v1\n{text}\n"
        return put("etc/mkupgrade/policy.yaml", whole.replace("ROOT", str(root)))

    return write


class Key:
    """A key pair of an operator."""

    def __init__(self, path: Path) -> None:
        self.path = path
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path], check=True
        )
        self.public = path.with_name(path.name + ".pub").read_text().strip()

    def signer(self, principal: str = "ops@example.org") -> str:
        """Its line in an allowed signers file."""
        return f'{principal} namespaces="{NAMESPACE}" {self.public}\n'


@pytest.fixture
def make_key(tmp_path: Path) -> Callable[..., Any]:
    def make(name: str = "key") -> Key:
        return Key(tmp_path / name)

    return make
