"""The running kernel: itself, kexec, lockdown, KHO. Observed only; nothing is opened for long."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from orchestrator.model.errors import MkupgradeError
from orchestrator.model.host import Abi, KernelState
from orchestrator.system import files, kernel_config, kernel_image, proc

_ROOT = Path("/")
_IMAGES = (
    "boot/vmlinuz-{release}",
    "usr/lib/modules/{release}/vmlinuz",
    "lib/modules/{release}/vmlinuz",
    "boot/kernel-{release}",
    "boot/Image-{release}",
    "run/booted-system/kernel",
)
_INITRDS = (
    "boot/initrd.img-{release}",
    "boot/initramfs-{release}.img",
    "boot/initrd-{release}",
    "usr/lib/modules/{release}/initrd",
    "run/booted-system/initrd",
)
_UTS_LENGTH = 64
_SYSTEM = "run/booted-system"


@dataclass(frozen=True)
class KexecState:
    """/sys/kernel/kexec_* and what may forbid loading."""

    supported: bool
    """The kernel has kexec at all."""
    loaded: bool
    disabled: bool
    """kernel.kexec_load_disabled is 1, until the next reboot."""
    loads_left: int | None
    """kernel.kexec_load_limit_reboot; None: no limit."""
    lockdown: str
    """none, integrity or confidentiality."""
    signature_enforced: bool
    """Only signed images load: lockdown, or CONFIG_KEXEC_SIG_FORCE."""


def kernel_state(root: Path = _ROOT) -> KernelState:
    """Release, command line, own image and, from that image, the ABI strings of the running
    kernel. `image` is set only if release and build of the file are those that run.

    Args:
        root: "/" but in tests.
    """
    release = proc.release(root / "proc")
    version = proc.version(root / "proc")
    image, facts = _own_image(root, release, version)
    return KernelState(
        release=release,
        version=version,
        cmdline=proc.cmdline(root / "proc"),
        abi=facts.abi if facts is not None else Abi(),
        image=image,
        initrd=_own_initrd(root, release) if image is not None else None,
        system=_booted_system(root),
        tainted=proc.tainted(root / "proc"),
    )


def kexec_state(root: Path = _ROOT) -> KexecState:
    """What kexec can do now. Unreadable files count as "not there"."""
    limit = _line(root / "proc/sys/kernel/kexec_load_limit_reboot")
    lockdown = lockdown_state(root)
    loaded = _line(root / "sys/kernel/kexec_loaded")
    forced = (config(root) or {}).get("CONFIG_KEXEC_SIG_FORCE") == "y"
    return KexecState(
        supported=loaded != "",
        loaded=loaded == "1",
        disabled=_line(root / "proc/sys/kernel/kexec_load_disabled") == "1",
        loads_left=int(limit) if limit.isdigit() else None,
        lockdown=lockdown,
        signature_enforced=forced or lockdown != "none",
    )


def lockdown_state(root: Path = _ROOT) -> str:
    """none, integrity or confidentiality (/sys/kernel/security/lockdown: "[none] integrity")."""
    match = re.search(r"\[(\w+)\]", _line(root / "sys/kernel/security/lockdown"))
    return match[1] if match is not None else "none"


def config(root: Path = _ROOT) -> kernel_config.Config | None:
    """The running kernel's configuration, from /proc/config.gz, else as the distribution
    installed it for the release; None: nowhere."""
    embedded = kernel_config.read(root / "proc/config.gz")
    return embedded or kernel_config.installed(proc.release(root / "proc"), root)


def parameter(cmdline: str, name: str) -> str | None:
    """Value of a kernel parameter, of the last one as the kernel does; "" without "="; None: not
    given. What follows "--" is for init. "-" and "_" are the same."""
    found = None
    for word in cmdline.partition(" -- ")[0].split():
        key, _, value = word.partition("=")
        if key.replace("-", "_") == name.replace("-", "_"):
            found = value.strip('"')
    return found


def _own_image(
    root: Path, release: str, version: str
) -> tuple[str | None, kernel_image.ImageFacts | None]:
    for pattern in _IMAGES:
        path = root / pattern.format(release=release)
        facts = _facts(path, root, release, version)
        if facts is not None:
            return str(_lasting(root, path)), facts
    return None, None


def is_image_of(facts: kernel_image.ImageFacts, release: str, version: str) -> bool:
    """Is it the very build that says this in `uname -r` and `uname -v`?"""
    if facts.release != release or facts.build is None:
        return False
    # The kernel cuts `uname -v` off; the banner of an image may be whole.
    return facts.build == version or (
        len(version) >= _UTS_LENGTH - 1 and facts.build.startswith(version)
    )


def _facts(path: Path, root: Path, release: str, version: str) -> kernel_image.ImageFacts | None:
    """What is inside an image, if it is the running kernel's.

    Its header decides, and unpacking, which takes long, is left out when the configuration says
    that there is no ABI to be found.
    """
    try:
        with files.open_followed(path) as file:
            data = file.read(kernel_image.IMAGE_LIMIT)
    except (OSError, MkupgradeError):
        return None
    facts = kernel_image.header_facts(data)
    if facts.problem is not None or (facts.release and not is_image_of(facts, release, version)):
        return None
    known = config(root)
    if not facts.release or known is None or "CONFIG_KEXEC_HANDOVER" in known:
        _, facts = kernel_image.known_facts(data)
    return facts if is_image_of(facts, release, version) else None


def _own_initrd(root: Path, release: str) -> str | None:
    """Initrds do not say what they belong to: their names do."""
    paths = (root / pattern.format(release=release) for pattern in _INITRDS)
    return next((str(_lasting(root, path)) for path in paths if path.is_file()), None)


def _lasting(root: Path, path: Path) -> Path:
    """What /run/booted-system leads to now: behind a jump it leads to another system, and the way
    back would take that one's files."""
    return path.resolve() if path.is_relative_to(root / _SYSTEM) else path


def _booted_system(root: Path) -> str | None:
    """Where stage 2 of NixOS said that it came from, links followed."""
    try:
        return str((root / _SYSTEM).resolve(strict=True))
    except OSError:
        return None


def _line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
