"""`agent`: takes one transaction's state from another kernel that runs, or asks who does."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.command import Call, verb
from orchestrator.cli.terminal import clean
from orchestrator.model.outcomes import ExitCode

if TYPE_CHECKING:
    from orchestrator.agent.keys import Key

_ASK_SECONDS = 10.0
_MOST = "64GiB"
_WORKER = "orchestrator.drivers.carrying.worker"


@verb(
    "agent",
    examples="""
    mkupgrade agent --new-key 20261123-140307-k3xw --key-file agent.key
    mkupgrade agent --listen vsock:1022 --key-file agent.key --receive /var/lib/mkupgrade
    mkupgrade agent --listen tcp:10.0.0.2:1022 --key-file agent.key --receive /srv/state --json
    mkupgrade agent --ask vsock:3:1022 --key-file agent.key
    """,
    json_help="JSON lines: what happens, as it happens; with --ask the answer.",
)
@click.option(
    "--listen",
    metavar="ADDRESS",
    help="Take state here, until SIGTERM: vsock:PORT or tcp:ADDRESS:PORT.",
)
@click.option("--ask", metavar="ADDRESS", help="Ask an agent: vsock:CID:PORT or tcp:ADDRESS:PORT.")
@click.option("--new-key", metavar="TX", help="Make the key of a transaction, in --key-file.")
@click.option(
    "--key-file",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path),
    help="The transaction's key, which nobody else can read.",
)
@click.option(
    "--receive",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="With --listen: the state directory that state goes to.",
)
@click.option(
    "--ready-file",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="With --listen: not ready before it is there; may be given again.",
)
@click.option(
    "--most",
    metavar="SIZE",
    default=_MOST,
    show_default=True,
    help="With --listen: bytes of state that are taken.",
)
@click.option(
    "--work",
    is_flag=True,
    help="With --listen: also checkpoint and restore workloads here, for whoever has the key.",
)
def agent(
    call: Call,
    *,
    listen: str | None,
    ask: str | None,
    new_key: str | None,
    key_file: Path,
    receive: Path | None,
    ready_file: tuple[Path, ...],
    most: str,
    work: bool,
) -> ExitCode:
    """Take one transaction's state from another running kernel; or ask, or make a key.

    Runs in the kernel that state moves to. Whoever connects must come from a port of root's and
    prove the transaction's key; what arrives is laid where `mkupgrade` reads state from disk. With
    --work it also checkpoints and restores workloads for the host, as plans of the multikernel
    driver need it: it runs commands as root for whoever has the key. With --ask the exit code is 0
    if it is ready, and 6 if it lives and is not.
    """
    chosen = [name for name in (listen, ask, new_key) if name is not None]
    if len(chosen) != 1:
        raise click.UsageError("one of --listen, --ask and --new-key")
    if new_key is not None:
        return _make_key(call, new_key, key_file)
    from orchestrator.agent.keys import read_key

    key = read_key(key_file)
    if ask is not None:
        return _ask(call, ask, key)
    if listen is None or receive is None:
        raise click.UsageError("--listen needs --receive DIR")
    return _listen(call, listen, key, receive, ready_files=ready_file, most=most, work=work)


def _make_key(call: Call, transaction: str, path: Path) -> ExitCode:
    from orchestrator.agent.keys import new_key, write_key

    write_key(new_key(transaction), path)
    if call.json:
        call.out_json({"transaction": transaction, "key_file": str(path)})
    else:
        call.out(f"key of transaction {clean(transaction)}: {clean(path)}")
    return ExitCode.DONE


def _ask(call: Call, address: str, key: Key) -> ExitCode:
    import time

    from orchestrator.agent.client import open_agent
    from orchestrator.agent.transport import parse_peer

    end = time.monotonic() + _ASK_SECONDS
    with closing(open_agent(parse_peer(address), key, lambda: end - time.monotonic())) as client:
        status = client.status()
    if call.json:
        call.out_json(status.model_dump(mode="json"))
    else:
        ready = "ready" if status.ready else "not ready: " + "; ".join(status.problems)
        call.out(f"Kernel   {clean(status.release)}, boot {clean(status.boot_id)}")
        call.out(f"Tainted  {status.tainted}")
        call.out(f"Agent    mkupgrade {clean(status.version)}, {clean(status.transaction)}")
        call.out(f"State    {clean(ready)}")
        call.out(f"Work     {'checkpoints and restores workloads' if status.works else 'none'}")
    return ExitCode.DONE if status.ready else ExitCode.WAITING


def _listen(
    call: Call,
    address: str,
    key: Key,
    directory: Path,
    *,
    ready_files: tuple[Path, ...],
    most: str,
    work: bool,
) -> ExitCode:
    from orchestrator.agent import transport
    from orchestrator.agent.server import Agent, Limits
    from orchestrator.agent.work import in_a_child
    from orchestrator.model.quantities import parse_size
    from orchestrator.system import systemd

    try:
        limits = Limits(state_bytes=parse_size(most))
    except ValueError as error:
        raise click.UsageError(f"--most: {error}") from None
    where = transport.parse_listen(address)
    lock = threading.Lock()

    def tell(what: str, rest: dict[str, object]) -> None:
        with lock, suppress(OSError):  # nobody reads it: no reason to stop
            if call.json:
                call.out_json({"event": what, **rest})
            else:
                call.note(clean(f"{what}: " + ", ".join(f"{k} {v}" for k, v in rest.items())))

    worker = in_a_child([sys.executable, "-P", "-m", _WORKER, str(directory)]) if work else None
    taker = Agent(key, directory, limits, tell, ready_files, work=worker)
    with _stopping() as stop, closing(transport.listen(where, limits.connections)) as listener:
        tell("listening", {"at": str(where), "transaction": key.transaction})
        systemd.notify("READY=1")
        taker.serve(listener, stop)
    tell("stopped", {"at": str(where)})
    return ExitCode.DONE


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Set by SIGTERM and Ctrl-C: both are the ordinary end."""
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
