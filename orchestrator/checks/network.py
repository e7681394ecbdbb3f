"""http and tcp: over plain sockets, with one time limit for everything together.

A socket's own timeout starts anew with every byte and does not cover name resolution, so each
try runs in a thread, and when its time is up the socket is shut under it.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, urlsplit

from orchestrator import __version__
from orchestrator.checks.results import NotHeldError, shown
from orchestrator.checks.searching import contains
from orchestrator.model.spec.checks import HttpCheck, TcpCheck

BODY_LIMIT = 1 << 20
"""Bytes of a body that are searched."""
GREETING_LIMIT = 64 << 10
"""Bytes after connecting that are searched."""
_CHUNK = 16 << 10


class _Line:
    """The socket of a try, so that somebody else can cut it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._cut = False

    def hold(self, sock: socket.socket) -> None:
        with self._lock:
            self._socket = sock
            if self._cut:
                raise TimeoutError

    def cut(self) -> None:
        with self._lock:
            self._cut = True
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)


def check_http(check: HttpCheck, timeout: float) -> str:
    """GET the URL; the status and, if asked for, the text must fit.

    Proxies of the environment are not used and redirects not followed: what answers must be
    what the check names.

    Raises:
        NotHeldError: what was seen instead.
    """
    return _within(timeout, lambda line: _http(check, timeout, line))


def check_tcp(check: TcpCheck, timeout: float) -> str:
    """Connect; if asked for, the text must arrive.

    Raises:
        NotHeldError: what was seen instead.
    """
    return _within(timeout, lambda line: _tcp(check, timeout, line))


def _within(timeout: float, work: Callable[[_Line], str]) -> str:
    line, outcome = _Line(), list[Any]()

    def run() -> None:
        try:
            outcome.append(work(line))
        except BaseException as error:  # handed to the caller
            outcome.append(error)

    thread = threading.Thread(target=run, name="check", daemon=True)
    thread.start()
    thread.join(timeout)
    if not outcome:
        line.cut()
        raise NotHeldError(f"no answer within {timeout:g} s")
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return str(outcome[0])


def _http(check: HttpCheck, timeout: float, line: _Line) -> str:
    url = urlsplit(check.url)
    try:
        connection = _connection(url, timeout)
        try:
            connection.connect()
            line.hold(connection.sock)
            return _exchange(check, url, connection)
        finally:
            connection.close()
    except TimeoutError:
        raise NotHeldError(f"no answer within {timeout:g} s") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotHeldError(_reason(error)) from None


def _connection(url: SplitResult, timeout: float) -> http.client.HTTPConnection:
    host = url.hostname or ""
    if url.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, url.port, timeout=timeout, context=context)
    return http.client.HTTPConnection(host, url.port, timeout=timeout)


def _exchange(check: HttpCheck, url: SplitResult, connection: http.client.HTTPConnection) -> str:
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    headers = {"User-Agent": f"mkupgrade/{__version__}", "Accept": "*/*", "Connection": "close"}
    connection.request("GET", target, headers=headers)
    response = connection.getresponse()
    if response.status != check.status:
        raise NotHeldError(f"status {response.status}{_leads_to(response)}, wanted {check.status}")
    if check.contains is not None and not contains(_body(response), check.contains):
        raise NotHeldError(f"status {response.status}, but no {shown(check.contains)} in the body")
    return f"status {response.status}"


def _leads_to(response: http.client.HTTPResponse) -> str:
    location = response.headers.get("Location")
    return f" (redirects to {shown(location)}, not followed)" if location else ""


def _body(response: http.client.HTTPResponse) -> Iterator[bytes]:
    left = BODY_LIMIT
    while left > 0 and (chunk := response.read1(min(left, _CHUNK))):
        left -= len(chunk)
        yield chunk


def _tcp(check: TcpCheck, timeout: float, line: _Line) -> str:
    end = time.monotonic() + timeout
    try:
        with socket.create_connection((check.host, check.port), timeout) as sock:
            line.hold(sock)
            if check.expect is None:
                return "connected"
            got = bytearray()
            if contains(_greeting(sock, end, got), check.expect):
                return f"connected, {shown(check.expect)} arrived"
            what = f"only {shown(bytes(got))}" if got else "nothing"
            raise NotHeldError(f"connected, but {what} arrived, wanted {shown(check.expect)}")
    except TimeoutError:
        raise NotHeldError(f"no connection within {timeout:g} s") from None
    except OSError as error:
        raise NotHeldError(_reason(error)) from None


def _greeting(sock: socket.socket, end: float, got: bytearray) -> Iterator[bytes]:
    while len(got) < GREETING_LIMIT and (left := end - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            chunk = sock.recv(_CHUNK)
        except TimeoutError:
            return
        if not chunk:
            return
        got += chunk
        yield chunk


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:1].lower() + error.strerror[1:]
    return f"not understood: {shown(str(error) or type(error).__name__)}"
