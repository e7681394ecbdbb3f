"""What happens to a pretend host when a kernel ends and the next one begins."""

from __future__ import annotations

from orchestrator.drivers.simulated.process import is_alive
from orchestrator.drivers.simulated.world import Kernel, Loaded, Payload, World


def kexec(world: World, loaded: Loaded) -> None:
    """Into the loaded image; memory is handed over where both kernels can.

    Incompatible state is lost without an error, as it is on real kernels. A kernel that does not
    come up ends in a reset: by `panic=`, by the watchdog, or by somebody at the power switch.
    """
    carried = _handed_over(world, loaded)
    _next_boot(world, Kernel(**loaded.model_dump(exclude={"sha256", "behaviour"})))
    if loaded.behaviour == "ok":
        world.incoming = carried
        world.say(f"booted by kexec; {len(carried)} session(s) were handed over")
    else:
        reset(world, _end_of(world, loaded))


def reset(world: World, why: str) -> None:
    """Through the firmware into the default boot entry; memory is gone."""
    world.say(f"reset: {why}")
    world.watchdog = None
    _next_boot(world, world.entries[world.default].model_copy(deep=True))
    world.say(f"booted {world.default} through the firmware")


def drop_what_died(world: World) -> None:
    """Whatever a dead process held is gone: its sessions, and its hold on the watchdog.

    The last close of a session before the jump silently discards everything in it.
    """
    for name, session in list(world.sessions.items()):
        if not is_alive(session.owner):
            del world.sessions[name]
            world.say(f"session {name} was discarded: the process that held it has died")
    if world.watchdog is not None and not is_alive(world.watchdog):
        world.watchdog = None


def _handed_over(world: World, loaded: Loaded) -> dict[str, dict[str, Payload]]:
    """Sessions that are held now; those that nobody retrieved are not carried any further."""
    here = world.kernel
    if not (here.hands_over and loaded.hands_over) or here.abi.differences(loaded.abi):
        return {}
    return {name: s.payloads for name, s in world.sessions.items() if is_alive(s.owner)}


def _next_boot(world: World, kernel: Kernel) -> None:
    world.boots += 1
    world.kernel = kernel
    world.loaded = None
    world.sessions, world.incoming = {}, {}
    world.staged = {
        key: {name: state for name, state in states.items() if state.durable}
        for key, states in world.staged.items()
    }
    for workload in world.workloads.values():
        workload.status = "gone"


def _end_of(world: World, loaded: Loaded) -> str:
    words = loaded.cmdline.split()
    if loaded.behaviour == "panic-at-boot" and any(w.startswith("panic=") for w in words):
        return "the kernel panicked at boot"
    how = "panicked" if loaded.behaviour == "panic-at-boot" else "hung"
    by = "the watchdog" if world.watchdog is not None else "somebody at the power switch"
    return f"the kernel {how} at boot; {by} reset the machine"
