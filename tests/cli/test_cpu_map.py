"""The map of a multikernel host's CPUs: a cell each, and not a word from outside believed."""

from __future__ import annotations

import io

from orchestrator.cli.render.cpu_map import show_map
from orchestrator.cli.render.text import console
from orchestrator.model.host import InstanceState, KeptGeneration, PoolState, SideBySide

GIB = 1 << 30
NOW = 1_795_000_000.0


def drawn(found: SideBySide) -> list[str]:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="\n")
    show_map(console(stream), found, NOW)
    stream.seek(0)
    return stream.read().splitlines()


def pool(cpus: range, free: range) -> PoolState:
    return PoolState(
        cpus=list(cpus), free_cpus=list(free), memory_bytes=8 * GIB, free_memory_bytes=GIB
    )


def test_a_host_without_a_pool_says_so() -> None:
    assert drawn(SideBySide()) == ["Pool     none: the host has set nothing aside for instances"]


def test_each_cpu_has_a_cell_with_the_letter_of_its_instance() -> None:
    web = InstanceState(name="web", id=2, status="active", cpus=[2, 3], memory_bytes=GIB)
    old = InstanceState(name="old", id=3, status="loaded", cpus=[5], memory_bytes=GIB)
    assert drawn(SideBySide(pool=pool(range(2, 8), range(6, 8)), instances=[web, old])) == [
        "Pool     6 CPUs, 8.0 GiB; free: 2 CPUs, 1.0 GiB",
        "         AA·B··",
        "         A web  active  CPUs 2, 3, 1.0 GiB",
        "         B old  loaded  CPU 5, 1.0 GiB",
    ]


def test_many_cpus_go_into_rows_and_are_named_by_the_first_and_the_last() -> None:
    big = InstanceState(name="big", id=2, status="active", cpus=list(range(90)))
    lines = drawn(SideBySide(pool=pool(range(100), range(90, 100)), instances=[big]))
    assert [line.strip() for line in lines[1:4]] == ["A" * 48, "A" * 42 + "·" * 6, "·" * 4]
    assert lines[4].endswith("90 CPUs (0 … 89), 0 B")


def test_more_instances_than_letters_share_a_sign() -> None:
    many = [InstanceState(name=f"i{n}", id=n + 2, status="failed", cpus=[n]) for n in range(53)]
    lines = drawn(SideBySide(pool=pool(range(53), range(0)), instances=many))
    assert lines[2].strip() == "wxyz#"


def test_a_name_from_the_kernel_cannot_write_to_the_terminal() -> None:
    bad = InstanceState(name="\x1b[2Jweb", id=2, status="active", cpus=[1])
    assert "\x1b" not in "".join(drawn(SideBySide(pool=pool(range(2), range(1)), instances=[bad])))


def test_until_when_an_old_generation_is_kept_is_told() -> None:
    old = InstanceState(name="web", id=2, status="loaded", cpus=[5], memory_bytes=GIB)
    for until, said in (
        (NOW + 60, "; kept for mkupgrade rollback until 2026-11-"),
        (NOW, "; kept past its time: mkupgrade clean-up gives it back"),
    ):
        kept = KeptGeneration(name="web", id=2, cmdline=None, transaction="t", until=until)
        found = SideBySide(pool=pool(range(4, 8), range(6, 8)), instances=[old], kept=[kept])
        assert said in drawn(found)[2]
