"""`nixos upgrade` where the kernel stays, over a real store and a recorded switch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import staged
from orchestrator.nixos import systems
from orchestrator.system import systemd
from tests.support.kexec import PretendKexec
from tests.support.nix_store import NixStore, needs_nix

pytestmark = [pytest.mark.slow, needs_nix]

PLAN = """\
api_version: mkupgrade/v1
metadata: {{name: web}}
host: {{driver: simulated, state_dir: "{state}"}}
instances:
  - {{name: host, kernel: {{nixos: {{profile: system}}}}}}
checks:
  - name: page
    kind: file
    path: "{page}"
    when: [before, after, soak]
    within: "50ms"
    interval: "10ms"
soak: {{duration: "20ms", interval: "10ms"}}
"""


class Host:
    """It runs `old`, the profile's generation 1; `new` has the same kernel."""

    def __init__(self, run: Any, store: NixStore, directory: Path) -> None:
        self.store = store
        self.old, self.new = store.system("old"), store.system("new")
        store.set(self.old)
        store.boot(self.old)
        self.page, self.plan = directory / "page", directory / "plan.yaml"
        self.page.touch()
        text = PLAN.format(state=directory / "own", page=self.page)
        self.plan.write_text(text, encoding="utf-8")
        self._run = run

    def upgrade(self, *arguments: object) -> Any:
        given = arguments or ("--store-path", self.new, "--yes")
        return self._run("nixos", "upgrade", *given, "--plan", self.plan, "--json")

    def stands(self) -> tuple[str | None, str | None, str]:
        """What the profile leads to, what the menu starts, what is current."""
        return self.store.stands()[1:]


@pytest.fixture
def host(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(systemd, "is_running", lambda: False)
    store = NixStore(tmp_path, monkeypatch)
    monkeypatch.setattr(systems, "REAL", store.places)
    return Host(run, store, tmp_path)


def test_a_system_with_the_same_kernel_is_switched_to_and_held(host: Host) -> None:
    shown = host.upgrade()
    assert shown.exit_code == 0, shown.stderr
    told = json.loads(shown.stdout)
    assert (told["decision"]["enough"], told["switched"]["toplevel"]) == ("switch", host.new)
    assert host.stands() == (host.new, "new", host.new)
    host.store.nix("nix-env", "--profile", host.store.profile, "--switch-generation", "1")
    host.store.nix("nix-env", "--profile", host.store.profile, "--delete-generations", "2")
    host.store.collect()
    assert Path(host.new).is_dir()


def test_what_was_switched_to_is_nothing_to_do_again(host: Host) -> None:
    host.upgrade()
    calls = host.store.calls()
    shown = host.upgrade("--profile", "system", "--yes")
    assert json.loads(shown.stdout)["changes_pending"] is False
    assert host.store.calls() == calls


def test_the_packages_that_change_are_shown(run: Any, host: Host) -> None:
    shown = run("nixos", "upgrade", "--store-path", host.new, "--yes")
    assert shown.exit_code == 0, shown.stderr
    assert "A plain switch is enough" in shown.stdout
    assert "nixos-system-new" in shown.stdout
    assert f"Switched to {host.new}; the kernel runs on." in shown.stdout


def test_nobody_asked_is_told_the_command_that_does_it(run: Any, host: Host) -> None:
    shown = host.upgrade("--store-path", host.new)
    error = json.loads(shown.stderr.splitlines()[-1])["error"]
    assert shown.exit_code == 1
    assert host.store.calls() == []
    assert run(*str(error["next_command"]).split()[1:]).exit_code == 0
    assert host.stands() == (host.new, "new", host.new)


def test_units_that_fail_end_with_a_code_of_their_own(run: Any, host: Host) -> None:
    host.store.end_with("new", "switch", 4)
    shown = run("nixos", "upgrade", "--store-path", host.new, "--yes")
    assert shown.exit_code == 9
    assert "systemctl status shop.service mail.service" in shown.stderr
    assert host.stands() == (host.new, "new", host.new)


def test_a_check_that_fails_before_leaves_everything_alone(host: Host) -> None:
    host.page.unlink()
    shown = host.upgrade()
    assert shown.exit_code == 1
    assert json.loads(shown.stderr.splitlines()[-1])["error"]["state"] == "nothing was changed"
    assert host.store.calls() == []


def test_a_check_that_fails_behind_the_switch_takes_it_back(host: Host) -> None:
    system = Path(host.new) / "bin/switch-to-configuration"
    system.parent.chmod(0o755)
    system.chmod(0o755)
    text = system.read_text("utf-8")
    system.write_text(text + f'if [ "$1" = switch ]; then rm {host.page}; fi\n', encoding="utf-8")
    shown = host.upgrade()
    assert shown.exit_code == 3
    error = json.loads(shown.stderr.splitlines()[-1])["error"]
    assert error["what"].startswith("switched back: ")
    assert "page" in error["details"][0]
    assert host.stands() == (host.old, "old", host.old)


@pytest.mark.parametrize(("when", "ours"), [("before", 1), ("after", 3)])
def test_ctrl_c_leaves_the_old_system(host: Host, when: str, ours: int) -> None:
    """Before the switch nothing has happened, behind it everything is taken back."""
    check = f'{{name: ctrl-c, kind: command, run: [kill, -INT, "{os.getpid()}"], when: [{when}]}}'
    text = host.plan.read_text("utf-8").replace("checks:\n", f"checks:\n  - {check}\n")
    host.plan.write_text(text, encoding="utf-8")
    shown = host.upgrade()
    assert shown.exit_code == ours
    error = json.loads(shown.stderr.splitlines()[-1])["error"]
    assert error["what"].endswith("stopped on request")
    assert host.stands()[::2] == (host.old, host.old)
    assert (host.store.calls() == []) is (when == "before")


@pytest.mark.parametrize(("code", "ours"), [(2, 3), (100, 100)])
def test_exit_codes_of_a_switch_that_was_put_back_say_what_it_was(
    host: Host, code: int, ours: int
) -> None:
    host.store.end_with("new", "switch", code)
    assert host.upgrade().exit_code == ours
    assert host.stands() == (host.old, "old", host.old)


def test_what_was_preloaded_for_another_system_is_unloaded(
    run: Any, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart would end in it, by kexec. The boot loader's hook cannot see to it: we are at
    work."""
    kexec = PretendKexec()
    monkeypatch.setattr(staged, "machine", lambda: kexec)
    other = host.store.system("other", "6.18.2")
    run("nixos", "stage", "--preload", other, "--state-dir", tmp_path / "own")
    assert kexec.loaded is not None
    shown = host.upgrade()
    assert shown.exit_code == 0, shown.stderr
    assert kexec.loaded is None
    assert f"The kernel of {other}, preloaded before, is unloaded." in shown.stderr


def test_nothing_is_switched_while_somebody_is_at_work(host: Host, tmp_path: Path) -> None:
    from orchestrator.engine.lock import HostLock
    from orchestrator.system.files import make_private_directory

    lock = HostLock(make_private_directory(tmp_path / "own"))
    lock.acquire("apply")
    try:
        shown = host.upgrade()
    finally:
        lock.release()
    assert shown.exit_code == 6
    assert host.store.calls() == []
