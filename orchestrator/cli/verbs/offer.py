"""`offer`: a kernel that a package has brought becomes a plan that waits."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.command import Call, state_dir_named, verb
from orchestrator.cli.making_offers import offer_installed, offer_one, state_dir_of
from orchestrator.cli.terminal import clean
from orchestrator.model.errors import ErrorClass
from orchestrator.model.outcomes import ExitCode

if TYPE_CHECKING:
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
    mkupgrade offer --installed                      # the newest kernel that is there
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
@click.option(
    "--installed",
    is_flag=True,
    help="Offer the newest kernel in /boot and /lib/modules, if it is newer than what runs, and "
    "take back offers whose image is gone.",
)
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
    help="For a package manager's hook: one line, and exit code 0 whatever happens; with "
    "--installed no line where nothing is offered and nothing was done.",
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
    installed: bool,
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
    With --installed, what is in /boot decides, however it came there.
    With --apply, what is offered is carried out; exit code 6 outside of the window.
    """
    modes = [image is not None, installed, withdraw is not None, applied]
    if sum(modes) != 1 or (release is None) is not (image is None):
        raise click.UsageError(
            "give RELEASE and IMAGE, or --installed, or --withdraw RELEASE, or --apply"
        )
    if applied:
        return _apply(call, template, state_dir, window)
    try:
        if withdraw is not None:
            return _withdraw(call, withdraw, state_dir_of(template, state_dir))
        if installed:
            return _look(call, template, instance, state_dir_of(template, state_dir), quiet=hook)
        from orchestrator.offers.offering import NewKernel

        assert release is not None and image is not None  # noqa: S101 - by the modes
        _tell(call, *offer_one(NewKernel(release, image, initrds), template, instance))
        return ExitCode.DONE
    except Exception as error:
        if not hook:
            raise
        _tell_hook(call, release or withdraw, error)
        return ExitCode.DONE


def _look(
    call: Call, named: Path | None, instance: str | None, state_dir: Path, *, quiet: bool
) -> ExitCode:
    found, line = offer_installed(named, instance, state_dir)
    if line or call.json or not quiet:
        _tell(call, found, line or f"Nothing is offered: {found['why']}")
    return ExitCode.DONE


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
    found = standing(state_dir_of(named, state_dir)).offers
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


def _tell(call: Call, found: dict[str, Any], line: str) -> None:
    if call.json:
        call.out_json(found)
    else:
        call.out(clean(line))


def _tell_hook(call: Call, release: str | None, error: Exception) -> None:
    from orchestrator.cli.main import as_our_error

    found = as_our_error(error)
    assert found is not None  # noqa: S101 - an exception is always an error of ours
    where = f"{found.where}: " if found.where and found.where not in found.what else ""
    more = f" ({found.details[0]})" if found.details else ""
    then = f"; next: {found.next_command}" if found.next_command else ""
    if found.error_class is ErrorClass.BUG:
        more = ""
    about = "installed kernels" if release is None else f"Linux {release}"
    _tell(
        call,
        {"release": release, "error": found.as_dict()},
        f"{about}: nothing was changed: {where}{found.what}{more}{then}",
    )
