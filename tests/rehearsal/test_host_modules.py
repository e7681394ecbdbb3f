"""A guest gets the modules that it needs with all that they need, and no others."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.rehearsal.host_modules import closure, module_name, modules_layer

DEP = """kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz kernel/net/core/failover.ko.xz
kernel/drivers/net/net_failover.ko.xz: kernel/net/core/failover.ko.xz
kernel/net/core/failover.ko.xz:
kernel/drivers/gpu/drm/i915/i915.ko.xz: kernel/drivers/gpu/drm/drm.ko.xz
kernel/drivers/gpu/drm/drm.ko.xz:
kernel/drivers/block/virtio-blk.ko.xz:
"""  # noqa: E501 - as depmod writes it


def test_needed_modules_come_with_what_they_need(tmp_path: Path) -> None:
    room = tmp_path / "usr/lib/modules/7.2.13"
    for line in DEP.splitlines():
        path = room / line.partition(":")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("module")
    (room / "modules.dep").write_text(DEP)
    (room / "modules.alias").write_text("")
    found = {Path(p).name for p in modules_layer("7.2.13", tmp_path)}
    assert found == {
        "virtio_net.ko.xz",
        "net_failover.ko.xz",
        "failover.ko.xz",
        "virtio-blk.ko.xz",
        "modules.dep",
        "modules.alias",
    }


def test_a_kernel_without_modules_needs_none(tmp_path: Path) -> None:
    assert modules_layer("7.2.13", tmp_path) == {}


def test_dashes_and_underscores_name_the_same_module() -> None:
    assert module_name("kernel/drivers/block/virtio-blk.ko.zst") == "virtio_blk"


names = st.sampled_from([f"m{n}" for n in range(8)])


@given(st.dictionaries(names, st.lists(names, max_size=4)), st.sets(names))
def test_the_closure_is_closed_and_ends_even_in_circles(
    needs: dict[str, list[str]], wanted: set[str]
) -> None:
    found = closure(needs, wanted)
    assert {w for w in wanted if w in needs} <= found
    for path in found:
        assert set(needs.get(path, [])) <= found
