"""`offer`: a kernel that a package has brought becomes a plan that waits."""

from __future__ import annotations

import shlex
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.command import Call, state_dir_named, verb
from orchestrator.cli.next_command import DEFAULT_STATE_DIR, remember_state_dir
from orchestrator.cli.terminal import clean
from orchestrator.model.errors import ErrorClass, MkupgradeError
from orchestrator.model.outcomes import ExitCode

if TYPE_CHECKING:
    from orchestrator.model.spec import UpgradeSpec
    from orchestrator.offers.offering import NewKernel
    from orchestrator.offers.template import Template
    from orchestrator.offers.window import Window


def _window(context: click.Context, parameter: click.Parameter, value: str | None) -> Window | None:
    from orchestrator.offers.window import Window

    try:
        return Window.parse(value) if value else None
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


@verb(
    "offer",
    examples="""
    mkupgrade offer 7.3.4 /boot/vmlinuz-7.3.4
    mkupgrade offer 7.3.4 /boot/vmlinuz-7.3.4 --template /srv/plans/web.yaml --instance web
    mkupgrade offer --withdraw 7.3.4
    mkupgrade offer --apply --window 02:00-05:00     # what mkupgrade-offer.timer does
    """,
)
@click.argument("release", metavar="[RELEASE", required=False)
@click.argument("image", metavar="IMAGE]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--initrd",
    "initrds",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Where its initrd may be, before the usual places; the first that is there is taken.",
)
@click.option(
    "--template",
    metavar="PLAN.yaml",
    envvar="MKUPGRADE_TEMPLATE",
    type=click.Path(path_type=Path),
    help="The plan to put the kernel into; default /etc/mkupgrade/plan.yaml; also "
    "MKUPGRADE_TEMPLATE.",
)
@click.option("--instance", metavar="NAME", help="Which instance of the template gets it.")
@click.option("--withdraw", metavar="RELEASE", help="Take the offer of this kernel back.")
@click.option("--apply", "applied", is_flag=True, help="Carry out what is offered, unasked.")
@click.option(
    "--window",
    metavar="HH:MM-HH:MM",
    envvar="MKUPGRADE_WINDOW",
    callback=_window,
    help="With --apply: only at these times of the day; also MKUPGRADE_WINDOW.",
)
@click.option(
    "--hook",
    is_flag=True,
    help="For a package manager's hook: one line, and exit code 0 whatever happens.",
)
@state_dir_named("Where offers are, if no template says so; also MKUPGRADE_STATE_DIR.")
def offer(
    call: Call,
    *,
    release: str | None,
    image: Path | None,
    initrds: tuple[Path, ...],
    template: Path | None,
    instance: str | None,
    withdraw: str | None,
    applied: bool,
    window: Window | None,
    hook: bool,
    state_dir: Path,
) -> ExitCode:
    """Offer a kernel: write the host's template plan with it, for `mkupgrade apply`.

    Called by the hooks of package managers when a kernel comes, and with --withdraw when it goes.
    An offer takes the place of an older one, and `mkupgrade status` shows it with the command
    that carries it out. A kernel that runs, or that is older than what runs, is not offered.
    With --apply, what is offered is carried out; exit code 6 outside of the window.
    """
    modes = [image is not None, withdraw is not None, applied]
    if sum(modes) != 1 or (release is None) is not (image is None):
        raise click.UsageError("give RELEASE and IMAGE, or --withdraw RELEASE, or --apply")
    if applied:
        return _apply(call, template, state_dir, window)
    try:
        if withdraw is not None:
            return _withdraw(call, withdraw, _state_dir(template, state_dir))
        from orchestrator.offers.offering import NewKernel

        assert release is not None and image is not None  # noqa: S101 - by the modes
        return _make(call, NewKernel(release, image, initrds), template, instance)
    except Exception as error:
        if not hook:
            raise
        _tell_hook(call, release or withdraw or "", error)
        return ExitCode.DONE


def _make(call: Call, kernel: NewKernel, named: Path | None, instance: str | None) -> ExitCode:
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
    _tell(call, found, f"Linux {kernel.release}: {line}")
    return ExitCode.DONE


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


def _withdraw(call: Call, release: str, state_dir: Path) -> ExitCode:
    from orchestrator.offers import offering

    gone = offering.withdraw(state_dir, release)
    found = {"release": release, "withdrawn": [str(offer.path) for offer in gone]}
    _tell(call, found, f"Linux {release}: {'not offered any more' if gone else 'was not offered'}")
    return ExitCode.DONE


def _apply(call: Call, named: Path | None, state_dir: Path, window: Window | None) -> ExitCode:
    from orchestrator.cli.standing import standing
    from orchestrator.cli.verbs.apply import apply_file

    if window is not None and not window.holds(datetime.now().astimezone().time()):
        _tell(call, {"applied": [], "window": str(window)}, f"Outside of the window {window}.")
        return ExitCode.WAITING
    found = standing(_state_dir(named, state_dir)).offers
    for offered in found:
        if offered.release is None:
            call.note(f"{clean(offered.path)}: {clean(offered.problem)}")
    waiting = [offered for offered in found if offered.release is not None]
    if not waiting:
        _tell(call, {"applied": []}, "Nothing is offered.")
    for offered in waiting:
        code = apply_file(call, Path(offered.path), yes=True)
        if code is not ExitCode.DONE:
            return code
    return ExitCode.DONE


def _state_dir(named: Path | None, given: Path) -> Path:
    """The one of the template, unless another than the default is given."""
    if str(given) == DEFAULT_STATE_DIR:
        from orchestrator.offers import template

        try:
            given = Path(template.read(named).spec.host.state_dir)
        except MkupgradeError:
            return given  # removed, or damaged since: what was offered can still go
        remember_state_dir(given)
    return given


def _has_instances(spec: UpgradeSpec) -> bool:
    """Do its instances run kernels of their own, beside the host's?"""
    if spec.host.driver != "auto":
        return spec.host.driver == "multikernel"
    from orchestrator.cli.wiring import runs_multikernel

    return runs_multikernel()


def _tell(call: Call, found: dict[str, Any], line: str) -> None:
    if call.json:
        call.out_json(found)
    else:
        call.out(clean(line))


def _tell_hook(call: Call, release: str, error: Exception) -> None:
    from orchestrator.cli.main import as_our_error

    found = as_our_error(error)
    assert found is not None  # noqa: S101 - an exception is always an error of ours
    where = f"{found.where}: " if found.where and found.where not in found.what else ""
    more = f" ({found.details[0]})" if found.details else ""
    then = f"; next: {found.next_command}" if found.next_command else ""
    if found.error_class is ErrorClass.BUG:
        more = ""
    _tell(
        call,
        {"release": release, "error": found.as_dict()},
        f"Linux {release}: nothing was changed: {where}{found.what}{more}{then}",
    )
