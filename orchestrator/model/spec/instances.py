"""Instances: a running kernel and what it runs on."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from orchestrator.model.base import Strict
from orchestrator.model.quantities import Size
from orchestrator.model.spec.checks import Check, KernelCheck, SystemdCheck
from orchestrator.model.spec.names import AbsolutePath, Name, matching

Sha256 = Annotated[
    str, matching(r"^[0-9a-f]{64}$", "a SHA-256 digest: 64 digits 0-9 a-f in lower case")
]
Parameter = Annotated[
    str,
    matching(
        r"^[^\s\"\x00]+(\"[^\"\x00]*\")?$",
        'one kernel parameter without spaces (or key="with spaces")',
        max_length=512,
    ),
]
"""One kernel parameter: "quiet", "root=/dev/vda"."""


_NOT_LOOKED_UP = "the kernel of a NixOS system that was not looked up on a host"


class NixosKernel(Strict):
    """The kernel of a NixOS system on this host: `system`, or `profile` and `generation`, or
    `flake`. Image, initrd, modules, release and command line come from its boot.json."""

    system: AbsolutePath | None = None
    """The system itself, a path of the store or a link to one."""
    profile: (
        Annotated[
            str,
            matching(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", "a profile, such as system"),
        ]
        | None
    ) = None
    """What this profile leads to: "system", or one of `nixos-rebuild --profile-name`."""
    generation: Annotated[int, Field(ge=1, le=999999999)] | None = None
    """This generation of the profile; without `profile`, of system."""
    flake: (
        Annotated[
            str,
            matching(
                r"^[A-Za-z0-9/][^#\s\x00\"]{0,4095}#[A-Za-z0-9_.-]{1,253}$",
                "a flake and a host in it, such as /etc/nixos#web; not a relative path, which "
                "would be another one wherever the plan is made",
            ),
        ]
        | None
    ) = None
    """A host's system in a flake; it is built when a plan is made, and the plan keeps to it."""
    specialisation: (
        Annotated[str, matching(r"^[A-Za-z0-9+._?=-]{1,211}$", "a name of a specialisation")] | None
    ) = None
    """This specialisation of the system."""

    @model_validator(mode="after")
    def _one_system(self) -> NixosKernel:
        of_profile = self.profile is not None or self.generation is not None
        if [self.system is not None, of_profile, self.flake is not None].count(True) != 1:
            raise ValueError("exactly one of system, profile (or generation), flake")
        return self


class Kernel(Strict):
    """The wanted kernel: `image` and `release`, or `nixos`."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["image", "release"]}, {"required": ["nixos"]}]}
    )

    image: AbsolutePath | None = None
    """bzImage or PE/EFI stub image, as `kexec_file_load` takes it. Required without `nixos`."""
    initrd: AbsolutePath | None = None
    """Initial RAM disk, if the kernel needs one."""
    initrd_secrets: AbsolutePath | None = None
    """A program that appends secrets to a private copy of `initrd`, whose path it is given; the
    copy is what is loaded. Comes from `nixos`."""
    modules: AbsolutePath | None = None
    """Directory of the kernel's modules; checked to exist."""
    release: (
        Annotated[str, matching(r"^[!-~]{1,64}$", "a kernel release as `uname -r` prints it")]
        | None
    ) = None
    """What `uname -r` must say afterwards; must also be the string inside the image. Required
    without `nixos`."""
    sha256: Sha256 | None = None
    """Digest of `image`; when absent the plan records the one it saw and holds the host to it."""
    initrd_sha256: Sha256 | None = None
    """Digest of `initrd`."""
    signature: Literal["required", "if-enforced", "none"] = "if-enforced"
    """Must the image carry a PE signature? `if-enforced`: if the running kernel demands it."""
    toplevel: AbsolutePath | None = None
    """The NixOS system that these files are of: what /run/booted-system must lead to afterwards.
    Comes from `nixos`."""
    nixos: NixosKernel | None = None
    """A NixOS system on this host, in the place of image, initrd, initrd_secrets, modules, release
    and toplevel."""

    @model_validator(mode="after")
    def _files_or_a_system(self) -> Kernel:
        taken = ("image", "initrd", "initrd_secrets", "modules", "release", "toplevel")
        if self.nixos is not None:
            for key in taken:
                if getattr(self, key) is not None:
                    raise ValueError(f"{key} comes from nixos: one of them")
            return self
        for key in ("image", "release"):
            if getattr(self, key) is None:
                raise ValueError(f'required key "{key}" is missing')
        for key in ("initrd_sha256", "initrd_secrets"):
            if getattr(self, key) is not None and self.initrd is None:
                raise ValueError(f"{key} needs initrd")
        return self

    @property
    def wanted_image(self) -> PurePosixPath:
        """`image`: all that is planned has one."""
        if self.image is None:
            raise ValueError(_NOT_LOOKED_UP)
        return self.image

    @property
    def wanted_release(self) -> str:
        """`release`: all that is planned has one."""
        if self.release is None:
            raise ValueError(_NOT_LOOKED_UP)
        return self.release


class CommandLine(Strict):
    """The kernel command line, from the running one (`inherit`) and edits."""

    inherit: bool = True
    """Begin with the running kernel's own command line; false: with nothing. With kernel.nixos:
    with the system's own; false: with its `init=` alone."""
    append: list[Parameter] = []
    """Parameters to add at the end."""
    remove: list[Parameter] = []
    """Parameters to drop: "quiet" or "console=ttyS0" exactly, or "console=" for every value."""


class Resources(Strict):
    """CPUs, memory and devices, for drivers that place instances side by side."""

    cpus: Annotated[int, Field(ge=1)] | None = None
    """Number of CPUs."""
    memory: Size | None = None
    """Memory, such as "512MiB"."""
    devices: list[str] | None = None
    """Devices, by the driver's own names (PCI addresses, such as "0000:00:05.0"); default: those
    that the instance has."""


class InstanceAgent(Strict):
    """`mkupgrade agent` runs in the instance, says when it is ready, and with `--work` carries its
    workloads of methods criu and hooks. Its key comes with the initrd, as
    /etc/mkupgrade/agent.key."""

    port: Annotated[int, Field(ge=1, lt=1024)] = 1022
    """Where it listens, by vsock."""


class Instance(Strict):
    """A kernel instance. On a host with one kernel there is one: the host itself."""

    name: Name
    """How workloads and other instances call it."""
    kernel: Kernel
    """The wanted kernel."""
    cmdline: CommandLine = CommandLine.model_construct()
    """Its command line."""
    resources: Resources | None = None
    """CPUs, memory and devices; for drivers that place instances side by side."""
    agent: InstanceAgent | None = None
    """The agent in it, for drivers that place instances side by side; needs kernel.initrd."""
    ready: list[Check] = []
    """Checks of kinds http, tcp, command and file that tell from the host when a new generation is
    ready, each `within` its time; commands get $MKUPGRADE_INSTANCE. For drivers that place
    instances side by side."""
    after: list[Name] = []
    """Instances that must be upgraded before this one."""

    @model_validator(mode="after")
    def _key_of_the_agent(self) -> Instance:
        kernel = self.kernel
        if self.agent is not None and kernel.initrd is None and kernel.nixos is None:
            raise ValueError("agent needs kernel.initrd: its key comes in it")
        return self

    @model_validator(mode="after")
    def _ready_is_of_the_instance(self) -> Instance:
        for check in self.ready:
            if isinstance(check, SystemdCheck | KernelCheck):
                raise ValueError(f"ready: {check.name} is of the host's own kernel ({check.kind})")
            if check.when != type(check).model_fields["when"].default:
                raise ValueError(f"ready: {check.name} has no `when`: it is waited for once")
        return self
