"""Whether a workload can be carried, asked of both ends while nothing has happened: the source
tries a checkpoint and says what restoring it needs, the target says what it lacks of that.

An agent of a protocol before 1.3 can do neither. That is told, and no reason to refuse: the one in
an old generation is as old as what it was upgraded with last.
"""

from __future__ import annotations

from orchestrator.drivers.carrying.ends import Cargo, End
from orchestrator.drivers.carrying.requests import Tried, Verb, read_admitted, read_tried
from orchestrator.handover.stream import ConnectionLostError
from orchestrator.model.errors import MkupgradeError, WorkloadError
from orchestrator.model.seams import Control
from orchestrator.workloads.elsewhere import Needs

_SINCE = 3
"""Minor version of the protocol."""


def try_out(source: End, cargo: Cargo, control: Control) -> Tried:
    """Its `needs` are None where the agent is too old to say any.

    Raises:
        WorkloadError: it cannot be taken, and why; it runs on.
        ConnectionLostError: the agent does not answer.
    """
    name = cargo.workload.name
    control.progress(f"Try a checkpoint of {name} in {source.name}")
    too_old = _too_old(source, cargo, control)
    if too_old:
        return Tried(warnings=[f"no checkpoint of {name} was tried: {too_old}"])
    try:
        tried = read_tried(source.work(Verb.TRY, cargo, cargo.parcel, control), source.name)
    except ConnectionLostError:
        raise
    except MkupgradeError as error:
        raise _refused(f"{name} cannot be taken out of {source.name}", source, error) from error
    return tried.model_copy(update={"warnings": [f"{name}: {it}" for it in tried.warnings]})


def admit(target: End, cargo: Cargo, needs: Needs | None, control: Control) -> list[str]:
    """What may go wrong in the target.

    Raises:
        WorkloadError: it cannot be restored there, and why; it runs on in the source.
        ConnectionLostError: the agent does not answer.
    """
    name = cargo.workload.name
    control.progress(f"Ask {target.name} whether {name} can be restored there")
    too_old = _too_old(target, cargo, control)
    if too_old:
        return [f"whether {name} can be restored was not asked: {too_old}"]
    try:
        said = target.work(Verb.ADMIT, cargo, cargo.parcel, control, needs=needs)
        warnings = read_admitted(said, target.name).warnings
    except ConnectionLostError:
        raise
    except MkupgradeError as error:
        raise _refused(f"{name} cannot be restored in {target.name}", target, error) from error
    unknown = f"what {name} needs in {target.name} is not known: only its tools were looked at"
    return [*([unknown] if needs is None else []), *(f"{name}: {it}" for it in warnings)]


def _refused(what: str, end: End, error: MkupgradeError) -> WorkloadError:
    return WorkloadError(
        f"{what}: {error.what}",
        where=error.where or end.name,
        state="nothing was stopped; it runs on",
        details=error.details,
        error_class=error.error_class,
    )


def _too_old(end: End, cargo: Cargo, control: Control) -> str | None:
    """Why its agent, which works, can do neither."""
    end.require_work(cargo, control)
    minor = end.minor(cargo, control)
    if minor >= _SINCE:
        return None
    return f"the agent in {end.name} speaks protocol 1.{minor}, which cannot (1.{_SINCE})"
