"""Steps about the host as a whole: one function each, which puts its step into a section."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.model.host import Artifact, Cap
from orchestrator.model.kinds import Kind
from orchestrator.model.params import in_place
from orchestrator.model.quantities import format_duration
from orchestrator.model.spec import Check, Hook, Instance, Soak
from orchestrator.model.steps import Reversibility, Section, Step
from orchestrator.planning import estimates, policies, requirements
from orchestrator.planning.builder import SectionBuilder
from orchestrator.planning.decisions import Decisions, count

CHECK_TIME = 1.0
"""Seconds for one check that holds."""


def artifact_params(
    instance: Instance, image: Artifact, initrd: Artifact | None
) -> in_place.CheckArtifacts:
    """What the files of an instance's kernel are held to. `initrd`: as it was seen, if it was."""
    kernel = instance.kernel
    return in_place.CheckArtifacts(
        instance=instance.name,
        image=str(kernel.image),
        image_sha256=image.sha256 or "",
        initrd=str(kernel.initrd) if kernel.initrd else None,
        initrd_sha256=initrd.sha256 if initrd else None,
        modules=str(kernel.modules) if kernel.modules else None,
        release=kernel.wanted_release,
        signature=kernel.signature,
    )


def check_artifacts(b: SectionBuilder, d: Decisions) -> None:
    kernel = d.instance.kernel
    initrd = d.host.artifacts.get(str(kernel.initrd)) if kernel.initrd else None
    size = d.image.size + (initrd.size if initrd else 0)
    params = artifact_params(d.instance, d.image, initrd)
    b.then(
        Kind.CHECK_ARTIFACTS,
        d.instance.name,
        f"Check the files of Linux {d.to_release}",
        params,
        estimate=estimates.reading(size),
        deadline=policies.transfer(estimates.reading(size)),
    )


def preflight(b: SectionBuilder, d: Decisions) -> None:
    workloads = d.spec.workloads
    params = in_place.Preflight(
        instance=d.instance.name,
        workloads=workloads,
        channels=d.channel_map(),
        to_release=d.to_release,
        nixos=d.profile,
    )
    trials = [w for w in workloads if w.migrate.method == "criu" and w.migrate.trial]
    estimate = sum(estimates.checkpoint(w, "disk", d.size(w), spill=False) for w in trials)
    b.then(
        Kind.PREFLIGHT,
        d.instance.name,
        "Try what could fail past the jump",
        params,
        estimate=round(estimates.QUICK + estimate, 3),
        deadline=policies.transfer(estimate, sum(w.migrate.timeout for w in trials)),
        requires=requirements.for_preflight(workloads),
    )


def load_new(b: SectionBuilder, d: Decisions) -> None:
    kernel = d.instance.kernel
    params = in_place.LoadKernel(
        instance=d.instance.name,
        image=str(kernel.image),
        image_sha256=d.image.sha256 or "",
        initrd=str(kernel.initrd) if kernel.initrd else None,
        initrd_sha256=_digest_of(kernel.initrd, d),
        initrd_secrets=str(kernel.initrd_secrets) if kernel.initrd_secrets else None,
        cmdline=d.cmdline,
        release=d.to_release,
    )
    _load(b, params, d.image.size, [Cap.ROOT, Cap.KEXEC_FILE])


def load_old(b: SectionBuilder, d: Decisions) -> None:
    way = d.way_back
    params = in_place.LoadKernel(
        instance=d.instance.name,
        image=way.image or "",
        image_sha256=way.image_sha256,
        initrd=way.initrd,
        initrd_sha256=_digest_of(way.initrd, d),
        initrd_secrets=way.initrd_secrets,
        cmdline=way.cmdline,
        release=d.from_release,
    )
    artifact = d.host.artifacts.get(params.image)
    size = artifact.size if artifact else 0
    _load(b, params, size, [Cap.ROOT, Cap.KEXEC_FILE, Cap.OLD_KERNEL])


def _digest_of(path: object, d: Decisions) -> str | None:
    found = d.host.artifacts.get(str(path)) if path is not None else None
    return found.sha256 if found is not None else None


def _load(b: SectionBuilder, params: in_place.LoadKernel, size: int, requires: list[Cap]) -> None:
    b.then(
        Kind.LOAD_KERNEL,
        params.instance,
        f"Load Linux {params.release} for kexec",
        params,
        estimate=estimates.reading(size),
        deadline=policies.transfer(estimates.reading(size)),
        requires=requires,
        resources=["kexec"],
    )


def arm_fallback(b: SectionBuilder, d: Decisions) -> None:
    rollback, way = d.spec.rollback, d.way_back
    watchdog = str(rollback.watchdog) if rollback.watchdog else None
    params = in_place.ArmFallback(
        from_release=d.from_release,
        boot_default=d.boot_default,
        image=way.image,
        initrd=way.initrd,
        cmdline=way.cmdline,
        watchdog=watchdog,
        boot_deadline=rollback.boot_deadline,
        nixos=d.profile,
    )
    b.then(
        Kind.ARM_FALLBACK,
        d.instance.name,
        f"Arm the way back to Linux {d.from_release}",
        params,
        estimate=estimates.QUICK,
        deadline=policies.MENU if d.profile else policies.SHORT,
        requires=[Cap.DURABLE_STATE, *([Cap.WATCHDOG] if watchdog else [])],
        resources=["boot"],
    )


def run_hooks(b: SectionBuilder, hooks: Sequence[Hook]) -> None:
    """In the order of the spec."""
    for hook in hooks:
        _hook(b, hook, f"Run hook {hook.name}")


def _hook(b: SectionBuilder, hook: Hook, title: str, undoes: str | None = None) -> None:
    b.then(
        Kind.RUN_HOOK,
        hook.name,
        title,
        in_place.RunHook(hook=hook, undoes=undoes),
        estimate=1.0,
        deadline=hook.timeout + policies.SLACK,
    )


def undo_hooks(b: SectionBuilder, hooks: Sequence[Hook]) -> None:
    """Last one first; a hook that never ran in `forward` has nothing to undo."""
    for hook in reversed(hooks):
        if hook.undo is not None:
            undo = hook.model_copy(update={"run": hook.undo, "undo": None})
            ran = f"{Kind.RUN_HOOK.value}/{hook.name}"
            _hook(b, undo, f"Undo hook {hook.name}", undoes=ran)


def preserve(b: SectionBuilder, d: Decisions) -> None:
    if not d.carried:
        return
    going_back = b.section is Section.RETURN
    channels = d.channel_map(back=going_back)
    here, there = d.from_release, d.to_release
    estimate = estimates.handover(d.sizes(channels, "kho"))
    b.then(
        Kind.PRESERVE,
        d.instance.name,
        f"Preserve the state of {count(d.carried, 'workload')}",
        in_place.Preserve(
            workloads=d.carried,
            channels=channels,
            from_release=there if going_back else here,
            to_release=here if going_back else there,
        ),
        estimate=estimate,
        deadline=policies.transfer(estimate),
        requires=sorted(
            {c for v in channels.values() for c in requirements.for_state(v, spill=False)}
        ),
        blackout=True,
    )


def jump(b: SectionBuilder, d: Decisions) -> None:
    going_back = b.section is Section.RETURN
    method = d.way_back.method if going_back else "kexec"
    old, new = (d.from_release, d.way_back.cmdline), (d.to_release, d.cmdline)
    (source, before), (target, after) = (new, old) if going_back else (old, new)
    params = in_place.Jump.model_validate(
        {
            "method": method,
            "from_release": source,
            "to_release": target,
            "from_cmdline": before,
            "to_cmdline": after,
            "boot_deadline": d.spec.rollback.boot_deadline,
        }
    )
    how = "Jump" if method == "kexec" else "Reset the machine"
    b.then(
        Kind.JUMP,
        d.instance.name,
        f"{how} into Linux {target}",
        params,
        estimate=estimates.jump(method),
        deadline=d.spec.rollback.boot_deadline,
        reversibility=Reversibility.PIVOT,
        requires=[Cap.ROOT, Cap.RESUME, *([Cap.KEXEC_FILE] if method == "kexec" else [])],
        resources=["kexec"],
        blackout=True,
    )


def retrieve(b: SectionBuilder, d: Decisions) -> None:
    if not d.carried:
        return
    channels = d.channel_map(back=b.section is Section.RECOVER)
    kho, disk = d.sizes(channels, "kho"), d.sizes(channels, "disk")
    estimate = estimates.retrieve(kho, disk)
    b.then(
        Kind.RETRIEVE,
        d.instance.name,
        f"Retrieve the state of {count(d.carried, 'workload')}",
        in_place.Retrieve(workloads=d.carried, channels=channels),
        estimate=estimate,
        deadline=policies.transfer(estimate),
        blackout=True,
    )


def checks(
    b: SectionBuilder, phase: str, checks: list[Check], where: str, about: str | None = None
) -> None:
    if checks:
        b.put(make_checks(b, phase, checks, where, about or phase))


def make_checks(b: SectionBuilder, phase: str, checks: list[Check], where: str, about: str) -> Step:
    return b.make(
        Kind.CHECK,
        about,
        f"Run {count(checks, 'check')} {where}",
        in_place.RunChecks.model_validate({"phase": phase, "checks": checks}),
        estimate=CHECK_TIME * len(checks),
        deadline=policies.checks(phase, checks),
    )


def soak(b: SectionBuilder, d: Decisions) -> None:
    soak_with(b, d.instance.name, d.spec.soak, d.checks("soak"))


def soak_with(b: SectionBuilder, about: str, soak: Soak, checks: list[Check]) -> None:
    if soak.duration <= 0 and not checks:
        return
    params = in_place.SoakParams(
        duration=soak.duration,
        interval=soak.interval,
        max_failures=soak.max_failures,
        checks=checks,
    )
    b.then(
        Kind.SOAK,
        about,
        f"Soak for {format_duration(soak.duration)} under {count(checks, 'check')}",
        params,
        estimate=soak.duration,
        deadline=policies.soak(soak, checks),
    )


def commit(b: SectionBuilder, d: Decisions) -> None:
    kernel = d.instance.kernel
    params = in_place.Commit(
        instance=d.instance.name,
        release=d.to_release,
        image=str(kernel.image),
        initrd=str(kernel.initrd) if kernel.initrd else None,
        cmdline=d.cmdline,
        previous_default=d.boot_default,
        keep_old_kernel=d.spec.rollback.keep_old_kernel,
        nixos=d.profile,
    )
    sets = d.sets_boot_default or d.profile is not None
    b.then(
        Kind.COMMIT,
        d.instance.name,
        f"Make Linux {d.to_release} the boot default" if sets else "Commit",
        params,
        estimate=estimates.QUICK,
        deadline=policies.MENU if d.profile else policies.SHORT,
        reversibility=Reversibility.COMMIT,
        requires=[Cap.BOOT_DEFAULT] if d.sets_boot_default else [],
        resources=["boot"],
    )


def restore_boot_default(b: SectionBuilder, d: Decisions) -> None:
    """In `return` before anything else; in `recover` beside all else, for workloads must come
    back even if the boot loader does not do its part."""
    add = b.beside if b.section is Section.RECOVER else b.then
    add(
        Kind.RESTORE_BOOT_DEFAULT,
        d.instance.name,
        f"Keep Linux {d.from_release} the boot default",
        in_place.RestoreBootDefault(boot_default=d.boot_default, nixos=d.profile),
        deadline=policies.MENU if d.profile else policies.SHORT,
        estimate=estimates.QUICK,
        requires=[Cap.BOOT_DEFAULT] if d.sets_boot_default else [],
        resources=["boot"],
    )


def clean_up(b: SectionBuilder, d: Decisions) -> None:
    b.then(
        Kind.CLEAN_UP,
        d.instance.name,
        "Clean up",
        in_place.CleanUp(workloads=d.names, keep_old_kernel=d.spec.rollback.keep_old_kernel),
        estimate=estimates.QUICK,
    )
