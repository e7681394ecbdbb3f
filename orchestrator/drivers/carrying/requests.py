"""What the host asks of the worker in an instance, and what it is told. Both ends parse what comes
as hostile; fields of a newer minor version are passed over."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, ValidationError

from orchestrator.handover.manifest import TransactionId
from orchestrator.handover.parcel import Parcel
from orchestrator.model.base import Deferred
from orchestrator.model.errors import (
    ErrorClass,
    HandoverError,
    MkupgradeError,
    WorkloadError,
)
from orchestrator.model.spec.workloads import Workload
from orchestrator.model.steps import Inspection, Section
from orchestrator.workloads.elsewhere import Needs

_Text = Annotated[str, Field(max_length=4000)]
_MOST_LINES, _MOST_TEXT = 100, 500
AHEAD = "ahead"
"""In the meta of a handover: the digest of the manifest of the copy that it rests on."""
_Digest = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]


class Verb(StrEnum):
    LOOK = "look"
    """What became of it? Changes nothing."""
    AHEAD = "ahead"
    """Copy what it has in memory, and lay that ready to be fetched. It runs on."""
    UNPACK = "unpack"
    """Unpack what was copied ahead and has arrived, so that `bring` need not."""
    TAKE = "take"
    """Checkpoint it, and lay its state ready to be fetched. It does not run afterwards."""
    BRING = "bring"
    """Restore it from what has arrived."""
    AGAIN = "again"
    """Make it run again from what `take` left, which goes then."""
    END = "end"
    """Stop what was restored here, and drop what there is of it."""
    TRY = "try"
    """Try a checkpoint, and tell what restoring it needs. It runs on. Since version 1.3."""
    ADMIT = "admit"
    """Tell what is lacking here for it to be restored. Changes nothing. Since version 1.3."""
    DROP = "drop"
    """Remove what is kept of it, of both sections; it runs on, or does not, as before."""


class _Said(Deferred):
    model_config = ConfigDict(extra="ignore", frozen=True)


S = TypeVar("S", bound=_Said)


class Request(_Said):
    """One piece of work, about one workload and one of its handovers."""

    verb: Verb
    transaction: TransactionId
    section: Section
    plan_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    workload: Workload
    seconds: Annotated[float, Field(gt=0)]
    tag: Annotated[str, Field(pattern=r"^[0-9a-f]{0,32}$")] = ""
    """Which taking this is about: what an earlier one left under another tag is not used."""
    ahead: _Digest = ""
    """With take: SHA-256 of the manifest's frame of what was copied ahead and may be gone on from;
    what is there is used if it is that."""
    needs: Needs | None = None
    """With admit: what the kernel that it runs in has said; None: nothing is known."""
    outrun: bool = False
    """With bring and again: it ran on elsewhere since this state was taken."""

    @property
    def parcel(self) -> Parcel:
        return Parcel(self.transaction, self.section, self.workload.name)


class Look(_Said):
    """What became of a workload, as far as this kernel knows."""

    running: bool | None
    """None: it cannot be told."""
    reason: _Text = ""
    pids: Annotated[list[int], Field(max_length=1 << 16)] = []
    taken: Inspection
    """PRESENT: its state was taken here and is whole, and it does not run since."""
    taken_back: Inspection = Inspection.ABSENT
    """The same of the handover that goes the other way."""
    tag_back: Annotated[str, Field(max_length=32)] = ""
    """Of that taking."""
    brought: Inspection
    """PRESENT: it was restored here, in this boot, and runs."""
    manifest: _Digest = ""
    """SHA-256 of the manifest's frame of the handover that is complete here."""


class Tried(_Said):
    """Of a checkpoint that was tried."""

    warnings: Annotated[list[_Text], Field(max_length=_MOST_LINES)] = []
    needs: Needs | None = None


class Admitted(_Said):
    """Of a kernel where nothing is lacking."""

    warnings: Annotated[list[_Text], Field(max_length=_MOST_LINES)] = []


def read_request(data: bytes) -> Request:
    """
    Raises:
        HandoverError: it is none.
    """
    try:
        request = Request.model_validate_json(data)
    except (ValidationError, RecursionError) as error:
        details = _lines(error)
        raise HandoverError("a request that cannot be read", details=details) from error
    if request.section is Section.RECOVER:
        raise HandoverError("state is taken in section forward or return")
    return request


def done(result: dict[str, Any]) -> bytes:
    """The answer where it went well. Lists are for people, and cut: a tree may have thousands of
    processes, and an answer has its bound."""
    return json.dumps({"result": {key: _short(value) for key, value in result.items()}}).encode()


def failed(error: MkupgradeError) -> bytes:
    """The answer where it did not."""
    said = error.as_dict()
    said["details"] = [line[:500] for line in said["details"][:20]]
    return json.dumps(
        {"error": {k: v[:2000] if isinstance(v, str) else v for k, v in said.items()}}
    ).encode()


def read_answer(data: bytes, where: str) -> dict[str, Any]:
    """The result.

    Args:
        where: the instance, for errors.

    Raises:
        WorkloadError: what went wrong there. HandoverError: this is no answer.
    """
    try:
        answer = _Answer.model_validate_json(data)
    except (ValidationError, RecursionError) as error:
        raise HandoverError(f"what {where} answers cannot be read", where=where) from error
    wrong = answer.error
    if wrong is None:
        return answer.result
    raise WorkloadError(
        wrong.what,
        where=f"{where} ({wrong.where})" if wrong.where else where,
        state=wrong.state,
        details=tuple(wrong.details),
        error_class=wrong.error_class,
    )


def read_look(result: dict[str, Any], where: str) -> Look:
    """Raises: HandoverError."""
    return _read(Look, result, where)


def read_tried(result: dict[str, Any], where: str) -> Tried:
    """Raises: HandoverError."""
    return _read(Tried, result, where)


def read_admitted(result: dict[str, Any], where: str) -> Admitted:
    """Raises: HandoverError."""
    return _read(Admitted, result, where)


def _read(kind: type[S], result: dict[str, Any], where: str) -> S:
    try:
        return kind.model_validate(result)
    except ValidationError as error:
        raise HandoverError(
            f"what {where} says of a workload cannot be read", where=where
        ) from error


def _short(value: Any) -> Any:
    if isinstance(value, list):
        return [_short(it) for it in value[:_MOST_LINES]]
    return value[:_MOST_TEXT] if isinstance(value, str) else value


class _Error(_Said):
    what: _Text
    where: _Text | None = None
    state: _Text | None = None
    details: list[_Text] = []
    error_class: Annotated[ErrorClass, Field(alias="class")] = ErrorClass.FAILED


class _Answer(_Said):
    result: dict[str, Any] = {}
    error: _Error | None = None


def _lines(error: Exception) -> tuple[str, ...]:
    if not isinstance(error, ValidationError):
        return ()
    found = error.errors(include_url=False, include_input=False)[:10]
    return tuple(f"{'.'.join(map(str, it['loc']))}: {it['msg']}"[:300] for it in found)
