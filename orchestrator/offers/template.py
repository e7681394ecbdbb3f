"""The template: the plan by which this host takes a new kernel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.loading import limits, load_spec
from orchestrator.loading.source import decode, read_source
from orchestrator.model.errors import ErrorClass, MkupgradeError, SpecError
from orchestrator.model.spec import Instance, UpgradeSpec
from orchestrator.system import trusted
from orchestrator.system.trusted import Trust


@dataclass(frozen=True)
class Place:
    """Where the template is; anything but `REAL` is for tests."""

    path: Path = Path("/etc/mkupgrade/plan.yaml")
    trust: Trust = trusted.ROOT_ONLY


REAL: Final = Place()


class NoTemplateError(MkupgradeError):
    """This host has none, so that nothing is offered."""

    code = "no-template"
    error_class = ErrorClass.INVALID


@dataclass(frozen=True)
class Template:
    """A whole plan, as `mkupgrade apply` takes it; the kernel in it is replaced."""

    path: Path
    text: str
    spec: UpgradeSpec

    def instance(self, name: str | None) -> Instance:
        """The instance that is meant: by name, or the only one.

        Raises:
            SpecError: there is no such instance, or there are several and none is named.
        """
        found = [i for i in self.spec.instances if name in {None, i.name}]
        if len(found) == 1:
            return found[0]
        names = ", ".join(i.name for i in self.spec.instances)
        what = f"no instance {name}" if name is not None else "several instances"
        raise SpecError(
            f"the template has {what} ({names}): --instance says which one gets the kernel",
            where=str(self.path),
            state="nothing was changed",
        )


def read(named: Path | None = None) -> Template:
    """The template of this host.

    What begins by itself must be root's word alone: /etc/mkupgrade/plan.yaml is held to what
    StrictModes asks (`system.trusted`). A file that somebody names is read as `apply` reads it.

    Raises:
        NoTemplateError: there is none. UntrustedPathError: others than root could change it.
        SpecError, InvalidSpecError: it cannot be used.
    """
    path = named or REAL.path
    try:
        if named is None:
            text = decode(trusted.read(path, limits.MAX_BYTES, REAL.trust), str(path))
        else:
            named.stat()
            text = read_source(path)
    except (FileNotFoundError, NotADirectoryError):
        raise NoTemplateError(
            f"there is no template {path}; to make one, write a plan there as for "
            f"`mkupgrade apply`, with the kernel that runs now",
            where=str(path),
            state="nothing was changed",
            next_command="mkupgrade validate",
        ) from None
    return Template(path, text, load_spec(text, str(path)))
