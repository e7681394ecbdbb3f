"""Under a full systemd: an offered kernel is taken by the timer, a service is carried over, and the
boot waits for it and no longer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

from orchestrator.model.landing import FIRST_PID
from orchestrator.rehearsal.client import Client
from orchestrator.rehearsal.image import LayerFile
from orchestrator.rehearsal.kernels import KernelPair, RehearsalKernel
from orchestrator.rehearsal.machine import Guest
from orchestrator.rehearsal.package import GUEST_PROGRAMS
from tests.support import nix, nix_guest
from tests.support import upgrades as up

Boot = Callable[..., AbstractContextManager[Guest]]
UNITS = "/etc/systemd/system"
REACHED = "/run/reached"
REACHED_UNIT = f"""[Unit]
Description=Says that the boot is over: to ask systemctl takes seconds of the processor from it
After=multi-user.target mkupgrade-resume.service
[Service]
Type=oneshot
ExecStart=touch {REACHED}
[Install]
WantedBy=multi-user.target
"""
OFFER_SERVICE, OFFER_TIMER = "mkupgrade-offer.service", "mkupgrade-offer.timer"
OFFER = f"{up.STATE_DIR}/offers/host.yaml"
WINDOW = r"""
cd /run/systemd/system
mkdir -p mkupgrade-offer.timer.d mkupgrade-offer.service.d
printf '[Timer]\nOnCalendar=\nOnActiveSec=1s\nRandomizedDelaySec=0\nAccuracySec=100ms\n' \
    >mkupgrade-offer.timer.d/soon.conf
start=$(date --date=-1hour +%H:%M) end=$(date --date=+1hour +%H:%M)
printf '[Service]\nEnvironment=MKUPGRADE_WINDOW=%s-%s\n' "$start" "$end" \
    >mkupgrade-offer.service.d/window.conf
"""
"""Drop-ins until the next boot: the window has just begun. Everything else is as shipped."""
EXPORTER, CONFIRM = "mkupgrade-exporter.service", "mkupgrade-confirm.service"
LIBRARIES = "/usr/lib/python3/dist-packages"
ASK = """
from urllib.request import urlopen
print(urlopen("http://127.0.0.1:9925/metrics", timeout=60).read().decode())
"""
SWITCH = """
import json
from orchestrator.nixos.switching import run_in_a_unit
from orchestrator.system.limited import Limited
said = []
argv = ["/bin/sh", "-c", "echo $NIXOS_NO_CHECK said >&2; exit 4"]
print(json.dumps([run_in_a_unit(argv, Limited(60), said.append).returncode, said]))
"""
"""A NixOS system's switch is run in a unit, which has its environment, its words and its exit
code."""
SELDOM = 3.0
"""Seconds between two looks at what goes on beside the boot."""
COUNTER_UNIT = f"""[Unit]
Description=A service that counts
[Service]
ExecStart={up.PYTHON} {GUEST_PROGRAMS}/counter.py 7777 /var/lib/counter/log
StandardOutput=null
StandardError=null
[Install]
WantedBy=multi-user.target
"""


@nix.needs_nix
def test_an_offer_is_taken_by_the_timer_and_a_service_stays_a_service(
    boot: Boot, kernels: KernelPair, tmp_path: Path
) -> None:
    """The newest kernel that is installed is offered, and carried out by the units that ship for
    it: nobody types `apply`. The service's process is the main process of its unit again, nothing
    of it is started twice, and mkupgrade-resume.service is done when the boot goes on; though the
    unit's process is killed with the only copy of the state in its hands, and started again by
    systemd."""
    old, new = kernels.source.release, kernels.target.release
    files = {
        f"{UNITS}/counter.service": LayerFile(COUNTER_UNIT.encode()),
        f"{UNITS}/multi-user.target.wants/counter.service": f"{UNITS}/counter.service",
        f"{UNITS}/reached.service": LayerFile(REACHED_UNIT.encode()),
        f"{UNITS}/multi-user.target.wants/reached.service": f"{UNITS}/reached.service",
        **up.dying("and stay dead"),
        **{
            f"/usr/lib/systemd/system/{name}": _shipped(name)
            for name in (OFFER_SERVICE, OFFER_TIMER)
        },
        f"/usr/lib/modules/{new}/modules.dep": LayerFile(b""),
        **_nixos_units(tmp_path / "nix", kernels.target),
    }
    service = up.workload("counter", spill=False, find={"unit": "counter.service"})
    check = {"name": "unit", "kind": "systemd", "unit": "counter.service"}
    template = up.document(old, [service], checks=[check])
    with boot(systemd=True, forwards=(7777,), files=files) as guest:
        guest.wait_for_path(REACHED)
        pid = _main_pid(guest)
        with Client(guest.forwarded(7777)) as client:
            _offer(guest, template, new)
            guest.run(["systemctl", "enable", "--now", OFFER_TIMER])
            assert guest.next_kernel(240.0).release == new
            guest.wait_for_path(REACHED, timeout=300.0)
            for unit in ("mkupgrade-resume.service", "multi-user.target"):
                guest.run(["systemctl", "is-active", unit])
            _wait_until_nothing_runs(guest)
            report = up.report(guest)
            assert report["outcome"] == "committed"
            assert json.loads(guest.run(["mkupgrade", "status", "--json"]).stdout)["offers"] == []
            _assert_ids_are_kept_apart(guest, pid)
            assert up.result_of(report, "restore/counter")["from"] == "memory"
            _assert_killed_and_restarted(guest)
            assert client.wait_messages(5, 60.0)
            assert client.seen().whole, client.seen()
            assert list(client.seen().releases) == [old, new]
        assert _main_pid(guest) == pid
        assert json.loads(guest.run([up.PYTHON, "-c", SWITCH]).stdout) == [4, ["1 said"]]
        up.assert_gapless(guest, "counter")
        _assert_exported(guest)
        _assert_confirmed(guest, nix_guest.system("old", kernels.target, "quiet")[0])
        state = guest.run(["systemctl", "is-system-running", "--wait"], check=False).stdout.strip()
        assert state == "running"
        assert guest.run(["systemctl", "--failed", "--plain", "--no-legend"]).stdout == ""


def _nixos_units(store: Path, kernel: RehearsalKernel) -> dict[str, LayerFile | str]:
    """Units that the NixOS module makes, the library that one of them takes, and a system that
    might have been booted."""
    shown = '(import (at + "/eval.nix") ((import (at + "/cases.nix")).evaluated.{case})).shown'
    cases = {EXPORTER: "exporter", CONFIRM: "hooks"}
    files: dict[str, LayerFile | str] = {}
    for name, case in cases.items():
        found = nix.evaluate(store, shown.replace("{case}", case))["services"]
        text = nix.unit_file(found[name.removesuffix(".service")], "/usr/bin/mkupgrade")
        files[f"{UNITS}/{name}"] = LayerFile(text.encode())
    library = Path(str(resources.files("prometheus_client")))
    for path in library.rglob("*.py"):
        files[f"{LIBRARIES}/prometheus_client/{path.relative_to(library)}"] = LayerFile(path)
    return {**files, **nix_guest.system("old", kernel, "quiet")[1]}


def _assert_confirmed(guest: Guest, top: PurePosixPath) -> None:
    """What was staged has started, as the unit at boot sees it in its sandbox."""
    for link in ("booted-system", "current-system"):
        guest.run(["ln", "-s", str(top), f"/run/{link}"])
    guest.run(["mkupgrade", "nixos", "stage", str(top)])
    staged = f"{up.STATE_DIR}/nixos-staged.json"
    assert guest.exists(staged)
    guest.run(["systemctl", "start", CONFIRM])
    shown = ["systemctl", "show", "--property=SubState,ExecMainStatus", CONFIRM]
    guest.wait_for(["sh", "-c", f"{' '.join(shown)} | grep -q SubState=exited"])
    assert "ExecMainStatus=0" in guest.run(shown).stdout
    assert not guest.exists(staged)


def _assert_exported(guest: Guest) -> None:
    """In the sandbox of the unit, which systemd has told of itself that it answers."""
    guest.run(["systemctl", "start", EXPORTER])
    said = guest.run([up.PYTHON, "-c", ASK]).stdout
    assert 'mkupgrade_last_transaction_outcome{outcome="committed"} 1.0' in said


def _shipped(name: str) -> LayerFile:
    return LayerFile((resources.files("orchestrator") / "offers" / name).read_bytes())


def _offer(guest: Guest, template: dict[str, Any], new: str) -> None:
    """Offer what is installed, as apt's hook does, and open the window."""
    up.put_plan(guest, template)
    said = guest.run(["mkupgrade", "offer", "--installed", "--hook"]).stdout
    assert said == f"Linux {new}: offered for instance host: mkupgrade apply {OFFER}\n"
    guest.run(["sh", "-c", WINDOW])


def _assert_killed_and_restarted(guest: Guest) -> None:
    """By systemd, while the boot still waited."""
    assert not guest.exists(up.DIES_ONCE)
    assert _property(guest, up.RESUME_UNIT, "NRestarts") == "1"
    again = int(_property(guest, up.RESUME_UNIT, "ExecMainStartTimestampMonotonic"))
    assert again < int(_property(guest, "basic.target", "ActiveEnterTimestampMonotonic"))


def _assert_ids_are_kept_apart(guest: Guest, workload: int) -> None:
    """What the new boot started has ids above those of the workload, though it booted alike."""
    [begin] = re.findall(rf"{FIRST_PID}(\d+)", guest.text("/proc/cmdline"))
    assert int(begin) > workload
    assert int(_property(guest, "systemd-journald.service", "MainPID")) > int(begin)


def _property(guest: Guest, unit: str, name: str) -> str:
    shown = guest.run(["systemctl", "show", "--value", f"--property={name}", unit])
    return shown.stdout.strip()


def _main_pid(guest: Guest) -> int:
    return int(_property(guest, "counter.service", "MainPID"))


def _wait_until_nothing_runs(guest: Guest) -> None:
    """The resume goes on beside the boot: until its process has ended."""
    property_ = ["systemctl", "show", "--value", "--property=SubState"]
    guest.wait_for(
        ["sh", "-c", f"test $({' '.join(property_)} mkupgrade-resume.service) = exited"],
        timeout=120.0,
        interval=SELDOM,
    )
