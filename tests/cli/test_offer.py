"""`offer`: what a package brings becomes a plan that waits, and nothing that goes wrong on the way
ends a package manager's run."""

from __future__ import annotations

import json
import stat
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.drivers.simulated.images import PretendImage, write_image
from orchestrator.loading import load_spec_file
from orchestrator.model.outcomes import ExitCode
from orchestrator.offers import installed, template
from orchestrator.system.trusted import Trust

RUNNING = "7.2.13"
NEW = "7.4.1-amd64"


@pytest.fixture(autouse=True)
def named(mkupgrade: Any) -> None:
    mkupgrade.environment["MKUPGRADE_TEMPLATE"] = str(mkupgrade.spec)


@pytest.fixture
def kernel(mkupgrade: Any) -> Any:
    """`kernel("7.4.1")`: the image of a pretend kernel."""

    def make(release: str = NEW) -> Path:
        path: Path = mkupgrade.state / "boot" / f"vmlinuz-{release}"
        write_image(path, PretendImage(release=release))
        mkupgrade.state.chmod(0o700)
        return path

    return make


def place(mkupgrade: Any) -> Path:
    path: Path = mkupgrade.state / "offers" / "host.yaml"
    return path


def offered(mkupgrade: Any) -> list[str]:
    return [o["release"] for o in mkupgrade.json("status")["offers"]]


def test_an_offer_is_the_templates_plan_with_the_new_kernel(mkupgrade: Any, kernel: Any) -> None:
    image = kernel()
    told = mkupgrade("offer", NEW, image).stdout
    assert told == (f"Linux {NEW}: offered for instance host: mkupgrade apply {place(mkupgrade)}\n")
    made, wanted = load_spec_file(place(mkupgrade)), load_spec_file(mkupgrade.spec)
    assert (made.instances[0].kernel.release, str(made.instances[0].kernel.image)) == (
        NEW, str(image),
    )  # fmt: skip
    assert made.instances[0].kernel.sha256 is not None
    same = {"instances"}
    assert made.model_dump(exclude=same) == wanted.model_dump(exclude=same)


def test_offers_are_closed_to_others(mkupgrade: Any, kernel: Any) -> None:
    mkupgrade("offer", NEW, kernel())
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (place(mkupgrade).parent, place(mkupgrade))]
    assert modes == [0o700, 0o600]


def test_status_shows_an_offer_and_the_one_command(mkupgrade: Any, kernel: Any) -> None:
    image = kernel()
    assert mkupgrade.json("status")["offers"] == []
    mkupgrade("offer", NEW, image)
    command = f"mkupgrade apply {place(mkupgrade)}"
    shown = mkupgrade("status").stdout
    assert f"Linux {NEW} for instance host" in shown
    assert command in shown
    assert mkupgrade.json("status")["offers"] == [
        {
            "path": str(place(mkupgrade)), "instance": "host", "release": NEW,
            "image": str(image), "name": "test-upgrade", "problem": None,
            "next_command": command,
        }
    ]  # fmt: skip


def test_an_offer_is_applied_like_any_spec_and_then_no_longer_shown(
    mkupgrade: Any, kernel: Any
) -> None:
    mkupgrade("offer", NEW, kernel())
    mkupgrade("apply", place(mkupgrade), "--yes")
    assert mkupgrade.json("status")["kernel"] == NEW
    assert offered(mkupgrade) == []


def test_an_offer_that_was_rolled_back_is_shown_with_why(mkupgrade: Any, kernel: Any) -> None:
    mkupgrade("offer", NEW, kernel())
    mkupgrade("apply", place(mkupgrade), "--yes")
    mkupgrade("rollback", "--yes")
    (found,) = mkupgrade.json("status")["offers"]
    assert "rolled-back" in found["problem"]
    assert found["next_command"].endswith(" --again")


def test_a_second_call_changes_nothing(mkupgrade: Any, kernel: Any) -> None:
    image = kernel()
    mkupgrade("offer", NEW, image)
    before = place(mkupgrade).stat()
    assert mkupgrade.json("offer", NEW, image)["again"]
    assert place(mkupgrade).stat() == before


def test_a_newer_kernel_takes_the_place_of_an_older_one(mkupgrade: Any, kernel: Any) -> None:
    mkupgrade("offer", NEW, kernel())
    found = mkupgrade.json("offer", "7.4.2-amd64", kernel("7.4.2-amd64"))
    assert found["superseded"] == NEW
    assert offered(mkupgrade) == ["7.4.2-amd64"]


def test_an_older_kernel_does_not_take_the_place_of_a_newer_one(
    mkupgrade: Any, kernel: Any
) -> None:
    mkupgrade("offer", "7.4.2-amd64", kernel("7.4.2-amd64"))
    assert mkupgrade.json("offer", NEW, kernel())["offered"] is False
    assert offered(mkupgrade) == ["7.4.2-amd64"]


def test_an_older_kernel_is_offered_where_the_newer_one_is_gone(
    mkupgrade: Any, kernel: Any
) -> None:
    newer = kernel("7.4.2-amd64")
    mkupgrade("offer", "7.4.2-amd64", newer)
    newer.unlink()
    assert mkupgrade.json("offer", NEW, kernel())["offered"] is True


@pytest.mark.parametrize("release", [RUNNING, "7.1.0-amd64"])
def test_a_kernel_that_runs_or_is_older_is_not_offered(
    mkupgrade: Any, kernel: Any, release: str
) -> None:
    mkupgrade.change_host()
    found = mkupgrade.json("offer", release, kernel(release))
    assert found["offered"] is False
    assert RUNNING in found["why"]
    assert not place(mkupgrade).exists()


def test_an_offer_goes_with_its_kernel(mkupgrade: Any, kernel: Any) -> None:
    mkupgrade("offer", NEW, kernel())
    assert mkupgrade.json("offer", "--withdraw", "7.9")["withdrawn"] == []
    assert offered(mkupgrade) == [NEW]
    assert mkupgrade.json("offer", "--withdraw", NEW)["withdrawn"] == [str(place(mkupgrade))]
    assert offered(mkupgrade) == []
    assert "was not offered" in mkupgrade("offer", "--withdraw", NEW).stdout


def test_an_offer_goes_where_the_template_is_gone(mkupgrade: Any, kernel: Any) -> None:
    mkupgrade("offer", NEW, kernel())
    mkupgrade.spec.unlink()
    mkupgrade("offer", "--withdraw", NEW, "--hook")
    assert not place(mkupgrade).exists()


def test_an_offer_whose_image_is_gone_says_so(mkupgrade: Any, kernel: Any) -> None:
    image = kernel()
    mkupgrade("offer", NEW, image)
    image.unlink()
    (found,) = mkupgrade.json("status")["offers"]
    assert "not there any more" in found["problem"]
    assert found["next_command"] == f"mkupgrade offer --withdraw {NEW}"


def test_a_file_that_is_no_offer_is_shown_and_not_applied(mkupgrade: Any, kernel: Any) -> None:
    mkupgrade("offer", NEW, kernel())
    place(mkupgrade).write_text("api_version: mkupgrade/v9\n")
    assert str(place(mkupgrade)) in mkupgrade("status").stdout
    done = mkupgrade("offer", "--apply")
    assert "Nothing is offered." in done.stdout
    assert str(place(mkupgrade)) in done.stderr


def test_without_a_template_the_hook_says_how_to_make_one(mkupgrade: Any, kernel: Any) -> None:
    image = kernel()
    mkupgrade.spec.unlink()
    told = mkupgrade("offer", NEW, image, "--hook").stdout
    assert told.count("\n") == 1
    assert "not offered: there is no template" in told
    assert f"mkupgrade validate {mkupgrade.spec}" in told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("instances: [", "1:"),
        ("", "expected a mapping"),
        ("api_version: mkupgrade/v1\nmetadata: {name: x}\ninstances: []\n", "instances"),
    ],
)
def test_a_hook_never_fails_and_says_one_line(
    mkupgrade: Any, kernel: Any, text: str, said: str
) -> None:
    image = kernel()
    mkupgrade.spec.write_text(text)
    done = mkupgrade("offer", NEW, image, "--hook")
    assert done.stdout.count("\n") == 1
    assert said in done.stdout
    assert done.stderr == ""
    assert mkupgrade("offer", NEW, image, code=ExitCode.ERROR).stdout == ""


@pytest.mark.parametrize(
    "release",
    ["", "7.4\n- evil: yes", "../../etc/passwd", 'a"b', "é", "x" * 65, "\x1b[2J", "$(reboot)"],
)
def test_hostile_releases_end_in_a_refusal_or_in_themselves(
    mkupgrade: Any, kernel: Any, release: str
) -> None:
    image = kernel()
    done = mkupgrade("offer", "--hook", "--", release, image)
    assert done.stdout.count("\n") == 1
    assert "\x1b" not in done.stdout
    assert [p.name for p in mkupgrade.state.glob("offers/*")] in ([], ["host.yaml"])
    if place(mkupgrade).exists():
        assert load_spec_file(place(mkupgrade)).instances[0].kernel.release == release


def test_an_image_that_is_not_there_is_not_offered(mkupgrade: Any, kernel: Any) -> None:
    missing = kernel().with_name("vmlinuz-none")
    assert str(missing) in mkupgrade("offer", NEW, missing, "--hook").stdout
    assert not place(mkupgrade).exists()


def test_an_initrd_is_found_where_the_template_has_one(mkupgrade: Any, kernel: Any) -> None:
    text = mkupgrade.spec.read_text()
    mkupgrade.spec.write_text(text.replace("release: 7.3.4", "release: 7.3.4, initrd: /boot/old"))
    image = kernel()
    assert "no" in mkupgrade("offer", NEW, image, "--hook").stdout
    assert not place(mkupgrade).exists()
    usual = image.with_name(f"initrd.img-{NEW}")
    usual.write_text("an initrd")
    mkupgrade("offer", NEW, image)
    assert str(load_spec_file(place(mkupgrade)).instances[0].kernel.initrd) == str(usual)
    other = image.with_name("initrd")
    other.write_text("another")
    mkupgrade("offer", NEW, image, "--initrd", image.with_name("none"), "--initrd", other)
    assert str(load_spec_file(place(mkupgrade)).instances[0].kernel.initrd) == str(other)


def test_of_several_instances_one_must_be_named(mkupgrade: Any, kernel: Any) -> None:
    text = mkupgrade.spec.read_text().replace(
        "workloads:", "  - {name: b, kernel: {image: /boot/b, release: 7.2.1}}\nworkloads:"
    )
    mkupgrade.spec.write_text(text)
    assert "--instance" in mkupgrade("offer", NEW, kernel(), "--hook").stdout
    mkupgrade("offer", NEW, kernel(), "--instance", "b")
    releases = [
        i.kernel.release for i in load_spec_file(place(mkupgrade).with_name("b.yaml")).instances
    ]
    assert releases == ["7.3.4", NEW]


def test_what_yaml_could_read_otherwise_means_the_same_in_an_offer(
    mkupgrade: Any, kernel: Any
) -> None:
    words = '"1e3", "0o17", "yes", "null", "7.0", "a: b", "#", "\\u2028", "\\x07", "🐧"'
    labels = ", ".join(f"k{n}: {word}" for n, word in enumerate(words.split(", ")))
    text = mkupgrade.spec.read_text()
    mkupgrade.spec.write_text(text.replace("upgrade}", f"upgrade, labels: {{{labels}}}}}"))
    mkupgrade("offer", NEW, kernel())
    made = load_spec_file(place(mkupgrade)).metadata.labels
    assert made == load_spec_file(mkupgrade.spec).metadata.labels
    assert made["k0"] == "1e3"


def test_the_hosts_own_template_must_be_roots_alone(
    mkupgrade: Any, kernel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    del mkupgrade.environment["MKUPGRADE_TEMPLATE"]
    here = template.Place(mkupgrade.spec, Trust(owner=mkupgrade.spec.stat().st_uid,
                                                top=mkupgrade.directory))  # fmt: skip
    monkeypatch.setattr(template, "REAL", here)
    mkupgrade.directory.chmod(0o755)
    mkupgrade.spec.chmod(0o666)
    assert "can be written by others" in mkupgrade("offer", NEW, kernel(), "--hook").stdout
    mkupgrade.spec.chmod(0o644)
    assert mkupgrade.json("offer", NEW, kernel())["offered"] is True


def test_a_directory_of_offers_that_others_could_write_to_is_not_read(
    mkupgrade: Any, kernel: Any
) -> None:
    mkupgrade("offer", NEW, kernel())
    place(mkupgrade).parent.chmod(0o777)
    (found,) = mkupgrade.json("status")["offers"]
    assert "open to others" in found["problem"]
    assert found["release"] is None


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("7.3",),
        ("7.3", "/x", "--apply"),
        ("--apply", "--withdraw", "7.3"),
        ("--installed", "--apply"),
        ("7.3", "/x", "--installed"),
    ],
)
def test_one_thing_at_a_time(mkupgrade: Any, arguments: tuple[str, ...]) -> None:
    done = mkupgrade("offer", *arguments, code=ExitCode.ERROR)
    assert "give RELEASE and IMAGE" in done.stderr


def window(*, around: bool) -> str:
    """A window of two hours that holds this minute, or one that does not."""
    now = datetime.now().astimezone()
    start = now - timedelta(hours=1) if around else now + timedelta(hours=1)
    return f"{start:%H:%M}-{start + timedelta(hours=2):%H:%M}"


def test_what_is_offered_is_applied_inside_the_window_only(mkupgrade: Any, kernel: Any) -> None:
    mkupgrade("offer", NEW, kernel())
    outside = mkupgrade("offer", "--apply", "--window", window(around=False), code=ExitCode.WAITING)
    assert "Outside of the window" in outside.stdout
    assert offered(mkupgrade) == [NEW]
    mkupgrade("offer", "--apply", "--window", window(around=True))
    assert mkupgrade.json("status")["kernel"] == NEW
    assert "Nothing is offered." in mkupgrade("offer", "--apply").stdout


def test_what_was_rolled_back_is_not_applied_again_by_itself(mkupgrade: Any, kernel: Any) -> None:
    mkupgrade("offer", NEW, kernel())
    mkupgrade("apply", place(mkupgrade), "--yes")
    mkupgrade("rollback", "--yes")
    refused = mkupgrade("offer", "--apply", code=ExitCode.ERROR)
    assert "rolled back" in refused.stderr


def test_json_says_why_not(mkupgrade: Any, kernel: Any) -> None:
    image = kernel()
    mkupgrade.spec.unlink()
    found = json.loads(mkupgrade("offer", NEW, image, "--json", "--hook").stdout)
    assert found["offered"] is False
    assert found["error"]["code"] == "no-template"


def test_a_plan_for_a_nixos_system_is_no_template_and_no_offer(
    mkupgrade: Any, kernel: Any, tmp_path: Path
) -> None:
    plan = json.loads(load_spec_file(mkupgrade.spec).model_dump_json())
    plan["instances"][0]["kernel"] = {"nixos": {"profile": "system"}}
    other = tmp_path / "template.yaml"
    other.write_text(json.dumps(plan))
    image = kernel()
    told = mkupgrade("offer", NEW, image, "--template", other, code=ExitCode.ERROR)
    assert "no package brings" in told.stderr
    assert not place(mkupgrade).exists()

    mkupgrade("offer", NEW, image)
    place(mkupgrade).write_text(json.dumps(plan))
    assert "no package brings" in mkupgrade("status").stdout


@pytest.fixture
def install(mkupgrade: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`install("7.4.1")`: a kernel where a package puts it, of which nobody has been told."""
    boot, modules = mkupgrade.directory / "boot", mkupgrade.directory / "modules"
    monkeypatch.setattr(installed, "REAL", installed.Places(boot, modules))
    mkupgrade.change_host()

    def make(release: str = NEW, *, image: bool = True) -> Path:
        path: Path = boot / f"vmlinuz-{release}"
        (modules / release).mkdir(parents=True)
        if image:
            write_image(path, PretendImage(release=release))
        return path

    return make


def test_a_kernel_that_came_without_a_word_is_offered(mkupgrade: Any, install: Any) -> None:
    for release in (NEW, "7.4.10-amd64", "7.4.9-amd64", RUNNING, "7.1.0-amd64"):
        install(release)
    install("7.9.0-amd64", image=False)
    told = mkupgrade("offer", "--installed", "--hook").stdout
    assert told == (
        f"Linux 7.4.10-amd64: offered for instance host: mkupgrade apply {place(mkupgrade)}\n"
    )
    assert offered(mkupgrade) == ["7.4.10-amd64"]
    assert "still offered for instance host" in mkupgrade("offer", "--installed", "--hook").stdout


def test_a_kernel_of_the_running_ones_kind_goes_before_newer_ones(
    mkupgrade: Any, install: Any
) -> None:
    for release in ("7.4.1", "7.4.2-rt-amd64"):
        install(release)
    assert mkupgrade.json("offer", "--installed")["release"] == "7.4.1"


def test_where_no_newer_kernel_is_installed_the_hook_is_silent(
    mkupgrade: Any, install: Any
) -> None:
    assert mkupgrade("offer", "--installed", "--hook").stdout == ""
    install(RUNNING)
    assert mkupgrade("offer", "--installed", "--hook").stdout == ""
    assert f"newer than Linux {RUNNING}, which runs" in mkupgrade("offer", "--installed").stdout


def test_an_offer_whose_image_is_gone_is_withdrawn_and_the_next_kernel_offered(
    mkupgrade: Any, install: Any
) -> None:
    install("7.4.0-amd64")
    image = install(NEW)
    mkupgrade("offer", "--installed")
    image.unlink()
    found = mkupgrade.json("offer", "--installed")
    assert (found["withdrawn"], found["release"]) == ([str(place(mkupgrade))], "7.4.0-amd64")
    assert offered(mkupgrade) == ["7.4.0-amd64"]
    (image.parent / "vmlinuz-7.4.0-amd64").unlink()
    told = mkupgrade("offer", "--installed", "--hook").stdout
    assert told == "Linux 7.4.0-amd64: not offered any more: its image is gone\n"
    assert offered(mkupgrade) == []


def test_an_offer_of_a_kernel_from_elsewhere_stays_and_is_said(
    mkupgrade: Any, install: Any, kernel: Any
) -> None:
    mkupgrade("offer", "7.5.0-amd64", kernel("7.5.0-amd64"))
    install(NEW)
    told = mkupgrade("offer", "--installed", "--hook").stdout
    assert told == f"Linux 7.5.0-amd64: still offered: mkupgrade apply {place(mkupgrade)}\n"


def test_a_kernel_that_was_rolled_back_is_said_to_be_so(mkupgrade: Any, install: Any) -> None:
    install(NEW)
    mkupgrade("offer", "--installed")
    mkupgrade("apply", place(mkupgrade), "--yes")
    assert mkupgrade("offer", "--installed", "--hook").stdout == ""
    mkupgrade("rollback", "--yes")
    told = mkupgrade("offer", "--installed", "--hook").stdout
    assert told.startswith(f"Linux {NEW}: offered, but transaction ")
    assert told.endswith(f"mkupgrade apply {place(mkupgrade)} --again\n")


def test_without_a_template_installed_kernels_are_left_alone_in_silence(
    mkupgrade: Any, install: Any
) -> None:
    install(NEW)
    mkupgrade.spec.unlink()
    assert mkupgrade("offer", "--installed", "--hook").stdout == ""
    assert "there is no template" in mkupgrade("offer", "--installed").stdout


def test_a_damaged_template_is_one_line_about_installed_kernels(
    mkupgrade: Any, install: Any
) -> None:
    install(NEW)
    mkupgrade.spec.write_text("instances: [")
    told = mkupgrade("offer", "--installed", "--hook").stdout
    assert told.startswith("installed kernels: nothing was changed: ")
    assert told.count("\n") == 1


def test_which_kernel_instances_get_is_not_guessed(mkupgrade: Any, install: Any) -> None:
    install(NEW)
    text = mkupgrade.spec.read_text().replace("driver: simulated", "driver: multikernel")
    mkupgrade.spec.write_text(text)
    found = mkupgrade.json("offer", "--installed")
    assert (found["offered"], found["withdrawn"]) == (False, [])
    assert "instances have kernels of their own" in found["why"]
