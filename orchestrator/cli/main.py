"""The entry point, and the only place that turns errors into text and exit codes."""

from __future__ import annotations

import errno
import gc
import shlex
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from orchestrator import __version__
from orchestrator.cli.catalogue import Catalogue
from orchestrator.cli.next_command import forget
from orchestrator.cli.render.errors import CliError, show_error
from orchestrator.cli.terminal import abandon, lenient_streams
from orchestrator.model.errors import ErrorClass, MkupgradeError
from orchestrator.model.outcomes import ExitCode


class Program(Catalogue):
    """The whole command: however it is called, it ends with one of `ExitCode`."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any) -> NoReturn:
        arguments = list(sys.argv[1:] if args is None else args)
        kwargs.update(prog_name="mkupgrade", standalone_mode=False)
        lenient_streams()
        code = self._code(arguments, *rest, **kwargs)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                abandon(stream)  # or Python would end with code 120
        sys.exit(int(code))

    def _code(self, arguments: list[str], *rest: Any, **kwargs: Any) -> ExitCode:
        code = ExitCode.DONE
        forget(arguments)
        try:
            code = ExitCode(super().main(arguments, *rest, **kwargs) or 0)
        except BrokenPipeError:
            # The reader of our output went away (`mkupgrade history | head`): it has enough.
            abandon(sys.stdout)
        except BaseException as error:
            found = as_our_error(error)
            if found is None:
                raise
            show_error(found, as_json="--json" in arguments)
            return found.exit_code
        return code


def as_our_error(error: BaseException) -> MkupgradeError | None:
    """Any error as one of ours; None: not an error but the end of the program."""
    if isinstance(error, MkupgradeError):
        return error
    if isinstance(error, click.ClickException):
        return _usage(error)
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return MkupgradeError("stopped on request", state="nothing was changed")
    if isinstance(error, OSError):
        return _from_os(error)
    if isinstance(error, Exception):
        return _bug(error)
    return None


def _usage(error: click.ClickException) -> MkupgradeError:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "mkupgrade"
    what = error.format_message()
    if isinstance(error, click.exceptions.NoArgsIsHelpError):  # its message is the whole help
        verbs = context.command.list_commands(context) if context else []
        what = f"{path} needs one of the verbs {', '.join(verbs)}"
    return CliError(
        what.rstrip("."),
        state="nothing was changed",
        next_command=f"{path} --help",
        error_class=ErrorClass.INVALID,
    )


def _from_os(error: OSError) -> MkupgradeError:
    where = str(error.filename) if error.filename is not None else None
    denied = error.errno in {errno.EACCES, errno.EPERM}
    return MkupgradeError(
        error.strerror or str(error),
        where=where,
        state="this may need root" if denied else None,
        next_command=f"ls -ld {shlex.quote(where)}" if denied and where else None,
        error_class=ErrorClass.REFUSED if denied else ErrorClass.IO,
    )


def _bug(error: Exception) -> MkupgradeError:
    """A fault of ours. The traceback goes to the log; the operator gets the place and a way on."""
    from orchestrator.cli.logs import logger

    logger().debug("unexpected error", exc_info=error)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else None
    found = MkupgradeError(
        f"a fault in mkupgrade: {type(error).__name__}: {error}",
        where=where,
        state="what was done until now is in the journal, if a transaction was running",
        next_command="mkupgrade status",
        details=("--log-level debug shows the traceback",),
        error_class=ErrorClass.BUG,
    )
    found.code = "bug"
    return found


@click.group(
    cls=Program,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 error and nothing changed, 2 changes pending, 3 rolled back, "
    "4 rollback incomplete, 5 stale plan, 6 waiting, 7 interrupted and resumable, "
    "8 outcome unknown, 100 a cold reboot is needed.",
)
@click.version_option(__version__, prog_name="mkupgrade", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> ExitCode | None:
    """Change the Linux kernel under running workloads as one transaction.

    Write the wanted state into a plan.yaml, look at the plan, apply it. If anything fails,
    the host is back in the old kernel with its workloads running.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        return ExitCode.ERROR
    return None


def main() -> NoReturn:
    """`mkupgrade`."""
    # A start makes many classes and next to no garbage: look for it less often.
    gc.set_threshold(20_000, 50, 50)
    try:
        cli.main()
    finally:
        # All memory goes with the process: Python need not look through it for cycles before.
        gc.freeze()
