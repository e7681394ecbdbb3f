"""`make`, bootstrap and CI: what is missing is named, and nothing is half done."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.rehearsal.firmware import Firmware
from orchestrator.rehearsal.kernel_build import fragment
from orchestrator.rehearsal.machine import CMDLINE, Setup
from orchestrator.rehearsal.qemu import Hardware, Qemu, qemu_arguments

ROOT = Path(__file__).parents[2]


@pytest.fixture
def poor_host(tmp_path: Path) -> dict[str, str]:
    """A PATH with the tools of every system, nobody as the user, and nothing of ours."""
    room = tmp_path / "bin"
    room.mkdir()
    for tool in ("sh", "cat", "cksum", "dirname", "uname"):
        (room / tool).symlink_to(shutil.which(tool) or "/bin/false")
    (room / "id").write_text("#!/bin/sh\necho 1000\n")
    (room / "id").chmod(0o755)
    (room / "python3").symlink_to(sys.executable)
    return {"PATH": str(room), "HOME": str(tmp_path)}


def bootstrap(env: dict[str, str], *parts: str) -> subprocess.CompletedProcess[str]:
    script = str(ROOT / "scripts" / "bootstrap")
    command = ["/bin/sh", script, *parts]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_what_is_missing_is_named_by_its_package_and_nothing_is_installed(
    poor_host: dict[str, str],
) -> None:
    done = bootstrap(poor_host, "vm")
    assert done.returncode == 1
    for package in ("gcc", "qemu-system-x86", "mmdebstrap", "fakeroot"):
        assert package in done.stderr
    assert "apt-get install" in done.stderr
    assert "installing by apt" not in done.stderr


def test_an_unknown_part_is_refused(poor_host: dict[str, str]) -> None:
    assert bootstrap(poor_host, "everything").returncode == 2


@pytest.mark.parametrize("script", ["scripts/bootstrap", ".ci/run"])
def test_scripts_can_be_run(script: str) -> None:
    path = ROOT / script
    assert os.access(path, os.X_OK)
    shell = "bash" if "bash" in path.read_text().splitlines()[0] else "sh"
    subprocess.run([shell, "-n", str(path)], check=True)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_demo_hands_its_variables_to_rehearse() -> None:
    command = ["make", "-n", "demo", "CHANNEL=disk", "KERNELS=stock", "FROM=a", "TO=b"]
    # Under `make test` this is a make below a make, unless it does not know.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    said = done.stdout
    assert "vm-stock" in said
    options = said.split("plans/live-update.yaml")[1].split()
    assert options == ["--channel", "disk", "--stock", "--from", "a", "--to", "b"]


def test_the_kernels_configuration_has_what_the_job_needs() -> None:
    lines = set(fragment().decode().splitlines())
    for name in ("KEXEC_FILE", "KEXEC_HANDOVER", "LIVEUPDATE_MEMFD", "TIME_NS", "NF_TABLES"):
        assert f"CONFIG_{name}=y" in lines


def test_the_guest_reaches_nothing_and_is_reached_at_the_loopback_only(tmp_path: Path) -> None:
    hardware = Hardware(Path("k"), "c", disk=Path("d"), forwards=(7777, 7778))
    said = " ".join(qemu_arguments(hardware, ("-accel", "tcg"), tmp_path))
    assert "restrict=on" in said
    assert said.count("hostfwd=tcp:127.0.0.1:0-") == 2
    assert "snapshot=on" in said
    # A panic must be a reset into the default entry, not the end.
    assert "-no-reboot" not in said
    assert "panic=" in CMDLINE


def test_the_watchdog_and_the_initrd_are_there_only_if_asked_for(tmp_path: Path) -> None:
    plain = qemu_arguments(Hardware(Path("k"), "c"), (), tmp_path)
    assert "i6300esb" not in plain
    assert "-initrd" not in plain
    full = Hardware(Path("k"), "c", initrd=Path("i"), watchdog=True)
    arguments = qemu_arguments(full, (), tmp_path)
    assert "i6300esb" in arguments
    assert arguments[arguments.index("-initrd") + 1] == "i"


def test_a_frozen_machine_is_read_before_it_goes_on_and_keeps_its_changes_only_if_asked(
    tmp_path: Path,
) -> None:
    frozen = Hardware(Path("k"), "c", disk=Path("d"), frozen=Path("a room/memory"))
    arguments = qemu_arguments(frozen, (), tmp_path)
    assert arguments[arguments.index("-incoming") + 1] == "exec:cat 'a room/memory'"
    assert "snapshot=on" in " ".join(arguments)
    kept = qemu_arguments(Hardware(Path("k"), "c", disk=Path("d"), disk_kept=True), (), tmp_path)
    assert "-incoming" not in kept
    assert "snapshot=off" in " ".join(kept)


def test_with_firmware_the_loader_chooses_the_kernel_and_nothing_of_ours_is_written(
    tmp_path: Path,
) -> None:
    firmware = Firmware(Path("code"), Path("vars"), Path("esp"))
    hardware = Hardware(Path("k"), "c", disk=Path("d"), firmware=firmware)
    arguments = qemu_arguments(hardware, (), tmp_path)
    assert not {"-kernel", "-append", "-initrd"} & set(arguments)
    drives = [a for a in arguments if "file=" in a and "format=raw" in a]
    assert len(drives) == 4
    assert all("snapshot=on" in drive or "readonly=on" in drive for drive in drives)
    indices = [a.rpartition("bootindex=")[2][0] for a in arguments if "bootindex=" in a]
    assert sorted(indices) == ["0", "1"]


def test_the_command_line_says_which_init_and_whether_state_is_handed_over() -> None:
    small = Setup(kernel=Path("k"), cmdline="quiet").command_line()
    assert small.endswith("init=/usr/sbin/mkupgrade-init kho=on liveupdate=on quiet")
    full = Setup(kernel=Path("k"), systemd=True, handover=False).command_line()
    assert full.endswith("init=/usr/lib/systemd/systemd kho=off")


def test_a_socket_that_nobody_listens_at_yet_is_tried_again(tmp_path: Path) -> None:
    """QEMU binds it a moment before."""
    qemu = Qemu.__new__(Qemu)
    qemu.room = tmp_path
    qemu._process = SimpleNamespace(poll=lambda: None)  # type: ignore[assignment]
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "qmp"))
        later = threading.Timer(0.1, server.listen)
        later.start()
        qemu._connected("qmp").close()
        later.join()
