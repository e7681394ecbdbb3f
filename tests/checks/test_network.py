"""http and tcp against real servers, well-behaved and hostile."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from orchestrator.checks import Checker, CheckResult
from orchestrator.checks.network import BODY_LIMIT, GREETING_LIMIT
from orchestrator.model.spec.checks import HttpCheck, TcpCheck


def http_check(url: str, **more: Any) -> HttpCheck:
    return HttpCheck.model_validate({"name": "web", "kind": "http", "url": url, **more})


def tcp_check(port: int, **more: Any) -> TcpCheck:
    return TcpCheck.model_validate({"name": "line", "kind": "tcp", "port": port, **more})


def answering(status: str, body: bytes = b"", headers: str = "") -> Any:
    def handle(sock: socket.socket) -> None:
        sock.recv(4096)
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        sock.sendall(head.encode("latin-1") + body)

    return handle


@pytest.fixture
def get(serve: Any, control: Any) -> Any:
    def run(handle: Any, path: str = "/", **more: Any) -> CheckResult:
        url = f"http://127.0.0.1:{serve(handle)}{path}"
        return Checker().run(http_check(url, **more), control)

    return run


def test_a_page_with_the_wanted_status_holds(get: Any) -> None:
    result = get(answering("204 No Content"), status=204)

    assert result.ok
    assert result.detail == "status 204"
    assert result.duration > 0


def test_another_status_does_not_hold_and_is_named(get: Any) -> None:
    assert get(answering("503 Busy")).detail == "status 503, wanted 200"


def test_a_redirect_is_not_followed_and_is_named(get: Any) -> None:
    result = get(answering("302 Found", headers="Location: http://127.0.0.1:1/\r\n"))

    assert not result.ok
    assert result.detail == (
        'status 302 (redirects to "http://127.0.0.1:1/", not followed), wanted 200'
    )


def test_proxies_of_the_environment_are_not_used(get: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:1")

    assert get(answering("200 OK")).ok


def test_path_and_query_are_sent_as_written(serve: Any, control: Any) -> None:
    seen: list[bytes] = []

    def handle(sock: socket.socket) -> None:
        seen.append(sock.recv(4096))
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    port = serve(handle)
    Checker().run(http_check(f"http://127.0.0.1:{port}/a/b?c=%20d#part"), control)

    assert seen[0].startswith(b"GET /a/b?c=%20d HTTP/1.1\r\n")


@pytest.mark.parametrize("body", [b"all is well", "Gruß: all is well".encode(), b"x" * 99_000])
def test_text_in_the_body_is_looked_for(get: Any, body: bytes) -> None:
    result = get(answering("200 OK", body), contains="is well")

    assert result.ok is (b"is well" in body)
    if not result.ok:
        assert result.detail == 'status 200, but no "is well" in the body'


def test_an_endless_body_is_read_to_the_limit_only(get: Any) -> None:
    def endless(sock: socket.socket) -> None:
        sock.recv(4096)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(50 * BODY_LIMIT // 65536):
            sock.sendall(b"y" * 65536)

    result = get(endless, contains="never", timeout="5s")

    assert result.detail == 'status 200, but no "never" in the body'


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_server_that_dribbles_is_cut_off_in_time(get: Any, first: bytes) -> None:
    hung_up = threading.Event()

    def dribble(sock: socket.socket) -> None:
        sock.recv(4096)
        try:
            sock.sendall(first)
            while True:
                sock.sendall(b"z")
                time.sleep(0.02)
        except OSError:
            hung_up.set()

    began = time.monotonic()
    result = get(dribble, contains="never", timeout="300ms")

    assert time.monotonic() - began < 2
    assert result.detail == "no answer within 0.3 s"
    assert hung_up.wait(5), "the connection was left open behind the check"


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\xff\xfe\x00", b""]
)
def test_what_is_no_http_does_not_hold(get: Any, answer: bytes) -> None:
    def handle(sock: socket.socket) -> None:
        sock.recv(4096)
        sock.sendall(answer)

    result = get(handle)

    assert not result.ok
    assert result.detail.isprintable()
    assert result.detail


def test_a_hostile_header_is_shown_on_one_printable_line(get: Any) -> None:
    result = get(answering("302 Found", headers="Location: \x1b[31m" + "a" * 4000 + "\r\n"))

    assert result.detail.isprintable()
    assert len(result.detail) < 500


def test_nobody_listening_is_said(control: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        web = Checker().run(http_check(f"http://127.0.0.1:{port}/"), control)
        line = Checker().run(tcp_check(port), control)

    assert web.detail == line.detail == "connection refused"


def test_a_port_beyond_the_last_one_does_not_hold(control: Any) -> None:
    result = Checker().run(http_check("http://127.0.0.1:99999/"), control)

    assert not result.ok


def test_https_to_a_plain_server_does_not_hold(serve: Any, control: Any) -> None:
    port = serve(answering("200 OK"))

    result = Checker().run(http_check(f"https://127.0.0.1:{port}/", timeout="2s"), control)

    assert not result.ok


def test_a_connection_is_enough_where_nothing_is_expected(serve: Any, control: Any) -> None:
    port = serve(lambda sock: None)

    assert Checker().run(tcp_check(port), control).detail == "connected"


def test_expected_text_may_arrive_in_pieces(serve: Any, control: Any) -> None:
    def pieces(sock: socket.socket) -> None:
        for piece in (b"noise 22", b"0 rea", b"dy\r\n"):
            sock.sendall(piece)
            time.sleep(0.03)

    result = Checker().run(tcp_check(serve(pieces), expect="220 ready"), control)

    assert result.detail == 'connected, "220 ready" arrived'


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        (b"", "connected, but nothing arrived"),
        (b"421 go away\r\n", r'connected, but only "421 go away\r\n" arrived'),
        (b"\x1b]0;x\x07", "connected, but only "),
    ],
)
def test_other_text_does_not_hold_and_is_shown(
    serve: Any, control: Any, said: bytes, seen: str
) -> None:
    port = serve(lambda sock: sock.sendall(said))

    result = Checker().run(tcp_check(port, expect="220", timeout="2s"), control)

    assert result.detail.startswith(seen)
    assert result.detail.isprintable()


def test_a_server_that_talks_without_end_is_listened_to_up_to_the_limit(
    serve: Any, control: Any
) -> None:
    port = serve(lambda sock: sock.sendall(b"n" * 100 * GREETING_LIMIT))

    assert not Checker().run(tcp_check(port, expect="220", timeout="5s"), control).ok


def test_a_silent_server_costs_the_timeout_and_no_more(serve: Any, control: Any) -> None:
    port = serve(lambda sock: time.sleep(3))

    result = Checker().run(tcp_check(port, expect="220", timeout="200ms"), control)

    assert not result.ok
    assert result.duration < 1.5


def test_the_deadline_of_the_step_shortens_a_try(serve: Any, control: Any) -> None:
    control.left = 0.2
    port = serve(lambda sock: time.sleep(3))

    result = Checker().run(tcp_check(port, expect="220", timeout="1m"), control)

    assert not result.ok
    assert result.duration < 1.5
