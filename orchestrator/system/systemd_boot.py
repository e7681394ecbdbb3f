"""systemd-boot: Boot Loader Specification entries, asked of and changed by `bootctl`.

bootctl knows where ESP and XBOOTLDR are, and merges loader.conf with the EFI variables
LoaderEntryOneShot, LoaderEntryPreferred and LoaderEntryDefault, which go before each other in
this order (https://systemd.io/BOOT_LOADER_INTERFACE).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from orchestrator.model.base import read_json
from orchestrator.model.errors import MkupgradeError, ToolError
from orchestrator.model.host import BootState, Capability
from orchestrator.system import subprocesses

_EFIVARS = "sys/firmware/efi/efivars"
_VENDOR = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
_ATTRIBUTES = 4
DROP_ONCE = "bootctl set-oneshot ''"
_TIMEOUT = 30.0
"""Seconds for bootctl."""


def booted_by(root: Path) -> str | None:
    """What the boot loader called itself, e.g. "systemd-boot 262"; None: no such loader, no EFI."""
    return _variable(root, "LoaderInfo")


def observe(root: Path) -> BootState:
    """Entries and default. Without a working bootctl: only that it is systemd-boot."""
    try:
        listed = _list()
    except MkupgradeError:
        return BootState(loader="systemd-boot")
    once = _variable(root, "LoaderEntryOneShot")
    return state_of(listed, once, _variable(root, "LoaderEntryDefault"))


def state_of(listed: list[dict[str, Any]], once: str | None, saved: str | None) -> BootState:
    """The boot loader's view.

    Args:
        listed: as `parse_list` returns it.
        once: the entry chosen for the next boot only, if any.
        saved: the one that was made the default by `bootctl set-default`, if any.
    """
    entries = {entry["id"]: _what(entry) for entry in listed}
    default = next((entry["id"] for entry in listed if entry.get("isDefault") is True), None)
    if once is not None and default == once:  # bootctl calls that one the default
        default = saved
    return BootState(
        loader="systemd-boot",
        default=default if default in entries else None,
        once=once if once in entries else None,
        entries=entries,
    )


def capability(root: Path) -> Capability:
    """Can the default be set here, and if not, why?"""
    if subprocesses.available("bootctl") is None:
        return Capability(
            available=False, reason="bootctl is not installed (package systemd-boot-tools)"
        )
    if not (root / _EFIVARS).is_dir():
        return Capability(available=False, reason="EFI variables cannot be reached (efivarfs)")
    try:
        _list()
    except MkupgradeError as error:
        return Capability(available=False, reason=f"bootctl does not list entries: {error.what}")
    preferred = _variable(root, "LoaderEntryPreferred")
    if preferred is not None:
        return Capability(
            available=False,
            reason=f"{preferred} is preferred, whatever the default is; "
            "`bootctl set-preferred ''` changes that",
        )
    return Capability(available=True, reason=f"{booted_by(root)}, set by bootctl")


def set_default(entry: str) -> None:
    """Make an entry the default, and forget one chosen for the next boot.

    Raises:
        NotSupportedError, ToolError: also when bootctl shows another default afterwards.
    """
    subprocesses.run(["bootctl", "set-default", entry], timeout=_TIMEOUT)
    subprocesses.run(["bootctl", "set-oneshot", ""], timeout=_TIMEOUT)
    now = next((e["id"] for e in _list() if e.get("isDefault") is True), None)
    if now != entry:
        raise ToolError(f"bootctl set the default to {entry!r}, it is {now!r}")


def parse_list(text: str) -> list[dict[str, Any]]:
    """`bootctl list --json=short`: objects with an id; what has none is left out.

    Titles come from files on the ESP; what is no Unicode in them becomes "?".
    """
    text = re.sub(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}", "?", text)
    try:
        parsed = read_json(text or "[]")
    except ValueError:
        return []
    if not isinstance(parsed, list):
        return []
    return [e for e in parsed if isinstance(e, dict) and isinstance(e.get("id"), str)]


def _list() -> list[dict[str, Any]]:
    done = subprocesses.run(["bootctl", "--no-pager", "--json=short", "list"], timeout=_TIMEOUT)
    return parse_list(done.text)


def _what(entry: dict[str, Any]) -> str:
    """The release of an entry, or its title. NixOS and others write the release into version."""
    linux = str(entry.get("linux") or "")
    version = str(entry.get("version") or "")
    candidates: list[str] = [
        *re.findall(r"vmlinuz-(\d[^/\s]*)$", linux),
        *Path(linux).parts[-2:-1],
        version,
    ]
    for candidate in candidates:
        if re.fullmatch(r"\d+\.\d+\S*", candidate):
            return candidate
    return str(entry.get("title") or entry.get("id"))


def _variable(root: Path, name: str) -> str | None:
    """An EFI variable of the boot loader interface: attributes, then UTF-16 with a NUL."""
    try:
        raw = (root / _EFIVARS / f"{name}-{_VENDOR}").read_bytes()
    except OSError:
        return None
    return raw[_ATTRIBUTES:].decode("utf-16-le", "replace").split("\0", 1)[0] or None
