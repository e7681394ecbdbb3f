"""Steps that look, run hooks, or tidy up."""

from __future__ import annotations

from orchestrator.drivers.simulated.images import artifact
from orchestrator.drivers.simulated.jobs import Effect, Job, Look, absent, present
from orchestrator.drivers.simulated.seeing import booted_system
from orchestrator.drivers.simulated.world import World
from orchestrator.model.errors import CheckFailedError, ErrorClass, MkupgradeError, WorkloadError
from orchestrator.model.host import Artifact
from orchestrator.model.params import in_place
from orchestrator.model.seams import Result
from orchestrator.model.spec import Check
from orchestrator.model.spec.checks import KernelCheck
from orchestrator.model.steps import Inspected, Section


class CheckArtifacts(Look[in_place.CheckArtifacts]):
    params = in_place.CheckArtifacts

    def perform(self, world: World, p: in_place.CheckArtifacts, job: Job) -> Result:
        wrong = [*_held_to(artifact(p.image, "image"), p.image_sha256)]
        if p.initrd is not None:
            wrong += _held_to(artifact(p.initrd, "initrd"), p.initrd_sha256)
        if p.modules is not None:
            wrong += _held_to(artifact(p.modules, "modules"), None)
        if wrong:
            raise MkupgradeError(
                "the files are not those of the plan",
                where=job.step.id,
                details=tuple(wrong),
                error_class=ErrorClass.INVALID,
            )
        return {"image_sha256": p.image_sha256}


class Preflight(Look[in_place.Preflight]):
    params = in_place.Preflight

    def perform(self, world: World, p: in_place.Preflight, job: Job) -> Result:
        wrong = []
        for workload in p.workloads:
            found = world.workloads.get(workload.name)
            if workload.migrate.method != "restart" and (not found or found.status != "running"):
                wrong.append(f"{workload.name}: does not run")
        if wrong:
            raise WorkloadError(
                "the trial run found what would fail behind the jump",
                where=job.step.id,
                details=tuple(wrong),
            )
        return {"workloads": [w.name for w in p.workloads]}


class RunChecks(Look[in_place.RunChecks]):
    params = in_place.RunChecks

    def perform(self, world: World, p: in_place.RunChecks, job: Job) -> Result:
        _hold(world, p.checks, job)
        return {"passed": [c.name for c in p.checks]}


class Soak(Look[in_place.SoakParams]):
    """Pretend time: the rounds are made, the waiting between them is not."""

    params = in_place.SoakParams

    def perform(self, world: World, p: in_place.SoakParams, job: Job) -> Result:
        rounds = 1 + int(p.duration / p.interval) if p.interval > 0 else 1
        failed = rounds if _failing(world, p.checks) else 0
        job.context.control.progress(f"{rounds} rounds of checks", 1.0)
        if failed > p.max_failures:
            _hold(world, p.checks, job)
        return {"rounds": rounds, "failures": failed}


class RunHook(Effect[in_place.RunHook]):
    """Nothing is run for real."""

    params = in_place.RunHook

    def perform(self, world: World, p: in_place.RunHook, job: Job) -> Result:
        if p.undoes is not None and not _is_to_undo(world, p.undoes, job):
            return {"skipped": f"{p.undoes} needs no undoing"}
        world.hooks.append(job.effect)
        world.say(f"hook {p.hook.name}: {' '.join(p.hook.run)}")
        return {"exit_code": 0}

    def inspect(self, world: World, p: in_place.RunHook, job: Job) -> Inspected:
        if job.effect in world.hooks:
            return present("the hook was run", exit_code=0)
        if p.undoes is not None and job.was_performed:
            return present("there was nothing to undo")
        return absent("the hook was not run")

    def revert(self, world: World, p: in_place.RunHook, job: Job) -> Result:
        if job.effect in world.hooks:
            world.hooks.remove(job.effect)
            world.say(f"hook {p.hook.name} undone: {' '.join(p.hook.undo or ['nothing to do'])}")
        return {}


def _is_to_undo(world: World, undoes: str, job: Job) -> bool:
    """Performed, or begun when its kernel was lost; and not undone by `return`."""
    results = job.context.results
    if job.context.section is Section.RECOVER and f"{Section.RETURN.value}.{undoes}" in results:
        return False
    return undoes in results or f"{job.context.transaction}:{undoes}" in world.hooks


class CleanUp(Effect[in_place.CleanUp]):
    params = in_place.CleanUp

    def perform(self, world: World, p: in_place.CleanUp, job: Job) -> Result:
        for section in Section:
            key = job.key_of(section)
            world.staged.pop(key, None)
            world.spilled.pop(key, None)
            world.manifests.pop(key, None)
            world.landed.pop(key, None)
            world.fallbacks.pop(key, None)
        world.watchdog = None
        if world.loaded is not None and job.context.transaction in world.loaded.cmdline:
            world.loaded = None
        return {}

    def inspect(self, world: World, p: in_place.CleanUp, job: Job) -> Inspected:
        prefix = f"{job.context.transaction}/"
        kept = (world.staged, world.spilled, world.manifests, world.landed, world.fallbacks)
        left = [key for things in kept for key in things if key.startswith(prefix)]
        return absent(f"{len(left)} thing(s) are left") if left else present("nothing is left")

    def revert(self, world: World, p: in_place.CleanUp, job: Job) -> Result:
        """Nothing: what is tidied away was not needed any more."""
        return {}


def _held_to(file: Artifact, sha256: str | None) -> list[str]:
    if file.error is not None:
        return [f"{file.path}: {file.error}"]
    if sha256 is not None and file.sha256 != sha256:
        return [f"{file.path}: sha256 is {file.sha256}, the plan says {sha256}"]
    return []


def _failing(world: World, checks: list[Check]) -> list[str]:
    lines = []
    for check in checks:
        where = world.failing_checks.get(check.name)
        if where in ("*", world.kernel.release):
            lines.append(f"{check.name}: fails in Linux {world.kernel.release}, as asked for")
        elif isinstance(check, KernelCheck) and check.release not in (None, world.kernel.release):
            lines.append(f"{check.name}: Linux {world.kernel.release}, not {check.release}")
        elif isinstance(check, KernelCheck) and check.system is not None:
            booted = booted_system(world.kernel.cmdline)
            if booted != str(check.system):
                lines.append(f"{check.name}: system {booted}, not {check.system}")
    return lines


def _hold(world: World, checks: list[Check], job: Job) -> None:
    lines = _failing(world, checks)
    if lines:
        raise CheckFailedError(
            f"{len(lines)} of {len(checks)} checks failed", where=job.step.id, details=tuple(lines)
        )
