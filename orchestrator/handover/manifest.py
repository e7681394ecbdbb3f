"""The manifest: what was handed over, by whom, and how to know that it arrived whole.

Written as JSON in a frame of its own (token 0). A reader refuses another major version of the
protocol and keeps fields it does not know, so that they are still there when it writes on.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, ConfigDict, Field, ValidationError, model_validator

from orchestrator.handover.frame import (
    MAJOR,
    MAX_BODY,
    MINOR,
    SIZE,
    FrameKind,
    Header,
    refuse_major,
)
from orchestrator.model.base import Deferred, canonical_json
from orchestrator.model.errors import HandoverError
from orchestrator.model.spec.names import Name
from orchestrator.model.steps import Section

MAX_BYTES = 4 << 20
"""Longest manifest, in bytes."""
MAX_WORKLOADS = 4096
MAX_DEPTH = 64
"""Deepest nesting of JSON that is read."""

TransactionId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,51}$")]
"""At most 52 characters, so that "mkupgrade:<id>" is a LUO session name and one path component."""
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Text = Annotated[str, Field(max_length=256)]


class _Open(Deferred):
    """Unknown fields are kept: a newer minor version wrote them."""

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        strict=True,
        ser_json_inf_nan="constants",
    )


class Protocol(_Open):
    major: Annotated[int, Field(ge=0, le=0xFFFF)] = MAJOR
    minor: Annotated[int, Field(ge=0, le=0xFFFF)] = MINOR


class Source(_Open):
    """The kernel that took the state."""

    release: Annotated[str, Field(min_length=1, max_length=128)]
    boot_id: _Text


class Payload(_Open):
    """A body in a frame of its own."""

    kind: Literal["directory"] = "directory"
    token: Annotated[int, Field(ge=1, le=MAX_WORKLOADS)]
    length: Annotated[int, Field(ge=0, le=MAX_BODY)]
    """Bytes of the body."""
    sha256: _Sha256


class CarriedWorkload(_Open):
    name: Name
    method: Literal["criu", "hooks", "restart"]
    payload: Payload | None = None
    """None: nothing but `meta` travels (method restart)."""
    meta: dict[str, Any] = {}
    """What the method needs besides (docs/handover.md, "meta"); checked by its reader."""


class Manifest(_Open):
    protocol: Protocol = Protocol.model_construct()
    transaction: TransactionId
    plan_digest: _Sha256
    section: Annotated[Section, Field(strict=False)]
    """The section in which the state was taken: forward or return."""
    source: Source
    created: Annotated[AwareDatetime, Field(strict=False)]
    workloads: Annotated[list[CarriedWorkload], Field(max_length=MAX_WORKLOADS)] = []
    extra: dict[str, Any] = {}
    """Free-form results for the next kernel's report; no step needs them."""

    @model_validator(mode="after")
    def _names_and_tokens_once(self) -> Manifest:
        names = [w.name for w in self.workloads]
        if len(set(names)) != len(names):
            raise ValueError("a workload is listed twice")
        tokens = [w.payload.token for w in self.workloads if w.payload]
        if tokens != list(range(1, len(tokens) + 1)):
            raise ValueError("payload tokens are not 1, 2, … in order")
        return self

    def workload(self, name: str) -> CarriedWorkload:
        """
        Raises:
            HandoverError: the manifest does not list it.
        """
        for workload in self.workloads:
            if workload.name == name:
                return workload
        raise HandoverError(f'the handover holds no workload "{name}"', where=self.transaction)

    def digest(self) -> str:
        """SHA-256 (hex) of the frame, by which two ends tell that they mean the same handover.

        Raises:
            HandoverError: as `encode`.
        """
        return hashlib.sha256(self.encode()).hexdigest()

    def encode(self) -> bytes:
        """The frame: header and canonical JSON.

        Raises:
            HandoverError: it would be longer than `MAX_BYTES`, or holds what JSON cannot.
        """
        try:
            value = self.model_dump(mode="json")
            json.dumps(value, allow_nan=False)
            body = canonical_json(value).encode()
        except ValueError as error:
            raise HandoverError(
                f"the manifest cannot be written as JSON: {error}", where=self.transaction
            ) from error
        if len(body) > MAX_BYTES:
            raise HandoverError(
                f"the manifest would have {len(body)} bytes, more than {MAX_BYTES}",
                where=self.transaction,
            )
        digest = hashlib.sha256(body).hexdigest()
        return Header(FrameKind.MANIFEST, 0, len(body), digest).pack() + body

    @classmethod
    def decode(cls, data: bytes, where: str | None = None) -> Manifest:
        """The manifest in a frame that anybody may have written.

        Raises:
            HandoverError: not a manifest's frame, damaged, of another major version, or not
                valid; `details` has one line per problem.
        """
        header = manifest_header(data[:SIZE], where)
        body = data[SIZE:]
        if len(body) != header.length:
            raise HandoverError(
                f"manifest of {len(body)} bytes, its header says {header.length}", where=where
            )
        if hashlib.sha256(body).hexdigest() != header.sha256:
            raise HandoverError("the manifest's digest does not fit: it is damaged", where=where)
        return _validated(cls, _parsed_json(body, where), where)


def manifest_header(data: bytes, where: str | None = None) -> Header:
    """The header of a manifest's frame; its length is at most `MAX_BYTES`.

    Raises:
        HandoverError: it is not one.
    """
    header = Header.parse(data, where)
    if header.kind is not FrameKind.MANIFEST or header.token != 0:
        raise HandoverError("expected a manifest, found a payload", where=where)
    if header.length > MAX_BYTES:
        raise HandoverError(f"manifest that claims {header.length} bytes", where=where)
    return header


def _parsed_json(body: bytes, where: str | None) -> dict[str, Any]:
    try:
        value = json.loads(
            body.decode(),
            object_pairs_hook=_once,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
        _refuse_deep(value)
    except (ValueError, RecursionError) as error:
        raise HandoverError(f"the manifest is not JSON: {error}", where=where) from error
    if not isinstance(value, dict):
        raise HandoverError("the manifest is not a JSON object", where=where)
    protocol = value.get("protocol")
    if isinstance(protocol, dict) and isinstance(protocol.get("major"), int):
        refuse_major(protocol["major"], protocol.get("minor", 0), where)
    return value


def _refuse_deep(value: Any) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        level = inner


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key is used twice in one object")
    return result


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is beyond a float")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _validated(cls: type[Manifest], value: dict[str, Any], where: str | None) -> Manifest:
    try:
        return cls.model_validate(value)
    except (ValidationError, RecursionError) as error:
        details: tuple[str, ...] = ()
        if isinstance(error, ValidationError):
            problems = error.errors(include_url=False, include_input=False)
            details = tuple(
                f"{'.'.join(str(part) for part in p['loc'])}: {p['msg']}" for p in problems[:20]
            )
        raise HandoverError("the manifest is not valid", where=where, details=details) from error
