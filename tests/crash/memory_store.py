"""The simulated driver's host in memory: the same changes, whole or not at all, without a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.drivers.simulated.store import Store
from orchestrator.drivers.simulated.world import PretendWorkload, World


class MemoryStore(Store):
    """A `Store` that holds the host itself. `read` gives it out: look, and change nothing."""

    def __init__(self, world: World) -> None:
        super().__init__(Path("/nowhere/simulated-host.json"), sync=False)
        self._world = copied(world)

    def read(self) -> World:
        return self._world

    @contextmanager
    def change(self, *, looking: bool = False) -> Iterator[World]:
        world = copied(self._world)
        world.tick()
        yield world
        self._world = world

    def write(self, world: World) -> None:
        self._world = world


def copied(world: World) -> World:
    """A copy to be changed. Of the parts below, only workloads are ever changed in place."""
    new = _shell(world)
    for name, value in new.__dict__.items():
        if type(value) is dict:
            new.__dict__[name] = {k: _part(v) for k, v in value.items()} if value else {}
        elif type(value) is list:
            new.__dict__[name] = value[:]
    return new


def _part(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return dict(value)
    return _shell(value) if kind is PretendWorkload else value


def _shell(model: Any) -> Any:
    new = type(model).__new__(type(model))
    _SET(new, "__dict__", dict(model.__dict__))
    _SET(new, "__pydantic_fields_set__", model.__pydantic_fields_set__)
    _SET(new, "__pydantic_extra__", None)
    _SET(new, "__pydantic_private__", None)
    return new


_SET = object.__setattr__
