"""`metrics`: the numbers of a journal, printed, written and served, and nothing written by it."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prometheus_client.parser
import pytest

from orchestrator import __version__
from orchestrator.cli import metrics as numbers
from orchestrator.cli.verbs.metrics import make_server
from orchestrator.model.errors import MkupgradeError
from orchestrator.system.placing import place
from tests.support.users import ORDINARY, as_user, needs_root

Samples = dict[tuple[str, str], float]


def samples(text: str) -> Samples:
    """By name and first label's value, as Prometheus itself would read them."""
    families = prometheus_client.parser.text_string_to_metric_families(text)
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.fixture
def failed(mkupgrade: Any) -> Any:
    """A host with one transaction, which was rolled back."""
    mkupgrade.change_host(failing_checks={"answers": "7.3.4"})
    mkupgrade("apply", mkupgrade.spec, "--yes", code=3)
    return mkupgrade


def test_before_any_transaction_all_is_zero(run: Any, tmp_path: Path) -> None:
    shown = run("metrics", "--state-dir", tmp_path / "none")
    assert shown.exit_code == 0
    found = samples(shown.stdout)
    assert found.pop(("mkupgrade_build_info", __version__)) == 1
    assert found.pop(("mkupgrade_kernel_info", os.uname().release)) == 1
    assert len(found) == 16
    assert set(found.values()) == {0}
    assert not (tmp_path / "none").exists()


def test_the_numbers_are_those_of_the_report(failed: Any) -> None:
    found = samples(failed("metrics").stdout)
    report = failed.json("report")
    assert found["mkupgrade_transactions", "rolled-back"] == 1
    assert found["mkupgrade_transactions", "committed"] == 0
    assert found["mkupgrade_last_transaction_outcome", "rolled-back"] == 1
    assert found["mkupgrade_last_transaction_outcome", "committed"] == 0
    blackout = found["mkupgrade_last_transaction_blackout_seconds", ""]
    assert blackout == pytest.approx(report["blackout"])
    assert blackout > 0
    took = found["mkupgrade_last_transaction_duration_seconds", ""]
    assert took == pytest.approx(report["ended"] - report["started"])
    assert found["mkupgrade_last_transaction_end_timestamp_seconds", ""] == report["ended"]
    assert found["mkupgrade_kernel_info", "7.2.13"] == 1
    assert found["mkupgrade_transaction_unfinished", ""] == 0
    with sqlite3.connect(failed.state / "journal.db") as journal:
        (count,) = journal.execute("SELECT count(*) FROM events").fetchone()
    assert found["mkupgrade_journal_events_total", ""] == count


def test_json_has_the_same_numbers(failed: Any) -> None:
    found = failed.json("metrics")
    assert found["transactions"]["rolled-back"] == 1
    assert found["last"]["outcome"] == "rolled-back"
    assert found["last"]["blackout"] == pytest.approx(failed.json("report")["blackout"])
    assert found["unfinished"] is None


@pytest.mark.slow
def test_what_waits_for_the_operator_is_counted(mkupgrade: Any) -> None:
    text = mkupgrade.spec.read_text(encoding="utf-8") + "rollback: {automatic: false}\n"
    mkupgrade.spec.write_text(text, encoding="utf-8")
    mkupgrade.change_host(failing_checks={"answers": "7.3.4"})
    mkupgrade("apply", mkupgrade.spec, "--yes", code=7)
    found = samples(mkupgrade("metrics").stdout)
    assert found["mkupgrade_transaction_unfinished", ""] == 1
    assert found["mkupgrade_transaction_waiting", ""] == 1
    assert mkupgrade.json("metrics")["unfinished"]


def test_offers_are_counted(run: Any, tmp_path: Path) -> None:
    offers = tmp_path / "state/offers"
    offers.mkdir(parents=True)
    (tmp_path / "state").chmod(0o700)
    offers.chmod(0o700)
    (offers / "7.3.4.yaml").write_text("no offer, and yet it waits", encoding="utf-8")
    found = samples(run("metrics", "--state-dir", tmp_path / "state").stdout)
    assert found["mkupgrade_offers_pending", ""] == 1


# -- written


def test_a_file_for_the_collector_is_whole_and_readable(failed: Any) -> None:
    path = failed.directory / "mkupgrade.prom"
    path.write_text("old", encoding="utf-8")
    assert failed("metrics", "--write", path).stdout == ""
    assert samples(path.read_text(encoding="utf-8")) == samples(failed("metrics").stdout)
    assert path.stat().st_mode & 0o777 == 0o644
    assert [p.name for p in failed.directory.iterdir() if p.name.startswith(".")] == []


def test_a_link_in_the_place_of_the_file_is_replaced(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "mkupgrade.prom"
    victim.write_text("mine", encoding="utf-8")
    path.symlink_to(victim)
    place(path, b"numbers")
    assert (victim.read_text(encoding="utf-8"), path.read_bytes()) == ("mine", b"numbers")
    assert not path.is_symlink()


def test_links_are_followed_only_where_nobody_else_can_make_them(tmp_path: Path) -> None:
    real, ours, theirs = tmp_path / "real", tmp_path / "ours", tmp_path / "theirs"
    for directory in (real, ours, theirs):
        directory.mkdir(mode=0o755)
        (directory / "link").symlink_to(real)
    place(ours / "link" / "a.prom", b"1")
    assert (real / "a.prom").read_bytes() == b"1"
    theirs.chmod(0o777)
    with pytest.raises(MkupgradeError, match="link, in a directory that others can write to"):
        place(theirs / "link" / "b.prom", b"2")
    assert not (real / "b.prom").exists()


def test_what_cannot_be_written_says_where(tmp_path: Path) -> None:
    (tmp_path / "a.prom").mkdir()
    for path in (tmp_path / "a.prom", tmp_path / "none/b.prom"):
        with pytest.raises(MkupgradeError, match="cannot be written") as caught:
            place(path, b"")
        assert caught.value.where == str(path)


# -- served


@pytest.fixture
def served(failed: Any) -> Iterator[tuple[Any, int]]:
    """The host, and the port where its numbers are."""
    server = make_server(failed.state, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield failed, server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def ask(port: int, path: str, method: str = "GET") -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path)
    answer = connection.getresponse()
    found = answer.status, answer.headers["Content-Type"], answer.read().decode()
    connection.close()
    return found


def test_get_metrics_looks_anew_each_time(served: tuple[Any, int]) -> None:
    host, port = served
    status, kind, text = ask(port, "/metrics")
    assert (status, kind.split(";")[0]) == (200, "text/plain")
    assert samples(text)["mkupgrade_transactions", "rolled-back"] == 1
    shutil.rmtree(host.state)
    assert samples(ask(port, "/metrics")[2])["mkupgrade_transactions", "rolled-back"] == 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/metrics/x", 404), ("GET", "/favicon.ico", 404),
     ("POST", "/metrics", 405), ("DELETE", "/metrics", 405), ("HEAD", "/metrics", 405)],
)  # fmt: skip
def test_nothing_else_is_served(
    served: tuple[Any, int], method: str, path: str, status: int
) -> None:
    assert ask(served[1], path, method)[0] == status


def test_one_name_can_be_asked_for(served: tuple[Any, int]) -> None:
    text = ask(served[1], "/metrics?name[]=mkupgrade_transaction_unfinished")[2]
    assert samples(text) == {("mkupgrade_transaction_unfinished", ""): 0}


def test_a_journal_that_cannot_be_read_is_no_zero(served: tuple[Any, int]) -> None:
    host, port = served
    (host.state / "journal.db").write_bytes(b"no journal")
    status, _, text = ask(port, "/metrics")
    assert status == 503
    assert "mkupgrade_transactions" not in text


@pytest.mark.slow
def test_the_command_serves_until_a_signal(failed: Any) -> None:
    with failed.start("metrics", "--listen", "127.0.0.1:0", "--json") as process:
        line = process.stdout.readline()
        port = int(line.rpartition(":")[2].strip('"}\n '))
        assert ask(port, "/metrics")[0] == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


@pytest.mark.parametrize("address", ["9925", "127.0.0.1:", ":9925", "127.0.0.1:70000", "a:b"])
def test_an_address_is_not_guessed(run: Any, address: str) -> None:
    shown = run("metrics", "--listen", address)
    assert shown.exit_code == 1
    assert "is no ADDRESS:PORT" in shown.stderr


def test_a_port_that_is_taken_is_named(run: Any, served: tuple[Any, int]) -> None:
    shown = run("metrics", "--listen", f"127.0.0.1:{served[1]}")
    assert shown.exit_code == 1
    assert "cannot listen" in shown.stderr


# -- read only


@needs_root
def test_a_state_directory_that_cannot_be_written_is_read(failed: Any) -> None:
    state = _given_to_nobody(failed)
    state.chmod(0o500)
    before = sorted(path.name for path in state.iterdir())
    found = as_user(lambda: numbers.look(state).model_dump(mode="json"))
    assert found["transactions"]["rolled-back"] == 1
    assert sorted(path.name for path in state.iterdir()) == before


@needs_root
@pytest.mark.slow
def test_what_a_killed_writer_left_in_its_log_is_read(mkupgrade: Any) -> None:
    mkupgrade.change_host(faults={"restore/counter": {"kind": "die-before"}})
    mkupgrade.process("apply", mkupgrade.spec, "--yes", code=-signal.SIGKILL)
    state = _given_to_nobody(mkupgrade)
    assert (state / "journal.db-wal").stat().st_size
    state.chmod(0o500)
    found = as_user(lambda: numbers.look(state).model_dump(mode="json"))
    assert found["unfinished"] is not None
    assert found["journal_events"] > 5


def _given_to_nobody(host: Any) -> Path:
    """The state directory as another user's own, where that user can get to it."""
    for directory in [host.directory, *host.directory.parents][:-2]:
        if directory.stat().st_uid == os.geteuid():
            directory.chmod(directory.stat().st_mode | 0o011)
    for path in [host.state, *host.state.rglob("*")]:
        os.chown(path, ORDINARY, ORDINARY)
    return Path(host.state)


def test_no_other_verb_imports_the_library() -> None:
    root = Path(numbers.__file__).parents[1]
    users = [p for p in root.rglob("*.py") if "prometheus_client" in p.read_text("utf-8")]
    assert sorted(p.relative_to(root).as_posix() for p in users) == [
        "cli/metrics.py",
        "cli/verbs/metrics.py",
    ]
