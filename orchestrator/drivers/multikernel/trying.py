"""Step kinds that ask whether workloads can be carried, before one of them is touched: try- and
admit-workloads. See `orchestrator.drivers.carrying.trying`.

Done again behind the carrying they could only fail: the workloads do not run any more where they
are tried. So it is on record that they were passed, and what each workload needs.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from orchestrator.drivers.carrying.trying import admit, try_out
from orchestrator.drivers.jobs import absent, present
from orchestrator.drivers.multikernel.carrying import cargo, end
from orchestrator.drivers.multikernel.parts import Handler, Job
from orchestrator.drivers.records import RecordError
from orchestrator.handover.stream import ConnectionLostError
from orchestrator.model.base import Record
from orchestrator.model.errors import ErrorClass, MkupgradeError, WorkloadError
from orchestrator.model.params.side_by_side import AdmitWorkloads, TryWorkloads
from orchestrator.model.quantities import format_size
from orchestrator.model.seams import Result
from orchestrator.model.steps import Inspected
from orchestrator.system import files
from orchestrator.workloads.elsewhere import Needs

P = TypeVar("P", bound=Record)
_STATE = "nothing was stopped; the workloads run"


class _OnceHandler(Handler[P]):
    def inspect(self, job: Job, params: P) -> Inspected:
        record = job.records.read(self.passed(params))
        if record is None:
            return absent("it is not on record that it was passed")
        return present("it is on record that it was passed", record["result"])

    def revert(self, job: Job, params: P) -> Result:
        job.records.drop(self.passed(params))
        return {}

    def record(self, job: Job, params: P, warnings: list[str]) -> Result:
        result: Result = {"warnings": warnings}
        job.records.write(self.passed(params), {"result": result})
        return result

    def passed(self, params: P) -> str:
        """Name of the record."""
        raise NotImplementedError


class TryHandler(_OnceHandler[TryWorkloads]):
    def perform(self, job: Job, params: TryWorkloads) -> Result:
        warnings: list[str] = []
        errors: list[MkupgradeError] = []
        needed: dict[str, Needs] = {}
        for it in params.workloads:
            name = it.workload.name
            try:
                tried = try_out(end(job, it.instance), cargo(job, it.workload), job.context.control)
            except ConnectionLostError:
                raise
            except MkupgradeError as error:
                errors.append(error)
                continue
            warnings += tried.warnings
            if tried.needs is not None:
                needed[name] = tried.needs
        errors += _room(job, sum(it.size for it in needed.values()))
        _raise_all(errors)
        for name, needs in needed.items():
            job.records.write(_needs(name), needs.model_dump(mode="json"))
        return self.record(job, params, warnings)

    def revert(self, job: Job, params: TryWorkloads) -> Result:
        for it in params.workloads:
            job.records.drop(_needs(it.workload.name))
        return super().revert(job, params)

    def passed(self, params: TryWorkloads) -> str:
        return "tried"


class AdmitHandler(_OnceHandler[AdmitWorkloads]):
    def perform(self, job: Job, params: AdmitWorkloads) -> Result:
        target = end(job, params.instance)
        warnings: list[str] = []
        errors: list[MkupgradeError] = []
        for workload in params.workloads:
            needed = _known(job, workload.name)
            try:
                warnings += admit(target, cargo(job, workload), needed, job.context.control)
            except ConnectionLostError:
                raise
            except MkupgradeError as error:
                errors.append(error)
        _raise_all(errors)
        return self.record(job, params, warnings)

    def passed(self, params: AdmitWorkloads) -> str:
        return f"admitted.{params.instance.generation.name}"


def _room(job: Job, size: int) -> list[MkupgradeError]:
    """The host has the state of all of them on its disk until the commit."""
    place = job.context.state_dir
    free = files.free_bytes(place)
    if size <= free:
        return []
    return [
        WorkloadError(
            f"the state of all workloads has about {format_size(size)}, and {format_size(free)} "
            "are free on the host",
            where=str(place),
            state=_STATE,
            error_class=ErrorClass.REFUSED,
        )
    ]


def _raise_all(errors: list[MkupgradeError]) -> None:
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise WorkloadError(
            f"{len(errors)} problems with workloads",
            state=_STATE,
            details=tuple(line for it in errors for line in (it.what, *it.details)),
            error_class=ErrorClass.REFUSED,
        )


def _known(job: Job, name: str) -> Needs | None:
    record = job.records.read(_needs(name))
    try:
        return None if record is None else Needs.model_validate(record)
    except ValidationError as error:
        raise RecordError(
            f"what {name} needs is on record, and cannot be read", where=str(job.records.dir)
        ) from error


def _needs(name: str) -> str:
    return f"needs.{name}"
