"""`mkupgrade rehearse`: what the command line calls."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from orchestrator.loading import load_spec_file
from orchestrator.model.errors import NotSupportedError
from orchestrator.model.outcomes import ExitCode
from orchestrator.model.spec import UpgradeSpec
from orchestrator.rehearsal.display import Display, show_result
from orchestrator.rehearsal.performance import ReadReport, perform
from orchestrator.rehearsal.result import Rehearsal
from orchestrator.rehearsal.scene import Channel, Request, make_scene


def rehearse(
    plan: Path,
    read_report: ReadReport,
    *,
    source: Path | None = None,
    target: Path | None = None,
    channel: Channel = "auto",
    stock: bool = False,
    keep: bool = False,
    as_json: bool = False,
) -> ExitCode:
    """Run a plan in a throw-away guest, show it as it happens (stderr), and its result (stdout).

    Args:
        plan: the spec, `plan.yaml`.
        read_report: see `performance.ReadReport`.
        source, target: kernel images; default: see `scene.choose_kernels`.
        channel: "auto" leaves it to the plan; "disk" boots the kernels with kho=off.
        stock: Debian's own kernels instead.
        keep: leave the guest running at the end, until Ctrl-C.
        as_json: the result as one JSON object instead of tables.

    Returns:
        0 only if the transaction committed and everything held; the transaction's own exit
        code if it was rolled back; 1 otherwise.

    Raises:
        SpecError: the plan cannot be used.
        NotSupportedError, RehearsalError: no such guest can be had here, or it was lost.
    """
    spec = load_spec_file(plan)
    _refuse_nixos(spec)
    request = Request(plan, source, target, channel, stock, keep)
    with Display(sys.stderr) as display:
        scene = make_scene(request, spec, display.say)
        for note in scene.notes:
            display.say(note)
        result = perform(scene, display, read_report, keep=keep)
    _print(result, as_json=as_json)
    return result.exit_code


def _refuse_nixos(spec: UpgradeSpec) -> None:
    """The guest is a Debian: it would boot the kernel, and not the system."""
    kernel = spec.instances[0].kernel
    if any(key is not None for key in (kernel.nixos, kernel.toplevel, kernel.initrd_secrets)):
        raise NotSupportedError(
            "the kernel of a NixOS system cannot be rehearsed: the guest has no such system",
            where="instances[0].kernel",
            state="nothing was changed",
            next_command="mkupgrade plan",
        )


def _print(result: Rehearsal, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result.as_dict()))
        return
    from rich.console import Console

    show_result(result, Console(file=sys.stdout, markup=False, highlight=False))
