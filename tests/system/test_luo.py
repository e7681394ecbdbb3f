"""LUO wrappers against a library that answers as the kernel was seen to."""

from __future__ import annotations

import errno
import os

import pytest

from orchestrator.model.errors import ErrorClass, SystemCallError
from orchestrator.system import call_errors as ce
from orchestrator.system import luo
from orchestrator.system.guard import HostGuard
from tests.support.native import FakeCalls


@pytest.fixture
def device() -> luo.LuoDevice:
    return luo.LuoDevice(HostGuard.open(), os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))


def new_fd() -> int:
    return os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)


def test_names_tokens_and_descriptors_go_through(
    device: luo.LuoDevice, fake_calls: FakeCalls
) -> None:
    fake_calls.answers["liveupdate_ioctl_create_session"] = new_fd()
    with device, device.create_session("mkupgrade:ü") as session:
        session.preserve(11, 2**64 - 1)
        session.finish()
        on_device, on_session = device.fileno(), session.fileno()
    assert fake_calls.asked == [
        ("liveupdate_ioctl_create_session", on_device, "mkupgrade:ü".encode(), 12),
        ("liveupdate_session_preserve_fd", on_session, 11, 2**64 - 1),
        ("liveupdate_session_finish", on_session),
    ]


def test_leaving_the_block_closes_once(device: luo.LuoDevice, fake_calls: FakeCalls) -> None:
    with device:
        fd = device.fileno()
    assert device.fileno() == -1
    device.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize("name", ["", "x" * 64, "ü" * 32, "a\0b"])
def test_a_name_must_have_1_to_63_bytes(
    name: str, device: luo.LuoDevice, fake_calls: FakeCalls
) -> None:
    for call in (device.create_session, device.retrieve_session):
        with pytest.raises(SystemCallError, match="not a session name") as error:
            call(name)
        assert error.value.error_class is ErrorClass.INVALID
    assert fake_calls.asked == []


@pytest.mark.parametrize("token", [-1, 2**64])
def test_a_token_must_fit_64_bits(token: int, fake_calls: FakeCalls) -> None:
    session = luo.LuoSession(HostGuard.open(), -1)
    with pytest.raises(SystemCallError, match="not a token"):
        session.preserve(0, token)
    with pytest.raises(SystemCallError, match="not a token"):
        session.retrieve(token)
    assert fake_calls.asked == []


def test_the_answers_of_the_kernel_have_their_types(
    device: luo.LuoDevice, fake_calls: FakeCalls
) -> None:
    session = luo.LuoSession(HostGuard.open(), -1, "x")
    seen = [
        ("liveupdate_ioctl_create_session", errno.EEXIST, ce.ExistsAlreadyError,
         lambda: device.create_session("x")),
        ("liveupdate_ioctl_retrieve_session", errno.ENOENT, ce.NotPreservedError,
         lambda: device.retrieve_session("x")),
        ("liveupdate_ioctl_retrieve_session", errno.EINVAL, ce.BusyError,
         lambda: device.retrieve_session("x")),
        ("liveupdate_session_preserve_fd", errno.EEXIST, ce.ExistsAlreadyError,
         lambda: session.preserve(0, 0)),
        ("liveupdate_session_preserve_fd", errno.EBUSY, ce.ExistsAlreadyError,
         lambda: session.preserve(0, 0)),
        ("liveupdate_session_preserve_fd", errno.ENOENT, SystemCallError,
         lambda: session.preserve(0, 0)),
        ("liveupdate_session_retrieve_fd", errno.ENOENT, ce.NotPreservedError,
         lambda: session.retrieve(0)),
        ("liveupdate_session_finish", errno.EINVAL, SystemCallError, session.finish),
        ("liveupdate_session_get_name", errno.EINVAL, SystemCallError, session.name),
    ]  # fmt: skip
    for function, number, kind, call in seen:
        fake_calls.answers = {function: -number}
        with pytest.raises(SystemCallError) as error:
            call()
        assert type(error.value) is kind, function
        assert error.value.errno == number


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, ce.NoKhoError),
        (errno.EBUSY, ce.BusyError),
        (errno.EIO, SystemCallError),
        (errno.EACCES, ce.NotPermittedError),
    ],
)
def test_a_device_that_does_not_open_says_why(
    number: int,
    kind: type[SystemCallError],
    fake_calls: FakeCalls,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(path: str, flags: int) -> int:
        raise OSError(number, os.strerror(number), path)

    host = HostGuard.open()
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SystemCallError) as error:
        luo.open_device(host)
    assert type(error.value) is kind
    assert error.value.where == luo.DEVICE
