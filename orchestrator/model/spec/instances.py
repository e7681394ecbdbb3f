"""Instances: a running kernel and what it runs on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.model.base import Strict
from orchestrator.model.quantities import Size
from orchestrator.model.spec.names import AbsolutePath, Name

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Parameter = Annotated[str, Field(pattern=r"^[^\s\"\x00]+(\"[^\"\x00]*\")?$", max_length=512)]
"""One kernel parameter: "quiet", "root=/dev/vda"."""


class Kernel(Strict):
    """The wanted kernel."""

    image: AbsolutePath
    """bzImage or PE/EFI stub image, as `kexec_file_load` takes it."""
    initrd: AbsolutePath | None = None
    modules: AbsolutePath | None = None
    """Directory of the kernel's modules; checked to exist."""
    release: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^\S+$")]
    """What `uname -r` must say afterwards; must also be the string inside the image."""
    sha256: Sha256 | None = None
    """Digest of `image`; when absent the plan records the one it saw and holds the host to it."""
    initrd_sha256: Sha256 | None = None
    signature: Literal["required", "if-enforced", "none"] = "if-enforced"
    """Must the image carry a PE signature?"""


class CommandLine(Strict):
    """The kernel command line, from the running one (`inherit`) and edits."""

    inherit: bool = True
    append: list[Parameter] = []
    remove: list[Parameter] = []
    """Parameters to drop: "quiet" or "console=ttyS0" exactly, or "console=" for every value."""


class Resources(Strict):
    """CPUs, memory and devices, for drivers that place instances side by side."""

    cpus: Annotated[int, Field(ge=1)] | None = None
    memory: Size | None = None
    devices: list[str] = []


class Instance(Strict):
    """A kernel instance. On a host with one kernel there is one: the host itself."""

    name: Name
    kernel: Kernel
    cmdline: CommandLine = CommandLine()
    resources: Resources | None = None
    after: list[Name] = []
    """Instances that must be upgraded before this one."""
