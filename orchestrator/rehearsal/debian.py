"""Packages of Debian suites that the host does not use, through a private apt root.

The host's own lists and packages stay as they are; nothing is installed on it.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from orchestrator.model.errors import RehearsalError
from orchestrator.rehearsal.apt import AptHost, read_apt
from orchestrator.rehearsal.cache import cache_dir, locked
from orchestrator.rehearsal.tools import Progress, quiet, run_tool

_FRESH = 86400.0
"""Seconds for which a list of packages is taken as it was fetched."""


class AptRoot:
    """apt with its own lists, for one suite."""

    def __init__(self, suite: str, progress: Progress = quiet) -> None:
        """Fetch the suite's list of packages (some seconds; kept in the cache).

        Raises:
            RehearsalError: apt is missing, or the archive cannot be reached.
        """
        self.suite = suite
        self.host: AptHost = read_apt()
        self._root = cache_dir() / f"apt-{suite}"
        with locked(cache_dir() / f".apt-{suite}.lock"):
            for directory in ("lists/partial", "archives/partial"):
                (self._root / directory).mkdir(parents=True, exist_ok=True)
            settings = [
                f'Dir::State::lists "{self._root}/lists";',
                'Dir::State::status "/dev/null";',
                f'Dir::Cache "{self._root}";',
                f'Dir::Etc::sourcelist "{self._root}/sources.list";',
                'Dir::Etc::sourceparts "/dev/null";',
                'APT::Sandbox::User "root";',
                'Acquire::Languages "none";',
                *(f"{line};" for line in self.host.options),
            ]
            (self._root / "apt.conf").write_text("\n".join(settings) + "\n")
            (self._root / "sources.list").write_text(self.host.source(suite) + "\n")
            self._update(progress)

    def _update(self, progress: Progress) -> None:
        stamp = self._root / "updated"
        if stamp.exists() and time.time() - stamp.stat().st_mtime < _FRESH:
            return
        progress(f"apt: list of packages of {self.suite}")
        self._apt("apt-get", "update", timeout=300)
        stamp.touch()

    def packages(self, pattern: str) -> list[str]:
        """Names of packages that match the whole regular expression, sorted by version number."""
        names = self._apt("apt-cache", "pkgnames", timeout=60).split()
        return sorted((n for n in names if re.fullmatch(pattern, n)), key=version_key)

    def download(self, package: str, target: Path) -> Path:
        """Fetch a package's .deb into the directory `target`."""
        self._apt("apt-get", "download", package, timeout=1800, cwd=target)
        found = sorted(target.glob(f"{package}_*.deb"))
        if not found:
            raise RehearsalError(f"apt fetched no package {package} of {self.suite}")
        return found[-1]

    def version(self, package: str) -> str:
        """The version that `download` would fetch."""
        shown = self._apt("apt-cache", "show", "--no-all-versions", package, timeout=60)
        for line in shown.splitlines():
            if line.startswith("Version: "):
                return line.removeprefix("Version: ")
        raise RehearsalError(f"Debian {self.suite} has no package {package}")

    def _apt(self, program: str, *arguments: str, timeout: float, cwd: Path | None = None) -> str:
        # APT_CONFIG is read after the host's settings, which name its own directories.
        environment = {"APT_CONFIG": str(self._root / "apt.conf")}
        what = f"{program} for Debian {self.suite}"
        return run_tool(
            [program, "-q", *arguments], timeout=timeout, what=what, env=environment, cwd=cwd
        )


def version_key(name: str) -> tuple[int, ...]:
    """Sorts package names by the numbers in them: 7.2.9 before 7.2.12."""
    return tuple(int(n) for n in re.findall(r"\d+", name))
