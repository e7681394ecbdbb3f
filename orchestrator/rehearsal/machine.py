"""The guest: an image, a kernel and a QEMU put together, and what can be done with them.

with Guest.boot(Setup(kernel=Path("bzImage"))) as guest:
    print(guest.run(["uname", "-r"]).stdout)
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Self

from orchestrator.model.errors import ErrorClass, RehearsalError
from orchestrator.rehearsal.accelerator import accelerator
from orchestrator.rehearsal.cache import cache_dir, drop_old
from orchestrator.rehearsal.compiled import compiled_files
from orchestrator.rehearsal.control import (
    Control,
    Finished,
    GuestRestartedError,
    Hello,
    OnOutput,
)
from orchestrator.rehearsal.firmware import Firmware
from orchestrator.rehearsal.image import (
    Layer,
    LayerFile,
    Recipe,
    base_image,
    layered_image,
)
from orchestrator.rehearsal.package import package_files
from orchestrator.rehearsal.qemu import Hardware, Qemu
from orchestrator.rehearsal.systemd_guest import systemd_files
from orchestrator.rehearsal.tools import Progress, quiet
from orchestrator.rehearsal.trees import DEFAULT_RECIPE

MACHINE_ID = "6d6b7570677261646500000000000001"
"""The guest's /etc/machine-id: fixed, so that its permit can be laid beside it."""

CMDLINE = (
    "console=ttyS0 root=/dev/vda rw rootfstype=ext4 panic=1 net.ifnames=0 loglevel=6"
    # khugepaged collapses pages by `rep stos`, over which QEMU 7.2 can spend minutes.
    " transparent_hugepage=never"
)
HANDOVER = "kho=on liveupdate=on"

BOOT_SECONDS = 120.0
"""Patience for a kernel to come up until its agent greets."""


@dataclass(frozen=True)
class Setup:
    """What a guest is booted with.

    `files` become part of the cached image: for large and lasting ones (kernels). Small
    changing ones (a plan) are cheaper with `Guest.put` after the boot.
    """

    kernel: Path
    initrd: Path | None = None
    handover: bool = True
    """kho=on liveupdate=on on the command line; else kho=off."""
    cmdline: str = ""
    """Further parameters."""
    systemd: bool = False
    """Boot Debian's systemd; else a small init that is up in a few seconds."""
    permit: bool = True
    """Lay the permit of `mkupgrade host permit` into /etc/mkupgrade."""
    files: Layer = field(default_factory=dict)
    workloads: tuple[dict[str, Any], ...] = ()
    """Started at boot unless they run: {"argv": […], "pid_file": …}."""
    recipe: Recipe = DEFAULT_RECIPE
    memory_mib: int = 1024
    cpus: int = 1
    """Emulated CPUs share one thread of the host: each costs time, and none brings any."""
    forwards: tuple[int, ...] = ()
    watchdog: bool = False
    firmware: Firmware | None = None
    """Boot through it instead of into `kernel`; the command line is then the loader's to give."""
    extra: tuple[str, ...] = ()
    """Further arguments for QEMU."""
    disk: Path | None = None
    """The root's disk, instead of one that is made of the fields above."""
    disk_kept: bool = False
    """Changes are written to `disk`."""
    frozen: Path | None = None
    """Go on from here instead of booting: what `Qemu.freeze` saved of a guest like this one."""
    boot_seconds: float = BOOT_SECONDS

    def command_line(self) -> str:
        """The kernel's command line."""
        init = "/usr/lib/systemd/systemd" if self.systemd else "/usr/sbin/mkupgrade-init"
        parts = [CMDLINE, f"init={init}", HANDOVER if self.handover else "kho=off", self.cmdline]
        return " ".join(p for p in parts if p)

    def image(self, progress: Progress = quiet) -> Path:
        """The disk of the root, made now or from the cache."""
        if self.disk is not None:
            return self.disk
        base = base_image(self.recipe, progress)
        return layered_image(base, self.layer(base, progress), progress)

    def layer(self, base: Path, progress: Progress = quiet) -> Layer:
        """Everything that is laid over the Debian tree in the image `base`."""
        package = package_files(progress)
        layer: dict[str, LayerFile | str] = dict(package)
        layer |= compiled_files(package, base, progress)
        layer |= {
            "/etc/machine-id": LayerFile(f"{MACHINE_ID}\n".encode(), 0o444),
            "/etc/hostname": LayerFile(b"guest\n"),
            "/usr/sbin/mkupgrade-init": LayerFile(_program("init.sh"), 0o755),
        }
        if self.permit:
            layer["/etc/mkupgrade/host.permit"] = LayerFile(f"{MACHINE_ID}\n".encode(), 0o600)
        if self.workloads:
            config = json.dumps({"workloads": self.workloads}).encode()
            layer["/etc/mkupgrade/rehearsal.json"] = LayerFile(config)
        if self.systemd:
            layer |= systemd_files()
        else:
            layer["/etc/fstab"] = LayerFile(_program("fstab"))
        return {**layer, **self.files}


def _program(name: str) -> bytes:
    return (resources.files("orchestrator.rehearsal.guest") / name).read_bytes()


class Guest:
    """A running guest. A context manager: leaving it ends QEMU, whatever happened."""

    def __init__(self, setup: Setup, qemu: Qemu, control: Control) -> None:
        self.setup = setup
        self.qemu = qemu
        self.control = control
        self.kernels_seen = 0

    @classmethod
    @contextlib.contextmanager
    def boot(cls, setup: Setup, progress: Progress = quiet) -> Iterator[Self]:
        """Boot, or go on from `Setup.frozen`, and wait until the agent greets.

        Raises:
            RehearsalError: it did not come up; `details` holds the end of the serial log.
        """
        with ThreadPoolExecutor(1) as pool:  # to try KVM can take as long as to make the disk
            asked = pool.submit(accelerator, setup.kernel, progress)
            image = setup.image(progress)
            how = asked.result()
        hardware = Hardware(
            kernel=setup.kernel,
            cmdline=setup.command_line(),
            initrd=setup.initrd,
            disk=image,
            disk_kept=setup.disk_kept,
            frozen=setup.frozen,
            memory_mib=setup.memory_mib,
            cpus=setup.cpus,
            forwards=setup.forwards,
            watchdog=setup.watchdog,
            firmware=setup.firmware,
            extra=setup.extra,
        )
        progress(f"guest: booting {setup.kernel.name} ({how[1].partition(',')[0]})")
        qemu = Qemu(hardware, how)
        try:
            control = Control(qemu.control_socket())
            guest = cls(setup, qemu, control)
            try:
                if setup.frozen is not None:
                    qemu.thaw()
                    control.adopt()
                guest.next_kernel(setup.boot_seconds)
                yield guest
            except BaseException as error:
                error.add_note(f"serial log of the guest: {guest.keep_serial()}")
                raise
            finally:
                control.close()
        finally:
            qemu.close()

    def next_kernel(self, timeout: float = BOOT_SECONDS) -> Hello:
        """Wait for the next kernel that was not waited for yet (the first, or after a jump).

        Raises:
            RehearsalError: none came up within `timeout` seconds.
        """
        try:
            hello = self.control.wait_hello(self.kernels_seen + 1, timeout, self.qemu.check_alive)
        except RehearsalError as error:
            raise RehearsalError(
                error.what,
                details=(*error.details, *self.qemu.tail()),
                error_class=error.error_class,
            ) from None
        self.kernels_seen = len(self.control.hellos)
        return hello

    def run(
        self,
        argv: list[str],
        *,
        timeout: float = 120.0,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        on_output: OnOutput | None = None,
        check: bool = True,
    ) -> Finished:
        """Run a program in the guest as root.

        Raises:
            GuestRestartedError: the kernel changed meanwhile (see `run_through`).
            RehearsalError: too slow, or with `check` a code other than 0.
        """
        done = self.control.run(
            argv, timeout=timeout, stdin=stdin, env=dict(env or {}), on_output=on_output
        )
        if check and done.code != 0:
            raise RehearsalError(
                f"in the guest: {' '.join(argv)} ended with code {done.code}",
                details=tuple(done.output.splitlines()[-40:]),
            )
        return done

    def run_through(
        self,
        argv: list[str],
        *,
        timeout: float = 300.0,
        on_output: OnOutput | None = None,
        env: Mapping[str, str] | None = None,
    ) -> tuple[str, Hello]:
        """Run a program that ends in another kernel; what it printed, and who greeted then.

        Raises:
            RehearsalError: it ended in the same kernel (`details`: its output), or nothing
                came up behind it.
        """
        try:
            done = self.control.run(argv, timeout=timeout, env=dict(env or {}), on_output=on_output)
        except GuestRestartedError as restarted:
            return restarted.partial, self.next_kernel(timeout)
        raise RehearsalError(
            f"in the guest: {' '.join(argv)} ended with code {done.code} and no change of kernel",
            details=tuple(done.output.splitlines()[-40:]),
        )

    def spawn(self, argv: list[str], log: str = "/var/log/spawned.log") -> int:
        """Start a program that stays, in a session of its own; its process id."""
        return self.control.spawn(argv, log)

    def put(self, path: str, data: bytes | str, mode: int = 0o644) -> None:
        """Write a file in the guest, with its directories."""
        self.control.put(path, data.encode() if isinstance(data, str) else data, mode)

    def get(self, path: str) -> bytes:
        """Read a file in the guest."""
        return self.control.get(path)

    def text(self, path: str) -> str:
        """Read a text file in the guest."""
        return self.get(path).decode(errors="replace")

    def exists(self, path: str) -> bool:
        """Is there such a path in the guest?"""
        return self.run(["test", "-e", path], check=False).code == 0

    def wait_for_path(self, path: str, *, timeout: float = 180.0) -> None:
        """Wait until there is such a path in the guest, without a program that looks for it.

        Raises:
            GuestRestartedError: the kernel changed meanwhile.
            RehearsalError: not within `timeout` seconds.
        """
        if not self.control.wait_path(path, timeout):
            raise RehearsalError(
                f"in the guest: no {path} within {timeout:g} s", error_class=ErrorClass.TIMEOUT
            )

    def wait_for(self, argv: list[str], *, timeout: float = 180.0, interval: float = 0.3) -> None:
        """Run a program again and again until it succeeds.

        One run may take all the time: where the kernel changes under it, the answer is the
        greeting of the next one, and that may boot slowly.

        Raises:
            GuestRestartedError: the kernel changed meanwhile.
            RehearsalError: not within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            left = max(1.0, deadline - time.monotonic())
            done = self.run(argv, check=False, timeout=left)
            if done.code == 0:
                return
            if time.monotonic() > deadline:
                raise RehearsalError(
                    f"in the guest: {' '.join(argv)} did not succeed within {timeout:g} s",
                    details=tuple(done.output.splitlines()[-40:]),
                )
            time.sleep(interval)

    def release(self) -> str:
        """`uname -r`, right now."""
        return self.control.status().release

    def forwarded(self, port: int) -> int:
        """The port of 127.0.0.1 on the host that leads to the guest's TCP port."""
        return self.qemu.forwarded()[port]

    def reset(self) -> Hello:
        """The reset button: back through the firmware into the default boot entry."""
        self.qemu.command("system_reset")
        return self.next_kernel(self.setup.boot_seconds)

    def keep_serial(self) -> Path:
        """Copy the serial log to the cache, where it outlives the guest; the copy's path."""
        kept = cache_dir() / f"serial-{time.strftime('%Y%m%d-%H%M%S')}-{self.qemu.pid}.log"
        kept.write_text(self.serial(), encoding="utf-8")
        drop_old("serial", keep=20)
        return kept

    def serial(self) -> str:
        """The serial log so far, all kernels."""
        return self.qemu.serial()
