"""`kernel: {nixos: …}` of a spec into what the system's boot.json says, before anything is planned.

The planner knows files and a command line. So a spec that names a NixOS system is turned into one
that names its files, and the system that /run/booted-system must lead to. A profile or generation
is looked up once: a saved plan keeps to the system that it was made for.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from orchestrator.model.parameters import is_removed, split_parameters
from orchestrator.model.spec import CommandLine, Instance, Kernel, UpgradeSpec
from orchestrator.model.spec.instances import NixosKernel
from orchestrator.nixos import building, systems
from orchestrator.nixos.building import Tell
from orchestrator.nixos.errors import UNCHANGED, BootspecError
from orchestrator.nixos.systems import Places, System
from orchestrator.system import kernel_image

_END = "--"


def resolve(
    spec: UpgradeSpec, places: Places | None = None, build: Tell | None = None
) -> UpgradeSpec:
    """The spec with every NixOS system that it names looked up on this host; else as it is.

    Args:
        build: of a flake: have it built, telling what nix says; None: refuse to.

    Raises:
        NotSupportedError: a flake was to be built.
        ToolError: it does not evaluate or build.
        NotASystemError, BootspecError: the system is not there, or cannot be used.
    """
    if all(instance.kernel.nixos is None for instance in spec.instances):
        return spec
    found = [_instance(instance, places or systems.REAL, build) for instance in spec.instances]
    return spec.model_copy(update={"instances": found})


def find(wanted: NixosKernel, places: Places, build: Tell | None = None) -> System:
    """The system that a spec names.

    Raises:
        As `resolve`.
    """
    if wanted.system is not None:
        path = wanted.system
    elif wanted.flake is not None:
        if build is None:
            raise building.not_built(wanted.flake)
        systems.booted(places)  # elsewhere nothing is built in vain
        path = building.build(places, wanted.flake, build)
    else:
        path = systems.of_profile(places, wanted.profile, wanted.generation)
    return systems.read_system(places, path, wanted.specialisation)


def _instance(instance: Instance, places: Places, build: Tell | None) -> Instance:
    wanted = instance.kernel.nixos
    if wanted is None:
        return instance
    system = find(wanted, places, build)
    boot = system.boot
    given = instance.kernel.model_dump(exclude={"nixos"}, exclude_unset=True)
    files: dict[str, Any] = {
        "image": boot.kernel,
        "initrd": boot.initrd,
        "initrd_secrets": boot.initrdSecrets,
        "modules": _modules(system, places),
        "release": _release(system, places),
        "toplevel": PurePosixPath(system.toplevel),
    }
    try:
        kernel = Kernel.model_validate(given | files)
        cmdline = _command_line(instance.cmdline, system)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise BootspecError(
            f"no plan can hold what it says: {problem['loc']}: {problem['msg']}",
            where=system.toplevel,
            state=UNCHANGED,
        ) from None
    return instance.model_copy(update={"kernel": kernel, "cmdline": cmdline})


def _command_line(edits: CommandLine, system: System) -> CommandLine:
    """The system's own parameters, edited as the spec has it; `init=` is never taken away."""
    own = split_parameters(" ".join(system.boot.kernelParams)) if edits.inherit else []
    if _END in own:
        raise BootspecError(
            f'its parameters have arguments for init ("{_END}"), which no plan can hold',
            where=system.toplevel,
            state=UNCHANGED,
        )
    kept = [word for word in own if not is_removed(word, edits.remove)]
    init = f"init={system.boot.init}"
    return CommandLine.model_validate({"inherit": False, "append": [init, *kept, *edits.append]})


def _modules(system: System, places: Places) -> PurePosixPath | None:
    """Their directory, where it is a whole one: a kernel without modules has none."""
    if system.modules is None or system.release is None:
        return None
    directory = PurePosixPath(system.modules) / "lib/modules" / system.release
    found = places.tree.target(directory / "modules.dep")
    return directory if found is not None else None


def _release(system: System, places: Places) -> str:
    if system.release is not None:
        return system.release
    image = kernel_image.inspect_image(Path(places.tree.outside(system.boot.kernel)))
    if image.release is None:
        raise BootspecError(
            "its kernel's release is not known: it has no modules, and "
            f"{image.error or 'the image does not say it'}",
            where=str(system.boot.kernel),
            state=UNCHANGED,
        )
    return image.release
