"""Offers as they are made: of a kernel that is named, and of the newest that is installed."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cli.next_command import DEFAULT_STATE_DIR, remember_state_dir
from orchestrator.model.errors import MkupgradeError

if TYPE_CHECKING:
    from orchestrator.model.spec import UpgradeSpec
    from orchestrator.offers.offering import NewKernel
    from orchestrator.offers.template import Template

_NOT_OF_INSTANCES = (
    "instances have kernels of their own: `mkupgrade offer RELEASE IMAGE` offers one for them"
)

Told = tuple[dict[str, Any], str]
"""What was done, as `--json` has it, and in one line."""


def offer_one(kernel: NewKernel, named: Path | None, instance: str | None) -> Told:
    """Offer a kernel, or say why it is not offered.

    Args:
        named: the template, if it is another than the host's own.

    Raises:
        MkupgradeError: kernel or template cannot be used; what was offered is so still.
    """
    from orchestrator.cli.offered import is_committed
    from orchestrator.cli.wiring import identity_at
    from orchestrator.offers import offering, template

    found: dict[str, Any] = {"offered": False, "release": kernel.release}
    try:
        read = template.read(named)
        state_dir = Path(read.spec.host.state_dir)
        remember_state_dir(state_dir)
        beside = _has_instances(read.spec)
        running = None if beside else identity_at(state_dir).release
        made = offering.make(
            read, kernel, instance=instance, running=running,
            over=lambda offer: is_committed(state_dir, offer),
        )  # fmt: skip
    except (offering.NotOfferedError, template.NoTemplateError) as error:
        found |= {"why": error.what, "error": error.as_dict()}
        line = f"not offered: {error.what}{_then(read_from=named, error=error)}"
    else:
        kept = None if running is None else _keep_default(read, running, kernel.release)
        command = f"mkupgrade apply {shlex.quote(str(made.offer.path))}"
        found |= {
            "offered": True,
            "instance": made.offer.instance.name,
            "plan": str(made.offer.path),
            "superseded": made.superseded,
            "again": made.again,
            "boot_default": kept,
            "next_command": command,
        }
        instead = f" instead of Linux {made.superseded}" if made.superseded else ""
        still = "still offered" if made.again else "offered"
        line = f"{still} for instance {made.offer.instance.name}{instead}: {command}"
        line += f"; {kept}" if kept else ""
    return found, f"Linux {kernel.release}: {line}"


def offer_installed(named: Path | None, instance: str | None, state_dir: Path) -> Told:
    """Bring offers and installed kernels together: an offer whose image is gone is withdrawn, and
    the newest kernel is offered that is installed, and newer than what runs.

    Returns:
        The line is the one to end with: what waits now, else what was withdrawn; empty: nothing
        waits and nothing was done. `why` says then why.

    Raises:
        MkupgradeError: as `offer_one`.
    """
    from orchestrator.cli.wiring import identity_at
    from orchestrator.offers import installed, offering, template

    gone = offering.withdraw_gone(state_dir)
    line = "; ".join(f"Linux {o.release}: not offered any more: its image is gone" for o in gone)
    found: dict[str, Any] = {"offered": False}
    running: str | None = identity_at(state_dir).release
    try:
        if _has_instances(template.read(named).spec):
            running, found["why"] = None, _NOT_OF_INSTANCES
    except template.NoTemplateError as error:
        found["why"] = f"{error.what}{_then(read_from=named, error=error)}"
    if "why" not in found and running is not None:
        found["why"] = f"no kernel is installed that is newer than Linux {running}, which runs"
        kernel = installed.newest(installed.kernels(installed.REAL), running)
        if kernel is not None:
            found, said = offer_one(kernel, named, instance)
            line = said if found["offered"] else line
    found["withdrawn"] = [str(offer.path) for offer in gone]
    return found, _waiting(state_dir, running, found.get("plan")) or line


def _waiting(state_dir: Path, running: str | None, made: str | None) -> str:
    """The offer that waits beside the one that was `made` well, which has its own line."""
    from orchestrator.cli.offered import waiting

    if not (state_dir / "offers").is_dir():
        return ""
    found = waiting(state_dir, running)
    if any(offer.path == made and offer.problem is None for offer in found):
        return ""
    for offer in found:
        what = offer.path if offer.release is None else f"Linux {offer.release}"
        state = f"offered, but {offer.problem}" if offer.problem else "still offered"
        then = f": {offer.next_command}" if offer.next_command else ""
        return f"{what}: {state}{then}"
    return ""


def state_dir_of(named: Path | None, given: Path) -> Path:
    """The one of the template, unless another than the default is given."""
    if str(given) == DEFAULT_STATE_DIR:
        from orchestrator.offers import template

        try:
            given = Path(template.read(named).spec.host.state_dir)
        except MkupgradeError:
            return given  # removed, or damaged since: what was offered can still go
        remember_state_dir(given)
    return given


def _then(read_from: Path | None, error: MkupgradeError) -> str:
    from orchestrator.offers.template import REAL, NoTemplateError

    if not isinstance(error, NoTemplateError):
        return ""
    path = shlex.quote(str(read_from or REAL.path))
    return f", and check it with `mkupgrade validate {path}`"


def _keep_default(read: Template, running: str, offered: str) -> str | None:
    """Of a pretend host there is no boot loader."""
    if read.spec.host.driver == "simulated":
        return None
    from orchestrator.offers import boot_default
    from orchestrator.system.guard import HostGuard

    try:
        return boot_default.keep(running, offered, HostGuard.open())
    except (MkupgradeError, OSError) as error:
        return f"the boot loader's default was not looked at: {error}"


def _has_instances(spec: UpgradeSpec) -> bool:
    """Do its instances run kernels of their own, beside the host's?"""
    if spec.host.driver != "auto":
        return spec.host.driver == "multikernel"
    from orchestrator.cli.wiring import runs_multikernel

    return runs_multikernel()
