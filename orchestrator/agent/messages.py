"""Bodies of frames that are more than bytes. Both ends parse what comes as hostile."""

from __future__ import annotations

import json
import struct
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError

from orchestrator.agent.errors import ProtocolError, RefusedError
from orchestrator.agent.wire import DIGESTS
from orchestrator.handover.parcel import Parcel, parse_parcel
from orchestrator.handover.stream import DIGEST
from orchestrator.model.base import Deferred
from orchestrator.model.errors import ErrorClass, HandoverError, MkupgradeError
from orchestrator.model.steps import Inspected, Inspection

_Text = Annotated[str, Field(max_length=2000)]
_PLACE = struct.Struct("<IQ")


class _Said(Deferred):
    """Fields of a newer minor version are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class _Error(_Said):
    what: _Text
    where: _Text | None = None
    error_class: Annotated[ErrorClass, Field(strict=False)] = ErrorClass.FAILED


class _Inspected(_Said):
    verdict: Annotated[Inspection, Field(strict=False)]
    reason: _Text
    manifest: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""


def parcel_body(parcel: Parcel) -> bytes:
    """Body of BEGIN, INSPECT and DISCARD."""
    return parcel.text().encode()


def parse_own_parcel(body: bytes, transaction: str) -> Parcel:
    """
    Args:
        transaction: of a parcel that names none.

    Raises:
        ProtocolError
    """
    try:
        return parse_parcel(body.decode("ascii", "replace"), transaction)
    except HandoverError as error:
        raise ProtocolError(error.what) from error


def fetch_body(parcel: Parcel, token: int, offset: int) -> bytes:
    """Body of FETCH."""
    return _PLACE.pack(token, offset) + parcel_body(parcel)


def parse_fetch(body: bytes, transaction: str) -> tuple[Parcel, int, int]:
    """Parcel, token and offset. Raises: ProtocolError."""
    if len(body) < _PLACE.size:
        raise ProtocolError(f"FETCH of {len(body)} bytes")
    token, offset = _PLACE.unpack(body[: _PLACE.size])
    return parse_own_parcel(body[_PLACE.size :], transaction), token, offset


def parse_digests(body: bytes) -> list[bytes]:
    """Of HAVE and RECIPE. Raises: ProtocolError."""
    if len(body) % DIGEST or not body:
        raise ProtocolError(f"digests in {len(body)} bytes")
    return [body[at : at + DIGEST] for at in range(0, len(body), DIGEST)]


def bits(flags: list[bool]) -> bytes:
    """Body of LACKING: the first flag is the lowest bit of the first byte."""
    made = bytearray(-(-len(flags) // 8))
    for number, flag in enumerate(flags):
        made[number // 8] |= flag << number % 8
    return bytes(made)


def parse_bits(body: bytes, number: int, where: str) -> list[bool]:
    """Raises: ProtocolError."""
    wrong = number > DIGESTS or len(body) != -(-number // 8)
    flags = [] if wrong else [bool(body[at // 8] >> at % 8 & 1) for at in range(number)]
    if wrong or bits(flags) != body:
        raise ProtocolError(f"{len(body)} bytes about {number} blocks", where=where)
    return flags


def error_body(error: MkupgradeError) -> bytes:
    """Body of ERROR."""
    said = _Error(
        what=error.what[:2000],
        where=error.where[:2000] if error.where is not None else None,
        error_class=error.error_class,
    )
    return said.model_dump_json().encode()


def raise_error(body: bytes, where: str) -> None:
    """
    Raises:
        RefusedError: what the agent said. ProtocolError: it said nothing that can be read.
    """
    said = _parsed(_Error, body, where)
    place = f"{where} ({said.where})" if said.where else where
    raise RefusedError(
        f"the agent refuses: {said.what}",
        where=place,
        state="the source has everything",
        error_class=said.error_class,
    )


def inspected_body(found: Inspected, manifest_digest: str) -> bytes:
    """Body of INSPECTED."""
    said = _Inspected(verdict=found.verdict, reason=found.reason[:2000], manifest=manifest_digest)
    return said.model_dump_json().encode()


def parse_inspected(body: bytes, where: str) -> tuple[Inspected, bytes]:
    """Verdict, and the SHA-256 of the manifest's frame. Raises: ProtocolError."""
    said = _parsed(_Inspected, body, where)
    return Inspected(verdict=said.verdict, reason=said.reason), bytes.fromhex(said.manifest)


def _parsed(kind: type[Any], body: bytes, where: str) -> Any:
    try:
        return kind.model_validate(json.loads(body))
    except (ValidationError, ValueError, RecursionError) as error:
        raise ProtocolError("what the agent says cannot be read", where=where) from error
