"""Step kinds about an instance's kernel: load, start, await, commit, halt, unload.

Halt and unload are reverted only where their parameters say how: behind the commit they do not.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.agent.keys import Key
from orchestrator.checks import Checker, Clock
from orchestrator.drivers.jobs import absent, present
from orchestrator.drivers.multikernel import agents, keeping, living
from orchestrator.drivers.multikernel.living import Boot, Patience
from orchestrator.drivers.multikernel.parts import Handler, Job, named, status_of
from orchestrator.drivers.multikernel.seeing import Status, look
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.landing import mark_for
from orchestrator.model.params import side_by_side
from orchestrator.model.params.side_by_side import Generation
from orchestrator.model.seams import Result
from orchestrator.model.steps import Inspected, Inspection, Section
from orchestrator.system.call_errors import BusyError


class LoadHandler(Handler[side_by_side.LoadInstance]):
    """Told by the command line, which carries the transaction's mark."""

    def perform(self, job: Job, params: side_by_side.LoadInstance) -> Result:
        initrd = Path(params.initrd) if params.initrd else None
        key = _key(job, params.generation, params.agent)
        boot = Boot(Path(params.image), params.image_sha256, self._line(job, params), initrd, key)
        living.load(job.kernel, named(params.generation), boot, job.patience())
        return {"cmdline": boot.cmdline}

    def inspect(self, job: Job, params: side_by_side.LoadInstance) -> Inspected:
        if status_of(job, params.generation) is None:
            return absent(f"{params.generation.name} is gone, and its image with it")
        line = self._line(job, params)
        return living.inspect_loaded(job.kernel, named(params.generation), line)

    def revert(self, job: Job, params: side_by_side.LoadInstance) -> Result:
        if status_of(job, params.generation) is not None:
            living.unload(job.kernel, named(params.generation), job.patience())
        agents.forget_key(job.context.state_dir, params.generation)
        return {}

    @staticmethod
    def _line(job: Job, params: side_by_side.LoadInstance) -> str:
        return _marked(params.cmdline, job.context.transaction, job.context.section)


class StartHandler(Handler[side_by_side.StartInstance]):
    """A kernel that stopped by itself is found absent and started again."""

    def perform(self, job: Job, params: side_by_side.StartInstance) -> Result:
        job.listen(params.generation)
        try:
            living.start(job.kernel, named(params.generation), job.patience())
        except BusyError:
            # An old generation that was never halted, or was started by hand, is as wanted.
            if status_of(job, params.generation) is not Status.ACTIVE:
                raise
        return {}

    def inspect(self, job: Job, params: side_by_side.StartInstance) -> Inspected:
        return _running(job, params.generation)

    def revert(self, job: Job, params: side_by_side.StartInstance) -> Result:
        if status_of(job, params.generation) is None:
            return {}
        forced = living.halt(job.kernel, named(params.generation), job.patience())
        job.parts.consoles.close(params.generation.id)
        return {"forced": forced}


class AwaitHandler(Handler[side_by_side.AwaitInstance]):
    def perform(self, job: Job, params: side_by_side.AwaitInstance) -> Result:
        instance, consoles = named(params.generation), job.parts.consoles
        job.listen(params.generation)  # again, where another process had started it
        try:
            patience = job.patience(kept=params.ready_seconds)
            answer = living.wait_alive(job.kernel, instance, params.port, patience)
            said = self._agent(job, params, patience) | self._ready(job, params)
        except MkupgradeError as error:
            error.details = (*error.details, *consoles.last_words(instance.id))
            raise
        consoles.close(instance.id)
        return {"answer": answer.value, **said}

    @staticmethod
    def _agent(job: Job, params: side_by_side.AwaitInstance, patience: Patience) -> Result:
        """What it says, for the report."""
        if params.agent is None:
            return {}
        key = agents.key_of(job.context.state_dir, params.generation)
        instance = named(params.generation)
        said = living.wait_ready(job.kernel, instance, params.agent, key, patience)
        known = ("release", "boot_id", "tainted", "version")
        return {"agent": {name: getattr(said, name) for name in known}}

    @staticmethod
    def _ready(job: Job, params: side_by_side.AwaitInstance) -> Result:
        """What its own checks saw, for the report."""
        if not params.ready:
            return {}
        instance, patience = named(params.generation), job.patience()

        def sleep(seconds: float) -> None:
            living.refuse_if_not_active(job.kernel, instance)
            patience.sleep(seconds)

        clock = Clock(job.parts.now, sleep)
        checker = Checker(clock=clock, env={"MKUPGRADE_INSTANCE": instance.name})
        results = checker.require_within(params.ready, job.context.control)
        living.refuse_if_not_active(job.kernel, instance)
        return {"ready": [it.as_dict() for it in results]}


class CommitHandler(Handler[side_by_side.CommitInstances]):
    """The decision is the journal's; the host is only asked whether the new kernels run. What is
    kept from here on is written down first."""

    def perform(self, job: Job, params: side_by_side.CommitInstances) -> Result:
        for generation in params.generations:
            found = _running(job, generation)
            if status_of(job, generation) is not Status.ACTIVE:
                raise MkupgradeError(
                    f"{generation.name} does not run: {found.reason}",
                    where=job.step.id,
                    state="nothing was committed",
                    next_command="mkupgrade status",
                )
        now = look(job.kernel)
        keeping.remember(job.records, now, params)
        agents.forget_others(job.context.state_dir, now.instances)
        return {}


class HaltHandler(Handler[side_by_side.HaltInstance]):
    """It stays loaded: the cheap way back."""

    def perform(self, job: Job, params: side_by_side.HaltInstance) -> Result:
        if status_of(job, params.generation) is None:
            return {"skipped": f"{params.generation.name} is gone"}
        forced = living.halt(job.kernel, named(params.generation), job.patience())
        note = f"{params.generation.name} did not answer and was forced to halt"
        return {"forced": True, "warnings": [note]} if forced else {"forced": False}

    def inspect(self, job: Job, params: side_by_side.HaltInstance) -> Inspected:
        status = status_of(job, params.generation)
        if status is Status.ACTIVE:
            return absent(f"{params.generation.name} runs")
        return present(f"{params.generation.name} is {status or 'gone'}")

    def revert(self, job: Job, params: side_by_side.HaltInstance) -> Result:
        if params.back is None:
            return {}
        instance, patience = named(params.generation), job.patience()
        if status_of(job, params.generation) is not Status.ACTIVE:
            living.start(job.kernel, instance, patience)
        answer = living.wait_alive(job.kernel, instance, params.back.port, patience)
        return {"answer": answer.value}


class UnloadHandler(Handler[side_by_side.UnloadInstance]):
    def perform(self, job: Job, params: side_by_side.UnloadInstance) -> Result:
        if status_of(job, params.generation) is not None:
            living.unload(job.kernel, named(params.generation), job.patience())
        return {}

    def inspect(self, job: Job, params: side_by_side.UnloadInstance) -> Inspected:
        status = status_of(job, params.generation)
        if status not in (Status.ACTIVE, Status.LOADED):
            return present(f"{params.generation.name} is {status or 'gone'}")
        if params.back is not None:
            instance = named(params.generation)
            line = _loaded(job, params.back)
            found = living.inspect_loaded(job.kernel, instance, line)
            if found.verdict is Inspection.UNKNOWN:
                return found
        return absent(f"{params.generation.name} is {status}")

    def revert(self, job: Job, params: side_by_side.UnloadInstance) -> Result:
        back = params.back
        if back is None or status_of(job, params.generation) is Status.LOADED:
            return {}
        initrd = Path(back.initrd) if back.initrd else None
        key = _key(job, params.generation, back.agent)
        boot = Boot(Path(back.image), back.image_sha256, _loaded(job, back), initrd, key)
        living.load(job.kernel, named(params.generation), boot, job.patience())
        return {"cmdline": boot.cmdline}


def _key(job: Job, generation: Generation, port: int | None) -> Key | None:
    """Of the agent that listens at this port; None: there is none."""
    if port is None:
        return None
    context = job.context
    return agents.new_key_for(context.state_dir, generation, port, context.transaction)


def _loaded(job: Job, image: side_by_side.LoadedImage) -> str:
    """The command line that it has been loaded with."""
    if not image.ours:
        return image.cmdline
    return _marked(image.cmdline, job.context.transaction, Section.FORWARD)


def _marked(line: str, transaction: str, section: Section) -> str:
    before, dashes, init = line.partition(" -- ")
    return f"{before} {mark_for(transaction, section)}{dashes}{init}"


def _running(job: Job, generation: Generation) -> Inspected:
    status = status_of(job, generation)
    if status is Status.ACTIVE:
        return present(f"{generation.name} is active")
    return absent(f"{generation.name} is {status or 'gone'}")
