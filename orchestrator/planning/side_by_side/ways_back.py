"""Can an old generation that goes before the commit be made again as it was? Asked before anything
starts."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.model.host import Artifact, HostState, InstanceState
from orchestrator.model.params.side_by_side import LoadedImage
from orchestrator.model.spec import UpgradeSpec
from orchestrator.planning import cmdline
from orchestrator.planning.artifacts import usable
from orchestrator.planning.problems import Problems

IMAGE_MARK = "mkupgrade.image="
"""Kernel parameter with the first digits of the image's SHA-256: /proc/kimage gives back the
command line of what is loaded and not the image, and nobody tells the release of an instance."""
_DIGITS = 16


def image_mark(image: Artifact) -> str:
    """As on the command line."""
    return f"{IMAGE_MARK}{(image.sha256 or '')[:_DIGITS]}"


def ways_back(
    going: Mapping[str, InstanceState], spec: UpgradeSpec, host: HostState, problems: Problems
) -> dict[str, LoadedImage]:
    """What each generation that goes is loaded with again, by instance of the spec."""
    if not going:
        return {}
    old = spec.rollback.kernel
    if old is None:
        names = ", ".join(it.name for it in going.values())
        problems.add(
            "rollback.kernel",
            f"is needed: strategy {spec.strategy.kind} takes {names} away before the commit, and "
            "the kernel does not give back an image that is loaded; name the old image and initrd",
        )
        return {}
    image = usable(str(old.image), host, problems)
    initrd = usable(str(old.initrd), host, problems) if old.initrd else None
    if image is None or (old.initrd and initrd is None):
        return {}
    if image.release is None:
        problems.add(image.path, "no release string inside")
    found = {}
    for name, state in going.items():
        why_not = _why_not(state, image)
        if why_not is not None:
            problems.add(f"instances.{name}", f"{state.name} could not come back: {why_not}")
            continue
        found[name] = LoadedImage(
            image=image.path,
            image_sha256=image.sha256 or "",
            initrd=initrd.path if initrd else None,
            cmdline=(state.cmdline or "").strip(),
            agent=state.agent if initrd else None,
        )
    return found


def _why_not(state: InstanceState, image: Artifact) -> str | None:
    if state.not_remade is not None:
        return state.not_remade
    if state.cmdline is None:
        return "its command line is not known (/proc/kimage)"
    marks = [w for w in cmdline.split(state.cmdline).kernel if w.startswith(IMAGE_MARK)]
    if marks and marks[-1] != image_mark(image):
        return (
            f"it runs the image with SHA-256 {marks[-1].removeprefix(IMAGE_MARK)}…, and "
            f"{image.path} (rollback.kernel) is {(image.sha256 or '')[:_DIGITS]}…"
        )
    return None
