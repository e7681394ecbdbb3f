"""Every capability has a reason that an operator can act on."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.model.host import Abi, BootState, Cap, Capability, KernelState
from orchestrator.system import capabilities, open_files, resume_unit, subprocesses
from orchestrator.system.subprocesses import Completed

Root = Callable[[dict[str, str | bytes]], Path]
EVERYTHING = {
    "KEXEC_FILE", "KEXEC_SIG", "KEXEC_HANDOVER", "LIVEUPDATE", "LIVEUPDATE_MEMFD",
    "CHECKPOINT_RESTORE", "NAMESPACES", "UNIX_DIAG", "SECURITY_NETWORK", "INET_DIAG",
    "INET_TCP_DIAG", "NF_TABLES", "NF_TABLES_INET",
}  # fmt: skip
ABI = Abi(kho="kho-v4", luo="luo-v5", memfd="memfd-v2")


def config(*without: str) -> bytes:
    return gzip.compress("".join(f"CONFIG_{n}=y\n" for n in EVERYTHING - set(without)).encode())


def state(cmdline: str = "kho=on liveupdate=on", abi: Abi = ABI, **rest: str) -> KernelState:
    return KernelState(release="7.2.13", cmdline=cmdline, abi=abi, **rest)  # type: ignore[arg-type]


def look(root: Path, kernel: KernelState | None = None) -> dict[Cap, Capability]:
    return capabilities.observe(root, kernel or state(), BootState(), None, root)


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> dict[str, Completed]:
    """Programs answer from here; one that is not here is not installed."""
    answers: dict[str, Completed] = {}
    monkeypatch.setattr(subprocesses, "available", lambda p: p if p in answers else None)
    monkeypatch.setattr(
        subprocesses, "run", lambda argv, **_: answers.get(" ".join(argv), answers[argv[0]])
    )
    return answers


def said(text: str = "", code: int = 0) -> Completed:
    return Completed(("x",), code, text.encode(), b"")


def test_every_capability_is_told_with_a_reason(tmp_path: Path) -> None:
    found = look(tmp_path)
    assert set(found) == set(Cap) - {Cap.SIDE_BY_SIDE, Cap.INSTANCE_VSOCK}
    assert [cap for cap, capability in found.items() if not capability.reason] == []


@pytest.mark.parametrize(
    ("content", "cap", "reason"),
    [
        ({}, Cap.KEXEC_FILE, "no kexec"),
        ({"proc/config.gz": config("KEXEC_FILE")}, Cap.KEXEC_FILE, "CONFIG_KEXEC_FILE is not set"),
        ({"proc/sys/kernel/kexec_load_disabled": "1"}, Cap.KEXEC_FILE, "until the next reboot"),
        ({"proc/sys/kernel/kexec_load_limit_reboot": "0"}, Cap.KEXEC_FILE, "no more kernels"),
        ({"sys/kernel/security/lockdown": "[integrity]", "proc/config.gz": config("KEXEC_SIG")},
         Cap.KEXEC_FILE, "lockdown (integrity), and CONFIG_KEXEC_SIG is not set"),
        ({"proc/config.gz": config("KEXEC_HANDOVER")}, Cap.KHO, "CONFIG_KEXEC_HANDOVER is not set"),
        ({"proc/config.gz": config("LIVEUPDATE")}, Cap.LUO, "CONFIG_LIVEUPDATE is not set"),
        ({"proc/config.gz": config()}, Cap.LUO, "no /dev/liveupdate though liveupdate=on"),
    ],
)  # fmt: skip
def test_a_missing_capability_says_why(
    content: dict[str, str | bytes], cap: Cap, reason: str, host_root: Root
) -> None:
    loaded = {} if cap is Cap.KEXEC_FILE and not content else {"sys/kernel/kexec_loaded": "0"}
    found = look(host_root({**loaded, **content}))[cap]
    assert not found.available
    assert reason in found.reason


@pytest.mark.parametrize(
    ("cmdline", "available", "reason"),
    [
        ("kho=on", True, "switched on"),
        ("kho=1", True, "switched on"),
        ("kho", True, "switched on"),
        ("quiet", False, "booted without kho=on"),
        ("kho=on kho=off", False, "booted with kho=off"),
    ],
)
def test_kho_needs_its_parameter(
    cmdline: str, available: bool, reason: str, host_root: Root
) -> None:
    root = host_root({"proc/config.gz": config()})
    found = look(root, state(cmdline))[Cap.KHO]
    assert found.available is available
    assert reason in found.reason


@pytest.mark.parametrize(
    ("cmdline", "reason"),
    [
        ("kho=off liveupdate=on", "no /dev/liveupdate: it needs kho"),
        ("kho=on", "no /dev/liveupdate: the running kernel was booted without liveupdate=on"),
        ("quiet", "it needs kho, and the running kernel was booted without liveupdate=on"),
    ],
)
def test_luo_needs_kho_and_its_parameter(cmdline: str, reason: str, host_root: Root) -> None:
    found = look(host_root({"proc/config.gz": config()}), state(cmdline))[Cap.LUO]
    assert not found.available
    assert reason in found.reason


def test_kho_that_is_on_by_default_needs_none(host_root: Root) -> None:
    text = gzip.decompress(config()) + b"CONFIG_KEXEC_HANDOVER_ENABLE_DEFAULT=y\n"
    root = host_root({"proc/config.gz": gzip.compress(text)})
    assert look(root, state("quiet"))[Cap.KHO].available
    assert not look(root, state("kho=off"))[Cap.KHO].available


def test_what_is_not_known_is_not_a_yes(tmp_path: Path) -> None:
    found = look(tmp_path, state(abi=Abi()))[Cap.KHO]
    assert not found.available
    assert found.reason.startswith("not known")


def test_kexec_is_there_when_nothing_forbids_it(host_root: Root) -> None:
    root = host_root({"sys/kernel/kexec_loaded": "0", "proc/config.gz": config()})
    assert look(root)[Cap.KEXEC_FILE] == Capability(
        available=True, reason="kexec is there and allowed"
    )


def test_criu_is_asked_itself(
    host_root: Root, tools: dict[str, Completed], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = host_root({"proc/config.gz": config()})
    assert look(root)[Cap.CRIU].reason == "criu is not installed (package criu)"
    tools["criu"] = said("Version: 4.2.1\n")
    assert look(root)[Cap.CRIU].available
    tools["criu check"] = said("Error (criu/x.c:1): no ptrace\n", 1)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert look(root)[Cap.CRIU].reason == "criu check: Error (criu/x.c:1): no ptrace"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert look(root)[Cap.CRIU].reason.startswith("not known: CRIU 4.2.1")


def test_criu_check_is_not_believed_without_security_network(
    host_root: Root, tools: dict[str, Completed]
) -> None:
    tools["criu"] = said("Version: 4.2.1\n")
    found = look(host_root({"proc/config.gz": config("SECURITY_NETWORK")}))[Cap.CRIU]
    assert not found.available
    assert "CONFIG_SECURITY_NETWORK" in found.reason


@pytest.mark.parametrize(
    ("version", "release", "available"),
    [
        ("4.1.1", "7.2.13", False),
        ("4.2", "7.2.13", True),
        ("4.2.1", "7.2.13", True),
        ("5.0", "7.2.13", True),
        ("4.1.1", "6.12.3", True),
    ],
)
def test_tcp_needs_a_criu_that_knows_linux_7(
    version: str, release: str, available: bool, host_root: Root, tools: dict[str, Completed]
) -> None:
    tools["criu"] = said(f"Version: {version}\n")
    tools["nft"] = said()
    root = host_root({"proc/config.gz": config()})
    kernel = state().model_copy(update={"release": release})
    assert look(root, kernel)[Cap.CRIU_TCP].available is available


def test_tcp_needs_nft_that_works(host_root: Root, tools: dict[str, Completed]) -> None:
    tools["criu"] = said("Version: 4.2.1\n")
    root = host_root({"proc/config.gz": config()})
    assert "package nftables" in look(root)[Cap.CRIU_TCP].reason
    tools["nft"] = Completed(("nft",), 1, b"", b"Operation not permitted\n")
    assert look(root)[Cap.CRIU_TCP].reason == "nft does not work: Operation not permitted"


def test_the_old_kernel_is_the_way_back_only_with_its_image(tmp_path: Path) -> None:
    assert not look(tmp_path)[Cap.OLD_KERNEL].available
    assert look(tmp_path, state(image="/boot/vmlinuz"))[Cap.OLD_KERNEL].available


@pytest.mark.skipif(not open_files.is_volatile("/dev/shm"), reason="/dev/shm is no tmpfs")
def test_state_in_memory_is_not_durable() -> None:
    found = capabilities.observe(Path("/dev/shm/new/dir"), state(), BootState(), None)
    assert not found[Cap.DURABLE_STATE].available
    assert "tmpfs" in found[Cap.DURABLE_STATE].reason


def test_nobody_who_goes_on_at_boot_is_a_reason_not_to_jump(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "resume --boot" in look(tmp_path)[Cap.RESUME].reason
    monkeypatch.setattr(resume_unit, "problem", lambda _: "the unit is not installed")
    found = look(tmp_path)[Cap.RESUME]
    assert not found.available
    assert "`mkupgrade host permit`" in found.reason


def test_root_is_told_by_user_and_capabilities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert look(tmp_path)[Cap.ROOT].reason == "running as user 1000, not as root"
