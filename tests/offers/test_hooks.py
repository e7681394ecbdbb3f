"""The hooks of kernel packages: what they ask mkupgrade for, and that they never fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

HOOKS = Path(__file__).parents[2] / "orchestrator/offers/hooks"
PLUGIN = HOOKS / "kernel-install" / "95-mkupgrade.install"
POSTINST = HOOKS / "kernel" / "postinst.d" / "zz-z-mkupgrade"
POSTRM = HOOKS / "kernel" / "postrm.d" / "zz-z-mkupgrade"
APT = HOOKS / "apt" / "apt-post-invoke"
APT_CONF = HOOKS / "apt" / "90mkupgrade"
HOSTILE = ["$(touch evil)", "`touch evil`", "a b", "a\nb", "--state-dir=/x", "-h", "*", "'", "é\\n"]


class Host:
    """A PATH with a pretend `mkupgrade` that writes its arguments down."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.asked = directory / "asked"
        self.mkupgrade('printf "%s\\0" "$@" >>"$ASKED"; echo done')

    def mkupgrade(self, body: str) -> None:
        path = self.bin / "mkupgrade"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def __call__(self, *argv: object, **environment: str) -> str:
        """Run a program; what it says on stderr. It must end with 0, and leave stdout alone."""
        inherited = os.environ["PATH"]
        done = subprocess.run(
            list(map(str, argv)), cwd=self.directory, text=True, capture_output=True,
            timeout=60, check=False, stdin=subprocess.DEVNULL,
            env={"PATH": f"{self.bin}:{inherited}", "ASKED": str(self.asked)} | environment,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, ""), done
        return done.stderr

    def arguments(self) -> list[str]:
        """What mkupgrade was asked for since the last look."""
        if not self.asked.exists():
            return []
        found = self.asked.read_text().split("\0")[:-1]
        self.asked.unlink()
        return found


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_debians_hooks_offer_and_withdraw(host: Host) -> None:
    assert host(POSTINST, "7.4", "/boot/vmlinuz-7.4") == "mkupgrade: done\n"
    assert host.arguments() == ["offer", "--hook", "--", "7.4", "/boot/vmlinuz-7.4"]
    host(POSTRM, "7.4", "/boot/vmlinuz-7.4")
    assert host.arguments() == ["offer", "--hook", "--withdraw=7.4"]


def test_a_package_that_names_no_image_has_it_in_boot(host: Host) -> None:
    host(POSTINST, "7.4")
    assert host.arguments()[-1] == "/boot/vmlinuz-7.4"


@pytest.mark.parametrize(
    ("hook", "params", "acts"),
    [
        (POSTINST, "configure 7.3", True),
        (POSTINST, "'configure' '7.3'", True),
        (POSTINST, "abort-upgrade 7.4", False),
        (POSTRM, "remove", True),
        (POSTRM, "upgrade 7.5", False),
        (POSTRM, "$(touch evil)", False),
    ],
)
def test_only_an_arrival_and_a_removal_count(
    host: Host, hook: Path, params: str, acts: bool
) -> None:
    host(hook, "7.4", "/boot/vmlinuz-7.4", DEB_MAINT_PARAMS=params)
    assert bool(host.arguments()) is acts
    assert not (host.directory / "evil").exists()


@pytest.mark.parametrize("word", HOSTILE)
def test_hostile_words_stay_words(host: Host, word: str) -> None:
    host(POSTINST, word, word)
    assert host.arguments()[-3:] == ["--", word, word]
    host(POSTRM, word)
    assert host.arguments()[-1] == f"--withdraw={word}"
    host(PLUGIN, "add", word, word, word, word)
    asked = host.arguments()
    assert asked[:3] == ["offer", "--hook", f"--initrd={word}"]
    assert asked[-3:] == ["--", word, word]
    host(PLUGIN, "remove", word, word)
    assert host.arguments()[-1] == f"--withdraw={word}"
    assert not (host.directory / "evil").exists()


@pytest.mark.parametrize(
    "hook", [(POSTINST,), (POSTRM,), (PLUGIN,), (PLUGIN, "add"), (PLUGIN, "x")]
)
def test_a_call_that_makes_no_sense_is_left_alone(host: Host, hook: tuple[object, ...]) -> None:
    assert host(*hook) == ""
    assert host.arguments() == []


@pytest.mark.parametrize("body", ["echo broken >&2; exit 1", "kill -9 $$", "exit 77"])
def test_a_mkupgrade_that_fails_does_not_fail_the_package(host: Host, body: str) -> None:
    host.mkupgrade(body)
    for argv in ((POSTINST, "7.4"), (POSTRM, "7.4"), (PLUGIN, "add", "7.4", "/e", "/i")):
        told = host(*argv)
        assert "ended with an error" in told
        assert told.count("mkupgrade: ") == 1


def test_where_mkupgrade_is_gone_its_hooks_are_silent(host: Host) -> None:
    (host.bin / "mkupgrade").unlink()
    if shutil.which("mkupgrade"):
        pytest.skip("mkupgrade is installed on this machine")
    assert [host(POSTINST, "7.4"), host(POSTRM, "7.4"), host(PLUGIN, "remove", "7.4")] == [""] * 3


@pytest.mark.skipif(shutil.which("kernel-install") is None, reason="needs kernel-install (systemd)")
def test_kernel_install_itself_calls_the_plugin(host: Host) -> None:
    boot, image, initrd = (host.directory / name for name in ("boot", "vmlinuz", "initrd"))
    boot.mkdir()
    image.write_text("a kernel")
    initrd.write_text("an initrd")
    configuration = {
        "KERNEL_INSTALL_PLUGINS": str(PLUGIN),
        "KERNEL_INSTALL_CONF_ROOT": str(host.directory),
        "BOOT_ROOT": str(boot),
        "MACHINE_ID": "0" * 31 + "1",
    }
    host("kernel-install", "add", "7.4", image, initrd, **configuration)
    asked = host.arguments()
    assert asked[:3] == ["offer", "--hook", f"--initrd={initrd}"]
    assert asked[-3:] == ["--", "7.4", str(image)]
    entry = [word for word in asked[3:-3] if word.startswith("--initrd=")]
    assert [Path(word).name for word in entry] == ["initrd.img-7.4", "initrd"]
    host("kernel-install", "remove", "7.4", **configuration)
    assert host.arguments() == ["offer", "--hook", "--withdraw=7.4"]


class Apt:
    """The script that apt calls, with the directories that it looks at in a root of its own."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.root = host.directory / "root"
        for name in ("boot", "lib/modules", "run", "etc/mkupgrade", "var/lib/mkupgrade/offers"):
            (self.root / name).mkdir(parents=True)
        self.template = self.root / "etc/mkupgrade/plan.yaml"
        self.template.write_text("a template")
        text = APT.read_text()
        for name in ("/boot", "/lib/modules", "/run/", "/etc/mkupgrade", "/var/lib"):
            assert name in text
            text = text.replace(f" {name}", f" {self.root}{name}")
            text = text.replace(f"={name}", f"={self.root}{name}")
        self.script = host.directory / "apt-post-invoke"
        self.script.write_text(text)
        self.script.chmod(0o755)

    def __call__(self, **environment: str) -> str:
        return self.host(self.script, **environment)

    def asked(self) -> bool:
        """Was mkupgrade started since the last look, and for what it is there for?"""
        found = self.host.arguments()
        assert found in ([], ["offer", "--installed", "--hook"])
        return bool(found)


@pytest.fixture
def apt(host: Host) -> Apt:
    return Apt(host)


def test_apt_asks_when_kernels_came_or_went_and_starts_nothing_otherwise(apt: Apt) -> None:
    assert apt() == "mkupgrade: done\n"
    assert apt.asked()
    assert apt() == ""
    assert not apt.asked()
    for change in (
        (apt.root / "boot/vmlinuz-7.4").touch,
        (apt.root / "lib/modules/7.4").mkdir,
        lambda: apt.template.write_text("another template"),
        (apt.root / "boot/vmlinuz-7.4").unlink,
    ):
        time.sleep(0.02)  # the clock of files ticks a hundred times in a second
        change()
        apt()
        assert apt.asked()
        apt()
        assert not apt.asked()


def test_what_dpkg_dates_back_has_changed_nevertheless(apt: Apt) -> None:
    apt()
    assert apt.asked()
    time.sleep(0.02)
    (apt.root / "boot/vmlinuz-7.4").touch()
    os.utime(apt.root / "boot", (1, 1))
    apt()
    assert apt.asked()


def test_where_nothing_can_be_remembered_apt_asks_each_time(apt: Apt) -> None:
    (apt.root / "run").rmdir()
    for _ in range(2):
        assert apt() == "mkupgrade: done\n"
        assert apt.asked()


def test_where_nothing_is_said_apts_output_ends_without_a_line(apt: Apt) -> None:
    apt.host.mkupgrade("exit 0")
    assert apt() == ""


def test_a_host_that_takes_no_offers_pays_for_nothing(apt: Apt) -> None:
    apt.template.unlink()
    (apt.root / "var/lib/mkupgrade/offers").rmdir()
    assert apt() == ""
    assert not apt.asked()
    apt(MKUPGRADE_TEMPLATE=str(apt.root / "boot"))
    assert apt.asked()


@pytest.mark.parametrize("body", ["echo broken >&2; exit 1", "kill -9 $$"])
def test_a_mkupgrade_that_fails_does_not_fail_apt_and_is_told_once(apt: Apt, body: str) -> None:
    apt.host.mkupgrade(body)
    assert apt().count("ended with an error") == 1
    assert apt() == ""


@pytest.mark.skipif(shutil.which("apt-config") is None, reason="needs apt: this is no Debian")
def test_apt_reads_the_configuration_and_its_command_bears_that_the_script_is_gone(
    host: Host,
) -> None:
    done = subprocess.run(
        ["apt-config", "dump", "DPkg::Post-Invoke"], capture_output=True, text=True,
        check=True, env={"PATH": os.environ["PATH"], "APT_CONFIG": str(APT_CONF)},
    )  # fmt: skip
    (command,) = [line for line in APT_CONF.read_text().splitlines() if "Post-Invoke" in line]
    quoted = command.split('"')[1]
    assert f'DPkg::Post-Invoke:: "{quoted}";' in done.stdout
    gone = quoted.replace("/usr/libexec/mkupgrade", str(host.directory))
    assert gone != quoted
    for path in ("absent", "fails"):
        script = host.directory / "apt-post-invoke"
        if path == "fails":
            script.write_text("#!/bin/sh\nexit 1\n")
            script.chmod(0o755)
        assert host("sh", "-c", gone) == ""


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
@pytest.mark.parametrize("hook", [PLUGIN, POSTINST, POSTRM, APT])
def test_shellcheck_has_nothing_to_say(hook: Path) -> None:
    done = subprocess.run(
        ["shellcheck", "-s", "sh", str(hook)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("hook", [PLUGIN, POSTINST, POSTRM, APT])
def test_hooks_can_be_run(hook: Path) -> None:
    assert os.access(hook, os.X_OK)
