"""Changes: made, found again, and held to what is there afterwards."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.drivers.multikernel.changing import ChangeFailedError, apply, inspect
from orchestrator.drivers.multikernel.seeing import look
from orchestrator.drivers.multikernel.trees.changes import (
    Change,
    CpuChange,
    CreateInstance,
    DeviceChange,
    MemoryChange,
    RemoveInstance,
    Tag,
    Verb,
)
from orchestrator.drivers.multikernel.trees.forms import Baseline, MemoryRegion, MemoryRequest
from orchestrator.drivers.multikernel.trees.overlay import overlays
from orchestrator.drivers.multikernel.trees.writing import baseline_tree
from orchestrator.model.errors import MkupgradeError, UnknownOutcomeError
from orchestrator.model.steps import Inspection
from tests.drivers.multikernel.pretend import GIB, NIC, Client, add_cpus, blob, fragment
from tests.drivers.multikernel.test_double_properties import CHANGES
from tests.support.multikernel.double import Double
from tests.support.multikernel.kernel import DoubleKernel
from tests.support.multikernel.settings import GRANULE, MK2, NEWER
from tests.support.profile import examples

TAG = Tag("20261127-024500-ab12", "create-instance/web", 1)
CREATE = CreateInstance("web-g2", 7, (8, 10, 12), GIB)
MORE = MemoryRegion(60 * GRANULE, GRANULE)


@pytest.fixture
def kernel(double: Double) -> DoubleKernel:
    return DoubleKernel(double)


def verdict(kernel: DoubleKernel, change: Change, tag: Tag = TAG) -> Inspection:
    return inspect(kernel, change, tag).verdict


@pytest.mark.parametrize(
    "change",
    [
        CREATE,
        RemoveInstance("web"),
        CpuChange("web", Verb.ADD, (12, 14)),
        CpuChange("web", Verb.REMOVE, (10,)),
        CpuChange(None, Verb.ADD, (24, 26)),
        CpuChange(None, Verb.REMOVE, (20, 22)),
        MemoryChange("web", Verb.ADD, (MORE,)),
        MemoryChange(None, Verb.ADD, requests=(MemoryRequest(GIB),)),
        DeviceChange("web", Verb.ADD, (NIC.address,)),
        DeviceChange(None, Verb.REMOVE, (NIC.address,)),
    ],
    ids=str,
)
def test_a_change_that_was_made_is_present(
    client: Client, kernel: DoubleKernel, change: Change
) -> None:
    if change is not CREATE:
        client.create()
    assert verdict(kernel, change) is Inspection.ABSENT
    numbers = apply(kernel, change, TAG)
    assert f"tx_{numbers[-1]}" in client.double.listdir("overlays")
    assert verdict(kernel, change) is Inspection.PRESENT
    assert client.double.world.overruns == 0


def test_a_cpu_that_was_dropped_in_silence_is_missed(client: Client, kernel: DoubleKernel) -> None:
    client.double.world.faults.soft_fail_cpus = {10}
    with pytest.raises(ChangeFailedError, match="says that it is done, and it is not") as caught:
        apply(kernel, CREATE, TAG)
    assert caught.value.details == ("not there: CPU 10 in web-g2",)
    assert "CPU 8 in web-g2" in str(caught.value.state)
    assert verdict(kernel, CREATE) is Inspection.PARTIAL


def test_a_transaction_that_failed_half_way_leaves_a_part(
    client: Client, kernel: DoubleKernel
) -> None:
    client.create(cpus=(8,))
    change = CpuChange("web", Verb.ADD, (10, 12, 14))
    client.double.world.faults.fail_at = {1: errno.EIO}
    with pytest.raises(ChangeFailedError, match="transaction tx_3 failed") as caught:
        apply(kernel, change, TAG)
    assert caught.value.state == "what was done of it stays: CPU 10 in web"
    assert verdict(kernel, change) is Inspection.PARTIAL


def test_a_transaction_that_failed_at_once_leaves_nothing(
    client: Client, kernel: DoubleKernel
) -> None:
    client.create(cpus=(8,))
    change = CpuChange("web", Verb.ADD, (10, 12))
    client.double.world.faults.fail_at = {0: errno.EIO}
    with pytest.raises(ChangeFailedError):
        apply(kernel, change, TAG)
    assert verdict(kernel, change) is Inspection.ABSENT
    apply(kernel, change, replace(TAG, attempt=2))
    assert verdict(kernel, change) is Inspection.PRESENT


def test_after_a_crash_the_change_is_found_by_its_tag(client: Client, kernel: DoubleKernel) -> None:
    """Written, and dead before anything was read."""
    client.create(cpus=(8,))
    change = CpuChange("web", Verb.ADD, (10,))
    kernel.write("overlays/new", overlays(change, TAG)[0].encode())
    client.write(blob(fragment("/resources"), tag="somebody else"))
    assert verdict(kernel, change) is Inspection.PRESENT
    assert verdict(kernel, change, replace(TAG, step="other")) is Inspection.ABSENT
    assert verdict(kernel, change, replace(TAG, transaction="other")) is Inspection.ABSENT


def test_what_somebody_else_did_is_not_taken_for_ours(client: Client, kernel: DoubleKernel) -> None:
    client.create(cpus=(8, 10))
    assert verdict(kernel, CpuChange("web", Verb.ADD, (10,))) is Inspection.ABSENT


def test_an_instance_of_our_name_that_we_did_not_make_is_left_to_a_human(
    client: Client, kernel: DoubleKernel
) -> None:
    client.create("web-g2", 7, (8, 10, 12))
    with pytest.raises(ChangeFailedError):
        apply(kernel, CREATE, TAG)
    assert verdict(kernel, CREATE) is Inspection.UNKNOWN


def test_a_transaction_of_somebody_else_right_before_ours_is_not_mistaken(
    client: Client, kernel: DoubleKernel
) -> None:
    theirs = blob(fragment("/instances/nobody", add_cpus(8)))
    client.double.world.faults.meanwhile = [lambda: client.double.write("overlays/new", theirs)]
    assert apply(kernel, CREATE, TAG) == [3]
    assert client.status("overlays/tx_2") == "failed"


def test_a_transaction_that_vanished_is_unknown(client: Client, double: Double) -> None:
    class Undone(DoubleKernel):
        def write(self, path: str, data: bytes) -> None:
            super().write(path, data)
            double.rmdir(f"overlays/{double.listdir('overlays')[-1]}")

    with pytest.raises(UnknownOutcomeError, match="no transaction with its tag"):
        apply(Undone(double), CREATE, TAG)


def test_memory_that_did_not_all_move_is_missed(client: Client, double: Double) -> None:
    class Stingy(DoubleKernel):
        """Somebody takes a chunk back as soon as the pool has grown."""

        def write(self, path: str, data: bytes) -> None:
            super().write(path, data)
            last = client.pool().memory[-1]
            assert client.change(MemoryChange(None, Verb.REMOVE, (last,))) == "applied"

    change = MemoryChange(None, Verb.ADD, requests=(MemoryRequest(GIB),))
    with pytest.raises(ChangeFailedError):
        apply(Stingy(double), change, TAG)


def test_memory_that_was_tried_and_failed_is_partial_not_absent(
    client: Client, kernel: DoubleKernel
) -> None:
    """Which region was taken cannot be told where the kernel chooses the place."""
    client.create()
    change = MemoryChange("web", Verb.ADD, (MORE, MemoryRegion(0, GRANULE)))
    with pytest.raises(ChangeFailedError):
        apply(kernel, change, TAG)
    assert verdict(kernel, change) is Inspection.PARTIAL


@pytest.mark.slow
def test_a_change_of_many_parts_is_made_in_order_and_stops_at_the_first_that_fails() -> None:
    client = Client(Double(cpus=1200))
    cpus = tuple(range(8, 1800, 2))
    client.double.write("device_tree", baseline_tree(Baseline(cpus, (MemoryRequest(4 * GIB),))))
    kernel = DoubleKernel(client.double)
    change = replace(CREATE, cpus=cpus[:700])
    numbers = apply(kernel, change, TAG)
    assert numbers == list(range(2, 2 + len(numbers)))
    assert len(numbers) > 2
    assert client.instance("web-g2").cpus == cpus[:700]
    assert verdict(kernel, change) is Inspection.PRESENT
    assert max(len(data) for _, data in kernel.writes) <= 4096
    client.double.world.offline = {1900}
    grown = CpuChange(None, Verb.ADD, tuple(range(1800, 2200, 2)))
    with pytest.raises(ChangeFailedError):
        apply(kernel, grown, replace(TAG, step="grow"))
    assert verdict(kernel, grown, replace(TAG, step="grow")) is Inspection.PARTIAL


@settings(max_examples=examples(60))
@given(
    st.sampled_from((MK2, NEWER)),
    st.lists(st.tuples(CHANGES, st.none() | st.integers(0, 2)), max_size=8),
    st.sets(st.sampled_from((8, 10, 12))),
)
def test_no_change_is_called_made_that_is_not(
    variant: object, script: list[tuple[Change, int | None]], dropped: set[int]
) -> None:
    """Whatever fails: what `apply` returns from is present, and what it raises at is not."""
    client = Client.pooled(MK2 if variant is MK2 else NEWER)
    client.double.world.faults.soft_fail_cpus = dropped
    kernel = DoubleKernel(client.double)
    for number, (change, fails) in enumerate(script):
        tag = replace(TAG, step=f"step-{number}")
        before = look(kernel)
        if fails is not None:
            client.double.world.faults.fail_at = {fails: errno.EIO}
        try:
            apply(kernel, change, tag)
        except MkupgradeError:
            seen = verdict(kernel, change, tag)
            assert seen is not Inspection.PRESENT
            if seen is Inspection.ABSENT:
                assert look(kernel) == before
        else:
            assert verdict(kernel, change, tag) is Inspection.PRESENT
        client.double.world.faults.fail_at = {}
    assert client.double.world.overruns == 0
