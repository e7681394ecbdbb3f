"""The host's own apt settings, so that guests are built from where the host is built from.

Nothing is invented here: mirror, keyring, proxy and validity checks are the host's.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from orchestrator.model.errors import ErrorClass, RehearsalError
from orchestrator.rehearsal.tools import run_tool

_PASSED_ON = (
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
    "Acquire::Retries",
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
    "Acquire::https::CAInfo",
)
"""Settings about reaching and trusting the archive; everything else stays apt's default."""

_LINE = re.compile(r'^(?P<key>[A-Za-z0-9:._-]+) "(?P<value>[^"\\]*)";$')
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True)
class AptHost:
    """What this host's apt says about Debian's archive."""

    mirror: str
    """URI of the archive, without a slash at its end."""
    keyring: Path | None
    options: tuple[str, ...]
    """Lines of apt.conf, e.g. `Acquire::Retries "3"`."""

    def source(self, suite: str, component: str = "main") -> str:
        """A line of sources.list."""
        signed = f"[signed-by={self.keyring}] " if self.keyring else ""
        return f"deb {signed}{self.mirror} {suite} {component}"


def passed_on(dump: str) -> tuple[str, ...]:
    """The settings of `apt-config dump` that a guest's build takes over."""
    matches = (_LINE.match(line.strip()) for line in dump.splitlines())
    found = {m["key"]: m["value"] for m in matches if m}
    return tuple(f'{key} "{found[key]}"' for key in _PASSED_ON if found.get(key))


def first_mirror(targets: str) -> str | None:
    """The archive's URI in lines of `apt-get indextargets`, security archives left out."""
    for line in targets.splitlines():
        uri = line.strip().rstrip("/")
        if uri.endswith("/debian"):
            return uri
    return None


def read_apt() -> AptHost:
    """Ask the host's apt; $MKUPGRADE_MIRROR names another archive.

    Raises:
        RehearsalError: there is no apt, or it knows no Debian archive.
    """
    what = "read apt's settings"
    options = passed_on(run_tool(["apt-config", "dump"], timeout=30, what=what))
    mirror = os.environ.get("MKUPGRADE_MIRROR")
    if not mirror:
        targets = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
        mirror = first_mirror(run_tool(targets, timeout=30, what=what))
    if not mirror:
        raise RehearsalError(
            "apt on this machine knows no Debian archive to build the guest from",
            next_command="export MKUPGRADE_MIRROR=<URI of a Debian archive>",
            error_class=ErrorClass.REFUSED,
        )
    keyring = _KEYRING if _KEYRING.is_file() else None
    return AptHost(mirror.rstrip("/"), keyring, options)
