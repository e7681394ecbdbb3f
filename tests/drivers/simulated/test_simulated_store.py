"""The host's file: whole, private, one writer at a time, and read as if hostile."""

from __future__ import annotations

import os
import stat

import pytest

from orchestrator.drivers.simulated.store import Store
from orchestrator.model.errors import MkupgradeError


@pytest.fixture
def store(place) -> Store:
    place.images()
    return place.driver(place.spec([{}])).store


def test_the_file_is_private_and_nothing_is_left_beside_it(store):
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    names = {p.name for p in store.path.parent.iterdir() if p.is_file()}
    assert names <= {"simulated-host.json", ".simulated-host.json.lock"}


def test_a_change_that_raises_changes_nothing(store):
    before = store.path.read_bytes()
    with pytest.raises(RuntimeError), store.change() as world:
        world.boots = 99
        raise RuntimeError
    assert store.path.read_bytes() == before


def test_time_goes_on_with_every_change(store):
    counter = store.read().workloads["counter"].counter
    with store.change():
        pass
    assert store.read().workloads["counter"].counter == counter + 1


def test_many_writers_lose_no_change(store):
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            try:
                mine = Store(store.path, sync=False)
                for _ in range(25):
                    with mine.change() as world:
                        world.boots += 1
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    assert store.read().boots == 101


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no pretend host"),
        (b"{}", "no pretend host"),
        (b"\xff\xff", "cannot be read"),
        (b'{"format": "mkupgrade-simulated-host/v2"}', "no pretend host"),
        (b"[" * 100_000, "no pretend host"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(store, content, why):
    store.path.write_bytes(content)
    with pytest.raises(MkupgradeError, match=why) as caught:
        store.read()
    assert caught.value.where == str(store.path)


def test_a_missing_file_says_how_to_make_one(place):
    with pytest.raises(MkupgradeError) as caught:
        place.again().world()
    assert "simulated.demo" in (caught.value.next_command or "")


def test_a_link_is_not_followed(store, tmp_path):
    elsewhere = tmp_path / "elsewhere.json"
    store.path.rename(elsewhere)
    store.path.symlink_to(elsewhere)
    with pytest.raises(MkupgradeError, match="cannot be read"):
        store.read()
