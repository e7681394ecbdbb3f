"""What can be said of the Debian recipe without building it."""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator import __version__

PROJECT = Path(__file__).parents[2]
DEBIAN = PROJECT / "debian"


def installed() -> dict[str, str]:
    """Each file that debian/mkupgrade.install names, patterns opened, and where it goes."""
    lines = (DEBIAN / "mkupgrade.install").read_text(encoding="utf-8").splitlines()
    pairs = [line.split() for line in lines]
    return {
        str(path.relative_to(PROJECT)): target
        for pattern, target in pairs
        for path in PROJECT.glob(pattern)
    }


def test_the_package_has_the_version_of_the_command() -> None:
    head = (DEBIAN / "changelog").read_text(encoding="utf-8").splitlines()[0]
    assert head.startswith(f"mkupgrade ({__version__}) ")


def test_every_unit_is_installed_where_systemd_looks() -> None:
    found = installed()
    units = [*PROJECT.glob("orchestrator/**/*.service"), *PROJECT.glob("orchestrator/**/*.timer")]
    for unit in units:
        assert found[str(unit.relative_to(PROJECT))] == "usr/lib/systemd/system", unit


def test_every_hook_is_installed_under_its_name() -> None:
    found = installed()
    for hook in (p for p in PROJECT.glob("orchestrator/offers/hooks/**/*") if p.is_file()):
        assert found[str(hook.relative_to(PROJECT))].endswith((".d", "libexec/mkupgrade")), hook


def test_what_apt_calls_is_where_apt_looks_for_it() -> None:
    target = installed()["orchestrator/offers/hooks/apt/apt-post-invoke"]
    conf = PROJECT / "orchestrator/offers/hooks/apt/90mkupgrade"
    assert f"[ -x /{target}/apt-post-invoke ]" in conf.read_text(encoding="utf-8")


def test_no_unit_is_enabled_or_started_and_none_is_stopped() -> None:
    rules = (DEBIAN / "rules").read_text(encoding="utf-8")
    assert "dh_installsystemd --no-enable --no-start --no-stop-on-upgrade" in rules


def test_the_build_depends_on_what_python_needs() -> None:
    control = (DEBIAN / "control").read_text(encoding="utf-8")
    project = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    assert listed is not None
    names = re.findall(r'"([A-Za-z]+)', listed[1])
    assert names
    for name in names:
        assert f"python3-{name.lower().removeprefix('py') if name == 'PyYAML' else name}" in control
