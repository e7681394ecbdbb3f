"""What cannot go well is refused with its reason, and the host is as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from orchestrator.rehearsal.control import Finished
from orchestrator.rehearsal.kernels import KernelPair
from orchestrator.rehearsal.machine import Guest
from tests.support import upgrades as up

Boot = Callable[..., AbstractContextManager[Guest]]
APPLY = ["mkupgrade", "apply", up.PLAN, "--yes"]
ERROR, STALE, WAITING, ROLLED_BACK = 1, 5, 6, 3


def test_what_cannot_go_well_is_refused_and_changes_nothing(
    boot: Boot, kernels: KernelPair
) -> None:
    """No KHO, damaged or exchanged kernels, no CRIU, no root, no permit, no room, one at a time."""
    new = kernels.target.release
    image = f"/boot/vmlinuz-{new}"
    counter = [up.workload("counter")]
    good = up.document(new, counter)
    with boot(workloads=(up.COUNTER,), handover=False) as guest:
        with unchanged(guest):
            plan = up.document(new, [up.workload("counter", channel="kho")])
            refused = attempt(guest, plan)
            expect(refused, ERROR, "kho cannot be used", "kho=off")

            wrong = up.document(new, counter)
            wrong["instances"][0]["kernel"]["sha256"] = "0" * 64
            expect(attempt(guest, wrong), ERROR, "sha256", "0" * 64)

            guest.run(["sh", "-c", f"head -c 3000000 {image} > /boot/short"])
            short = up.document(new, counter)
            short["instances"][0]["kernel"]["image"] = "/boot/short"
            expect(attempt(guest, short), ERROR, "/boot/short")

            with moved(guest, "/usr/sbin/criu"):
                expect(attempt(guest, good), ERROR, "criu", "not installed")

            up.put_plan(guest, good)
            nobody = ["setpriv", "--reuid=65534", "--clear-groups", *APPLY]
            expect(guest.run(nobody, check=False), ERROR, "root")

            guest.run(["mkupgrade", "plan", up.PLAN, "-o", "/root/plan.json"])
            with moved(guest, image):
                guest.run(["sh", "-c", f"cat {image}.moved > {image}; echo >> {image}"])
                saved = ["mkupgrade", "apply", "/root/plan.json"]
                expect(guest.run(saved, check=False), STALE, image)

        with unchanged(guest), moved(guest, "/etc/mkupgrade/host.permit"):
            expect(attempt(guest, good), ERROR, "not permitted", "mkupgrade host permit")

        with unchanged(guest), full_disk(guest, but=200_000):
            expect(attempt(guest, good, "--again"), ERROR, "the journal cannot be written", "full")
        with unchanged(guest), full_disk(guest, but=5_000_000):
            expect(attempt(guest, good, "--again"), ROLLED_BACK, "/var/lib/mkupgrade", "free")

        with unchanged(guest):
            hook = {"name": "slow", "run": ["sleep", "600"], "undo": ["true"], "timeout": "10m"}
            up.put_plan(guest, {**good, "hooks": {"before": [hook]}})
            guest.spawn([*APPLY, "--again"], "/root/first.log")
            guest.wait_for(["pgrep", "-x", "sleep"])
            expect(guest.run(APPLY, check=False), WAITING, "is at work on this host")
            assert guest.run(["mkupgrade", "abort"]).code == 0
            assert up.report(guest)["outcome"] == "rolled-back"


def attempt(guest: Guest, plan: dict[str, Any], *options: str) -> Finished:
    up.put_plan(guest, plan)
    return guest.run([*APPLY, *options], check=False)


def expect(done: Finished, code: int, *words: str) -> None:
    """The exit code, the words, and no traceback."""
    assert done.code == code, done.output
    for word in words:
        assert word in done.output, done.output
    assert "Traceback" not in done.output


@contextmanager
def unchanged(guest: Guest) -> Iterator[None]:
    """Same kernel, nothing loaded, the same process counting on, no transaction unfinished."""
    before = guest.control.status().boot_id, guest.text("/var/lib/counter/pid")
    yield
    assert (guest.control.status().boot_id, guest.text("/var/lib/counter/pid")) == before
    assert guest.text("/sys/kernel/kexec_loaded").strip() == "0"
    up.assert_goes_on(guest, "counter")
    up.assert_gapless(guest, "counter")
    assert guest.run(["mkupgrade", "resume"]).stdout.startswith("No transaction is unfinished")


@contextmanager
def moved(guest: Guest, path: str) -> Iterator[None]:
    guest.run(["mv", path, f"{path}.moved"])
    yield
    guest.run(["mv", f"{path}.moved", path])


@contextmanager
def full_disk(guest: Guest, *, but: int) -> Iterator[None]:
    """Full but for so many bytes."""
    free = f"$(($(stat -f -c '%a * %S' /) - {but}))"
    guest.run(["sh", "-c", f"fallocate -l {free} /root/ballast"])
    yield
    guest.run(["rm", "/root/ballast"])
