"""A new kernel that dies or hangs, in every way there is: each time the guest is in the old kernel
again, the transaction rolled back and saying why, and the workload running."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from orchestrator.engine.events import StepFailed, StepInspected, StepIntended, StepPerformed
from orchestrator.model.errors import RehearsalError
from orchestrator.rehearsal.client import Client
from orchestrator.rehearsal.kernels import KernelPair
from orchestrator.rehearsal.machine import Guest
from tests.support import upgrades as up

Boot = Callable[..., AbstractContextManager[Guest]]
WATCHDOG = "/dev/watchdog0"
SECONDS = 20
"""The watchdog's limit: longer than a kernel takes until mkupgrade feeds it, on two busy cores."""


@pytest.fixture(scope="module")
def guest(boot: Boot) -> Iterator[Guest]:
    """One guest for all: each of them must leave the next one an old kernel that works."""
    with boot(
        workloads=(up.COUNTER,),
        forwards=(7777,),
        watchdog=True,
        cmdline="watchdog.stop_on_reboot=0",
    ) as running:
        yield running


def upgrade(release: str, cmdline: Any = None, **fields: Any) -> dict[str, Any]:
    """The counter goes to Linux `release`, under the watchdog."""
    rollback = {"panic_timeout": "1s", "boot_deadline": f"{SECONDS}s", "watchdog": WATCHDOG}
    return up.document(
        release, [up.workload("counter")], cmdline, **{"rollback": rollback, **fields}
    )


def deadly(script: str) -> dict[str, Any]:
    """A check that does this in the first round of the soak, and never returns. By then the
    counter has written on, and that is on the disk."""
    numbers = "tail -n 1 /var/lib/counter/log"
    on = f'last=$({numbers}); while [ "$({numbers})" = "$last" ]; do sleep 0.1; done; sync'
    run = ["sh", "-c", f"{on}; {script}"]
    return {"name": "deadly", "kind": "command", "run": run, "timeout": "600s", "when": ["soak"]}


FREEZE = """
for limit in /sys/kernel/debug/sched/fair_server/cpu*/runtime; do echo 0 >$limit; done
echo -1 >/proc/sys/kernel/sched_rt_runtime_us
echo mkupgrade-test: the processors are taken >/dev/kmsg
taskset -c 1 chrt -f 99 sh -c 'while :; do :; done' &
exec taskset -c 0 chrt -f 99 sh -c 'while :; do :; done'
"""
"""Takes both processors from everybody, kernel threads included, and takes away the share that the
kernel keeps for common processes."""


def test_a_kernel_that_hangs_before_userspace_is_ended_by_the_watchdog_that_the_old_one_armed(
    guest: Guest, kernels: KernelPair
) -> None:
    """It waits for a root that never comes, and nothing in it stops or feeds the watchdog, as
    with drivers that leave a running one alone."""
    edits = {
        "remove": ["root=/dev/vda"],
        "append": ["root=/dev/nope", "rootwait", "initcall_blacklist=esb_driver_init"],
    }
    plan = upgrade(kernels.target.release, edits)
    with Client(guest.forwarded(7777)) as client:
        said, report = _dies(guest, kernels, plan)
        _assert_restored(report, client, kernels)
    assert "root=/dev/nope" in said
    assert "Kernel panic" not in said


def test_a_kernel_whose_init_ends_is_left_by_its_panic(guest: Guest, kernels: KernelPair) -> None:
    plan = upgrade(kernels.target.release, {"append": ["init=/bin/false"]})
    with Client(guest.forwarded(7777)) as client:
        said, report = _dies(guest, kernels, plan)
        _assert_restored(report, client, kernels)
    assert "Attempted to kill init" in said


@pytest.mark.parametrize(
    ("script", "last_words"),
    [
        pytest.param("echo c >/proc/sysrq-trigger", "Kernel panic", id="panic"),
        pytest.param(FREEZE, "the processors are taken", id="frozen"),
    ],
)
def test_a_kernel_that_dies_behind_the_restore_leaves_a_workload_that_starts_anew(
    guest: Guest, kernels: KernelPair, script: str, last_words: str
) -> None:
    """It dies in the soak: a panic resets the machine, and where nothing moves any more, the
    watchdog that mkupgrade holds in the new kernel does. The counter has written to its file in
    the new kernel, so that its state from before the jump is not used: it would go on over what
    is newer."""
    new = kernels.target.release
    said, report = _dies(guest, kernels, upgrade(new, checks=[deadly(script)]))
    assert _unanswered(guest) == ["soak"]
    told = up.result_of(report, "recover.restore/counter")["text"]
    assert told.startswith("counter started anew: ")
    assert "has written to /var/lib/counter/log" in told
    assert last_words in said
    assert ("Kernel panic" in said) == (last_words == "Kernel panic")


def _dies(guest: Guest, kernels: KernelPair, plan: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Apply this; the host must be as it was, and the journal whole. What the dead kernel said,
    and the report."""
    before = len(guest.serial())
    try:
        up.apply(guest, plan)
        report = up.outcome(guest, 480.0)
    except RehearsalError as error:
        error.add_note(f"end of the guest's serial log:\n{guest.serial()[-4000:]}")
        raise
    assert report["outcome"] == "rolled-back", up.why(report)
    assert "came back to the kernel before it" in report["reason"]
    assert guest.release() == kernels.source.release
    assert guest.text("/sys/kernel/kexec_loaded").strip() == "0"
    up.assert_goes_on(guest, "counter")
    up.assert_gapless(guest, "counter")
    up.assert_whole(guest)
    with Client(guest.forwarded(7777)) as another:
        assert another.wait_messages(3, 30.0)
    said = guest.serial()[before:]
    assert f"Linux version {kernels.target.release}" in said
    theirs = said.partition(f"Linux version {kernels.target.release}")[2]
    return theirs.partition(f"Linux version {kernels.source.release}")[0], report


def _unanswered(guest: Guest) -> list[str]:
    """Kinds of the steps that were begun behind the jump and that nobody has answered for."""
    with up.journal(guest) as read:
        last = read.transactions()[-1].id
        graph = read.plan(last)[0]
        events = [it.event for it in read.log(last)]
    begun = {e.step for e in events if isinstance(e, StepIntended)}
    begun -= {e.step for e in events if isinstance(e, StepPerformed | StepFailed | StepInspected)}
    return [step.kind for step in graph.steps if step.id in begun]


def _assert_restored(report: dict[str, Any], client: Client, kernels: KernelPair) -> None:
    """From the copy on disk, its connection included."""
    told = up.result_of(report, "recover.restore/counter")["text"]
    assert told.startswith("counter restored from spilled state of ")
    assert client.wait_messages(5, 60.0)
    assert client.seen().whole, client.seen()
    assert list(client.seen().releases) == [kernels.source.release]
