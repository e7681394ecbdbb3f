"""Looking before anything happens: what is found now costs nothing."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from orchestrator.drivers.live_update import preparing
from orchestrator.drivers.live_update.kernel import ForeignKernelError
from orchestrator.drivers.live_update.preparing import ArtifactError
from orchestrator.handover import kho
from orchestrator.model.errors import GuardError, MkupgradeError, NotSupportedError, WorkloadError
from orchestrator.model.host import Artifact
from orchestrator.model.kinds import Kind
from orchestrator.model.steps import Inspection, Step
from orchestrator.nixos import staging
from orchestrator.nixos.staging import Preloaded, Staged
from orchestrator.workloads.findings import Finding

SHA = "ab" * 32


@pytest.fixture
def image(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the image will be found to be."""
    found: dict[str, Any] = {"sha256": SHA, "release": "7.3.4", "pe_signed": True}

    def inspect_image(path: str) -> Artifact:
        return Artifact(path=path, kind="image", **found)

    monkeypatch.setattr(preparing.kernel_image, "inspect_image", inspect_image)
    return found


def artifacts(host: Any, signature: str = "none", **rest: Any) -> Step:
    fields = {"image": "/boot/k", "image_sha256": SHA, "release": "7.3.4", **rest}
    return host.step(Kind.CHECK_ARTIFACTS, instance="host", signature=signature, **fields)


def preflight(host: Any, *workloads: dict[str, Any], channel: str = "disk") -> Step:
    return host.step(
        Kind.PREFLIGHT,
        instance="host",
        workloads=list(workloads),
        channels={w["name"]: channel for w in workloads},
        to_release="7.3.4",
    )


def test_files_that_are_what_the_plan_saw_pass(host: Any, image: dict[str, Any]) -> None:
    assert host.perform(artifacts(host, "required"))["release"] == "7.3.4"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"sha256": "cd" * 32}, "sha256"),
        ({"release": "7.3.5"}, "Linux 7.3.5"),
        ({"error": "ends in the middle"}, "ends in the middle"),
        ({"pe_signed": False}, "signature"),
    ],
)
def test_anything_else_is_refused(
    host: Any, image: dict[str, Any], change: dict[str, Any], complaint: str
) -> None:
    image.update(change)
    with pytest.raises(ArtifactError, match=complaint) as caught:
        host.perform(artifacts(host, "required"))
    assert caught.value.state == "nothing was changed"


def test_a_missing_initrd_is_refused(host: Any, image: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        host.perform(artifacts(host, initrd=str(tmp_path / "none"), initrd_sha256=SHA))


def test_an_image_that_somebody_else_loaded_is_reported_and_not_dropped(host: Any) -> None:
    host.machine.loaded = ("/somebody/else", "")
    with pytest.raises(ForeignKernelError):
        host.perform(preflight(host))
    assert host.machine.loaded is not None


def test_what_was_preloaded_for_the_next_start_is_in_nobodys_way(host: Any) -> None:
    boot_id = host.machine.place().boot_id
    preloaded = Preloaded(toplevel="/store/new", boot_id=boot_id)
    staged = Staged(toplevel="/store/new", boot_id=boot_id, preloaded=preloaded)
    staging.remember(host.state_dir, staged)
    host.machine.loaded = ("/store/new/kernel", "")
    host.perform(preflight(host))
    assert host.machine.loaded is not None, "until the plan's own is loaded"


def test_a_machine_that_was_not_permitted_is_refused_before_anything_is_tried(host: Any) -> None:
    host.machine.forbidden = ["no permit", "inside a container"]
    with pytest.raises(GuardError, match=r"no permit.*mkupgrade host permit"):
        host.perform(preflight(host))


def test_a_kernel_that_could_not_become_the_default_is_refused(host: Any) -> None:
    host.boot.found = host.boot.found.model_copy(update={"entries": {"old.conf": "7.2.13"}})
    with pytest.raises(NotSupportedError, match="no single entry"):
        host.perform(preflight(host))


def test_a_default_that_is_the_new_kernel_already_is_refused(host: Any) -> None:
    """As package managers leave it: a new kernel that dies would not end in the old one."""
    host.boot.set_default("new.conf")
    with pytest.raises(NotSupportedError, match=r"starts Linux 7\.3\.4, not the running") as caught:
        host.perform(preflight(host))
    assert caught.value.state == "nothing was changed"
    assert caught.value.next_command == "bootctl set-default old.conf"


def test_a_default_whose_release_nobody_knows_is_taken_as_it_is(host: Any) -> None:
    entries = {"old.conf": "Debian", "new.conf": "7.3.4"}
    host.boot.found = host.boot.found.model_copy(update={"entries": entries})
    host.perform(preflight(host))


@pytest.mark.parametrize(
    ("loader", "command"),
    [
        ("systemd-boot", "bootctl set-oneshot ''"),
        ("grub", "grub-editenv - unset next_entry"),
    ],
)
def test_an_entry_for_the_next_boot_only_is_refused(host: Any, loader: str, command: str) -> None:
    """It goes before the default, so that a reset would end there."""
    once = {"loader": loader, "once": "new.conf"}
    host.boot.found = host.boot.found.model_copy(update=once)
    with pytest.raises(NotSupportedError, match="next boot only") as caught:
        host.perform(preflight(host))
    assert caught.value.next_command == command


def test_a_device_that_somebody_keeps_is_found_before_anything_happens(
    host: Any, workload: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kho, "_BUSY_SECONDS", 0.1)
    host.luo.open_device()
    with pytest.raises(MkupgradeError, match="/dev/liveupdate"):
        host.perform(preflight(host, workload(), channel="kho"))
    assert not list(host.state_dir.rglob("*.json"))


def test_a_device_that_somebody_has_for_a_moment_is_waited_for(host: Any, workload: Any) -> None:
    device = host.luo.open_device()
    threading.Timer(0.2, device.close).start()
    host.perform(preflight(host, workload(), channel="kho"))


def test_all_problems_of_workloads_are_told_at_once_and_warnings_stop_nothing(
    host: Any, workload: Any
) -> None:
    found = {
        "a": [Finding("error", "a", "has a file on tmpfs")],
        "b": [Finding("warning", "b", "low pid")],
        "c": [Finding("error", "c", "CRIU refuses")],
    }
    host.workloads.preflight = lambda w, *rest: found[w.name]
    with pytest.raises(WorkloadError) as caught:
        host.perform(preflight(host, *(workload(name) for name in "abc")))
    assert caught.value.details == ("a: has a file on tmpfs", "c: CRIU refuses")
    assert not list(host.state_dir.rglob("*.json")), "nothing is left of it"
    assert host.perform(preflight(host, workload("b"))) == {"warnings": ["b: low pid"]}


def test_what_a_tool_said_is_told_line_by_line(host: Any, workload: Any) -> None:
    found = [Finding("error", "a", "the dump failed\n  no room\n  page 7")]
    host.workloads.preflight = lambda *rest: found
    with pytest.raises(WorkloadError) as caught:
        host.perform(preflight(host, workload("a")))
    assert caught.value.what == "a: the dump failed"
    assert caught.value.details == ("  no room", "  page 7")


def test_trial_dumps_are_gone_when_preflight_ends_or_dies(host: Any, workload: Any) -> None:
    def dump(workload: Any, channel: str, scratch: Path, *rest: Any) -> list[Finding]:
        scratch.mkdir()
        (scratch / "pages").touch()
        raise WorkloadError("no")

    host.workloads.preflight = dump
    with pytest.raises(WorkloadError):
        host.perform(preflight(host, workload()))
    assert not list(host.state_dir.rglob("pages"))
    assert host.verdict(preflight(host, workload())) is Inspection.ABSENT
    host.revert(preflight(host, workload()))


def test_a_passed_preflight_counts_after_a_crash_but_not_after_a_restart(host: Any) -> None:
    step = preflight(host)
    assert host.verdict(step) is Inspection.ABSENT
    host.perform(step)
    host.die()
    assert host.verdict(step) is Inspection.PRESENT
    host.land("7.2.13", "", carried=False)
    assert host.verdict(step) is Inspection.ABSENT
    host.perform(step)
    host.revert(step)
    assert host.verdict(step) is Inspection.ABSENT
