"""Calls of the driver. They know steps and limits, but neither state nor journal."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from orchestrator.model.base import canonical_json
from orchestrator.model.errors import ErrorClass, MkupgradeError
from orchestrator.model.seams import Driver, StepContext
from orchestrator.model.steps import Inspected, Inspection, Step

MOST_TRACE_LINES = 20
LOOK_AGAIN_AFTER = (0.2, 0.8)
"""Seconds before the second and third look at an effect."""


class Mail(Protocol):
    """What the runner waits on. None only wakes it; `put` is safe in signal handlers."""

    def put(self, item: Answer | Progress | None) -> None: ...

    def get(self, block: bool = True, timeout: float | None = None) -> Answer | Progress | None: ...

    def take(self) -> Answer | Progress | None:
        """The next that is there; None: nothing is."""
        ...


class Pool(Protocol):
    """Where calls run, and where their answers arrive. The real one has threads (`pool.py`);
    tests may run calls in place and in an order of their own."""

    def mailbox(self) -> Mail: ...

    def submit(self, call: Callable[[], None]) -> None: ...

    def close(self) -> None: ...


@dataclass(slots=True, eq=False)
class Flight:
    """One call in flight: what, since when, until when."""

    step: Step
    verb: str
    """"perform", "revert" or "inspect"."""
    attempt: int
    started: float
    """time.monotonic()."""
    deadline: float
    """Likewise."""
    stopped: bool = False
    """Set by the runner when the step should end early."""


@dataclass(slots=True)
class Answer:
    """What came of a call. `crash`: an exception that is nobody's to handle here."""

    flight: Flight
    seconds: float
    result: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    inspected: Inspected | None = None
    crash: BaseException | None = None


@dataclass(slots=True)
class Progress:
    flight: Flight
    text: str
    fraction: float | None


class FlightControl:
    """The step's side of a flight (`seams.Control`)."""

    def __init__(self, flight: Flight, mail: Mail) -> None:
        self._flight, self._mail = flight, mail

    def remaining(self) -> float:
        return self._flight.deadline - time.monotonic()

    def stopped(self) -> bool:
        return self._flight.stopped

    def progress(self, text: str, fraction: float | None = None) -> None:
        self._mail.put(Progress(self._flight, text, fraction))


def call(driver: Driver, flight: Flight, context: StepContext, mail: Mail) -> None:
    """Carry out a flight and mail its answer, whatever happens."""
    try:
        answer = _VERBS[flight.verb](driver, flight, context)
    except BaseException as crash:
        answer = Answer(flight, 0.0, crash=crash)
    answer.seconds = time.monotonic() - flight.started
    mail.put(answer)


def _perform(driver: Driver, flight: Flight, context: StepContext) -> Answer:
    try:
        return Answer(flight, 0.0, result=_plain(driver.perform(flight.step, context)))
    except Exception as error:
        return Answer(flight, 0.0, error=describe(error))


def _revert(driver: Driver, flight: Flight, context: StepContext) -> Answer:
    try:
        return Answer(flight, 0.0, result=_plain(driver.revert(flight.step, context)))
    except Exception as error:
        return Answer(flight, 0.0, error=describe(error))


def _inspect(driver: Driver, flight: Flight, context: StepContext) -> Answer:
    """Looking changes nothing, so what is only busy is asked again before it counts as
    unknown, which stops the transaction."""
    for pause in (*LOOK_AGAIN_AFTER, None):
        try:
            found = driver.inspect(flight.step, context)
            found = found.model_copy(update={"result": _plain(found.result)})
            break
        except Exception as error:
            content = describe(error)
            reason = f"the inspection itself failed: {content['what']}"
            found = Inspected(verdict=Inspection.UNKNOWN, reason=reason)
            if content["class"] not in {"busy", "timeout"} or pause is None:
                break
            time.sleep(max(0.0, min(pause, flight.deadline - time.monotonic())))
    return Answer(flight, 0.0, inspected=found)


_VERBS = {"perform": _perform, "revert": _revert, "inspect": _inspect}


def describe(error: Exception) -> dict[str, Any]:
    """An exception as the journal keeps it; one that is not of our tree is a bug of ours."""
    if isinstance(error, MkupgradeError):
        content = error.as_dict()
    else:
        trace = traceback.format_exception(error)
        lines = "".join(trace).rstrip().splitlines()[-MOST_TRACE_LINES:]
        content = {
            "code": "bug",
            "class": ErrorClass.BUG.value,
            "what": f"unexpected {type(error).__name__}: {error}",
            "where": None,
            "state": None,
            "next_command": None,
            "details": lines,
        }
    return _plain(content, lossy=True)


def _plain(value: Any, *, lossy: bool = False) -> dict[str, Any]:
    """The value if it is a JSON object that the journal can hold byte for byte.

    Raises:
        TypeError, ValueError: it is not, unless `lossy`: then the nearest that is.
    """
    try:
        if value == {} and isinstance(value, dict):
            return value
        text = canonical_json(value)
        text.encode()
        if not isinstance(value, dict) or "NaN" in text or "Infinity" in text:
            json.dumps(value, allow_nan=False)
            value = dict(value)
    except (TypeError, ValueError, RecursionError):
        if not lossy:
            raise
        text = json.dumps(value, default=str)
        value = json.loads(text.encode("utf-8", "replace").decode())
        return {str(k): _without_surrogates(v) for k, v in dict(value).items()}
    result: dict[str, Any] = value
    return result


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_without_surrogates(v) for v in value]
    return value
