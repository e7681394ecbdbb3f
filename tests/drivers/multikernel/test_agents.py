"""An instance with an agent: its key comes with its initrd, and its word is waited for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.agent.keys import new_key, parse_key
from orchestrator.drivers.multikernel.images import KEY_FILE, keyed_initrd
from orchestrator.model.kinds import Kind
from orchestrator.model.outcomes import Outcome
from orchestrator.model.spec import UpgradeSpec
from tests.drivers.multikernel.scene import RELEASE, Scene
from tests.support.multikernel.settings import MK2, AgentSays, Spawn

INITRD = b"070701" + b"0" * 88 + b"0000000B" + b"0" * 8 + b"TRAILER!!!\0" + bytes(3)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene.make(tmp_path)


def spec(scene: Scene, **agent: Any) -> UpgradeSpec:
    (scene.directory / "initrd").write_bytes(INITRD)
    kernel = {
        "image": str(scene.directory / "vmlinux"),
        "release": RELEASE,
        "initrd": str(scene.directory / "initrd"),
    }
    return scene.spec(instances=[{"name": "web", "kernel": kernel, "agent": agent}])


def behaves(scene: Scene, agent: AgentSays | None, **rest: Any) -> None:
    scene.double.world.spawns["web-g2"] = Spawn(agent=agent, **rest)


def test_an_upgrade_waits_until_the_agent_is_ready_and_reports_its_kernel(scene: Scene) -> None:
    behaves(scene, AgentSays(RELEASE, ready_in=9))
    report = scene.run(scene.plan(spec(scene)))
    assert report.outcome is Outcome.COMMITTED
    waited = next(s for s in report.steps if s.kind == Kind.AWAIT_INSTANCE)
    assert waited.result["agent"]["release"] == RELEASE
    assert waited.result["agent"]["boot_id"] == "boot of web-g2"
    assert scene.double.world.clock.now >= 9


def test_an_agent_that_never_answers_is_an_upgrade_that_did_not_happen(scene: Scene) -> None:
    behaves(scene, None)
    report = scene.run(scene.plan(spec(scene)))
    assert report.outcome is Outcome.ROLLED_BACK
    assert "is its unit there" in report.reason


def test_why_it_is_not_ready_is_told(scene: Scene) -> None:
    behaves(scene, AgentSays(RELEASE, ready_in=10_000))
    report = scene.run(scene.plan(spec(scene)))
    assert report.outcome is Outcome.ROLLED_BACK
    failed = next(s for s in report.steps if s.kind == Kind.AWAIT_INSTANCE)
    assert "/run/up is not there yet" in str(failed.error)


def test_another_kernel_than_was_loaded_is_found_out(scene: Scene) -> None:
    behaves(scene, AgentSays("6.6.6"))
    report = scene.run(scene.plan(spec(scene)))
    assert report.outcome is Outcome.ROLLED_BACK
    assert "runs Linux 6.6.6" in report.reason


def test_a_kernel_that_stops_while_its_agent_is_waited_for_is_told(scene: Scene) -> None:
    behaves(scene, AgentSays(RELEASE, ready_in=10_000), halts_at=20)
    report = scene.run(scene.plan(spec(scene)))
    assert report.outcome is Outcome.ROLLED_BACK
    assert "stopped by itself" in report.reason


def test_each_generation_has_a_key_of_its_own_and_none_is_left_behind(scene: Scene) -> None:
    behaves(scene, AgentSays(RELEASE))
    scene.run(scene.plan(spec(scene)))
    image = scene.double.world.instances["web-g2"].image
    assert image is not None and image.initrd is not None
    first = image.initrd
    assert first.startswith(INITRD)
    behaves(scene, AgentSays("6.6.6"))
    scene.double.world.spawns["web-g3"] = Spawn(agent=AgentSays("6.6.6"))
    (scene.directory / "vmlinux").write_bytes((scene.directory / "vmlinux").read_bytes() + b"x")
    scene.run(scene.plan(spec(scene)))
    assert not list(scene.directory.rglob("agent.web-g3*")), "of an instance that is gone"


def test_a_host_without_vsock_between_instances_is_refused_by_the_planner(tmp_path: Path) -> None:
    scene = Scene.make(tmp_path, MK2)
    assert "instance-vsock" in scene.causes(spec(scene))


def test_an_agent_without_an_initrd_is_refused_by_the_spec(scene: Scene) -> None:
    kernel = {"image": str(scene.directory / "vmlinux"), "release": RELEASE}
    with pytest.raises(ValueError, match=r"agent needs kernel\.initrd"):
        scene.spec(instances=[{"name": "web", "kernel": kernel, "agent": {}}])


def test_the_key_is_the_last_archive_of_the_initrd(tmp_path: Path) -> None:
    """As the kernel reads it: another archive behind padding, and a file that is root's alone."""
    (tmp_path / "initrd").write_bytes(INITRD + b"odd")
    key = new_key("t-1")
    with keyed_initrd(tmp_path / "initrd", key) as fd:
        data = Path(f"/proc/self/fd/{fd}").read_bytes()
    assert data.startswith(INITRD + b"odd")
    start = -(-len(INITRD + b"odd") // 512) * 512
    assert not any(data[len(INITRD + b"odd") : start])
    entries = unpacked(data[start:])
    assert [(name, mode) for name, mode, _ in entries] == [
        ("etc", 0o040755),
        ("etc/mkupgrade", 0o040755),
        (str(KEY_FILE)[1:], 0o100600),
    ]
    assert parse_key(entries[-1][2], "x") == key


def unpacked(archive: bytes) -> list[tuple[str, int, bytes]]:
    """As Documentation/driver-api/early-userspace/buffer-format.rst says: thirteen numbers of
    eight hexadecimal digits, name and content each at multiples of four."""
    found, at = [], 0
    while True:
        assert archive[at : at + 6] == b"070701"
        numbers = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, length = numbers[1], numbers[6], numbers[11]
        name = archive[at + 110 : at + 110 + length - 1].decode()
        at += -(-(110 + length) // 4) * 4
        if name == "TRAILER!!!":
            return found
        assert (numbers[2], numbers[3]) == (0, 0), "not root's"
        found.append((name, mode, archive[at : at + size]))
        at += -(-size // 4) * 4


def test_an_initrd_without_a_key_is_the_file_itself(tmp_path: Path) -> None:
    (tmp_path / "initrd").write_bytes(INITRD)
    with keyed_initrd(tmp_path / "initrd", None) as fd:
        assert Path(f"/proc/self/fd/{fd}").resolve() == tmp_path / "initrd"
