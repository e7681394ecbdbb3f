"""What the agent's tests share: a key, an agent, and state to send."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.agent.keys import Key, new_key
from orchestrator.handover.channels import Head, Item
from orchestrator.model.steps import Section
from tests.support.agents import Local
from tests.support.control import Control

TRANSACTION = "t-20260901-ab12cd"


@pytest.fixture
def control() -> Control:
    return Control()


@pytest.fixture
def key() -> Key:
    return new_key(TRANSACTION)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """The state directory of the target."""
    path = tmp_path / "target"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def agent(key: Key, target: Path) -> Iterator[Local]:
    local = Local(key, target)
    yield local
    local.close()


@pytest.fixture
def head() -> Head:
    return Head(
        transaction=TRANSACTION,
        plan_digest="ab" * 32,
        section=Section.FORWARD,
        source_release="7.2.13",
        source_boot_id="5b7e2c6e-0000-4000-8000-000000000001",
    )


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    """Two workloads with state and one without."""
    made = []
    for number, name in enumerate(("counter", "web")):
        directory = tmp_path / "dump" / name
        (directory / "sub").mkdir(parents=True)
        (directory / "inventory.img").write_bytes(name.encode() * 1000)
        (directory / "sub" / "pages-1.img").write_bytes(bytes([number]) * 400_000)
        made.append(Item(name, "criu", {"pids": [400, 401]}, directory))
    return [*made, Item("cron", "restart", {}, None)]
