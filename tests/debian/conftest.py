"""The package, built once from these sources, and trees to install it in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.model.errors import RehearsalError
from tests.support import debian_tree
from tests.support.debian_tree import View


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with what dpkg-buildpackage has made. Where there can be no tree to build it
    in: skipped for a user, failed in CI."""
    why = debian_tree.missing()
    if why is None:
        try:
            debian_tree.tree()
        except RehearsalError as error:
            print(*error.details, sep="\n")  # shown for what fails
            why = str(error)
    if why is not None:
        end = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        end(f"the Debian package is not built: {why}")
    return debian_tree.built(tmp_path_factory.mktemp("building"))


@pytest.fixture
def host(package: Path, tmp_path: Path) -> Iterator[View]:
    """A Debian 13 of the test's own, with the packages in /debs."""
    with debian_tree.view(debian_tree.tree(), tmp_path) as seen:
        debian_tree.put_packages(seen, [p for p in package.iterdir() if p.suffix != ".log"])
        yield seen


@pytest.fixture
def installed(host: View) -> View:
    """The same with mkupgrade installed, by apt."""
    (deb,) = (p.name for p in host.path("/debs").glob("mkupgrade_*.deb"))
    host.run("apt-get", "install", "--yes", "--no-install-recommends", f"/debs/{deb}")
    return host
