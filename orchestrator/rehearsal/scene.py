"""What a rehearsal boots: the plan's kernels or stand-ins for them, and the plan fitted to them.

Whatever in the guest differs from the plan as written is told in `Scene.notes`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from orchestrator.model.errors import ErrorClass, NotSupportedError, RehearsalError
from orchestrator.model.spec import Check, UpgradeSpec
from orchestrator.rehearsal.cast import cast_workloads
from orchestrator.rehearsal.host_modules import modules_layer
from orchestrator.rehearsal.image import LayerFile, Recipe
from orchestrator.rehearsal.kernels import (
    MAKE_KERNELS,
    KernelPair,
    RehearsalKernel,
    kernel,
    prepared_pair,
)
from orchestrator.rehearsal.machine import Setup
from orchestrator.rehearsal.stock_kernels import stock_pair
from orchestrator.rehearsal.tools import Progress
from orchestrator.rehearsal.trees import DEFAULT_RECIPE
from orchestrator.system import running

Channel = Literal["auto", "kho", "disk"]

STATE_DIR = PurePosixPath("/var/lib/mkupgrade")
"""Where the guest's init looks for a transaction."""

PLAN_PATH = "/etc/mkupgrade/plan.yaml"


@dataclass(frozen=True)
class Request:
    """A rehearsal, as it is asked for."""

    plan: Path
    source: Path | None = None
    """Image of the kernel to start from; default: see `choose_kernels`."""
    target: Path | None = None
    channel: Channel = "auto"
    stock: bool = False
    """Debian's own kernels, whatever the plan says."""
    keep: bool = False
    """Leave the guest running at the end, until interrupted."""


@dataclass(frozen=True)
class Scene:
    """Ready to boot."""

    setup: Setup
    spec: UpgradeSpec
    """The plan as the guest gets it."""
    source: RehearsalKernel
    target: RehearsalKernel
    counter_port: int | None
    """Guest port of a counter that a client can watch."""
    logs: dict[str, str] = field(default_factory=dict)
    """Workload -> the file in the guest to which it appends a number per line."""
    notes: tuple[str, ...] = ()


def make_scene(request: Request, spec: UpgradeSpec, progress: Progress) -> Scene:
    """Choose kernels, fit the plan to them, and put together what is booted.

    Raises:
        NotSupportedError: the plan needs what a guest does not have.
        RehearsalError: kernels or the guest's tree cannot be had.
    """
    if len(spec.instances) != 1:
        raise NotSupportedError(
            f"a rehearsal has one kernel instance, the plan has {len(spec.instances)}",
            where=str(request.plan),
        )
    pair, recipe, notes = choose_kernels(request, spec, progress)
    handover = request.channel != "disk" and pair.source.kho and pair.target.kho
    notes.append(f"kernels {pair.source.release} -> {pair.target.release} from {pair.origin}")
    cast = cast_workloads(spec)
    notes += cast.notes
    fitted = _fit(cast.spec, pair, request.channel)
    files: dict[str, LayerFile | str] = dict(_boot_files((pair.source, pair.target), fitted))
    if recipe is DEFAULT_RECIPE:  # else the tree has the kernels' modules from their packages
        for played in (pair.source, pair.target):
            files |= modules_layer(played.release)
    setup = Setup(
        kernel=pair.source.image,
        initrd=pair.source.initrd,
        handover=handover,
        files=files,
        workloads=tuple(cast.started),
        recipe=recipe,
        forwards=(cast.counter_port,) if cast.counter_port else (),
        watchdog=spec.rollback.watchdog is not None,
    )
    return Scene(
        setup=setup,
        spec=fitted,
        source=pair.source,
        target=pair.target,
        counter_port=cast.counter_port,
        logs=cast.logs,
        notes=tuple(notes),
    )


def choose_kernels(
    request: Request, spec: UpgradeSpec, progress: Progress
) -> tuple[KernelPair, Recipe, list[str]]:
    """Which kernels play, the guest's recipe for them, and what to tell about it.

    In this order: the images asked for; the plan's own image and the running kernel's, where
    both are on this host; kernels with KHO that are at hand; Debian's stock kernels.
    """
    if request.stock:
        pair, recipe = stock_pair(progress)
        return pair, recipe, []
    named = _named_pair(request, spec)
    if named is not None:
        return named, DEFAULT_RECIPE, []
    prepared = prepared_pair()
    if prepared is not None:
        return prepared, DEFAULT_RECIPE, []
    if request.channel == "kho":
        raise RehearsalError(
            "no kernels with KHO are at hand, and Debian's own have none",
            next_command=MAKE_KERNELS,
            error_class=ErrorClass.REFUSED,
        )
    pair, recipe = stock_pair(progress)
    why = f"no kernels with KHO at hand: the disk carries the state (`{MAKE_KERNELS}` builds some)"
    return pair, recipe, [why]


def _named_pair(request: Request, spec: UpgradeSpec) -> KernelPair | None:
    """The images asked for; what is not asked for is the plan's and the running kernel's.

    None: nothing was asked for, and this host does not have both of the latter.
    """
    wanted = spec.instances[0].kernel
    asked = request.source is not None or request.target is not None
    try:
        target = kernel(
            request.target or Path(wanted.wanted_image),
            Path(wanted.initrd) if wanted.initrd and request.target is None else None,
        )
        source = kernel(request.source) if request.source is not None else _running_kernel()
    except RehearsalError:
        if asked:
            raise
        return None
    origin = "the images asked for" if asked else "this host, as planned"
    return KernelPair(source, target, origin)


def _running_kernel() -> RehearsalKernel:
    state = running.kernel_state()
    if state.image is None:
        raise RehearsalError(
            "the running kernel's own image is not on this host to start from",
            next_command="mkupgrade rehearse PLAN --from IMAGE",
            error_class=ErrorClass.INVALID,
        )
    return kernel(Path(state.image), Path(state.initrd) if state.initrd else None)


def _fit(spec: UpgradeSpec, pair: KernelPair, channel: Channel) -> UpgradeSpec:
    """The plan with the kernel that plays, and the channel that was asked for."""
    target = pair.target
    instance = spec.instances[0]
    wanted = instance.kernel
    update: dict[str, Any] = {}
    if wanted.release != target.release or not Path(wanted.wanted_image).exists():
        update = {"sha256": None, "initrd_sha256": None, "modules": None}
        update["release"] = target.release
        update["image"] = PurePosixPath(f"/boot/vmlinuz-{target.release}")
    update["initrd"] = _initrd_path(target)
    kernel_spec = wanted.model_copy(update=update)
    workloads = spec.workloads
    if channel != "auto":
        workloads = [w.model_copy(update={"channel": channel}) for w in workloads]
    return spec.model_copy(
        update={
            "instances": [instance.model_copy(update={"kernel": kernel_spec})],
            "workloads": workloads,
            "checks": [_check_of(c, wanted.wanted_release, target.release) for c in spec.checks],
            "host": spec.host.model_copy(update={"driver": "live-update", "state_dir": STATE_DIR}),
            "rollback": spec.rollback.model_copy(update={"kernel": None}),
        }
    )


def _check_of(check: Check, wanted: str, played: str) -> Check:
    """A check that names the plan's kernel names the one that plays it."""
    if check.kind == "kernel" and check.release == wanted:
        return check.model_copy(update={"release": played})
    return check


def _initrd_path(played: RehearsalKernel) -> PurePosixPath | None:
    return PurePosixPath(f"/boot/initrd.img-{played.release}") if played.initrd else None


def _boot_files(
    kernels: Iterable[RehearsalKernel], fitted: UpgradeSpec
) -> Iterable[tuple[str, LayerFile]]:
    """Images and initrds in the guest's /boot, and the target where the plan says it is."""
    for played in kernels:
        yield f"/boot/vmlinuz-{played.release}", LayerFile(played.image)
        if played.initrd is not None:
            yield f"/boot/initrd.img-{played.release}", LayerFile(played.initrd)
        if played.release == fitted.instances[0].kernel.release:
            yield str(fitted.instances[0].kernel.image), LayerFile(played.image)
