"""The default boot entry under real firmware and real loaders: the old kernel's until commit, the
new one's behind it, and a cold reset obeys."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.standing import entered_by
from orchestrator.model.host import BootState
from orchestrator.rehearsal import boot_disks
from orchestrator.rehearsal.firmware import ovmf
from orchestrator.rehearsal.image import LayerFile, base_image
from orchestrator.rehearsal.kernels import KernelPair
from orchestrator.rehearsal.machine import MACHINE_ID, Guest, Setup
from orchestrator.rehearsal.stock_kernels import stock_pair
from orchestrator.system import boot_loaders
from tests.support import upgrades as up
from tests.support.guests import booted

PATIENCE = 600.0
"""Seconds for firmware, loader and kernel to come up; all of it is emulated."""
SEEN = "/root/seen"
PROJECT = Path(__file__).parents[2]
HOOK = "/root/zz-z-mkupgrade"
OBSERVE = """
from orchestrator.system import boot_loaders
state = boot_loaders.observe()
print(state.model_dump_json())
"""
ONE_SHOT = "/sys/firmware/efi/efivars/LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
"""The entry of the next boot only, where systemd-boot looks for it."""
KEPT_SETTINGS = "00_header|10_linux|25_bli"
SETTINGS = """
cd /etc/grub.d
for script in *; do case $script in %s) ;; *) chmod -x $script ;; esac; done
cat >/etc/default/grub <<END
GRUB_DEFAULT=saved
GRUB_TIMEOUT=0
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX="rw %s"
END
"""


def boot_state(guest: Guest) -> dict[str, Any]:
    """What mkupgrade says of the boot loader."""
    found: dict[str, Any] = json.loads(guest.run([up.PYTHON, "-c", OBSERVE]).stdout)
    return found


def recorder(*commands: str) -> dict[str, Any]:
    """A check that passes and writes down what the loader is set to, behind the jump."""
    script = "; ".join(f"{command} >>{SEEN}" for command in ("uname -r", *commands))
    run = ["sh", "-c", script]
    return {"name": "record", "kind": "command", "run": run, "when": ["after"], "within": "60s"}


def set_back(guest: Guest, wrong: str, right: str) -> None:
    """With the other kernel's entry as the default, mkupgrade sees that it is, which preflight
    refuses; the command that it names for this loader is run. The reset that follows obeys."""
    seen = boot_state(guest)
    assert seen["default"] == wrong
    command = boot_loaders.command_to_set_default(BootState.model_validate(seen), right)
    guest.run(["sh", "-c", command])


def brought(guest: Guest, release: str, template: dict[str, Any]) -> str:
    """What Debian's hook says of a kernel that a package has brought, as the last hook to run."""
    hook = PROJECT / "orchestrator/offers/hooks/kernel/postinst.d/zz-z-mkupgrade"
    guest.put(HOOK, hook.read_bytes(), 0o755)
    up.put_plan(guest, template)
    done = guest.run(["sh", "-c", f"{HOOK} {release} /boot/vmlinuz-{release} 2>&1"])
    return str(done.stdout)


def upgraded(guest: Guest, plan: dict[str, Any]) -> dict[str, Any]:
    """Apply a plan that jumps, and wait until its transaction has ended; the report."""
    up.put_plan(guest, plan)
    guest.run(["rm", "-f", SEEN, up.ENDED])
    guest.run_through(["mkupgrade", "apply", up.PLAN, "--yes", "--again"], timeout=PATIENCE)
    return up.outcome(guest, PATIENCE)


def grub_env(guest: Guest) -> tuple[str, str]:
    """The entry of each boot, and that of the next one only ("": none), as GRUB keeps them."""
    lines = guest.run(["grub-editenv", "list"]).stdout.splitlines()
    kept = dict(line.split("=", 1) for line in lines)
    return kept["saved_entry"], kept.get("next_entry", "")


def jumped_into(guest: Guest) -> bool:
    """Was the running kernel entered by a transaction, so that no cold boot has proven it? As
    `mkupgrade status` tells it."""
    with up.journal(guest) as journal:
        return entered_by(journal, guest.control.status().boot_id) is not None


@pytest.mark.timeout(1800)
def test_systemd_boot_starts_the_old_kernel_until_commit_and_the_new_one_behind_it() -> None:
    pair, recipe = stock_pair()
    old, new = pair.source.release, pair.target.release
    first, second = (boot_disks.entry_id(MACHINE_ID, release) for release in (old, new))
    base = base_image(recipe)
    setup = Setup(kernel=pair.source.image, recipe=recipe, handover=False, boot_seconds=PATIENCE)
    kernels = (pair.source, pair.target)
    disk = boot_disks.systemd_boot_disk(base, MACHINE_ID, kernels, setup.command_line(), old)

    def plan(release: str, cmdline: Any = None, **fields: Any) -> dict[str, Any]:
        made = up.document(release, [], cmdline, metadata={"name": "next"}, **fields)
        made["instances"][0]["kernel"]["initrd"] = f"/boot/initrd.img-{release}"
        return made

    look = ["bootctl", "list", "--json=short"]
    with booted(replace(setup, firmware=ovmf(disk))) as guest:
        state = boot_state(guest)
        assert (state["loader"], state["default"], state["once"]) == ("systemd-boot", first, None)
        assert (state["entries"][first], state["entries"][second]) == (old, new)

        # A package's kernel that became the default is offered, and the default put back.
        guest.run(["bootctl", "set-default", second])
        said = brought(guest, new, plan(old))
        assert f"offered for instance host: mkupgrade apply {up.STATE_DIR}/offers" in said, said
        assert f"default is Linux {old} again" in said
        assert default_of(guest.run(look).stdout) == first

        # Committed, and then the long way into it.
        once = f"bootctl set-oneshot {first}"
        report = upgraded(guest, plan(new, checks=[recorder(" ".join(look), once)]))
        assert (report["outcome"], guest.release()) == ("committed", new), up.why(report)
        seen, listed, *_ = guest.text(SEEN).splitlines()
        assert (seen, default_of(listed)) == (new, first)
        assert default_of(guest.run(look).stdout) == second
        assert not guest.exists(ONE_SHOT)
        assert jumped_into(guest)
        assert guest.reset().release == new
        assert not jumped_into(guest)

        # From here on the newer kernel is the old one.
        guest.run(["bootctl", "set-default", first])
        set_back(guest, first, second)

        # Panics, for the root's driver is in the initrd: the firmware's reset, the loader's choice.
        report = upgraded(guest, plan(old, {"append": ["rdinit=/none-such"]}))
        assert (report["outcome"], guest.release()) == ("rolled-back", new), up.why(report)
        assert default_of(guest.run(look).stdout) == second
        assert guest.serial().count("BdsDxe: starting") == 3
        assert not jumped_into(guest)


def default_of(listed: str) -> str:
    """Id of the default entry in what bootctl lists."""
    (default,) = [entry["id"] for entry in json.loads(listed) if entry.get("isDefault")]
    return str(default)


@pytest.mark.timeout(1800)
def test_grub_starts_the_old_kernel_until_commit_and_the_new_one_behind_it(
    kernels: KernelPair,
) -> None:
    stock, recipe = stock_pair()
    old, new = kernels.source.release, kernels.target.release
    both = (kernels.source, kernels.target)
    files = {
        f"{room}/vmlinuz-{kernel.release}": LayerFile(kernel.image)
        for kernel in both
        for room in ("/boot", "/root")
    }
    setup = Setup(
        kernel=kernels.source.image,
        recipe=recipe,
        files=files,
        workloads=(up.COUNTER,),
        boot_seconds=PATIENCE,
        cpus=1,  # without EFI and ACPI these kernels find no other: it would spin in the firmware
    )
    options = setup.command_line()
    disk = boot_disks.grub_disk(base_image(recipe), f"/boot/vmlinuz-{old}", options)

    def plan(release: str, cmdline: Any = None, **fields: Any) -> dict[str, Any]:
        fields |= {"metadata": {"name": "next"}}
        made = up.document(release, [up.workload("counter")], cmdline, **fields)
        made["instances"][0]["kernel"]["image"] = f"/root/vmlinuz-{release}"
        return made

    look = "grub-editenv list"
    with booted(replace(setup, firmware=ovmf(disk))) as guest:
        guest.run(["sh", "-c", "mkdir -p /boot/grub /boot/other; mv /boot/*+deb* /boot/other"])
        guest.run(["sh", "-c", SETTINGS % (KEPT_SETTINGS, options)])
        guest.run(["grub-editenv", "create"])
        guest.run(["update-grub"], timeout=PATIENCE)
        state = boot_state(guest)
        by_release = {what: entry for entry, what in state["entries"].items() if ">" in entry}
        first, second = by_release[old], by_release[new]
        assert stock.source.release not in state["entries"].values(), "not in the menu"
        # The newest kernel comes first in the menu, and nothing is saved yet.
        assert state["entries"][state["default"]] == new
        said = brought(guest, new, plan(old))
        assert f"default is Linux {old} again" in said, said
        assert grub_env(guest) == (first, "")

        # Committed, and at once the reset button: what was set must be where GRUB reads it.
        once = f"grub-reboot '{first}'"
        report = upgraded(guest, plan(new, checks=[recorder(look, once)]))
        assert (report["outcome"], guest.release()) == ("committed", new), up.why(report)
        assert guest.text(SEEN).splitlines()[:2] == [new, f"saved_entry={first}"]
        assert guest.reset().release == new
        assert f"BOOT_IMAGE=/boot/vmlinuz-{new}" in guest.text("/proc/cmdline")
        assert grub_env(guest) == (second, "")
        assert not jumped_into(guest)
        up.assert_goes_on(guest, "counter")

        # From here on the newer kernel is the old one.
        guest.run(["grub-set-default", first])
        set_back(guest, first, second)

        # Panics: the firmware's own reset, and the loader's choice.
        report = upgraded(guest, plan(old, {"append": ["init=/none-such"]}))
        assert (report["outcome"], guest.release()) == ("rolled-back", new), up.why(report)
        assert guest.serial().count("BdsDxe: starting") == 3
        assert grub_env(guest) == (second, "")
