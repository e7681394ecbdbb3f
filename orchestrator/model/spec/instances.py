"""Instances: a running kernel and what it runs on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

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


class Kernel(Strict):
    """The wanted kernel."""

    image: AbsolutePath
    """bzImage or PE/EFI stub image, as `kexec_file_load` takes it."""
    initrd: AbsolutePath | None = None
    """Initial RAM disk, if the kernel needs one."""
    modules: AbsolutePath | None = None
    """Directory of the kernel's modules; checked to exist."""
    release: Annotated[str, matching(r"^[!-~]{1,64}$", "a kernel release as `uname -r` prints it")]
    """What `uname -r` must say afterwards; must also be the string inside the image."""
    sha256: Sha256 | None = None
    """Digest of `image`; when absent the plan records the one it saw and holds the host to it."""
    initrd_sha256: Sha256 | None = None
    """Digest of `initrd`."""
    signature: Literal["required", "if-enforced", "none"] = "if-enforced"
    """Must the image carry a PE signature? `if-enforced`: if the running kernel demands it."""

    @model_validator(mode="after")
    def _digest_of_something(self) -> Kernel:
        if self.initrd_sha256 is not None and self.initrd is None:
            raise ValueError("initrd_sha256 needs initrd")
        return self


class CommandLine(Strict):
    """The kernel command line, from the running one (`inherit`) and edits."""

    inherit: bool = True
    """Begin with the running kernel's own command line; false: with nothing."""
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
        if self.agent is not None and self.kernel.initrd is None:
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
