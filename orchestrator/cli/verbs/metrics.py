"""`metrics`: this host's journal in numbers, for Prometheus."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.command import Call, verb
from orchestrator.cli.terminal import clean
from orchestrator.model.errors import ErrorClass, MkupgradeError
from orchestrator.model.outcomes import ExitCode

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer
    from wsgiref.types import StartResponse, WSGIEnvironment

_PATIENCE = 10.0
"""Seconds that a client may be silent for."""


@verb(
    "metrics",
    state=True,
    examples="""
    mkupgrade metrics
    mkupgrade metrics --write /var/lib/prometheus/node-exporter/mkupgrade.prom
    mkupgrade metrics --listen 127.0.0.1:9925
    mkupgrade metrics --json | jq .last.outcome
    """,
    json_help="The same numbers as one JSON object; with --listen where it listens.",
)
@click.option(
    "--write",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Into this file, whole or not at all, for node_exporter's textfile collector.",
)
@click.option("--listen", metavar="ADDRESS:PORT", help="Answer GET /metrics there until a signal.")
def metrics(call: Call, *, state_dir: Path, write: Path | None, listen: str | None) -> ExitCode:
    """Print this host's journal in numbers, as Prometheus reads them: transactions by outcome, the
    last one's outcome, times and blackout, what is unfinished, offers.

    Writes nothing but FILE, and does with a state directory that is mounted read-only. What each
    number means, and rules for alerts: docs/metrics.md.
    """
    if write is not None and listen is not None:
        raise click.UsageError("--write or --listen, not both")
    if listen is not None:
        return _listen(call, state_dir, *_address(listen))
    from orchestrator.cli import metrics as numbers

    if write is not None:
        from orchestrator.system.placing import place

        place(write, numbers.text(state_dir))
        if call.json:
            call.out_json({"written": str(write)})
    elif call.json:
        call.out_json(numbers.look(state_dir).model_dump(mode="json"))
    else:
        call.out(numbers.text(state_dir).decode().rstrip("\n"))
    return ExitCode.DONE


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 0xFFFF:
        raise click.UsageError(f"{text!r} is no ADDRESS:PORT, such as 127.0.0.1:9925 or [::1]:9925")
    return host, int(port)


def _listen(call: Call, state_dir: Path, host: str, port: int) -> ExitCode:
    from orchestrator.system import systemd

    try:
        server = make_server(state_dir, host, port)
    except OSError as error:
        raise MkupgradeError(
            f"cannot listen: {error.strerror or error}",
            where=f"{host}:{port}",
            state="nothing was changed",
            next_command=f"ss --listening --tcp --processes 'sport = :{port}'",
            error_class=ErrorClass.IO,
        ) from error
    with server:
        port = server.server_port
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if call.json:
            call.out_json({"listening": shown})
        else:
            call.note(f"GET http://{clean(shown)}/metrics")
        systemd.notify("READY=1")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return ExitCode.DONE
    return ExitCode.DONE


def make_server(state_dir: Path, host: str, port: int) -> WSGIServer:
    """Bound and not serving yet. Raises: OSError."""
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
    from wsgiref.simple_server import make_server as make

    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]

    class Handler(WSGIRequestHandler):
        timeout = _PATIENCE

        def log_message(self, *_: Any) -> None:
            """A scrape every few seconds is no news."""

    class Server(ThreadingMixIn, WSGIServer):
        address_family = family
        daemon_threads = True

    return make(host, port, application(state_dir), Server, Handler)


def application(state_dir: Path) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
    """GET /metrics, and 404 for all else; 503 with the reason where the journal cannot be read."""
    from prometheus_client import make_wsgi_app

    from orchestrator.cli import metrics as numbers

    scraped = make_wsgi_app(numbers.registry(state_dir), disable_compression=True)

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != "/metrics":
            return _say(start, "404 Not Found", "there is /metrics and nothing else")
        if environ.get("REQUEST_METHOD") != "GET":
            return _say(start, "405 Method Not Allowed", "GET")
        try:
            answered: Iterable[bytes] = scraped(environ, start)
        except MkupgradeError as error:
            return _say(start, "503 Service Unavailable", clean(error))
        return answered

    return answer


def _say(start: StartResponse, status: str, text: str) -> list[bytes]:
    start(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode("utf-8", "backslashreplace") + b"\n"]
