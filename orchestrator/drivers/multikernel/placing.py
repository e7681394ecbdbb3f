"""Step kinds about an instance's place: create-instance, remove-instance."""

from __future__ import annotations

from orchestrator.drivers.jobs import absent, partial, present
from orchestrator.drivers.multikernel import agents, changing, living
from orchestrator.drivers.multikernel.parts import Handler, Job, named
from orchestrator.drivers.multikernel.seeing import look
from orchestrator.drivers.multikernel.trees.changes import CreateInstance, RemoveInstance
from orchestrator.model.errors import ErrorClass, MkupgradeError
from orchestrator.model.params import side_by_side
from orchestrator.model.seams import Result
from orchestrator.model.steps import Inspected, Inspection, Section
from orchestrator.system.multikernel_errors import ROOT

_TRIES = 3
"""Of making an old generation again, which may fail in part."""


class CreateHandler(Handler[side_by_side.CreateInstance]):
    """Told by its tag: an instance of our name that no transaction of ours made is not ours."""

    def perform(self, job: Job, params: side_by_side.CreateInstance) -> Result:
        return {"transactions": changing.apply(job.kernel, _creation(params), job.tag())}

    def inspect(self, job: Job, params: side_by_side.CreateInstance) -> Inspected:
        return changing.inspect(job.kernel, _creation(params), job.tag())

    def revert(self, job: Job, params: side_by_side.CreateInstance) -> Result:
        if self.inspect(job, params).verdict not in (Inspection.PRESENT, Inspection.PARTIAL):
            return {}
        removal = RemoveInstance(params.generation.name)
        return {"transactions": changing.apply(job.kernel, removal, job.tag(undoing=True))}


class RemoveHandler(Handler[side_by_side.RemoveInstance]):
    """Gone is gone, whoever did it; one of another id is somebody else's."""

    def perform(self, job: Job, params: side_by_side.RemoveInstance) -> Result:
        made: list[int] = []
        if self.inspect(job, params).verdict is not Inspection.PRESENT:
            if params.back is not None and job.context.section is Section.FORWARD:
                _refuse_if_changed(job, params.back)
            removal = RemoveInstance(params.generation.name)
            made = changing.apply(job.kernel, removal, job.tag())
        if params.back is None:
            agents.forget_key(job.context.state_dir, params.generation)
        return {"transactions": made}

    def inspect(self, job: Job, params: side_by_side.RemoveInstance) -> Inspected:
        seen = look(job.kernel).instances.get(params.generation.name)
        if seen is None or seen.tree.id != params.generation.id:
            return present(f"there is no {params.generation.name} of this id")
        if params.back is not None:
            again = changing.inspect(job.kernel, _creation(params.back), job.tag(undoing=True))
            if again.verdict is Inspection.PARTIAL:
                return partial(f"{params.generation.name} was made again in part: {again.reason}")
            if again.verdict is Inspection.UNKNOWN and self._ours_and_short(job, params.back):
                return partial(f"{params.generation.name} was made again in part")
        return absent(f"{params.generation.name} is there, {seen.status}")

    @staticmethod
    def _ours_and_short(job: Job, back: side_by_side.CreateInstance) -> bool:
        """Did an attempt to make it again come before the last one, and leave less than there was?
        The last one may have failed before it made anything."""
        made = _creation(back)
        attempts = changing.asked(job.kernel, job.tag(undoing=True))
        ours = any(made in attempts[it] for it in sorted(attempts)[:-1])
        return ours and bool(changing.compare(made, look(job.kernel)).missing)

    def revert(self, job: Job, params: side_by_side.RemoveInstance) -> Result:
        """What was made in part is removed and made anew: a CPU may be dropped once only."""
        if params.back is None:
            return {}
        made: list[int] = []
        for tries_left in reversed(range(_TRIES)):
            found = self.inspect(job, params).verdict
            if found is Inspection.ABSENT:
                break
            if found is Inspection.PARTIAL:
                # The steps that were undone behind this one have loaded its image already.
                living.unload(job.kernel, named(params.generation), job.patience())
                removal = RemoveInstance(params.generation.name)
                made += changing.apply(job.kernel, removal, job.tag(undoing=True))
            try:
                made += changing.apply(job.kernel, _creation(params.back), job.tag(undoing=True))
                break
            except changing.ChangeFailedError:
                if not tries_left:
                    raise
        return {"transactions": made}


def _refuse_if_changed(job: Job, planned: side_by_side.CreateInstance) -> None:
    """What somebody else gave to it, or took from it, since the plan was made could not be brought
    back: it would be made again as it was planned with. On the way back behind a commit it goes all
    the same: what is wanted then is the old generation.

    Raises:
        MkupgradeError: says what differs.
    """
    name, has = planned.generation.name, look(job.kernel).instances[planned.generation.name].tree
    pairs = {
        "CPUs": (sorted(has.cpus), sorted(planned.cpus)),
        "bytes of memory": (has.memory_bytes, planned.memory_bytes),
        "devices": (sorted(it.address for it in has.pci), sorted(planned.devices)),
    }
    differ = tuple(
        f"{what}: {now}, planned with {then}" for what, (now, then) in pairs.items() if now != then
    )
    if differ:
        raise MkupgradeError(
            f"somebody else has changed {name} since the plan was made",
            where=str(ROOT / "instances" / name),
            state="it was not removed",
            next_command="mkupgrade plan",
            details=differ,
            error_class=ErrorClass.INVALID,
        )


def _creation(params: side_by_side.CreateInstance) -> CreateInstance:
    made = params.generation
    return CreateInstance(
        made.name, made.id, tuple(params.cpus), params.memory_bytes, pci=tuple(params.devices)
    )
