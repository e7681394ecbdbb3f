"""Steps about kernels: loading one, the way back, the jump, and what a reset ends in."""

from __future__ import annotations

import errno

from orchestrator.drivers.simulated import booting
from orchestrator.drivers.simulated.images import read_image
from orchestrator.drivers.simulated.jobs import (
    Effect,
    Job,
    absent,
    partial,
    present,
    refused,
)
from orchestrator.drivers.simulated.process import is_alive
from orchestrator.drivers.simulated.world import Fallback, Kernel, Loaded, World
from orchestrator.model.errors import ErrorClass, MkupgradeError, SystemCallError
from orchestrator.model.landing import Expected, Place, landing
from orchestrator.model.params import in_place
from orchestrator.model.seams import Result
from orchestrator.model.steps import Inspected, Inspection

_ELSEWHERE = "elsewhere"


class LoadKernel(Effect[in_place.LoadKernel]):
    params = in_place.LoadKernel

    def perform(self, world: World, p: in_place.LoadKernel, job: Job) -> Result:
        try:
            image, sha256 = read_image(p.image)
        except ValueError as error:
            raise SystemCallError(
                f"{p.image}: {error}",
                errno=errno.ENOEXEC,
                where=job.step.id,
                error_class=ErrorClass.INVALID,
            ) from error
        if sha256 != p.image_sha256:
            raise refused(f"{p.image} has changed: sha256 {sha256}, not {p.image_sha256}", job)
        if world.signature_enforced and not image.signed:
            raise refused(f"{p.image}: this kernel loads signed images only", job)
        world.loaded = Loaded(
            release=image.release,
            cmdline=f"{p.cmdline} {job.mark}".strip(),
            image=p.image,
            initrd=p.initrd,
            abi=image.abi,
            kho=image.kho,
            sha256=sha256,
            behaviour=image.behaviour,
        )
        world.say(f"kexec: loaded Linux {image.release}")
        return {"release": image.release, "cmdline": world.loaded.cmdline}

    def inspect(self, world: World, p: in_place.LoadKernel, job: Job) -> Inspected:
        loaded = world.loaded
        if loaded is None:
            return absent("no image is loaded")
        if job.mark not in loaded.cmdline.split() or loaded.sha256 != p.image_sha256:
            return absent(f"another image is loaded: Linux {loaded.release}")
        return present(
            f"Linux {loaded.release} is loaded with our mark",
            release=loaded.release,
            cmdline=loaded.cmdline,
        )

    def revert(self, world: World, p: in_place.LoadKernel, job: Job) -> Result:
        if world.loaded is not None and job.mark in world.loaded.cmdline.split():
            world.loaded = None
            world.say("kexec: unloaded")
        return {}


class ArmFallback(Effect[in_place.ArmFallback]):
    params = in_place.ArmFallback

    def perform(self, world: World, p: in_place.ArmFallback, job: Job) -> Result:
        if p.from_release != world.kernel.release:
            raise refused(f"Linux {world.kernel.release} runs, not {p.from_release}", job)
        if p.boot_default is not None and p.boot_default != world.default:
            raise refused(f"a reset ends in {world.default}, not in {p.boot_default}", job)
        world.fallbacks[job.key] = Fallback(
            boot_default=p.boot_default, release=p.from_release, watchdog=p.watchdog
        )
        if p.watchdog is not None:
            world.watchdog = job.process
        world.say(f"the way back to Linux {p.from_release} is armed")
        return {"boot_default": p.boot_default, "watchdog": p.watchdog}

    def inspect(self, world: World, p: in_place.ArmFallback, job: Job) -> Inspected:
        if job.key not in world.fallbacks:
            return absent("there is no record of a way back")
        armed = world.watchdog is not None and is_alive(world.watchdog)
        if p.watchdog is not None and not armed:
            return partial("the watchdog is not armed any more: who held it has died")
        return present("the way back is recorded", boot_default=p.boot_default, watchdog=p.watchdog)

    def revert(self, world: World, p: in_place.ArmFallback, job: Job) -> Result:
        world.fallbacks.pop(job.key, None)
        if p.watchdog is not None:
            world.watchdog = None
        return {}


class Jump(Effect[in_place.Jump]):
    params = in_place.Jump

    def perform(self, world: World, p: in_place.Jump, job: Job) -> Result:
        if world.kernel.release != p.from_release:
            raise refused(f"Linux {world.kernel.release} runs, not {p.from_release}", job)
        if p.method == "reset":
            booting.reset(world, "as asked for")
        else:
            booting.kexec(world, self._loaded(world, job))
        seen = self.inspect(world, p, job)
        return seen.result if seen.verdict is Inspection.PRESENT else {_ELSEWHERE: seen.reason}

    def confirm(self, result: Result, job: Job) -> None:
        """The machine did restart, so that this is said only once that is on record."""
        if _ELSEWHERE in result:
            raise MkupgradeError(
                f"the machine is not where the jump was to lead: {result[_ELSEWHERE]}",
                where=job.step.id,
            )

    def _loaded(self, world: World, job: Job) -> Loaded:
        loaded = world.loaded
        if loaded is None:
            raise SystemCallError(
                "reboot(LINUX_REBOOT_CMD_KEXEC): no image is loaded",
                errno=errno.EINVAL,
                where=job.step.id,
                error_class=ErrorClass.INVALID,
            )
        if job.mark not in loaded.cmdline.split():
            raise refused(f"somebody else's image is loaded: Linux {loaded.release}", job)
        return loaded

    def inspect(self, world: World, p: in_place.Jump, job: Job) -> Inspected:
        expected = Expected(
            transaction=job.context.transaction,
            section=job.context.section,
            method=p.method,
            from_release=p.from_release,
            to_release=p.to_release,
            boot_id=job.context.intended_boot_id,
            from_cmdline=p.from_cmdline,
            to_cmdline=p.to_cmdline,
            default_moved=lambda: world.commits.get(job.context.transaction) == world.default,
        )
        return landing(expected, Place(world.boot_id, world.kernel.release, world.kernel.cmdline))

    def revert(self, world: World, p: in_place.Jump, job: Job) -> Result:
        raise refused("a jump cannot be taken back", job)


class Commit(Effect[in_place.Commit]):
    params = in_place.Commit

    def perform(self, world: World, p: in_place.Commit, job: Job) -> Result:
        if world.kernel.release != p.release:
            raise refused(f"Linux {world.kernel.release} runs, not {p.release}", job)
        world.commits[job.context.transaction] = ""
        if world.loader != "none":
            entry = f"linux-{p.release}"
            if entry in world.entries:
                entry = f"{entry}-{job.context.transaction}"
            kernel = world.kernel
            world.entries[entry] = Kernel(
                release=p.release,
                cmdline=p.cmdline,
                image=p.image,
                initrd=p.initrd,
                abi=kernel.abi,
                kho=kernel.kho,
            )
            world.default = entry
            world.commits[job.context.transaction] = entry
        world.say(f"committed to Linux {p.release}")
        return self.inspect(world, p, job).result

    def inspect(self, world: World, p: in_place.Commit, job: Job) -> Inspected:
        entry = world.commits.get(job.context.transaction)
        if entry is None:
            return absent("this transaction has not committed")
        if entry and world.default != entry:
            return absent(f"the default boot entry is {world.default} again")
        what = f"{entry} is the default boot entry" if entry else "there is no boot loader to tell"
        return present(f"committed: {what}", boot_default=entry or None)

    def revert(self, world: World, p: in_place.Commit, job: Job) -> Result:
        raise refused("a commit cannot be taken back", job)


class RestoreBootDefault(Effect[in_place.RestoreBootDefault]):
    params = in_place.RestoreBootDefault

    def perform(self, world: World, p: in_place.RestoreBootDefault, job: Job) -> Result:
        if p.boot_default is not None:
            if p.boot_default not in world.entries:
                raise MkupgradeError(
                    f'there is no boot entry "{p.boot_default}"', where=job.step.id
                )
            world.default = p.boot_default
        world.commits.pop(job.context.transaction, None)
        return {"boot_default": p.boot_default}

    def inspect(self, world: World, p: in_place.RestoreBootDefault, job: Job) -> Inspected:
        committed = job.context.transaction in world.commits
        if committed or (p.boot_default is not None and world.default != p.boot_default):
            return absent(f"the default boot entry is {world.default}")
        return present("a reset ends in the old kernel", boot_default=p.boot_default)

    def revert(self, world: World, p: in_place.RestoreBootDefault, job: Job) -> Result:
        """Nothing: with the transaction failing, the old kernel is the right default."""
        return {}
