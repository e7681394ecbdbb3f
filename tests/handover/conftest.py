"""What the handover's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.handover.channels import Head, Item
from orchestrator.model.steps import Section
from tests.support.control import Control
from tests.support.luo_double import LuoKernel

TRANSACTION = "t-20260901-ab12cd"


@pytest.fixture
def control() -> Control:
    return Control()


@pytest.fixture
def no_time() -> Control:
    return Control(seconds=0.0)


@pytest.fixture
def kernel() -> Iterator[LuoKernel]:
    kernel = LuoKernel()
    yield kernel
    kernel.die()


@pytest.fixture
def head() -> Head:
    return Head(
        transaction=TRANSACTION,
        plan_digest="ab" * 32,
        section=Section.FORWARD,
        source_release="7.2.13",
        source_boot_id="5b7e2c6e-0000-4000-8000-000000000001",
        extra={"dumped": 0.42},
    )


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    """Two workloads with state and one without."""
    made = []
    for name in ("counter", "web"):
        directory = tmp_path / "dump" / name
        (directory / "sub").mkdir(parents=True)
        (directory / "inventory.img").write_bytes(name.encode() * 1000)
        (directory / "sub" / "pages-1.img").write_bytes(b"\x5a" * 70_000)
        made.append(Item(name, "criu", {"pids": [400, 401]}, directory))
    return [*made, Item("cron", "restart", {}, None)]


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    return path
