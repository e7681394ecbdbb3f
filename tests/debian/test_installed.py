"""Kernels come and go by the real apt, dpkg and kernel-install, where the package is installed."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.debian_tree import View
from tests.support.images import bz_image, kernel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

FIRST, SECOND = "99.1.0-amd64", "99.2.0-amd64"
OFFER = "/var/lib/mkupgrade/offers/host.yaml"
APPLY = f"mkupgrade apply {OFFER}"
TEMPLATE = """\
api_version: mkupgrade/v1
metadata: {name: packaged}
instances:
  - name: host
    kernel: {image: /boot/vmlinuz-1, initrd: /boot/initrd.img-1, release: "1"}
"""
SCRIPT = """\
#!/bin/sh
set -e
export DEB_MAINT_PARAMS="$*"
exec run-parts --report --exit-on-error --arg={release} --arg=/boot/vmlinuz-{release} \\
    /etc/kernel/{directory}
"""
CONTROL = """\
Package: {name}
Version: {version}
Architecture: all
Maintainer: Nobody <nobody@example.org>
Description: a package of the tests' own
"""


class Host:
    """The view, with apt's last words at hand."""

    def __init__(self, seen: View) -> None:
        self.seen = seen

    def apt(self, *arguments: str) -> list[str]:
        """What apt says, line by line."""
        done = self.seen.said("apt-get", "--yes", "--no-install-recommends", *arguments)
        return done.splitlines()

    def template(self) -> None:
        self.seen.path("/etc/mkupgrade/plan.yaml").write_text(TEMPLATE)

    def offered(self) -> list[str]:
        return [offer["release"] for offer in self._status()["offers"]]

    def shown(self) -> str:
        return self.seen.said("mkupgrade", "status")

    def _status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.seen.said("mkupgrade", "status", "--json"))
        return found

    def package(self, name: str, version: str = "1") -> str:
        """A package with nothing in it, or a kernel's: `linux-image-RELEASE`, with modules, and
        scripts that call /etc/kernel as those of Debian's do."""
        inside = f"/made/{name}_{version}"
        tree = self.seen.path(inside)
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text(CONTROL.format(name=name, version=version))
        if name.startswith("linux-image-"):
            self._kernel(tree, name.removeprefix("linux-image-"))
        self.seen.run("dpkg-deb", "--root-owner-group", "--build", inside, f"{inside}.deb")
        return f"{inside}.deb"

    def _kernel(self, tree: Path, release: str) -> None:
        write_kernel(tree, release)
        for name in ("postinst", "postrm"):
            script = tree / "DEBIAN" / name
            script.write_text(SCRIPT.format(release=release, directory=f"{name}.d"))
            script.chmod(0o755)


def write_kernel(root: Path, release: str) -> None:
    """An image, an initrd and modules where Debian's packages have them."""
    banner = f"{release} (who@where) #1 SMP".encode()
    image = bz_image(gzip.compress(kernel(release)), banner=banner)
    (root / "boot").mkdir(exist_ok=True)
    (root / f"boot/vmlinuz-{release}").write_bytes(image)
    (root / f"boot/initrd.img-{release}").write_bytes(b"070701" + b"0" * 200)
    modules = root / f"usr/lib/modules/{release}"
    modules.mkdir(parents=True)
    (modules / "modules.builtin").touch()


@pytest.fixture
def host(installed: View) -> Host:
    return Host(installed)


def test_a_kernel_that_apt_brings_is_offered_until_it_is_purged(host: Host) -> None:
    host.template()
    kernels = [host.package(f"linux-image-{release}") for release in (FIRST, SECOND)]
    said = host.apt("install", kernels[0])
    print(*said, sep="\n")
    assert f"mkupgrade: Linux {FIRST}: offered for instance host: {APPLY}" in said
    assert said[-1] == f"mkupgrade: Linux {FIRST}: still offered for instance host: {APPLY}"
    assert host.offered() == [FIRST]
    assert APPLY in host.shown()
    assert "packaged" in host.seen.said("mkupgrade", "validate", OFFER)

    said = host.apt("install", kernels[1])
    assert re.search(rf"Linux {SECOND}: offered .* instead of Linux {FIRST}", "\n".join(said))
    assert host.offered() == [SECOND]

    # The next one that is newer than what runs takes its place; then there is none.
    said = host.apt("purge", f"linux-image-{SECOND}")
    print(*said, sep="\n")
    assert f"mkupgrade: Linux {SECOND}: not offered any more" in said
    assert said[-1] == f"mkupgrade: Linux {FIRST}: offered for instance host: {APPLY}"
    said = host.apt("purge", f"linux-image-{FIRST}")
    assert said[-1] != f"mkupgrade: Linux {FIRST}: offered for instance host: {APPLY}"
    assert host.offered() == []
    assert APPLY not in host.shown()


def test_what_no_hook_of_a_kernel_tells_is_seen_at_the_end_of_apt(host: Host) -> None:
    told = [line for line in host.apt("install", host.package(f"linux-image-{FIRST}"))
            if line.startswith("mkupgrade: ")]  # fmt: skip
    assert len(told) == 1
    assert "not offered: there is no template" in told[0]

    # Behind the template any package will do.
    host.template()
    said = host.apt("install", host.package("nothing"))
    assert said[-1] == f"mkupgrade: Linux {FIRST}: offered for instance host: {APPLY}"
    # And where nothing of kernels has changed, nothing is started and nothing said.
    host.seen.path("/usr/bin/mkupgrade").rename(host.seen.path("/usr/bin/mkupgrade.away"))
    host.seen.path("/usr/bin/mkupgrade").write_text("#!/bin/sh\ntouch /started\n")
    host.seen.path("/usr/bin/mkupgrade").chmod(0o755)
    said = host.apt("install", host.package("nothing", "2"))
    assert not [line for line in said if "mkupgrade" in line]
    assert not host.seen.path("/started").exists()
    host.seen.path("/usr/bin/mkupgrade.away").rename(host.seen.path("/usr/bin/mkupgrade"))

    host.seen.path(f"/boot/vmlinuz-{FIRST}").unlink()
    said = host.apt("install", host.package("nothing", "3"))
    assert said[-1] == f"mkupgrade: Linux {FIRST}: not offered any more: its image is gone"
    assert host.offered() == []


def test_apt_goes_on_where_the_package_is_removed_and_purged(host: Host) -> None:
    host.template()
    host.apt("install", host.package(f"linux-image-{FIRST}"))
    host.apt("remove", "mkupgrade")
    assert host.seen.path("/etc/apt/apt.conf.d/90mkupgrade").exists()
    said = host.apt("install", host.package(f"linux-image-{SECOND}"))
    assert not [line for line in said if line.startswith(("mkupgrade: ", "E: "))]
    host.apt("purge", "mkupgrade")
    assert not [*host.seen.path("/etc").glob("*/*/*mkupgrade*")]
    assert not host.seen.path(OFFER).exists()
    host.apt("purge", f"linux-image-{SECOND}")


def test_dpkg_alone_offers_and_withdraws(host: Host) -> None:
    host.template()
    said = host.seen.said("dpkg", "--install", host.package(f"linux-image-{FIRST}"))
    assert f"mkupgrade: Linux {FIRST}: offered for instance host: {APPLY}" in said
    assert host.offered() == [FIRST]
    said = host.seen.said("dpkg", "--purge", f"linux-image-{FIRST}")
    assert f"mkupgrade: Linux {FIRST}: not offered any more" in said
    assert host.offered() == []


def test_kernel_install_makes_an_entry_and_the_offer_of_it(host: Host) -> None:
    """With systemd's own plugins, in the layout of systemd-boot."""
    machine = "0123456789abcdef0123456789abcdef"
    host.template()
    write_kernel(host.seen.path("/"), FIRST)
    host.seen.path("/etc/machine-id").write_text(f"{machine}\n")
    host.seen.path("/etc/kernel/install.conf").write_text("layout=bls\n")
    host.seen.path("/etc/kernel/cmdline").write_text("root=/dev/vda ro\n")
    environment = {"BOOT_ROOT": "/boot"}
    image = f"/boot/vmlinuz-{FIRST}"
    said = host.seen.said("kernel-install", "add", FIRST, image, **environment)
    print(said)
    assert f"mkupgrade: Linux {FIRST}: offered for instance host: {APPLY}" in said
    (entry,) = host.seen.path("/boot/loader/entries").iterdir()
    assert (entry.name, FIRST in entry.read_text()) == (f"{machine}-{FIRST}.conf", True)
    assert host.offered() == [FIRST]
    assert "packaged" in host.seen.said("mkupgrade", "validate", OFFER)

    said = host.seen.said("kernel-install", "remove", FIRST, **environment)
    assert f"mkupgrade: Linux {FIRST}: not offered any more" in said
    assert not [*host.seen.path("/boot/loader/entries").iterdir()]
    assert host.offered() == []
