"""The way back to the old kernel: by a jump where its image is at hand, else by a reset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.model.host import Artifact, Cap, HostState
from orchestrator.model.spec import UpgradeSpec
from orchestrator.planning import cmdline
from orchestrator.planning.problems import Problems


@dataclass(frozen=True)
class WayBack:
    """How section `return` gets to the old kernel."""

    method: Literal["kexec", "reset"]
    cmdline: str
    image: str | None = None
    initrd: str | None = None
    image_sha256: str = ""
    initrd_secrets: str | None = None
    why: str = ""
    """For `reset`: why it is no jump."""


def choose(spec: UpgradeSpec, host: HostState, *, kho: bool, problems: Problems) -> WayBack:
    """Decide, and add a problem where the spec names an old kernel that cannot be it."""
    words = cmdline.completed(
        cmdline.inherited(host.kernel.cmdline),
        panic_timeout=spec.rollback.panic_timeout,
        kho=kho,
    )
    line = str(words)
    named = spec.rollback.kernel
    image = str(named.image) if named else host.kernel.image
    initrd = str(named.initrd) if named and named.initrd else None
    if named is None:
        initrd = host.kernel.initrd
    secrets = host.kernel.initrd_secrets if named is None else None
    why = _why_not(image, initrd, host) or _no_digest(initrd, secrets, host)
    if why is None and not cmdline.fits(words):
        why = "its command line leaves no room for the transaction's mark"
    if why is None and image is not None:
        digest = host.artifacts[image].sha256 or ""
        return WayBack("kexec", line, image, initrd, digest, secrets)
    if named is not None:
        problems.add("rollback.kernel", why or "cannot be used")
    return WayBack("reset", line, why=why or "it is not known")


def _no_digest(initrd: str | None, secrets: str | None, host: HostState) -> str | None:
    """Secrets are appended to no initrd but the one that was seen."""
    found = host.artifacts.get(initrd) if initrd is not None else None
    if secrets is None or (found is not None and found.sha256 is not None):
        return None
    return f"its initrd needs secrets, and driver {host.driver} reported no digest of {initrd}"


def _why_not(image: str | None, initrd: str | None, host: HostState) -> str | None:
    cap = host.can(Cap.OLD_KERNEL)
    if not cap.available:
        return cap.reason
    if image is None:
        return f"driver {host.driver} did not say where the running kernel's image is"
    artifact = host.artifacts.get(image)
    if artifact is None or (artifact.error is None and artifact.sha256 is None):
        return f"driver {host.driver} reported no digest of {image}"
    return _unfit(artifact, host) or _unfit_initrd(initrd, host)


def _unfit(image: Artifact, host: HostState) -> str | None:
    if image.error is not None:
        return f"{image.path}: {image.error}"
    if image.release is not None and image.release != host.kernel.release:
        return f"{image.path} holds Linux {image.release}, but {host.kernel.release} is running"
    if host.signature_enforced and not image.pe_signed:
        return f"{image.path} carries no PE signature, and the kernel loads signed images only"
    return None


def _unfit_initrd(initrd: str | None, host: HostState) -> str | None:
    artifact = host.artifacts.get(initrd) if initrd else None
    if artifact is not None and artifact.error is not None:
        return f"{artifact.path}: {artifact.error}"
    return None
