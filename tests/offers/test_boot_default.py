"""A package that adds an entry does not change what a reset ends in."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.offers import boot_default
from orchestrator.system import _native, boot_loaders, guard, subprocesses
from orchestrator.system.guard import HostGuard
from tests.support.loaders import GRUB_CFG, NEW, OLD, Tools, grubenv
from tests.support.native import FakeCalls, Tripwire

RUNNING, OFFERED = "7.2.12+deb13-amd64", "7.3.4+deb13-amd64"


@pytest.fixture
def tools(tmp_path: Path, tripwire: Tripwire, monkeypatch: pytest.MonkeyPatch) -> Tools:
    """No native function left; only then is the guard told to let everything through."""
    found = Tools(tmp_path)
    monkeypatch.setattr(_native, "lib", FakeCalls())
    monkeypatch.setattr(guard, "objections", lambda *_args, **_kwargs: [])
    monkeypatch.setattr(subprocesses, "run", found.run)
    monkeypatch.setattr(subprocesses, "available", lambda p: p)
    return found


def grub_host(root: Path, text: str = GRUB_CFG, **environment: str) -> Path:
    (root / "boot/grub").mkdir(parents=True)
    (root / "boot/grub/grub.cfg").write_text(text)
    (root / "boot/grub/grubenv").write_text(grubenv(**environment))
    return root


def keep(root: Path) -> str | None:
    return boot_default.keep(RUNNING, OFFERED, HostGuard.open(), root)


@pytest.mark.parametrize("saved", ["gnulinux-simple-11", "0", NEW])
def test_a_default_that_became_the_new_kernel_is_put_back(
    tmp_path: Path, tools: Tools, saved: str
) -> None:
    root = grub_host(tmp_path, saved_entry=saved)
    assert keep(root) == f"the boot loader's default is Linux {RUNNING} again, until the commit"
    assert boot_loaders.observe(root).default == OLD


@pytest.mark.parametrize("saved", [OLD, "Windows"])
def test_another_default_is_left_alone(tmp_path: Path, tools: Tools, saved: str) -> None:
    assert keep(grub_host(tmp_path, saved_entry=saved)) is None
    assert tools.ran == []


def test_where_the_default_cannot_be_set_the_reason_is_told(tmp_path: Path, tools: Tools) -> None:
    fixed = GRUB_CFG.replace('"${saved_entry}"', '"0"')
    told = keep(grub_host(tmp_path, fixed)) or ""
    assert "GRUB_DEFAULT=saved" in told
    assert tools.ran == []


def test_a_choice_for_the_next_boot_is_not_undone(tmp_path: Path, tools: Tools) -> None:
    told = keep(grub_host(tmp_path, saved_entry="0", next_entry="Windows")) or ""
    assert "Windows is chosen for the next boot" in told
    assert tools.ran == []


def test_a_running_kernel_without_an_entry_is_told(tmp_path: Path, tools: Tools) -> None:
    gone = GRUB_CFG.replace(RUNNING, "6.1.0")
    assert "no single entry starts" in (keep(grub_host(tmp_path, gone, saved_entry="0")) or "")


def test_a_tool_that_fails_does_not_end_the_offer(tmp_path: Path, tools: Tools) -> None:
    tools.broken = True
    assert "apply will refuse" in (keep(grub_host(tmp_path, saved_entry="0")) or "")


def test_without_a_permit_nothing_is_set(
    tmp_path: Path, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "objections", lambda *_args, **_kwargs: ["there is no permit"])
    told = keep(grub_host(tmp_path, saved_entry="0")) or ""
    assert "mkupgrade host permit" in told
    assert "grub-set-default" in told
    assert tools.ran == []


def test_a_host_without_a_boot_loader_has_no_default(tmp_path: Path, tools: Tools) -> None:
    assert keep(tmp_path) is None
