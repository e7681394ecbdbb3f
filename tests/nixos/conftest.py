"""NixOS hosts made of files: a store, profiles and /run below a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.nixos import PretendNixos


@pytest.fixture
def nixos(tmp_path: Path) -> PretendNixos:
    return PretendNixos(tmp_path / "host")
