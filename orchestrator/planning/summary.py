"""The lines that people read: what changes, what is kept, and why it was decided so."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.model.host import Cap
from orchestrator.model.quantities import format_duration, format_size
from orchestrator.model.spec import Workload
from orchestrator.model.spec.workloads import CriuMigrate, HooksMigrate
from orchestrator.planning import cmdline
from orchestrator.planning.admission import why_not_running
from orchestrator.planning.channels import carries_state
from orchestrator.planning.decisions import Decisions, count


def changes(d: Decisions) -> list[str]:
    """ "kernel of instance host: Linux 7.2.13 -> 7.3.4", one line per thing that changes."""
    name = d.instance.name
    lines = []
    if d.from_release != d.to_release:
        lines.append(f"kernel of instance {name}: Linux {d.from_release} -> {d.to_release}")
    else:
        lines.append(f"kernel of instance {name}: Linux {d.to_release}, started anew")
    toplevel = d.instance.kernel.toplevel
    if toplevel is not None and str(toplevel) != d.host.kernel.system:
        lines.append(
            f"NixOS system of instance {name}: {d.host.kernel.system or 'none'} -> {toplevel}"
        )
    old = cmdline.inherited(d.host.kernel.cmdline)
    edits = cmdline.difference(old, cmdline.split(d.cmdline))
    if edits:
        lines.append(f"command line: {edits}")
    if d.profile is not None:
        lines.append(
            f"system profile and boot menu: generation {d.profile.generation} -> {toplevel}"
        )
        if d.profile.pending is not None:
            lines.append(
                f"system profile and boot menu: generation {d.profile.pending.generation} is "
                f"pending, and generation {d.profile.generation} takes its place until commit"
            )
    if d.sets_boot_default:
        lines.append(f"default boot entry: {d.boot_default or 'none'} -> Linux {d.to_release}")
    return lines


def keeps(d: Decisions) -> list[str]:
    """ "workload counter: 3 processes, 12.0 MiB, by criu over kho", and the old kernel."""
    lines = [_kept(d, w) for w in d.spec.workloads if carries_state(w)]
    if d.sets_boot_default:
        time = format_duration(d.spec.rollback.keep_old_kernel)
        lines.append(f"old kernel: Linux {d.from_release} and its boot entry, for {time}")
    return lines


def notes(d: Decisions) -> list[str]:
    """Every decision with its reason."""
    return [
        *_state_notes(d),
        *_system_notes(d),
        *_way_back_notes(d),
        *_cmdline_notes(d),
        *_instance_notes(d),
        *d.channels.notes,
        *(line for w in d.spec.workloads for line in _workload_notes(d, w)),
        *_check_notes(d),
    ]


def _kept(d: Decisions, w: Workload) -> str:
    state = d.host.workloads[w.name]
    processes = (
        f"{len(state.pids)} process" if len(state.pids) == 1 else f"{len(state.pids)} processes"
    )
    size = format_size(state.memory_bytes)
    return f"workload {w.name}: {processes}, {size}, by {w.migrate.method} over {d.channel(w)}"


def _state_notes(d: Decisions) -> Iterator[str]:
    durable = d.host.can(Cap.DURABLE_STATE)
    if d.spec.host.allow_volatile_state and not durable.available:
        yield (
            f"the state directory is taken as it is (host.allow_volatile_state): {durable.reason}; "
            "if it is lost, nobody goes on behind the jump, and workloads stay down"
        )


def _system_notes(d: Decisions) -> Iterator[str]:
    toplevel = d.instance.kernel.toplevel
    if toplevel is not None:
        for reason in d.host.systems[str(toplevel)].reasons:
            yield f"a switch is not enough: {reason}"
    if d.profile is not None:
        yield (
            f"{d.profile.link} leads to {d.profile.previous} until commit, and so does the default "
            "of the boot menu"
        )


def _way_back_notes(d: Decisions) -> Iterator[str]:
    way, boot = d.way_back, d.host.can(Cap.BOOT_DEFAULT)
    if way.method == "kexec":
        yield f"way back: a jump into Linux {d.from_release} ({way.image})"
    else:
        yield (
            f"way back: a reset of the machine with all state on disk, because there is no image "
            f"to jump to: {way.why}"
        )
    if not boot.available and d.profile is None:
        yield (
            f"a reset ends in whatever the boot loader defaults to, and commit does not change "
            f"it: {boot.reason}"
        )
    if not d.spec.rollback.automatic:
        yield "rollback is not automatic: a failure behind the jump waits for `mkupgrade rollback`"
    if d.spec.rollback.watchdog is None:
        yield (
            "no watchdog is configured: a new kernel that hangs stays so until somebody resets "
            "the machine"
        )
    else:
        yield f"watchdog: {d.host.can(Cap.WATCHDOG).reason}"


def _cmdline_notes(d: Decisions) -> Iterator[str]:
    edits = d.instance.cmdline
    asked = cmdline.wanted(d.host.kernel.cmdline, edits)
    added = cmdline.difference(asked, cmdline.split(d.cmdline))
    if added:
        yield f"command line: {added} by mkupgrade itself: {_why_added(added)}"
    for entry in cmdline.unmatched(d.host.kernel.cmdline, edits):
        yield f"command line: nothing to remove for {entry}"


def _instance_notes(d: Decisions) -> Iterator[str]:
    if d.instance.resources is not None:
        yield (
            f"instance {d.instance.name}: resources are not used, because it is the whole host: "
            f"{d.host.can(Cap.SIDE_BY_SIDE).reason}"
        )
    if d.instance.agent is not None:
        yield f"instance {d.instance.name}: no agent is asked, because it is the whole host"
    if d.instance.ready:
        yield (
            f"instance {d.instance.name}: its checks `ready` are not made, because it is the whole "
            "host: put them under checks"
        )


def _why_added(added: str) -> str:
    panic = "a panic must end in a reset" if "panic=" in added else ""
    kho = "memory is handed over" if any(f"{n}=on" in added for n in cmdline.KHO_NAMES) else ""
    return ", and ".join(why for why in (panic, kho) if why)


def _workload_notes(d: Decisions, w: Workload) -> Iterator[str]:
    state = d.host.workloads[w.name]
    why = why_not_running(w, d.host)
    if why:
        yield f"workload {w.name} does not run now ({why}); it is started after the jump anyway"
    if d.channel(w) == "kho" and carries_state(w) and not w.spill:
        yield (
            f"workload {w.name} keeps no copy on disk (spill: false): it starts anew if the new "
            "kernel does not come up"
        )
    if isinstance(w.migrate, HooksMigrate) and w.find.unit is None:
        yield (
            f"workload {w.name} is no unit, so that nobody knows how to start it anew: if its "
            "state is lost, it stays down, and the rollback is incomplete"
        )
    if not isinstance(w.migrate, CriuMigrate):
        return
    carried = {str(path) for path in (*w.migrate.carry, w.find.pid_file)}
    left = [f for f in state.volatile_files if f not in carried]
    if left:
        yield (
            f"workload {w.name} has {count(left, 'file')} open on a volatile file system that "
            f"migrate.carry does not name: {', '.join(left[:3])}; preflight looks at them again"
        )
    clock = d.host.can(Cap.TIME_NS)
    if not clock.available:
        yield f"workload {w.name} sees its monotonic clock jump back: {clock.reason}"


def _check_notes(d: Decisions) -> Iterator[str]:
    if not d.checks("after"):
        yield "no check is made in the new kernel; only its release is held to the spec"
    elif d.spec.soak.duration > 0 and not d.checks("soak"):
        yield "nothing is checked during the soak: it only waits"
