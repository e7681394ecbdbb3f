"""Do the files that the spec names hold what it says? Everything wrong at once."""

from __future__ import annotations

from orchestrator.model.host import Artifact, HostState
from orchestrator.model.spec import Instance, Kernel
from orchestrator.planning.problems import Problems


def check_artifacts(instance: Instance, host: HostState, problems: Problems) -> None:
    """Add a line for everything that is wrong with image, initrd and modules."""
    kernel = instance.kernel
    image = usable(str(kernel.image), host, problems)
    if image is not None:
        _check_image(image, kernel, host, problems)
    if kernel.initrd is not None:
        initrd = usable(str(kernel.initrd), host, problems)
        if initrd is not None:
            _check_sha256(initrd, kernel.initrd_sha256, problems)
    elif kernel.initrd_sha256 is not None:
        problems.add(
            f"instances.{instance.name}.kernel.initrd_sha256", "is given, but no initrd is named"
        )
    if kernel.modules is not None:
        usable(str(kernel.modules), host, problems)


def signature_problem(artifact: Artifact, kernel: Kernel, host: HostState) -> str | None:
    """Why the image's signature, or the lack of one, does not do."""
    if artifact.pe_signed:
        return None
    if kernel.signature == "required":
        return "carries no PE signature, and the spec requires one"
    if kernel.signature == "if-enforced" and host.signature_enforced:
        return "carries no PE signature, and the running kernel loads signed images only"
    return None


def _check_image(image: Artifact, kernel: Kernel, host: HostState, problems: Problems) -> None:
    _check_sha256(image, kernel.sha256, problems)
    if image.release is None:
        problems.add(image.path, f"no release string inside; the spec says {kernel.release}")
    elif image.release != kernel.release:
        problems.add(
            image.path,
            f"the release string inside is {image.release}, but the spec says {kernel.release}",
        )
    unsigned = signature_problem(image, kernel, host)
    if unsigned:
        problems.add(image.path, unsigned)


def usable(path: str, host: HostState, problems: Problems) -> Artifact | None:
    """A file as it was read; None: it was not, or badly, and a line says so."""
    artifact = host.artifacts.get(path)
    if artifact is None:
        problems.add(path, f"driver {host.driver} did not look at it")
        return None
    if artifact.error is not None:
        problems.add(path, artifact.error)
        return None
    if artifact.sha256 is None and artifact.kind != "modules":
        problems.add(path, f"driver {host.driver} reported no digest of it")
        return None
    return artifact


def _check_sha256(artifact: Artifact, wanted: str | None, problems: Problems) -> None:
    if wanted is not None and artifact.sha256 != wanted:
        problems.add(artifact.path, f"sha256 is {artifact.sha256}, but the spec says {wanted}")
