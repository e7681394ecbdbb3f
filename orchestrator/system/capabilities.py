"""What this host can do, and for everything it cannot, why.

Every reason is written for an operator who will act on it. What cannot be found out is
reported as it is: "not known", never as a yes.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from orchestrator.model.errors import MkupgradeError
from orchestrator.model.host import BootState, Cap, Capability, KernelState
from orchestrator.system import (
    boot_loaders,
    files,
    kernel_config,
    kernel_log,
    open_files,
    resume_unit,
    running,
    subprocesses,
    systemd,
    watchdog_capability,
)

_ROOT = Path("/")
_CAP_SYS_ADMIN, _CAP_SYS_BOOT = 21, 22
_TRUE = frozenset({"", "1", "y", "Y", "yes", "t", "true", "on"})
"""kstrtobool() of the kernel, and a parameter without a value."""
_TIMEOUT = 30.0
"""Seconds for a tool's own check; under emulation it takes a while."""
_LAST_CRIU_WITHOUT_LINUX_7 = (4, 1)
_LOG_OF_KHO = re.compile(r"(?i)\b(kho|luo|kexec handover|liveupdate|live update)\b")


def observe(
    state_dir: Path,
    kernel: KernelState,
    boot: BootState,
    watchdog: str | None,
    root: Path = _ROOT,
) -> dict[Cap, Capability]:
    """Every capability but SIDE_BY_SIDE and INSTANCE_VSOCK, which are the driver's to say. Changes
    nothing.

    Args:
        state_dir: where journal and spilled state are kept; it need not exist yet.
        kernel: from `running.kernel_state`. boot: from `boot_loaders.observe`.
        watchdog: the device that the spec names.
        root: "/" but in tests.
    """
    host = _Host(root, kernel)
    criu, kho = _criu(host), _kho(host)
    return {
        Cap.ROOT: _root(),
        Cap.KEXEC_FILE: _kexec_file(host),
        Cap.KHO: kho,
        Cap.LUO: _luo(host, kho),
        Cap.CRIU: criu,
        Cap.CRIU_TCP: _criu_tcp(host, criu),
        Cap.TIME_NS: _time_namespace(root),
        Cap.SYSTEMD: _systemd(),
        Cap.BOOT_DEFAULT: boot_loaders.capability(boot, root),
        Cap.WATCHDOG: watchdog_capability.capability(watchdog, root),
        Cap.OLD_KERNEL: _old_kernel(kernel),
        Cap.DURABLE_STATE: _durable(state_dir),
        Cap.RESUME: _resume(state_dir),
    }


def criu_version() -> str | None:
    """e.g. "4.2.1"; None: not installed, or it does not say."""
    if subprocesses.available("criu") is None:
        return None
    try:
        done = subprocesses.run(["criu", "--version"], timeout=_TIMEOUT, check=False)
    except MkupgradeError:
        return None
    match = re.search(r"Version: (\d+(?:\.\d+)*)", done.text)
    return match[1] if match is not None else None


@dataclass(frozen=True)
class _Host:
    """The running kernel, its configuration read once."""

    root: Path
    kernel: KernelState

    @cached_property
    def config(self) -> kernel_config.Config | None:
        return running.config(self.root)

    def lacks(self, *names: str) -> list[str]:
        """Options that are known to be off."""
        config = self.config
        if config is None:
            return []
        return [f"CONFIG_{n}" for n in names if config.get(f"CONFIG_{n}") not in {"y", "m"}]

    @property
    def device(self) -> bool:
        """/dev/liveupdate is there. Not opened: only one process can at a time."""
        return files.is_character_device(self.root / "dev/liveupdate")


def _yes(reason: str) -> Capability:
    return Capability(available=True, reason=reason)


def _no(reason: str) -> Capability:
    return Capability(available=False, reason=reason)


def _root() -> Capability:
    if os.geteuid() != 0:
        return _no(f"running as user {os.geteuid()}, not as root")
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        text = ""
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", text, re.MULTILINE)
    have = int(match[1], 16) if match is not None else 0
    wanted = {"CAP_SYS_BOOT": _CAP_SYS_BOOT, "CAP_SYS_ADMIN": _CAP_SYS_ADMIN}
    missing = [name for name, bit in wanted.items() if not have >> bit & 1]
    return _no(f"root, but without {', '.join(missing)}") if missing else _yes("running as root")


def _kexec_file(host: _Host) -> Capability:
    state = running.kexec_state(host.root)
    unset = "is not set in the running kernel"
    objections = {
        "the running kernel has no kexec (no /sys/kernel/kexec_loaded)": not state.supported,
        f"CONFIG_KEXEC_FILE {unset}": bool(host.lacks("KEXEC_FILE")),
        "kernel.kexec_load_disabled is 1: kexec is off until the next reboot": state.disabled,
        "kernel.kexec_load_limit_reboot is 0: no more kernels may be loaded": state.loads_left == 0,
        f"lockdown ({state.lockdown}), and CONFIG_KEXEC_SIG {unset}": state.lockdown != "none"
        and bool(host.lacks("KEXEC_SIG")),
    }
    for reason, holds in objections.items():
        if holds:
            return _no(reason)
    if state.signature_enforced:
        return _yes(f"signed images only (lockdown: {state.lockdown})")
    known = "" if host.config is not None else "; configuration not known, loading will show"
    return _yes(f"kexec is there and allowed{known}")


def _kho(host: _Host) -> Capability:
    if host.device:
        return _yes("active: /dev/liveupdate is there, which needs it")
    missing = host.lacks("KEXEC_HANDOVER")
    if missing:
        return _no(f"{missing[0]} is not set in the running kernel")
    if host.config is None and host.kernel.abi.kho is None:
        return _no("not known: neither configuration nor image of the running kernel were found")
    value = running.parameter(host.kernel.cmdline, "kho")
    default = not host.lacks("KEXEC_HANDOVER_ENABLE_DEFAULT") and host.config is not None
    if value is None and not default:
        return _no("the running kernel was booted without kho=on")
    if value is not None and value not in _TRUE:
        return _no(f"the running kernel was booted with kho={value}")
    return _yes("compiled in and switched on" + _said(host.root))


def _luo(host: _Host, kho: Capability) -> Capability:
    if host.device:
        missing = host.lacks("LIVEUPDATE_MEMFD")
        if missing:
            return _no(f"/dev/liveupdate is there, but {missing[0]} is not set: no memfds")
        return _yes("/dev/liveupdate is there")
    missing = host.lacks("LIVEUPDATE")
    if missing:
        return _no(f"{missing[0]} is not set in the running kernel")
    value = running.parameter(host.kernel.cmdline, "liveupdate")
    causes = [] if kho.available else ["it needs kho"]
    if value is None or value not in _TRUE:
        causes.append("the running kernel was booted without liveupdate=on")
    if causes:
        return _no(f"no /dev/liveupdate: {', and '.join(causes)}")
    return _no("no /dev/liveupdate" + (_said(host.root) or " though liveupdate=on was given"))


def _said(root: Path) -> str:
    """What the kernel said of it last."""
    try:
        log = kernel_log.read(root / "dev/kmsg")
    except OSError:
        return ""
    said = [r.text for r in log if _LOG_OF_KHO.search(r.text)]
    said = [text for text in said if "command line" not in text.lower()]
    return f' (kernel log: "{said[-1]}")' if said else ""


def _criu(host: _Host) -> Capability:
    version = criu_version()
    if version is None:
        return _no("criu is not installed (package criu)")
    missing = host.lacks("CHECKPOINT_RESTORE", "NAMESPACES", "UNIX_DIAG")
    if missing:
        return _no(f"{', '.join(missing)} not set in the running kernel")
    if host.lacks("SECURITY_NETWORK"):
        return _no(
            "CONFIG_SECURITY_NETWORK is not set in the running kernel: CRIU cannot dump a "
            "process that has a UNIX socket, though `criu check` does not notice"
        )
    return _criu_check(version)


def _criu_check(version: str) -> Capability:
    try:
        done = subprocesses.run(["criu", "check"], timeout=_TIMEOUT, check=False)
    except MkupgradeError as error:
        return _no(f"criu check: {error.what}")
    if done.returncode == 0:
        return _yes(f"CRIU {version}, criu check is content")
    if os.geteuid() != 0:
        return _no(f"not known: CRIU {version} is installed, and only root may let it check")
    said = (done.error_text or done.text).splitlines()
    return _no(f"criu check: {said[0] if said else f'exit status {done.returncode}'}")


def _criu_tcp(host: _Host, criu: Capability) -> Capability:
    if not criu.available:
        return criu
    version = criu_version() or "0"
    release = re.match(r"(\d+)", host.kernel.release)
    new_kernel = release is not None and int(release[1]) >= 7
    if new_kernel and _numbers(version)[:2] <= _LAST_CRIU_WITHOUT_LINUX_7:
        return _no(f"CRIU {version} cannot dump TCP sockets on Linux 7: 4.2 or later can")
    missing = host.lacks("INET_DIAG", "INET_TCP_DIAG", "NF_TABLES", "NF_TABLES_INET")
    if missing:
        return _no(f"{', '.join(missing)} not set in the running kernel")
    problem = _nft_problem()
    if problem is not None:
        return _no(problem)
    return _yes("CRIU, nft and the kernel's socket diagnostics are there")


def _nft_problem() -> str | None:
    if subprocesses.available("nft") is None:
        return "nft is not installed (package nftables): CRIU locks connections with it"
    try:
        done = subprocesses.run(["nft", "list", "tables"], timeout=_TIMEOUT, check=False)
    except MkupgradeError as error:
        return f"nft: {error.what}"
    if done.returncode == 0:
        return None
    said = done.error_text.splitlines()
    return f"nft does not work: {said[0] if said else 'no reason given'}"


def _time_namespace(root: Path) -> Capability:
    if os.path.lexists(root / "proc/self/ns/time"):
        return _yes("time namespaces are there: restored clocks do not jump")
    return _no("CONFIG_TIME_NS is not set: monotonic clocks of restored processes jump back")


def _systemd() -> Capability:
    if not systemd.is_running():
        return _no("systemd is not PID 1 here")
    version = systemd.version()
    return _yes(f"systemd {version}") if version else _no("systemctl does not say its version")


def _old_kernel(kernel: KernelState) -> Capability:
    if kernel.image is None:
        return _no(
            f"no image of Linux {kernel.release} ({kernel.version}) in /boot or /usr/lib/modules"
        )
    return _yes(f"{kernel.image} is the kernel that runs")


def _durable(state_dir: Path) -> Capability:
    lost_with = open_files.lost_at_reset(state_dir)
    if lost_with is not None:
        return _no(f"{state_dir} is on {lost_with}, which a reset empties")
    mount = open_files.mount_of(os.path.realpath(state_dir))
    return _yes(f"{state_dir} is on {mount.type} ({mount.source})" if mount else str(state_dir))


def _resume(state_dir: Path) -> Capability:
    try:
        why = resume_unit.problem(state_dir)
    except MkupgradeError as error:
        return _no(f"systemd does not say whether {resume_unit.NAME} is there: {error.what}")
    if why is not None:
        return _no(f"{why}: nobody would go on behind the jump; `mkupgrade host permit` sees to it")
    if not systemd.is_running():
        return _yes(
            "not by systemd here: what starts this system must run `mkupgrade resume --boot`"
        )
    return _yes(f"{resume_unit.NAME} is enabled")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
