"""Making an offer of a kernel, and taking it back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.loading import as_written, load_spec
from orchestrator.model.errors import ErrorClass, MkupgradeError, SpecError
from orchestrator.model.spec import Instance, UpgradeSpec
from orchestrator.offers import store
from orchestrator.offers.releases import is_older
from orchestrator.offers.store import Offer
from orchestrator.offers.template import Template
from orchestrator.system import files, kernel_image

_REPLACED = {"image", "initrd", "modules", "release", "sha256", "initrd_sha256"}
_BOOT = Path("/boot")
_MODULES = Path("/lib/modules")
_NOT_ASCII = re.compile(r"[^\n -~]")


@dataclass(frozen=True)
class NewKernel:
    """What a package has brought."""

    release: str
    image: Path
    initrds: Sequence[Path] = ()
    """Where its initrd may be, the likeliest place first; the usual ones are looked at too."""


@dataclass(frozen=True)
class Made:
    """What became of it."""

    offer: Offer
    superseded: str | None
    """The release that was offered for this instance until now."""
    again: bool
    """It was offered before, word for word."""


class NotOfferedError(MkupgradeError):
    """There is a reason not to, and nothing is wrong."""

    code = "not-offered"
    error_class = ErrorClass.REFUSED


def make(
    template: Template,
    kernel: NewKernel,
    *,
    instance: str | None = None,
    running: str | None = None,
    over: Callable[[Offer], bool] = lambda offer: False,
) -> Made:
    """Offer a kernel: write the template's plan with it, in the place of an older offer.

    Args:
        running: the release that the instance runs, where it is known.
        over: is an offer that is there done with? It is superseded, whatever it is.

    Raises:
        NotOfferedError: it runs already, is older than what runs, or than what is offered.
        MkupgradeError: the kernel or the template cannot be used; what was offered is so still.
    """
    target = template.instance(instance)
    if target.kernel.nixos is not None:
        raise SpecError(
            f"the template {store.NO_PACKAGE}",
            where=str(template.path),
            state="nothing was changed",
            next_command="mkupgrade nixos decide",
        )
    state_dir = Path(template.spec.host.state_dir)
    if kernel.release == running:
        raise _not(f"it runs already (another build of Linux {running} is started by a reboot)")
    if running is not None and is_older(kernel.release, running):
        raise _not(f"it is older than Linux {running}, which runs")
    before = _there(store.place(state_dir, target.name))
    if before is not None and _goes_before(before, kernel.release) and not over(before):
        raise _not(f"Linux {before.release} is offered, which is newer")
    text = _text(template, target, kernel)
    again = before is not None and before.path.read_text(encoding="utf-8") == text
    if not again:
        store.write(state_dir, target.name, text)
    offer = store.read(store.place(state_dir, target.name))
    superseded = before.release if before and before.release != offer.release else None
    return Made(offer, superseded, again)


def withdraw(state_dir: Path, release: str) -> list[Offer]:
    """Take back every offer of a release, whose kernel is removed.

    Returns:
        What was offered; none: it was not.

    Raises:
        MkupgradeError: the directory is not ours alone.
    """
    found = [o for o in store.offers(state_dir) if isinstance(o, Offer) and o.release == release]
    for offer in found:
        store.remove(offer.path)
    return found


def withdraw_gone(state_dir: Path) -> list[Offer]:
    """Take back every offer whose image is not there any more, as `withdraw` does."""
    offered = [o for o in store.offers(state_dir) if isinstance(o, Offer)]
    found = [offer for offer in offered if not Path(offer.instance.kernel.wanted_image).exists()]
    for offer in found:
        store.remove(offer.path)
    return found


def _there(path: Path) -> Offer | None:
    """The offer in the way; one that cannot be read is none."""
    try:
        return store.read(path)
    except MkupgradeError:
        return None


def _goes_before(offer: Offer, release: str) -> bool:
    return is_older(release, offer.release) and Path(offer.instance.kernel.wanted_image).exists()


def _text(template: Template, target: Instance, kernel: NewKernel) -> str:
    """The offer as a file: JSON with YAML's escapes, in which nothing can be read another way."""
    data = as_written(template.text)
    names = [instance.name for instance in template.spec.instances]
    described = data["instances"][names.index(target.name)]
    kept = {k: v for k, v in described["kernel"].items() if k not in _REPLACED}
    described["kernel"] = _described(template, target, kernel) | kept
    body = _NOT_ASCII.sub(_escape, json.dumps(data, indent=2, ensure_ascii=False))
    head = (
        "# Made by `mkupgrade offer`: a kernel that a package brought, in the plan of\n"
        f"# {json.dumps(str(template.path))}. Change that one: this file is replaced.\n"
    )
    text = head + body + "\n"
    _hold_to_template(load_spec(text, f"offer of Linux {kernel.release}"), template.spec, target)
    return text


def _escape(match: re.Match[str]) -> str:
    """As YAML 1.2 has it (5.7): JSON's own for what is beyond 16 bits are two, and no Unicode."""
    code = ord(match[0])
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _described(template: Template, target: Instance, kernel: NewKernel) -> dict[str, str]:
    image = kernel.image.absolute()
    found = {"image": str(image), "release": kernel.release}
    if target.kernel.initrd is not None:
        found["initrd"] = str(_initrd(kernel, image))
    if target.kernel.modules is not None:
        found["modules"] = str(_MODULES / kernel.release)
    if template.spec.host.driver == "simulated":
        found["sha256"] = files.sha256_path(image)[0]
        return found
    seen = kernel_image.inspect_image(image)
    if seen.error is not None or seen.sha256 is None:
        raise MkupgradeError(seen.error or "cannot be read", where=str(image))
    if seen.release != kernel.release:
        raise MkupgradeError(
            f"the release string inside is {seen.release}, not {kernel.release}", where=str(image)
        )
    return found | {"sha256": seen.sha256}


def _initrd(kernel: NewKernel, image: Path) -> Path:
    """Its digest is not written down: an initrd is made anew for reasons of its own, and a plan
    records the one that it is made for."""
    names = (f"initrd.img-{kernel.release}", f"initramfs-{kernel.release}.img",
             f"initrd-{kernel.release}")  # fmt: skip
    usual = [directory / name for directory in (image.parent, _BOOT) for name in names]
    looked_at = dict.fromkeys([*(p.absolute() for p in kernel.initrds), *usual])
    for path in looked_at:
        if path.is_file():
            return path
    raise MkupgradeError(
        f"the template has an initrd, and there is none for Linux {kernel.release}",
        details=tuple(f"looked for: {path}" for path in looked_at),
    )


def _hold_to_template(made: UpgradeSpec, template: UpgradeSpec, target: Instance) -> None:
    """But for the kernel, an offer means what the template means."""
    kernel = next(i.kernel for i in made.instances if i.name == target.name)
    wanted = template.model_copy(
        update={
            "instances": [
                i.model_copy(update={"kernel": kernel}) if i.name == target.name else i
                for i in template.instances
            ]
        }
    )
    if made.digest() != wanted.digest():
        raise MkupgradeError(
            "the plan with the new kernel does not mean what the template means",
            error_class=ErrorClass.BUG,
        )


def _not(why: str) -> NotOfferedError:
    return NotOfferedError(why, state="nothing was changed")
