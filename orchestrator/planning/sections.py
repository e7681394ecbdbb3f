"""The three sections of a live update.

forward:
    check-artifacts, check/before, preflight, load-kernel, arm-fallback, hooks before,
    checkpoint of every workload, preserve, JUMP, retrieve, restore of every workload,
    check/after, soak, hooks after, COMMIT, clean-up
return (the new kernel works, something else does not):
    restore-boot-default, load-kernel (the old one), hooks after undone, checkpoint of every
    workload, preserve, JUMP back
recover (in the old kernel, however it got there):
    retrieve, restore of every workload, check, hooks after (if the new kernel was lost behind
    them) and hooks before undone, clean-up;
    beside them restore-boot-default: a committed upgrade may be rolled back from a kernel that was
    booted by hand

In `return` the old kernel is loaded before any workload stops: a load that fails then costs no
blackout.
"""

from __future__ import annotations

from orchestrator.model.steps import Section
from orchestrator.planning import host_steps as steps
from orchestrator.planning.builder import SectionBuilder
from orchestrator.planning.decisions import Decisions
from orchestrator.planning.workload_steps import add_checkpoints, add_restores


def forward(d: Decisions) -> SectionBuilder:
    """From the old kernel to the new one and on to commit."""
    b = SectionBuilder(Section.FORWARD, d.spec.retry)
    steps.check_artifacts(b, d)
    steps.checks(b, "before", d.checks("before"), "before the upgrade")
    steps.preflight(b, d)
    steps.load_new(b, d)
    steps.arm_fallback(b, d)
    steps.run_hooks(b, d.spec.hooks.before)
    add_checkpoints(b, d)
    steps.preserve(b, d)
    steps.jump(b, d)
    steps.retrieve(b, d)
    add_restores(b, d)
    steps.checks(b, "after", d.checks("after"), f"in Linux {d.to_release}")
    steps.soak(b, d)
    steps.run_hooks(b, d.spec.hooks.after)
    steps.commit(b, d)
    steps.clean_up(b, d)
    return b


def back(d: Decisions) -> SectionBuilder:
    """From a new kernel that works to the old one."""
    b = SectionBuilder(Section.RETURN, d.spec.retry)
    steps.restore_boot_default(b, d)
    if d.way_back.method == "kexec":
        steps.load_old(b, d)
    steps.undo_hooks(b, d.spec.hooks.after)
    add_checkpoints(b, d)
    steps.preserve(b, d)
    steps.jump(b, d)
    return b


def recover(d: Decisions) -> SectionBuilder:
    """In the old kernel: everything that is left comes back."""
    b = SectionBuilder(Section.RECOVER, d.spec.retry)
    steps.retrieve(b, d)
    add_restores(b, d)
    steps.checks(b, "after", d.checks_in_old_kernel(), f"in Linux {d.from_release}")
    steps.undo_hooks(b, d.spec.hooks.after)
    steps.undo_hooks(b, d.spec.hooks.before)
    steps.clean_up(b, d)
    steps.restore_boot_default(b, d)
    return b
