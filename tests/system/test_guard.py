"""Who may change a host's kernel: every condition on its own, on a host made of files."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.model.errors import GuardError
from orchestrator.system import guard
from orchestrator.system.guard import GuardPaths, HostGuard, objections

MACHINE = "0123456789abcdef0123456789abcdef"
BOOT = "5ec6a034-8943-42a1-a970-d429f4616661"
NAMESPACES = {
    "cgroup": 4026531835,
    "ipc": 4026531839,
    "mnt": 4026531832,
    "net": 4026531833,
    "pid": 4026531836,
    "user": 4026531837,
    "uts": 4026531838,
}


@pytest.fixture
def paths(host_root: Callable[[dict[str, str | bytes]], Path]) -> GuardPaths:
    """A machine on which everything is in order."""
    root = host_root(
        {
            "etc/machine-id": MACHINE + "\n",
            "etc/mkupgrade/host.permit": MACHINE + "\n",
            "proc/1/environ": b"HOME=/\0TERM=linux\0",
            "proc/sys/kernel/random/boot_id": BOOT + "\n",
        }
    )
    for pid in ("1", "self"):
        (root / "proc" / pid / "ns").mkdir(parents=True)
        for name, number in NAMESPACES.items():
            (root / "proc" / pid / "ns" / name).symlink_to(f"{name}:[{number}]")
    for directory in ("etc", "etc/mkupgrade"):
        (root / directory).chmod(0o755)
    (root / "etc/mkupgrade/host.permit").chmod(0o600)
    return GuardPaths(
        permit=root / "etc/mkupgrade/host.permit",
        machine_id=root / "etc/machine-id",
        proc=root / "proc",
        container_marks=(root / "run/systemd/container",),
        owner=os.geteuid(),
    )


def test_a_permitted_machine_raises_no_objection(paths: GuardPaths) -> None:
    assert objections(paths, boot_id=BOOT, machine_id=MACHINE) == []


def test_no_permit_no_leave(paths: GuardPaths) -> None:
    paths.permit.unlink()
    (reason,) = objections(paths)
    assert reason == f"this machine was not permitted: no {paths.permit}"


def test_a_permit_of_another_machine_is_none(paths: GuardPaths) -> None:
    paths.permit.write_text("f" * 32)
    (reason,) = objections(paths)
    assert "for another machine" in reason


def test_an_empty_machine_id_matches_no_permit(paths: GuardPaths) -> None:
    paths.machine_id.write_text("")
    paths.permit.write_text("")
    assert objections(paths)


def test_a_link_is_no_permit(paths: GuardPaths) -> None:
    paths.permit.rename(paths.permit.with_name("real"))
    paths.permit.symlink_to("real")
    (reason,) = objections(paths)
    assert "cannot be read" in reason


def test_a_pipe_is_no_permit_and_does_not_block(paths: GuardPaths) -> None:
    paths.permit.unlink()
    os.mkfifo(paths.permit)
    (reason,) = objections(paths)
    assert "not a regular file" in reason


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_permit_that_others_can_write_is_none(mode: int, paths: GuardPaths) -> None:
    paths.permit.chmod(mode)
    (reason,) = objections(paths)
    assert "can be written by others" in reason


@pytest.mark.parametrize("directory", ["etc", "etc/mkupgrade"])
def test_a_directory_that_others_can_write_spoils_the_permit(
    directory: str, paths: GuardPaths
) -> None:
    (paths.machine_id.parent.parent / directory).chmod(0o777)
    (reason,) = objections(paths)
    assert "can be written by others" in reason


def test_a_permit_of_another_owner_is_none(paths: GuardPaths) -> None:
    (reason,) = objections(replace(paths, owner=os.geteuid() + 1))
    assert "belongs to user" in reason


def test_the_plans_machine_must_be_this_one(paths: GuardPaths) -> None:
    (reason,) = objections(paths, machine_id="e" * 32)
    assert "the plan was made for machine" in reason


def test_a_restart_ends_the_leave(paths: GuardPaths) -> None:
    (reason,) = objections(paths, boot_id="another")
    assert "has restarted" in reason
    (paths.proc / "sys/kernel/random/boot_id").unlink()
    assert objections(paths, boot_id=BOOT)


def test_a_container_mark_refuses(paths: GuardPaths) -> None:
    (mark,) = paths.container_marks
    mark.parent.mkdir(parents=True)
    mark.write_text("docker")
    (reason,) = objections(paths)
    assert reason == f"inside a container: {mark} is there"


def test_container_in_the_environment_of_pid_1_refuses(paths: GuardPaths) -> None:
    (paths.proc / "1/environ").write_bytes(b"A=b\0container=lxc\0")
    (reason,) = objections(paths)
    assert "container=" in reason


@pytest.mark.parametrize("name", sorted(NAMESPACES))
def test_another_namespace_than_pid_1_refuses(name: str, paths: GuardPaths) -> None:
    link = paths.proc / "self/ns" / name
    link.unlink()
    link.symlink_to(f"{name}:[4026532999]")
    (reason,) = objections(paths)
    assert f"{name} namespace" in reason


@pytest.mark.parametrize("name", ["cgroup", "pid", "user"])
def test_a_container_whose_init_is_pid_1_is_told_by_its_namespaces(
    name: str, paths: GuardPaths
) -> None:
    for pid in ("1", "self"):
        link = paths.proc / pid / "ns" / name
        link.unlink()
        link.symlink_to(f"{name}:[4026532999]")
    (reason,) = objections(paths)
    assert "inside a container" in reason


def test_what_cannot_be_seen_counts_against(paths: GuardPaths) -> None:
    (paths.proc / "1/environ").unlink()
    assert objections(paths)


def test_permit_and_forbid_go_there_and_back(paths: GuardPaths) -> None:
    assert guard.forbid_host(paths)
    assert not guard.forbid_host(paths)
    assert objections(paths)
    assert guard.permit_host(paths) == paths.permit
    assert paths.permit.stat().st_mode & 0o777 == 0o600
    assert objections(paths) == []
    assert [p.name for p in paths.permit.parent.iterdir()] == ["host.permit"]


def test_permit_is_refused_in_a_container(paths: GuardPaths) -> None:
    guard.forbid_host(paths)
    (paths.proc / "1/environ").write_bytes(b"container=podman\0")
    with pytest.raises(GuardError, match="container"):
        guard.permit_host(paths)
    assert not paths.permit.exists()


def test_permit_is_refused_without_a_machine_id(paths: GuardPaths) -> None:
    paths.machine_id.write_text("uninitialized\n")
    with pytest.raises(GuardError, match="machine id") as refused:
        guard.permit_host(paths)
    assert refused.value.next_command == "systemd-machine-id-setup"


def test_permit_is_for_root(paths: GuardPaths) -> None:
    guard.forbid_host(paths)
    with pytest.raises(GuardError, match="only root") as refused:
        guard.permit_host(replace(paths, owner=os.geteuid() + 1))
    assert refused.value.next_command == "sudo mkupgrade host permit"
    assert not paths.permit.exists()


def test_permit_is_refused_where_others_could_replace_it(paths: GuardPaths) -> None:
    guard.forbid_host(paths)
    paths.permit.parent.parent.chmod(0o777)
    with pytest.raises(GuardError, match="can be written by others"):
        guard.permit_host(paths)
    assert not paths.permit.exists()


def test_a_refusal_says_every_reason_and_the_next_command(
    paths: GuardPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths.permit.unlink()
    (paths.proc / "1/environ").write_bytes(b"container=podman\0")
    monkeypatch.setattr(guard, "REAL", paths)
    opened = HostGuard.open(machine_id="e" * 32)
    with pytest.raises(GuardError) as refused:
        opened.require("load a kernel")
    assert refused.value.what.startswith("refused to load a kernel: ")
    assert len(refused.value.details) == 3
    assert refused.value.next_command == "mkupgrade host permit"
