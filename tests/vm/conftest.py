"""Guests for tests: real kernels in QEMU. See README.md in this directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.rehearsal.image import LayerFile
from orchestrator.rehearsal.kernels import KernelPair, prepared_pair
from orchestrator.rehearsal.machine import Guest, Setup
from tests.support.guests import booted
from tests.vm.order import dealt

BootGuest = Callable[..., AbstractContextManager[Guest]]


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Everything here boots guests: marked `vm`, with a time limit that fits. What is left of it
    once markers have been chosen by comes first, dealt out to the workers: see `order`."""
    here = Path(__file__).parent
    ours = f"{here}{os.sep}"
    for item in items:
        if str(item.path).startswith(ours):
            item.add_marker(pytest.mark.vm)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(900))
    yield
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1 and any(str(item.path).startswith(ours) for item in items):
        items[:] = dealt(items, here, workers)


@pytest.fixture(scope="session")
def kernels() -> KernelPair:
    """Two kernels with KHO: `.source` (the older) and `.target`."""
    pair = prepared_pair()
    if pair is None:
        if os.environ.get("CI"):
            pytest.fail("no kernels with KHO at hand: run `make kernels`")
        pytest.skip("no kernels with KHO at hand: run `make kernels`")
    return pair


@pytest.fixture(scope="session")
def boot(kernels: KernelPair) -> BootGuest:
    """`with boot() as guest:` a guest in the source kernel, the target kernel in its /boot.

    Keyword arguments are the fields of `orchestrator.rehearsal.machine.Setup`.
    """

    @contextmanager
    def boot_guest(**fields: Any) -> Iterator[Guest]:
        images = {k.release: k.image for k in (kernels.source, kernels.target)}
        files = {f"/boot/vmlinuz-{r}": LayerFile(i) for r, i in images.items()}
        files |= fields.pop("files", {})
        fields.setdefault("kernel", kernels.source.image)
        with booted(Setup(files=files, **fields)) as guest:
            yield guest

    return boot_guest
