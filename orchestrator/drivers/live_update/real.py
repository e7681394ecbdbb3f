"""The real parts: what the protocols of `parts.py` are on a host. No decisions here."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NoReturn

from orchestrator.drivers.live_update.parts import Channels, Parts
from orchestrator.drivers.records import make_private_directories
from orchestrator.handover.kho import Session
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.host import BootState, ProfileState
from orchestrator.model.landing import Place
from orchestrator.model.params.in_place import NixosProfile
from orchestrator.model.seams import Control
from orchestrator.system import boot_loaders, calls, files, keeper, luo, pids, proc, watchdog
from orchestrator.system import guard as guards
from orchestrator.system.call_errors import BusyError
from orchestrator.system.guard import HostGuard
from orchestrator.workloads.facade import Workloads

RUNTIME_DIR = Path("/run/mkupgrade")
_KEPT = RUNTIME_DIR / "sessions"
_LOADED = Path("/sys/kernel/kexec_loaded")
_FED_PER_TIMEOUT = 3


def real_parts(guard: HostGuard) -> Parts:
    """The parts of this very host. Whether anything may be changed is the guard's to say."""
    return Parts(
        machine=RealMachine(guard),
        boot=RealBoot(guard),
        nixos=RealNixos(guard),
        watchdog=RealWatchdog(guard),
        channels=Channels(lambda: luo.open_device(guard), RealKeeper(guard)),
        workloads=Workloads(),
        runtime_dir=RUNTIME_DIR,
    )


class RealMachine:
    def __init__(self, guard: HostGuard) -> None:
        self._guard = guard

    def place(self) -> Place:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        cmdline = Path("/proc/cmdline").read_text(encoding="utf-8", errors="replace").strip()
        return Place(boot_id=boot_id, release=os.uname().release, cmdline=cmdline)

    def objections(self) -> list[str]:
        return self._guard.objections()

    def unused_pid(self) -> int:
        return pids.unused([*proc.task_ids(), proc.ns_last_pid()])

    def kexec_loaded(self) -> bool:
        with suppress(FileNotFoundError):
            return _LOADED.read_text(encoding="ascii").strip() == "1"
        return False

    def load_kernel(self, image: Path, sha256: str, initrd: Path | None, cmdline: str) -> None:
        """The digest is taken over the open file that is then loaded, so that no other file can
        be put in its place in between."""
        with image.open("rb") as kernel:
            files.hold_to_sha256(kernel, sha256, image)
            if initrd is None:
                calls.kexec_file_load(self._guard, kernel.fileno(), None, cmdline)
                return
            with initrd.open("rb") as ramdisk:
                calls.kexec_file_load(self._guard, kernel.fileno(), ramdisk.fileno(), cmdline)

    def unload_kernel(self) -> None:
        calls.kexec_unload(self._guard)

    def sync(self) -> None:
        os.sync()

    def jump(self) -> NoReturn:
        calls.reboot_kexec(self._guard)

    def reset(self) -> NoReturn:
        calls.reboot_reset(self._guard)


class RealBoot:
    def __init__(self, guard: HostGuard) -> None:
        self._guard = guard

    def state(self) -> BootState:
        return boot_loaders.observe()

    def set_default(self, entry: str) -> None:
        boot_loaders.set_default(self._guard, self.state(), entry)

    def entry_for(self, release: str) -> str | None:
        return boot_loaders.entry_for(self.state(), release)


class RealNixos:
    """Imported when it is asked: other hosts, behind a jump, do not wait for it."""

    def __init__(self, guard: HostGuard) -> None:
        self._guard = guard

    def check(self, params: NixosProfile, control: Control) -> None:
        from orchestrator.nixos import changing, systems

        changing.check(systems.REAL, PurePosixPath(params.toplevel), control)

    def state(self) -> ProfileState:
        from orchestrator.nixos import changing, systems

        return changing.profile_state(systems.REAL)

    def arm(self, params: NixosProfile, control: Control) -> None:
        from orchestrator.nixos import changing, systems

        guards.require(self._guard, f"make {params.previous} the default system")
        changing.arm(systems.REAL, params, control)

    def disarm(self, params: NixosProfile, control: Control) -> None:
        from orchestrator.nixos import changing, systems

        if params.pending is not None:
            guards.require(self._guard, f"make {params.pending.toplevel} the default system")
        changing.disarm(systems.REAL, params, control)

    def install(self, params: NixosProfile, control: Control) -> None:
        from orchestrator.nixos import changing, systems

        guards.require(self._guard, f"make {params.toplevel} the default system")
        changing.install(systems.REAL, params, control)

    def put_back(self, params: NixosProfile, control: Control) -> None:
        from orchestrator.nixos import changing, systems

        guards.require(self._guard, f"make {params.previous} the default system")
        changing.put_back(systems.REAL, params, control)


class RealKeeper:
    """A process of its own per session, reached below the runtime directory."""

    def __init__(self, guard: HostGuard) -> None:
        self._guard = guard

    def keep(self, name: str, session: Session) -> None:
        make_private_directories(_KEPT)
        keeper.keep(_KEPT, name, session.fileno())

    def kept(self, name: str) -> Session | None:
        fd = keeper.kept(_KEPT, name)
        return None if fd is None else luo.LuoSession(self._guard, fd, name)

    def release(self, name: str) -> None:
        keeper.release(_KEPT, name)


class RealWatchdog:
    """Fed by a thread of ours, so that it resets the machine only when the machine, or this
    process, has stopped."""

    def __init__(self, guard: HostGuard) -> None:
        self._guard = guard
        self._lock = threading.Lock()
        self._held: dict[Path, tuple[watchdog.Watchdog, threading.Event]] = {}

    def arm(self, device: Path, seconds: float) -> None:
        with self._lock:
            if device in self._held:
                return
            dog = watchdog.open_watchdog(self._guard, device)
            try:
                granted = dog.set_timeout(max(1, round(seconds)))
            except MkupgradeError:
                dog.disarm()
                raise
            done = threading.Event()
            self._held[device] = (dog, done)
        pause = granted / _FED_PER_TIMEOUT
        threading.Thread(target=_feed, args=(dog, done, pause), daemon=True).start()

    def held(self, device: Path) -> bool:
        with self._lock:
            return device in self._held

    def keep_alive(self) -> None:
        with self._lock:
            for dog, _ in self._held.values():
                dog.keepalive()

    def disarm(self, device: Path) -> None:
        with self._lock:
            held = self._held.pop(device, None)
            if held is not None:
                held[1].set()
                held[0].disarm()
                return
            with suppress(BusyError):
                watchdog.open_watchdog(self._guard, device).disarm()

    def close(self) -> None:
        for device in list(self._held):
            self.disarm(device)


def _feed(dog: watchdog.Watchdog, done: threading.Event, pause: float) -> None:
    while not done.wait(pause):
        try:
            dog.keepalive()
        except MkupgradeError:
            return
