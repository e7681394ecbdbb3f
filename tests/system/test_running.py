"""The running kernel, on hosts made of files."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.model.host import Abi
from orchestrator.system import kernel_image, running
from tests.support.images import bz_image, kernel

Root = Callable[[dict[str, str | bytes]], Path]
VERSION = "#1 SMP PREEMPT_DYNAMIC Mon Nov 23 15:15:53 UTC 2026"
ABOUT = {
    "proc/sys/kernel/osrelease": "7.2.13\n",
    "proc/sys/kernel/version": VERSION + "\n",
    "proc/cmdline": "root=/dev/vda kho=on\n",
    "proc/sys/kernel/tainted": "4097\n",
}
IMAGE = bytes(bz_image(gzip.compress(kernel())))


@pytest.mark.parametrize("place", ["boot/vmlinuz-7.2.13", "usr/lib/modules/7.2.13/vmlinuz"])
def test_the_own_image_is_found_and_tells_the_abi(place: str, host_root: Root) -> None:
    root = host_root({**ABOUT, place: IMAGE, "boot/initrd.img-7.2.13": "070701"})
    found = running.kernel_state(root)
    assert found.image == str(root / place)
    assert found.initrd == str(root / "boot/initrd.img-7.2.13")
    assert found.abi == Abi(kho="kho-v4", luo="luo-v5", memfd="memfd-v2")
    assert (found.release, found.version, found.tainted) == ("7.2.13", VERSION, 4097)
    assert found.cmdline == "root=/dev/vda kho=on"


def test_the_own_files_on_nixos_are_those_that_stay_when_another_system_is_booted(
    host_root: Root,
) -> None:
    """Behind a jump /run/booted-system leads to the new system: the way back must not."""
    files = {"store/old/kernel": IMAGE, "store/old/initrd": "070701"}
    root = host_root({**ABOUT, **files})
    (root / "run").mkdir(exist_ok=True)
    (root / "run/booted-system").symlink_to(root / "store/old")
    found = running.kernel_state(root)
    assert found.image == str((root / "store/old/kernel").resolve())
    assert found.initrd == str((root / "store/old/initrd").resolve())
    assert found.system == str((root / "store/old").resolve())


def test_another_build_of_the_release_is_not_the_way_back(host_root: Root) -> None:
    other = bytes(bz_image(gzip.compress(kernel()), b"7.2.13 (who@where) #2 SMP later"))
    found = running.kernel_state(host_root({**ABOUT, "boot/vmlinuz-7.2.13": other}))
    assert (found.image, found.initrd, found.abi) == (None, None, Abi())


def test_a_version_that_the_kernel_cut_off_still_fits(host_root: Root) -> None:
    long = "#1 SMP PREEMPT_DYNAMIC Debian 7.3.4-1~bpo13+1 (2026-11-15) and so on and on"
    image = bytes(bz_image(gzip.compress(kernel()), f"7.2.13 (a@b) {long}".encode()))
    content = {**ABOUT, "boot/vmlinuz-7.2.13": image, "proc/sys/kernel/version": long[:64]}
    assert running.kernel_state(host_root(content)).image is not None
    content["proc/sys/kernel/version"] = long[:30]
    assert running.kernel_state(host_root(content)).image is None


def test_a_host_of_nothing_is_told_as_nothing(tmp_path: Path) -> None:
    found = running.kernel_state(tmp_path)
    assert (found.release, found.image) == ("", None)
    state = running.kexec_state(tmp_path)
    assert not state.supported
    assert not state.loaded
    assert running.config(tmp_path) is None


def test_kexec_state_is_read(host_root: Root) -> None:
    root = host_root(
        {
            "sys/kernel/kexec_loaded": "1\n",
            "proc/sys/kernel/kexec_load_disabled": "0\n",
            "proc/sys/kernel/kexec_load_limit_reboot": "-1\n",
            "sys/kernel/security/lockdown": "none [integrity] confidentiality\n",
        }
    )
    assert running.kexec_state(root) == running.KexecState(
        supported=True,
        loaded=True,
        disabled=False,
        loads_left=None,
        lockdown="integrity",
        signature_enforced=True,
    )


def test_a_forced_signature_is_seen_in_the_configuration(host_root: Root) -> None:
    root = host_root({"proc/config.gz": gzip.compress(b"CONFIG_KEXEC_SIG_FORCE=y\n")})
    assert running.kexec_state(root).signature_enforced


@pytest.mark.parametrize(
    ("cmdline", "value"),
    [
        ("quiet", None),
        ("kho=on", "on"),
        ("kho", ""),
        ("kho=on kho=off", "off"),
        ("nokho=on xkho=1", None),
        ("quiet -- kho=on", None),
    ],
)
def test_the_last_of_a_parameter_counts(cmdline: str, value: str | None) -> None:
    assert running.parameter(cmdline, "kho") == value


def test_the_own_image_is_not_unpacked_where_there_is_no_abi_to_find(
    host_root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = host_root(
        {**ABOUT, "boot/vmlinuz-7.2.13": IMAGE, "boot/config-7.2.13": "CONFIG_KEXEC=y\n"}
    )
    monkeypatch.setattr(kernel_image, "image_facts", lambda _: pytest.fail("unpacked"))
    found = running.kernel_state(root)
    assert (found.image, found.abi) == (str(root / "boot/vmlinuz-7.2.13"), Abi())
