"""CRIU's command line, and what its log says when it refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.model.errors import ErrorClass, NotSupportedError, WorkloadError
from orchestrator.model.spec.workloads import CriuMigrate
from orchestrator.workloads import criu
from tests.support.control import Control

LOGS = Path(__file__).with_name("logs")


def migrate(**options: object) -> CriuMigrate:
    return CriuMigrate.model_validate({"method": "criu", **options})


def test_a_dump_asks_for_what_the_spec_asks_for() -> None:
    images = Path("/state/images")
    plain = criu.dump_argv(1203, images, migrate(tcp_established=False), shell_job=False)
    assert plain == [
        *("criu", "dump", "--tree", "1203", "--images-dir", "/state/images"),
        *("--log-file", "dump.log", "-v3", "--ghost-limit", "256M", "--manage-cgroups=ignore"),
    ]
    whole = criu.dump_argv(
        1203, images, migrate(file_locks=True, ext_unix_sockets=True, extra=["--link-remap"]), True
    )
    assert whole[len(plain) :] == [
        *("--tcp-established", "--network-lock", "nftables", "--file-locks", "--ext-unix-sk"),
        *("--shell-job", "--skip-in-flight", "--link-remap"),
    ]


def test_a_dump_upon_a_copy_takes_what_was_written_since(tmp_path: Path) -> None:
    """CRIU looks for the copy from the directory of the images."""
    copy = criu.ahead_argv(7, Path("/w/ahead/images"), migrate(), shell_job=True)
    assert copy[:6] == ["criu", "pre-dump", "--tree", "7", "--images-dir", "/w/ahead/images"]
    assert {"--track-mem", "--shell-job", "--tcp-established"} < set(copy)
    images, ahead = tmp_path / "state/images", tmp_path / "ahead/images"
    argv = criu.dump_argv(7, images, migrate(), shell_job=False, ahead=ahead)
    assert argv[-3:] == ["--track-mem", "--prev-images-dir", "../../ahead/images"]
    for directory in (images, ahead):
        directory.mkdir(parents=True)
    for _ in range(2):
        criu.rest_on(images, ahead)
        assert (images / criu.PARENT).resolve() == ahead
    for _ in range(2):
        criu.rest_on(images, None)
        assert not list(images.iterdir())
    criu.rest_on(tmp_path / "nothing was dumped", ahead)


def test_a_restore_detaches_and_keeps_its_log_out_of_the_images() -> None:
    argv = criu.restore_argv(Path("/i"), Path("/logs"), migrate(), shell_job=False)
    assert argv == [
        *("criu", "restore", "--restore-detached", "--images-dir", "/i"),
        *("--work-dir", "/logs", "--log-file", "restore.log", "-v3", "--manage-cgroups=ignore"),
        *("--tcp-established", "--network-lock", "nftables"),
    ]


def test_connections_that_would_only_hang_come_back_closed() -> None:
    argv = criu.restore_argv(Path("/i"), Path("/logs"), migrate(), shell_job=False, close=True)
    assert argv[-3:] == ["--tcp-close", "--network-lock", "nftables"]


@pytest.mark.parametrize(
    "word", ["--unprivileged", "--leave-running", "-D", "--tree=1", "--prev-images-dir=/x"]
)
def test_extra_arguments_that_break_the_method_are_refused(word: str) -> None:
    with pytest.raises(WorkloadError, match="may not hold"):
        criu.dump_argv(2, Path("/i"), migrate(extra=[word]), shell_job=False)


def test_a_refused_dump_says_why_and_what_to_do(
    fake_criu: Path, tmp_path: Path, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CRIU_FAIL", str(LOGS / "half-of-unix.log"))
    with pytest.raises(WorkloadError) as caught:
        criu.dump(os.getpid(), tmp_path, migrate(), False, control)
    error = caught.value
    assert "Can't dump half of stream unix connection" in error.what
    assert "leads out of the workload" in error.what
    assert error.next_command == f"less {tmp_path / 'dump.log'}"
    assert len(error.details) == 2
    assert not any("(00." in line for line in error.details)


def test_a_refused_restore_says_why(
    fake_criu: Path, tmp_path: Path, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CRIU_FAIL", str(LOGS / "pid-mismatch.log"))
    with pytest.raises(WorkloadError, match=r"Pid 1411 do not match.*a process id is taken"):
        criu.restore(tmp_path, tmp_path, migrate(), False, control)


def test_a_dump_that_takes_too_long_is_a_time_out(
    program: Callable[[str, str], Path], tmp_path: Path
) -> None:
    program("criu", "import time\ntime.sleep(60)\n")
    with pytest.raises(WorkloadError) as caught:
        criu.dump(os.getpid(), tmp_path, migrate(), False, Control(seconds=0.3))
    assert caught.value.error_class is ErrorClass.TIMEOUT


def test_no_criu_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotSupportedError) as caught:
        criu.version()
    assert caught.value.next_command == "apt install criu"


def test_version_and_features_are_asked_for(fake_criu: Path) -> None:
    assert criu.version() == (4, 2, 1)
    assert criu.has_feature("mem_dirty_track")
    assert not criu.has_feature("no_such_feature")
    calls = [json.loads(line) for line in fake_criu.read_text().splitlines()]
    assert calls[1] == ["check", "--feature", "mem_dirty_track"]


def test_a_dump_is_complete_only_when_criu_said_so(tmp_path: Path) -> None:
    assert not criu.is_complete(tmp_path)
    (tmp_path / "inventory.img").write_bytes(b"")
    assert not criu.is_complete(tmp_path)
    (tmp_path / "dump.log").write_text("(00.1) Dumping finished successfully\n")
    assert criu.is_complete(tmp_path)
    (tmp_path / "dump.log").unlink()
    (tmp_path / "stats-dump").write_bytes(b"")
    assert criu.is_complete(tmp_path)


@pytest.mark.slow
def test_a_criu_left_by_a_killed_engine_is_waited_for(
    program: Callable[[str, str], Path], tmp_path: Path, start: Callable[..., int]
) -> None:
    images = tmp_path / "images"
    rename = "import sys, time\nopen('/proc/self/comm', 'w').write('criu')\ntime.sleep(0.6)\n"
    pid = start(rename, "dump", "--images-dir", str(images))
    end = 100
    while criu.running_on(images) is None and end:
        end -= 1
    assert criu.running_on(images) == pid
    criu.wait_until_idle(images, Control(seconds=10))
    assert criu.running_on(images) is None


def test_every_hint_is_found_for_what_criu_writes() -> None:
    known = {
        "unix: External socket is used. Consider using --ext-unix-sk option.": "ext_unix_sockets",
        "inet: Connected TCP socket, consider using --tcp-established option.": "tcp_established",
        "Some file locks are hold by dumping tasks! You can try --file-locks to dump them.": (
            "migrate.file_locks"
        ),
        "The root process 12 is not a session leader. Consider using --shell-job": "shell_job",
        "sockets: Can't get 1:34 opt: Protocol not available": "SECURITY_NETWORK",
        "sockets: Can't get 1:16 opt: Protocol not available": "4.2 or later",
        "inet: Can't bind inet socket (id 5): Address already in use": "taken the port",
        "inet: Can't bind inet socket (id 5): Cannot assign requested address": "address",
        "files-reg: Can't open file run/x on restore: No such file or directory": "migrate.carry",
    }
    for line, advice in known.items():
        assert advice in (criu.hint([f"Error (criu/x.c:1): {line}"]) or ""), line
    assert criu.hint(["Error (criu/x.c:1): something new"]) is None
