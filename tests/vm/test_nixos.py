"""A NixOS system's kernel, carried through for real: a Nix store with systems of two kernels in it,
there by `mkupgrade nixos upgrade --store-path`, back by `--rollback`, on by a switch, and once more
by what `nixos stage --preload` has loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from orchestrator.rehearsal.client import Client
from orchestrator.rehearsal.kernels import KernelPair
from orchestrator.rehearsal.machine import Guest, Setup
from tests.support import nix_guest
from tests.support import upgrades as up

Boot = Callable[..., AbstractContextManager[Guest]]
PROFILE = "/nix/var/nix/profiles/system"
KEXEC = (
    "from orchestrator.system import calls, guard\n"
    "import os\n"
    "os.sync()\n"
    "calls.reboot_kexec(guard.HostGuard.open())\n"
)


def test_a_nixos_system_is_taken_by_live_update_and_left_again_by_rollback(
    boot: Boot, kernels: KernelPair
) -> None:
    parameters = Setup(kernel=kernels.source.image).command_line()
    old, files = nix_guest.system("old", kernels.source, parameters)
    new, further = nix_guest.system("new", kernels.target, parameters)
    same, third = nix_guest.system("same", kernels.source, parameters, like=old)
    with (
        boot(
            cmdline=f"init={old}/init",
            files={**nix_guest.nix(), **files, **further, **third},
            workloads=(up.COUNTER,),
            forwards=(7777,),
        ) as guest,
        Client(guest.forwarded(7777)) as client,
    ):
        known = nix_guest.registration(old, new, same)
        guest.run(["nix-store", "--register-validity"], stdin=known.encode())
        for top in (old, new):  # as `nixos-rebuild boot` leaves it
            guest.run(["nix-env", "--profile", PROFILE, "--set", str(top)])
        up.put_plan(guest, up.document("any", [up.workload("counter")]))

        # What is preloaded is dropped for a system that takes no other kernel, and makes way.
        assert stage(guest, "--preload", str(new)) == ("1", str(new))
        assert stage(guest, str(old)) == ("0", None)
        assert stage(guest, "--preload", str(new)) == ("1", str(new))
        there = carried(guest, "--store-path", str(new))
        assert (there["outcome"], guest.release()) == ("committed", kernels.target.release), there
        assert leads_to(guest, "/run/booted-system") == leads_to(guest, PROFILE) == str(new)

        back = carried(guest, "--rollback")
        assert (back["outcome"], guest.release()) == ("committed", kernels.source.release), back
        assert leads_to(guest, "/run/booted-system") == leads_to(guest, PROFILE) == str(old)

        assert stage(guest, "--preload", str(new)) == ("1", str(new))
        switched = guest.run(["mkupgrade", "nixos", "upgrade", "--store-path", str(same), "--yes"])
        assert f"Switched to {same}" in switched.stdout, switched
        assert leads_to(guest, "/run/current-system") == leads_to(guest, PROFILE) == str(same)
        assert guest.release() == kernels.source.release
        assert guest.text("/sys/kernel/kexec_loaded").strip() == "0"

        # A menu is made for the old one before each jump, and for the new one at the commit.
        asked = [line.split(" ") for line in guest.text(nix_guest.RECORD).splitlines()]
        assert [who for who, what in asked if what == "boot"] == [
            str(top) for top in (old, new, new, old)
        ]
        assert [what for who, what in asked if who == str(same)] == ["check", "switch"]
        up.assert_gapless(guest, "counter")
        seen = client.seen()
        assert seen.whole, seen
        assert list(seen.releases) == [kernels.source.release, kernels.target.release]

        # What `systemctl kexec` would do: the staged system starts, and is confirmed.
        assert stage(guest, "--preload", str(new)) == ("1", str(new))
        guest.run_through([up.PYTHON, "-c", KEXEC])
        assert guest.release() == kernels.target.release
        assert leads_to(guest, "/run/booted-system") == str(new)
        confirmed = json.loads(guest.run(["mkupgrade", "nixos", "confirm", "--json"]).stdout)
        assert (confirmed["staged_started"], confirmed["unfinished"]) == (True, None)


def carried(guest: Guest, *which: str) -> dict[str, Any]:
    """The report of an upgrade in one command."""
    guest.run(["rm", "-f", up.ENDED])
    command = ["mkupgrade", "nixos", "upgrade", *which, "--plan", up.PLAN, "--yes", "--again"]
    told, _ = guest.run_through(command)
    report = up.outcome(guest)
    assert report["steps"], json.dumps(told)
    return report


def stage(guest: Guest, *arguments: str) -> tuple[str, str | None]:
    """Whether the kernel has an image loaded then, and which system `nixos stage` says it is of."""
    told = guest.run(["mkupgrade", "nixos", "stage", *arguments, "--json"]).stdout
    found = json.loads(told)
    assert found["problem"] is None, found
    return guest.text("/sys/kernel/kexec_loaded").strip(), found["preloaded"]


def leads_to(guest: Guest, link: str) -> str:
    return guest.run(["readlink", "-f", link]).stdout.strip()
