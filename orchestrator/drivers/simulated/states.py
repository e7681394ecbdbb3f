"""Steps about workloads' state: checkpoint, preserve, retrieve, restore."""

from __future__ import annotations

import errno

from orchestrator.drivers.simulated.jobs import (
    Effect,
    Job,
    absent,
    partial,
    present,
    refused,
    unknown,
)
from orchestrator.drivers.simulated.process import is_alive
from orchestrator.drivers.simulated.world import (
    Payload,
    PretendWorkload,
    Session,
    Staged,
    World,
)
from orchestrator.model.errors import (
    ErrorClass,
    HandoverError,
    SystemCallError,
    WorkloadError,
)
from orchestrator.model.params import in_place
from orchestrator.model.seams import Result
from orchestrator.model.steps import Inspected, Section


class Checkpoint(Effect[in_place.Checkpoint]):
    """A checkpointed workload stays, frozen, so that a revert can thaw it."""

    params = in_place.Checkpoint

    def perform(self, world: World, p: in_place.Checkpoint, job: Job) -> Result:
        name = p.workload.name
        workload = _find(world, name)
        ran = workload.status == "running"
        payload, source = self._take(world, p, job, workload)
        durable = p.spill or p.channel == "disk"
        if durable and payload is not None:
            world.spilled.setdefault(job.key, {})[name] = payload
        world.staged.setdefault(job.key, {})[name] = Staged(
            ran=ran, payload=payload, durable=durable, owner=job.process
        )
        world.say(f"{name} was checkpointed ({source})")
        return {"state": source, "counter": payload.counter if payload else None}

    def _take(
        self, world: World, p: in_place.Checkpoint, job: Job, workload: PretendWorkload
    ) -> tuple[Payload | None, str]:
        name, restarts = p.workload.name, p.workload.migrate.method == "restart"
        if workload.status == "running":
            workload.status = "gone" if restarts else "frozen"
            payload = Payload.of(name, workload.life, workload.counter)
            return (None, "stopped") if restarts else (payload, "taken")
        if job.context.section is Section.RETURN or restarts:
            left = world.landed.get(job.key_of(Section.FORWARD), {}).get(name)
            return left, "as it was handed over" if left else "not running, nothing left of it"
        raise WorkloadError(f"workload {name} does not run", where=job.step.id)

    def inspect(self, world: World, p: in_place.Checkpoint, job: Job) -> Inspected:
        name = p.workload.name
        status = _find(world, name).status
        staged = world.staged.get(job.key, {}).get(name)
        if staged is None:
            return self._without_state(status, name, job)
        if status == "running":
            return partial(f"{name} runs although its state was taken")
        if not staged.durable and not is_alive(staged.owner):
            return partial(f"{name} is {status}; its state died with the process that held it")
        counter = staged.payload.counter if staged.payload else None
        return present(f"{name} is {status} and its state is there", counter=counter)

    def _without_state(self, status: str, name: str, job: Job) -> Inspected:
        if status == "running":
            return absent(f"{name} runs")
        if status == "frozen":
            return partial(f"{name} is frozen, but its state was not taken")
        if job.context.section is Section.RETURN:
            return absent(f"{name} does not run here, and its state was not taken")
        return unknown(f"{name} is gone, and its state is not there")

    def revert(self, world: World, p: in_place.Checkpoint, job: Job) -> Result:
        name = p.workload.name
        workload = _find(world, name)
        staged = world.staged.get(job.key, {}).pop(name, None)
        world.spilled.get(job.key, {}).pop(name, None)
        if workload.status == "running":
            return {"state": "ran already"}
        if workload.status == "frozen":
            workload.status = "running"
            return {"state": "thawed"}
        if job.context.section is Section.RETURN and not (staged and staged.ran):
            return {"state": "did not run here before either"}
        if p.workload.migrate.method == "restart":
            _start_anew(world, name)
            return {"state": "started anew"}
        if staged is not None and staged.payload is not None:
            _start_from(world, staged.payload)
            return {"state": "restored"}
        raise WorkloadError(f"nothing is left of workload {name}", where=job.step.id)


class Preserve(Effect[in_place.Preserve]):
    params = in_place.Preserve

    def perform(self, world: World, p: in_place.Preserve, job: Job) -> Result:
        name = _session_name(job)
        if name in world.sessions or job.key in world.manifests:
            raise SystemCallError(
                f"session {name} exists already",
                errno=errno.EEXIST,
                where=job.step.id,
                error_class=ErrorClass.INVALID,
            )
        if "kho" in p.channels.values() and not world.kernel.hands_over:
            raise refused("/dev/liveupdate: this kernel hands nothing over", job)
        payloads = {w: self._payload(world, w, job) for w in p.workloads}
        carried = {w: payload for w, payload in payloads.items() if payload is not None}
        in_memory = {w: x for w, x in carried.items() if p.channels.get(w) == "kho"}
        if in_memory:
            world.sessions[name] = Session(payloads=in_memory, owner=job.process)
        world.manifests[job.key] = list(carried)
        world.say(f"{len(carried)} payload(s) preserved, {len(in_memory)} of them in memory")
        return {"workloads": list(carried), "in_memory": list(in_memory)}

    def _payload(self, world: World, name: str, job: Job) -> Payload | None:
        staged = world.staged.get(job.key, {}).get(name)
        if staged is None:
            raise HandoverError(f"the state of {name} was not taken", where=job.step.id)
        if not staged.durable and not is_alive(staged.owner):
            raise HandoverError(
                f"the state of {name} died with the process that held it", where=job.step.id
            )
        if staged.payload is None and job.context.section is Section.FORWARD:
            raise HandoverError(f"there is no state of {name}", where=job.step.id)
        return staged.payload

    def inspect(self, world: World, p: in_place.Preserve, job: Job) -> Inspected:
        if job.key not in world.manifests:
            return absent("there is no manifest")
        in_memory = [w for w in world.manifests[job.key] if p.channels.get(w) == "kho"]
        session = world.sessions.get(_session_name(job))
        if in_memory and session is None:
            return partial("the session died with the process that held it")
        return present(
            "the manifest is there", workloads=world.manifests[job.key], in_memory=in_memory
        )

    def revert(self, world: World, p: in_place.Preserve, job: Job) -> Result:
        world.sessions.pop(_session_name(job), None)
        world.manifests.pop(job.key, None)
        return {}


class Retrieve(Effect[in_place.Retrieve]):
    """In `recover` it takes the newest that is left; elsewhere all must be there."""

    params = in_place.Retrieve

    def perform(self, world: World, p: in_place.Retrieve, job: Job) -> Result:
        recovering = job.context.section is Section.RECOVER
        sources = _RECOVERY if recovering else (Section.FORWARD,)
        found: dict[str, Payload] = {}
        whence: dict[str, str] = {}
        for name in p.workloads:
            payload, where = _newest(world, name, job, sources)
            whence[name] = where
            if payload is None and not recovering:
                raise HandoverError(f"the state of {name} did not arrive", where=job.step.id)
            if payload is not None:
                found[name] = payload
        world.landed[job.key] = found
        world.incoming.pop(_session_name(job), None)
        world.say(f"{len(found)} payload(s) retrieved")
        return {"from": whence}

    def inspect(self, world: World, p: in_place.Retrieve, job: Job) -> Inspected:
        landed = world.landed.get(job.key)
        if landed is None:
            return absent("nothing was retrieved yet")
        return present("the state is on disk", workloads=list(landed))

    def revert(self, world: World, p: in_place.Retrieve, job: Job) -> Result:
        """Nothing: state that arrived is kept until clean-up."""
        return {}


class Restore(Effect[in_place.Restore]):
    params = in_place.Restore

    def perform(self, world: World, p: in_place.Restore, job: Job) -> Result:
        name = p.workload.name
        if _find(world, name).status == "running":
            raise WorkloadError(f"workload {name} runs already", where=job.step.id)
        payload = world.landed.get(job.key, {}).get(name)
        restarts = p.workload.migrate.method == "restart"
        if payload is not None and not restarts:
            _start_from(world, payload)
        elif restarts or p.or_restart:
            _start_anew(world, name)
        else:
            raise WorkloadError(f"there is no state of workload {name}", where=job.step.id)
        workload = _find(world, name)
        world.say(f"{name} runs again, at {workload.counter}")
        return {"restarted": payload is None or restarts, "counter": workload.counter}

    def inspect(self, world: World, p: in_place.Restore, job: Job) -> Inspected:
        name = p.workload.name
        workload = _find(world, name)
        if workload.status == "running" and workload.boot_id == world.boot_id:
            return present(f"{name} runs", counter=workload.counter)
        return absent(f"{name} does not run")

    def revert(self, world: World, p: in_place.Restore, job: Job) -> Result:
        """Stopped again; its state is still where it was retrieved to."""
        _find(world, p.workload.name).status = "gone"
        return {}


_RECOVERY = (Section.RETURN, Section.FORWARD)
"""The newest first: taken in `return`, then what `forward` left."""


def _newest(
    world: World, name: str, job: Job, sections: tuple[Section, ...]
) -> tuple[Payload | None, str]:
    candidates = [(world.incoming.get(_session_name(job), {}).get(name), "memory")]
    candidates += [
        (world.spilled.get(job.key_of(section), {}).get(name), f"disk ({section.value})")
        for section in sections
    ]
    for payload, where in candidates:
        if payload is not None and payload.is_whole:
            return payload, where
        if payload is not None and len(sections) == 1:
            raise HandoverError(
                f"the state of {name} from {where} does not fit its digest", where=job.step.id
            )
    return None, "nowhere"


def _session_name(job: Job) -> str:
    return f"mkupgrade:{job.context.transaction}"


def _find(world: World, name: str) -> PretendWorkload:
    workload = world.workloads.get(name)
    if workload is None:
        raise WorkloadError(f'there is no workload "{name}" on the pretend host')
    return workload


def _start_from(world: World, payload: Payload) -> None:
    workload = _find(world, payload.workload)
    workload.status, workload.boot_id = "running", world.boot_id
    workload.life, workload.counter = payload.life, payload.counter


def _start_anew(world: World, name: str) -> None:
    workload = _find(world, name)
    workload.status, workload.boot_id = "running", world.boot_id
    workload.life, workload.counter = workload.life + 1, 0
