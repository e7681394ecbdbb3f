"""The double answers as the device does: the list is `luo_conformance`, run in the guest too."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.luo_double import LuoKernel


@pytest.fixture(scope="module")
def conformance() -> ModuleType:
    path = Path(__file__).with_name("luo_conformance.py")
    spec = importlib.util.spec_from_file_location("luo_conformance", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_outgoing_sessions_answer_as_the_kernel_does(
    conformance: ModuleType, kernel: LuoKernel
) -> None:
    report = conformance.outgoing(kernel.open_device)
    assert [line for line in report if line[1]] == []
    assert len(report) > 20


def test_incoming_sessions_answer_as_the_kernel_does(
    conformance: ModuleType, kernel: LuoKernel
) -> None:
    conformance.leave(kernel.open_device, "conf")
    kernel.jump()
    report = conformance.incoming(kernel.open_device, "conf")
    assert [line for line in report if line[1]] == []
    assert len(report) > 12


def test_a_session_whose_holder_died_does_not_jump(
    conformance: ModuleType, kernel: LuoKernel
) -> None:
    conformance.leave(kernel.open_device, "conf")
    kernel.die()
    kernel.jump()
    assert kernel.incoming == {}
