"""What is dear to make is made once, and appears whole or not at all."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from orchestrator.rehearsal.cache import cache_dir, drop_old, kept


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MKUPGRADE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_kept_file_is_made_once(own_cache: Path) -> None:
    calls = []

    def make(product: Path, work: Path) -> None:
        calls.append(work)
        assert work.is_dir()
        product.write_text("x")

    first = kept("thing", "d" * 64, ".txt", make)
    assert kept("thing", "d" * 64, ".txt", make) == first
    assert first.parent == own_cache == cache_dir()
    assert len(calls) == 1
    assert first.read_text() == "x"
    assert [p for p in own_cache.iterdir() if "making" in p.name] == []


def test_a_failed_making_leaves_nothing(own_cache: Path) -> None:
    def make(product: Path, _work: Path) -> None:
        product.write_text("half")
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError):
        kept("thing", "e" * 64, ".txt", make)
    assert list(own_cache.glob("thing-*")) == []
    assert [p for p in own_cache.iterdir() if p.is_dir()] == []


def _slowly(log: Path) -> None:
    def make(product: Path, _work: Path) -> None:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.3)
        product.write_text("x")

    kept("thing", "f" * 64, ".txt", make)


def test_two_processes_that_want_the_same_make_it_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_slowly, args=(log,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(20)
    assert [p.exitcode for p in processes] == [0, 0, 0]
    assert len(log.read_text().splitlines()) == 1


def test_the_least_recently_used_go_first(own_cache: Path) -> None:
    for number in range(5):
        path = kept("image", f"{number:064d}"[::-1], ".img", lambda p, _: p.touch() or None)
        os.utime(path, (number, number))
    (own_cache / "other-1").touch()
    drop_old("image", keep=2)
    assert len(list(own_cache.glob("image-*"))) == 2
    assert {int(p.stat().st_mtime) for p in own_cache.glob("image-*")} == {3, 4}
    assert (own_cache / "other-1").exists()
