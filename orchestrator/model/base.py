"""The bases: `Strict` for what people write, `Record` and `Plain` for what we write. `Deferred` is
beneath every model whose validator is built when it is first used."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from json.encoder import encode_basestring
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, cast

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def _without_plugins() -> None:
    """Have pydantic load no plugins: root runs no code that merely happens to be installed. By
    the environment it could be told the same, but would import importlib.metadata all the same:
    a twelfth of what `status` costs."""
    loader = ModuleType("pydantic.plugin._loader")
    vars(loader)["get_plugins"] = tuple
    sys.modules.setdefault(loader.__name__, loader)


_without_plugins()


_BUILDING = threading.RLock()
"""Held while a model is built: one may need another, so one lock for all."""


class Deferred(BaseModel):
    """Its validator is built when it is first used: most commands use few. So a default is made by
    `model_construct`, which needs none.

    Steps that run side by side use a model for the first time at the same moment, and pydantic
    before 2.14 takes apart for one thread what another one is building: "type object has no
    attribute '__pydantic_core_schema__'" (pydantic's issue 13419). So it is built by one thread
    at a time. 2.11.0 to 2.11.4 even validate by the base meanwhile; pyproject.toml refuses them.
    """

    model_config = ConfigDict(defer_build=True)

    @classmethod
    def model_rebuild(
        cls,
        *,
        force: bool = False,
        raise_errors: bool = True,
        _parent_namespace_depth: int = 2,
        _types_namespace: Mapping[str, Any] | None = None,
    ) -> bool | None:
        """As pydantic's, which also calls it by itself. The depth counts frames of the stack, of
        which this one is one more; 0: none is looked at."""
        depth = _parent_namespace_depth + (1 if _parent_namespace_depth > 0 else 0)
        with _BUILDING:
            return super().model_rebuild(
                force=force,
                raise_errors=raise_errors,
                _parent_namespace_depth=depth,
                _types_namespace=_types_namespace,
            )


class Strict(Deferred):
    """A part of the spec: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Shared(Strict):
    """A part of the spec that parameters of steps hold, too. Its validator is built at once, and
    all that hold it use that one; a deferred one would be built anew inside of each."""

    model_config = ConfigDict(defer_build=False)


class Record(Deferred):
    """A fact or event that mkupgrade itself wrote: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Plain:
    """What we make in great numbers: a dataclass with slots, a quarter of a model's size and
    of its time. Checked by mypy where we make one, validated like a `Record` where one is
    read (pydantic takes dataclasses as they are)."""

    __slots__ = ()
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def as_dict(self) -> dict[str, Any]:
        """A copy in dicts and lists, ready for JSON."""
        return asdict(cast("DataclassInstance", self))

    def canonical(self) -> str:
        """`canonical_json` of `as_dict`. Overridden where it is asked for at every step."""
        return canonical_json(self.as_dict())


class Flat(Plain):
    """A `Plain` that holds no other: only what JSON knows."""

    __slots__ = ()

    def canonical(self) -> str:
        names: tuple[str, ...] = self.__slots__
        return canonical_json({name: getattr(self, name) for name in names})


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _encoder() -> Callable[[Any, int], Iterable[str]]:
    """What `_ENCODER.encode` makes anew for each value, made once: half of its time for the small
    values that we have. It does not look for circles: they end in a RecursionError."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # a Python without the C part
        return lambda value, _: _ENCODER.iterencode(value)
    encoder: Callable[[Any, int], Iterable[str]] = make(
        None, _ENCODER.default, encode_basestring, None, ":", ",", True, False, True
    )
    return encoder


_encode = _encoder()


def canonical_json(value: Any) -> str:
    """The one text form that digests are taken over: sorted keys, no spaces, UTF-8."""
    return "".join(_encode(value, 0))


json_string: Callable[[str], str] = encode_basestring
"""`canonical_json` of a string, at a twentieth of the cost."""


def read_json(text: str | bytes) -> Any:
    """`json.loads` for what anybody may have written.

    Raises:
        ValueError: it is not JSON, is nested too deeply, or is not UTF-8.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def digest(value: Any) -> str:
    """SHA-256 (hex) of `canonical_json(value)`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
