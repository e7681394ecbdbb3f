"""Bad input on real parts: each a clear error with the right exit code, and the host as it was."""

from __future__ import annotations

import gzip
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.rehearsal.kernels import KernelPair
from orchestrator.rehearsal.machine import Guest
from orchestrator.rehearsal.tools import run_tool
from tests.support import upgrades as up
from tests.support.verbs import PORT, STATE_DIR, Done, Verbs, verbs

Boot = Callable[..., AbstractContextManager[Guest]]
ERROR, ROLLED_BACK, STALE, WAITING = 1, 3, 5, 6
SAVED = "/root/plan.json"
NOBODY = 65534
ROOM = "/mnt/room"
FILL = "fallocate -l $(($(stat -f -c '%a * %S' {room}) - {keep})) {room}/ballast || test {keep} = 0"


@dataclass
class Scene:
    """A guest, its command line, and the upgrade that would go well."""

    guest: Guest
    verbs: Verbs
    new: str
    seconds: dict[str, float] = field(default_factory=dict)

    def plan(self, kernel: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        """The upgrade; `kernel`: keys of the wanted kernel that are not as they should be."""
        workloads = fields.pop("workloads", [up.workload("counter")])
        made = up.document(self.new, workloads, **fields)
        made["instances"][0]["kernel"] |= kernel or {}
        return made

    def apply(self, plan: dict[str, Any] | None = None, **how: Any) -> Done:
        """Apply a plan, or the saved one; the answer in JSON."""
        if plan is None:
            return self.verbs.run("apply", SAVED, "--again", "--json", **how)
        up.put_plan(self.guest, plan)
        return self.verbs.run("apply", up.PLAN, "--yes", "--again", "--json", **how)

    def capabilities(self) -> dict[str, tuple[bool, str]]:
        """What doctor says, as root."""
        said = json.loads(self.verbs.run("doctor", "--json").stdout)
        return {n: (c["available"], c["reason"]) for n, c in said["capabilities"].items()}

    def shell(self, command: str) -> None:
        self.guest.run(["sh", "-c", command])

    @contextmanager
    def unchanged(
        self, case: str, state_dir: str = STATE_DIR, *, restored: bool = False
    ) -> Iterator[None]:
        """Whatever happens inside, afterwards the host is as it was and the workload counts on.

        Args:
            restored: its process was taken down and brought back: the same id, a new start, and
                a claim that says so as long as this boot lasts.
        """
        up.put_plan(self.guest, self.plan())
        before, began = self.verbs.facts(state_dir), time.monotonic()
        yield
        self.seconds[case] = time.monotonic() - began
        after = self.verbs.facts(state_dir)
        for facts in (before, after):
            facts.pop("permit")
            if restored:
                facts["workload"].pop("started")
        if restored:
            claims = [f for f in after["left_in_memory"] if f.startswith("restored/")]
            assert len(claims) == 1, claims
            after["left_in_memory"].remove(claims[0])
        assert after["workload"].pop("number") > before["workload"].pop("number"), case
        changed = {k: (v, after[k]) for k, v in before.items() if v != after[k]}
        assert not changed, f"{case}: {changed}"


def refused(done: Done, code: int, *words: str) -> dict[str, Any]:
    """An error that says what, in which state the host is, and what to do; nothing began."""
    assert done.code == code, done
    assert done.stdout == "", done
    error = done.error
    assert error["state"].startswith("nothing was changed"), error
    assert error["next_command"], error
    _say(error, words)
    return error


def rolled_back(done: Done, *words: str) -> dict[str, Any]:
    """A transaction that began, failed before the jump, and took everything back."""
    assert done.code == ROLLED_BACK, done
    report = done.report
    assert report["outcome"] == "rolled-back", report
    assert next(s for s in report["steps"] if s["id"] == "jump/host")["state"] == "pending"
    _say(report, words)
    return report


def _say(said: dict[str, Any], words: tuple[str, ...]) -> None:
    text = json.dumps(said)
    assert "Traceback" not in text
    assert "fault in mkupgrade" not in text
    for word in words:
        assert word in text, (word, said)


def test_bad_input_is_refused_and_the_host_is_as_it_was(boot: Boot, kernels: KernelPair) -> None:
    workloads = (up.COUNTER, up.SLEEPER)
    with (
        boot(workloads=workloads, forwards=(7777, PORT), permit=False) as guest,
        verbs(guest) as mkupgrade,
    ):
        scene = Scene(guest, mkupgrade, kernels.target.release)
        no_permit(scene)
        bad_spec(scene)
        bad_files(scene)
        policy(scene)
        bad_workload(scene)
        somebody_else(scene)
        no_root(scene)
        no_criu(scene)
        stale(scene)
        full_disk(scene)
        up.assert_gapless(guest, "counter")
        one_at_a_time_and_damage_on_the_way(scene)
        for case, seconds in scene.seconds.items():
            print(f"{seconds:6.1f} s  {case}")


def test_a_host_without_kho_says_so_and_takes_the_disk(boot: Boot, kernels: KernelPair) -> None:
    with (
        boot(workloads=(up.COUNTER,), forwards=(PORT,), handover=False) as guest,
        verbs(guest) as mkupgrade,
    ):
        scene = Scene(guest, mkupgrade, kernels.target.release)
        why = "the running kernel was booted with kho=off"
        with scene.unchanged("no KHO"):
            by_kho = scene.plan(workloads=[up.workload("counter", channel="kho")])
            words = ("workloads.counter.channel", "kho cannot be used", why)
            refused(scene.apply(by_kho), ERROR, *words)
        with scene.unchanged("no KHO, channel auto"):
            planned = mkupgrade.run("plan", up.PLAN, "--json")
            notes = json.loads(planned.stdout)["plan"]["notes"]
            assert any(n.startswith("channel disk for counter: ") and why in n for n in notes)
        capabilities = scene.capabilities()
        assert capabilities["kho"] == (False, why)
        luo = "no /dev/liveupdate: it needs kho, and "
        luo += "the running kernel was booted without liveupdate=on"
        assert capabilities["luo"] == (False, luo)
        assert capabilities["criu"][0]
        assert capabilities["old-kernel"][0]


def no_permit(scene: Scene) -> None:
    """Nothing begins; with the permit, the very same apply passes the guard."""
    run, plan = scene.verbs.run, scene.plan({"sha256": "0" * 64})
    with scene.unchanged("no permit"):
        error = refused(scene.apply(scene.plan()), ERROR, "not permitted", "host.permit")
        assert (error["code"], error["next_command"]) == ("guard", "mkupgrade host permit")
    assert run("host", "permit").code == 0
    assert run("plan", up.PLAN, "-o", SAVED).code == 0
    with scene.unchanged("a wrong sha256"):
        refused(scene.apply(plan), ERROR, "sha256 is", "0" * 64, f"/boot/vmlinuz-{scene.new}")
    assert run("host", "forbid").code == 0
    with scene.unchanged("permit taken back"):
        refused(scene.apply(), ERROR, "not permitted")
    assert run("host", "permit", user=NOBODY).code == ERROR
    assert run("host", "permit").code == 0


def policy(scene: Scene) -> None:
    """On a real root directory: what the policy does not allow, and one that others can change."""
    path = "/etc/mkupgrade/policy.yaml"

    def says(text: str, mode: str = "0644") -> None:
        scene.guest.put(path, f"api_version: mkupgrade-policy/v1\n{text}\n")
        scene.shell(f"chmod {mode} {path}")

    with scene.unchanged("a policy"):
        says("images: {directories: [/usr/lib/modules]}")
        for done in (scene.apply(scene.plan()), scene.apply()):
            found = refused(done, ERROR, "images.directories", "is not below /usr/lib/modules")
            assert found["code"] == "policy"
        says("signatures: {allowed_signers: /etc/mkupgrade/allowed_signers}")
        refused(scene.apply(), WAITING, "this one has no signature")
        says("", "0666")
        refused(scene.apply(), ERROR, "cannot be relied on", "can be written by others")
        says("images: {directories: [/boot]}\nstate: {directories: [/var/lib/mkupgrade]}")
        wrong = scene.plan({"sha256": "0" * 64})
        refused(scene.apply(wrong), ERROR, "sha256 is")  # that is, the policy let it through
        scene.shell(f"rm {path}")


def bad_spec(scene: Scene) -> None:
    """With the libraries as the distribution ships them."""
    with scene.unchanged("a spec that says what cannot be"):
        plan = scene.plan(metadata={"name": "a+b"}, hooks={"befor": []})
        refused(scene.apply(plan), ERROR, "metadata.name: expected a name", "befor", "before")


def bad_files(scene: Scene) -> None:
    image = f"/boot/vmlinuz-{scene.new}"
    scene.shell(f"head -c -1000 {image} > /root/short; head -c 3000 /dev/urandom > /root/noise")
    with scene.unchanged("a truncated kernel"):
        refused(scene.apply(scene.plan({"image": "/root/short"})), ERROR, "/root/short", "cut off")
    with scene.unchanged("no kernel at all"):
        refused(scene.apply(scene.plan({"image": "/root/noise"})), ERROR, "/root/noise")
    with scene.unchanged("another release"):
        plan = scene.plan({"release": "7.3.99"})
        refused(scene.apply(plan), ERROR, f"inside is {scene.new}", "says 7.3.99")


def bad_workload(scene: Scene) -> None:
    with scene.unchanged("a workload that is not running"):
        plan = scene.plan(workloads=[up.workload("counter"), up.workload("ghost")])
        refused(scene.apply(plan), ERROR, "workloads.ghost", "not running")


def somebody_else(scene: Scene) -> None:
    """Their kernel stays loaded, their hold of the device ends when they like."""
    scene.verbs.ask(load=f"/boot/vmlinuz-{scene.new}")
    with scene.unchanged("somebody else's kernel is loaded"):
        refused(scene.apply(scene.plan()), ERROR, "loaded already", "not by us")
        refused(scene.apply(), STALE, "kexec_loaded: False -> True")
    assert scene.verbs.facts()["kexec_loaded"] == "1"
    scene.verbs.ask(unload=True)
    scene.verbs.ask(hold="/dev/liveupdate")
    with scene.unchanged("somebody else has /dev/liveupdate open"):
        rolled_back(scene.apply(), "another process has /dev/liveupdate open")
    scene.verbs.ask(let_go=True)


def no_root(scene: Scene) -> None:
    with scene.unchanged("no root"):
        closed = refused(scene.apply(scene.plan(), user=NOBODY), ERROR, "closed to all but root")
        assert closed["next_command"].startswith(f"sudo mkupgrade apply {up.PLAN}")
        denied = scene.apply(user=NOBODY)
        assert (denied.code, denied.error["where"]) == (ERROR, SAVED)
        assert denied.error["state"] == "nothing was changed"
        seen = scene.verbs.run("doctor", "--json", user=NOBODY)
        assert seen.code == 0, seen
        assert not json.loads(seen.stdout)["capabilities"]["root"]["available"]


def no_criu(scene: Scene) -> None:
    with scene.unchanged("no CRIU"):
        scene.shell("mv /usr/sbin/criu /usr/sbin/criu.away")
        refused(scene.apply(scene.plan()), ERROR, "criu is not installed (package criu)")
        refused(scene.apply(), STALE, "capabilities.criu: available -> not available")
        scene.shell("mv /usr/sbin/criu.away /usr/sbin/criu")


def stale(scene: Scene) -> None:
    image = f"/boot/vmlinuz-{scene.new}"
    with scene.unchanged("another kernel in the place of the plan's"):
        scene.shell(f"mv {image} {image}.away; cat {image}.away > {image}; echo >> {image}")
        error = refused(scene.apply(), STALE, f"artifacts.{image}.sha256")
        assert error["next_command"] == f"mkupgrade plan {SAVED} -o {SAVED}"
        scene.shell(f"mv {image}.away {image}")
    with scene.unchanged("the plan of another machine"):
        scene.shell(
            "cp /etc/machine-id /root; echo 0123456789abcdef0123456789abcdef > /etc/machine-id"
        )
        refused(scene.apply(), STALE, "machine_id: ")
        scene.shell("cat /root/machine-id > /etc/machine-id")


def full_disk(scene: Scene) -> None:
    """Found out at four moments: before the journal, by preflight, in the middle of the
    checkpoint, and when the copy is spilled and the workload is down already."""
    state_dir = f"{ROOM}/state"
    scene.guest.put("/var/room.gz", small_disk())
    scene.shell(f"gunzip /var/room.gz; mkdir {ROOM}; mount -o loop /var/room {ROOM}")
    host = {"driver": "live-update", "state_dir": state_dir}

    def filled(keep: int) -> dict[str, Any]:
        run = ["sh", "-c", FILL.format(room=ROOM, keep=keep)]
        hook = {"name": "fill", "run": run, "undo": ["rm", "-f", f"{ROOM}/ballast"]}
        return scene.plan(host=host, hooks={"before": [hook]})

    with scene.unchanged("no room for a journal", state_dir):
        scene.shell(FILL.format(room=ROOM, keep=0))
        refused(scene.apply(scene.plan(host=host)), ERROR, "No space left on device", ROOM)
        scene.shell(f"rm {ROOM}/ballast")
    with scene.unchanged("no room for the state", state_dir):
        scene.shell(FILL.format(room=ROOM, keep=6 << 20))
        rolled_back(scene.apply(scene.plan(host=host)), "are needed in", "are free")
        scene.shell(f"rm {ROOM}/ballast")
    with scene.unchanged("the disk fills up before the checkpoint", state_dir):
        rolled_back(scene.apply(filled(1 << 20)), "checkpoint/counter", "no room for the images")
    with scene.unchanged("the disk fills up before the copy", state_dir, restored=True):
        rolled_back(scene.apply(filled(9 << 20)), "preserve/host", "are free")
    scene.shell(f"umount {ROOM}")


def one_at_a_time_and_damage_on_the_way(scene: Scene) -> None:
    """While one apply waits in its hook, nobody else begins; and it finishes. On its way into
    the new kernel the state of the counter is damaged, so that the spilled copy takes over; that
    costs the sleeper nothing, whose state is in memory alone."""
    guest, run = scene.guest, scene.verbs.run
    wait = ["sh", "-c", "touch /run/waits; until test -e /run/go; do sleep 0.1; done"]
    plan = scene.plan(
        workloads=[up.workload("counter"), up.workload("sleeper", spill=False)],
        hooks={"before": [{"name": "wait", "run": wait}]},
    )
    up.put_plan(guest, plan)
    began = time.monotonic()
    scene.verbs.start("apply", up.PLAN, "--yes", damage="counter")
    guest.wait_for_path("/run/waits")
    for argv in (("apply", up.PLAN, "--yes"), ("apply", SAVED), ("rollback", "--yes")):
        second = run(*argv, "--json")
        assert second.code == WAITING, second
        assert "is at work on this host" in second.error["what"]
        assert second.error["next_command"] == "mkupgrade status --watch"
    scene.seconds["a second apply at the same time"] = time.monotonic() - began
    began = time.monotonic()
    guest.put("/run/go", "")
    assert guest.next_kernel().release == scene.new
    report = up.outcome(guest)
    assert report["outcome"] == "committed"
    result = up.result_of(report, "retrieve/host")
    assert {n: a["source"] for n, a in result["arrived"].items()} == {
        "counter": "disk",
        "sleeper": "memory",
    }
    (problem,) = result["problems"]
    assert problem.startswith("memory (forward): counter: session mkupgrade:")
    assert "digest" in problem
    told = " ".join(guest.run(["mkupgrade", "report"]).stdout.split())
    assert "counter restored from disk" in told
    assert problem in told
    for name in ("counter", "sleeper"):
        up.assert_goes_on(guest, name)
        up.assert_gapless(guest, name)
    scene.seconds["state that is damaged on its way"] = time.monotonic() - began


def small_disk() -> bytes:
    """An empty ext4 file system of 64 MiB, compressed."""
    with tempfile.TemporaryDirectory() as room:
        image = Path(room) / "room"
        argv = ["mke2fs", "-qF", "-t", "ext4", "-m", "0", image, "64M"]
        run_tool(argv, timeout=30.0, what="make a small disk")
        return gzip.compress(image.read_bytes(), 1)
