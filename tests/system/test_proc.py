"""/proc: recorded samples, the awkward ones first, and the live one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.errors import WorkloadError
from orchestrator.system import proc

Root = Callable[[dict[str, str | bytes]], Path]


def stat_line(
    pid: int, parent: int, started: int, name: str = "x", *, state: str = "S", pages: int = 10
) -> str:
    middle = " ".join(["0"] * 13)
    return f"{pid} ({name}) {state} {parent} {pid} {pid} 0 {middle} 0 {started} 1000 {pages} 0 0\n"


@pytest.fixture
def family(host_root: Root) -> Path:
    """1 -> 10 -> (11 -> 12), 13; 20 claims parent 11 but is older than it."""
    return host_root(
        {
            "1/stat": stat_line(1, 0, 1, "init"),
            "10/stat": stat_line(10, 1, 100, "server"),
            "10/cmdline": b"python3\0server.py\0--port\x007777\0",
            "11/stat": stat_line(11, 10, 110),
            "11/cmdline": b"python3\0server.py\0worker\0",
            "12/stat": stat_line(12, 11, 120),
            "12/cmdline": b"other\0",
            "13/stat": stat_line(13, 10, 105, state="Z"),
            "20/stat": stat_line(20, 11, 50),
            "self/stat": stat_line(12, 11, 120),
        }
    )


def test_a_tree_has_parents_before_children_and_its_root_first(family: Path) -> None:
    assert [p.pid for p in proc.tree(10, family)] == [10, 11, 13, 12]


def test_a_child_older_than_its_parent_is_none(family: Path) -> None:
    assert 20 not in [p.pid for p in proc.tree(1, family)]


def test_the_tree_of_nobody_is_empty(family: Path) -> None:
    assert proc.tree(99, family) == []


@pytest.mark.parametrize("name", ["a b", "a) S 1 1", "((", ") R 0 0 0 (", "\n", "é", "x" * 15, ""])
def test_a_process_cannot_forge_its_line_by_its_name(name: str, host_root: Root) -> None:
    root = host_root({"7/stat": stat_line(7, 3, 42, name, pages=5)})
    found = proc.process(7, root)
    assert found is not None
    assert (found.pid, found.parent, found.started, found.name) == (7, 3, 42, name)
    assert found.resident_bytes == 5 * os.sysconf("SC_PAGE_SIZE")


@given(st.binary(max_size=300))
def test_no_line_raises(raw: bytes) -> None:
    proc._parse_stat(raw)


def test_a_pid_used_again_is_another_process(family: Path) -> None:
    known = proc.process(11, family)
    assert known is not None
    assert proc.alive(known, family)
    (family / "11/stat").write_text(stat_line(11, 10, 999))
    assert not proc.alive(known, family)


def test_a_zombie_is_not_alive(family: Path) -> None:
    zombie = proc.process(13, family)
    assert zombie is not None
    assert not proc.alive(zombie, family)


def test_arguments_keep_their_borders(family: Path) -> None:
    assert proc.arguments(10, family) == ["python3", "server.py", "--port", "7777"]
    assert proc.arguments(13, family) == []


def test_the_topmost_match_is_the_root(family: Path) -> None:
    found = proc.find_by_arguments(r"server\.py", family)
    assert found is not None
    assert found.pid == 10
    assert proc.find_by_arguments("nothing like it", family) is None


def test_two_unrelated_matches_are_an_error(family: Path) -> None:
    (family / "20/cmdline").write_bytes(b"python3\0server.py\0")
    with pytest.raises(WorkloadError, match=r"2 unrelated processes match .*: pids 10, 20"):
        proc.find_by_arguments(r"server\.py", family)


def test_who_looks_is_never_found() -> None:
    marker = "".join(("mkupgrade-", "who-looks"))
    script = f"from orchestrator.system import proc; print(proc.find_by_arguments('{marker}'))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "None\n"


def test_a_cgroup_is_that_of_version_2(host_root: Root) -> None:
    root = host_root({"7/cgroup": "1:name=systemd:/old\n0::/system.slice/x.service\n"})
    assert proc.cgroup(7, root) == "/system.slice/x.service"
    assert proc.cgroup(8, root) is None


def test_memory_is_in_bytes(host_root: Root) -> None:
    root = host_root({"meminfo": "MemTotal:  100 kB\nMemFree: 1 kB\nMemAvailable:   50 kB\n"})
    assert proc.memory(root) == proc.Memory(total=102400, available=51200)
    assert proc.memory(root / "missing") == proc.Memory(0, 0)


def test_taken_pids_are_told(family: Path) -> None:
    assert [p.pid for p in proc.taken_pids([11, 500, 12], family)] == [11, 12]


def test_the_live_proc_tells_of_this_process() -> None:
    me = proc.process(os.getpid())
    assert me is not None
    assert me.parent == os.getppid()
    assert proc.alive(me)
    assert me in proc.tree(os.getppid())
    assert me.resident_bytes > 1 << 20
    assert proc.release() == os.uname().release
    assert proc.version() == os.uname().version
    assert len(proc.boot_id()) == 36
    assert proc.memory().total > proc.memory().available > 0
    assert 0 < proc.ns_last_pid() <= proc.pid_max()
    assert proc.environment(os.getpid())["PATH"]
    assert proc.cpus() >= 1
