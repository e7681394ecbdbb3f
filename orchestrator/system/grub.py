"""GRUB 2: entries out of grub.cfg (or BLS files), default out of grubenv.

Sources: the GRUB manual ("Simple configuration", "grub-set-default", "Environment block"),
/etc/grub.d/10_linux. grub.cfg is a script; what is read here is the form that grub-mkconfig
writes, and an entry that is not understood is simply not offered.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.model.errors import MkupgradeError, ToolError
from orchestrator.model.host import BootState, Capability
from orchestrator.system import files, subprocesses

_CONFIGS = ("boot/grub/grub.cfg", "boot/grub2/grub.cfg")
_BLS = "boot/loader/entries"
_LIMIT = 4 << 20
DROP_ONCE = "grub-editenv - unset next_entry"
_TIMEOUT = 30.0
"""Seconds for grub's tools."""
_QUOTED = r"(?:'([^']*)'|\"([^\"]*)\"|(\S+))"
_TITLE = re.compile(r"^\s*(menuentry|submenu)\s+" + _QUOTED)
_ID = re.compile(r"(?:\$menuentry_id_option|--id)[= ]" + _QUOTED)
_LINUX = re.compile(r"^\s*linux(?:16|efi)?\s+(\S+)(.*)$")
_RELEASE = re.compile(r"(?:vmlinuz|vmlinux|kernel|Image)-(\d[^/\s]*)$")
_RECOVERY = re.compile(r"\b(single|recovery|rescue|emergency)\b")


@dataclass
class Entry:
    """A menu entry or submenu."""

    title: str
    id: str
    path: str
    """What grub-set-default takes: ids of the submenus and its own, joined by ">"."""
    image: str = ""
    arguments: str = ""
    children: list[Entry] = field(default_factory=list)

    @property
    def what(self) -> str:
        """The release it boots, or its title where that is not clear (or a recovery mode)."""
        match = _RELEASE.search(self.image)
        if match is None or _RECOVERY.search(f"{self.title} {self.arguments}"):
            return self.title
        return match[1]


def config_path(root: Path) -> Path | None:
    """grub.cfg, if this host has one."""
    return next((root / name for name in _CONFIGS if (root / name).is_file()), None)


def observe(root: Path, config: Path) -> BootState:
    """Entries, the default, and the entry chosen for the next boot only."""
    text = _read(config)
    environment = read_environment(config.with_name("grubenv"))
    if re.search(r"^\s*blscfg\b", text, re.MULTILINE):
        found = bls_entries(root / _BLS)
    else:
        found = parse_entries(text)
    default = environment.get("saved_entry", "0") if uses_saved(text) else _fixed_default(text)
    return BootState(
        loader="grub",
        default=resolve(default, found),
        once=resolve(environment.get("next_entry", ""), found),
        entries={entry.path: entry.what for entry in flatten(found)},
    )


def capability(config: Path) -> Capability:
    """Can the default be set here, and if not, why?"""
    environment = config.with_name("grubenv")
    if not uses_saved(_read(config)):
        return Capability(
            available=False,
            reason="GRUB does not boot the saved entry: put GRUB_DEFAULT=saved into "
            "/etc/default/grub and run update-grub",
        )
    if not environment.is_file():
        return Capability(available=False, reason=f"no {environment}: grub-editenv makes it")
    if _tool("set-default") is None:
        return Capability(available=False, reason="grub-set-default is not installed")
    return Capability(available=True, reason=f"GRUB boots the saved entry of {environment}")


def set_default(config: Path, entry: str) -> None:
    """Make an entry (`Entry.path`) the saved one, and forget one chosen for the next boot.

    Raises:
        NotSupportedError: the tools are missing. ToolError: they failed, or the environment
            block does not hold what they wrote.
    """
    environment = config.with_name("grubenv")
    setter = _tool("set-default") or "grub-set-default"
    editor = _tool("editenv") or "grub-editenv"
    directory = f"--boot-directory={config.parent.parent}"
    subprocesses.run([setter, directory, entry], timeout=_TIMEOUT)
    subprocesses.run([editor, str(environment), "unset", "next_entry"], timeout=_TIMEOUT)
    # fsync is not enough: grub-editenv writes the file anew, and where its blocks are now stands
    # in the file system's journal only, which GRUB does not replay. sync(2) brings it home.
    os.sync()
    now = read_environment(environment).get("saved_entry")
    if now != entry:
        raise ToolError(f"grub-set-default wrote {entry!r}, {environment} holds {now!r}")


def read_environment(path: Path) -> dict[str, str]:
    """grubenv: 1024 bytes of key=value lines, filled up with #; empty: none, or damaged."""
    lines = _read(path).splitlines()
    if not lines or lines[0] != "# GRUB Environment Block":
        return {}
    pairs = (line.partition("=") for line in lines if not line.startswith("#"))
    return {key: value for key, sep, value in pairs if sep}


def uses_saved(text: str) -> bool:
    """Does grub.cfg boot grubenv's saved_entry?"""
    return '"${saved_entry}"' in text


def parse_entries(text: str) -> list[Entry]:
    """The menu of a grub.cfg, submenus nested."""
    top: list[Entry] = []
    stack: list[tuple[int, Entry]] = []
    depth = 0
    for line in text.splitlines():
        title = _TITLE.match(line)
        if title is not None and line.rstrip().endswith("{"):
            parent = stack[-1][1] if stack else None
            entry = _entry(line, _unquoted(title, 2), parent)
            (parent.children if parent else top).append(entry)
            stack.append((depth, entry))
        linux = _LINUX.match(line)
        if linux is not None and stack and not stack[-1][1].image:
            stack[-1][1].image, stack[-1][1].arguments = linux[1], linux[2]
        depth += _braces(line)
        while stack and depth <= stack[-1][0]:
            stack.pop()
    return top


def bls_entries(directory: Path) -> list[Entry]:
    """Boot Loader Specification entries, newest version first, as blscfg shows them."""
    found = []
    for path in sorted(directory.glob("*.conf"), reverse=True):
        lines = _read(path).splitlines()
        fields = {key: value.strip() for key, _, value in (line.partition(" ") for line in lines)}
        found.append(
            Entry(
                title=fields.get("title", path.stem),
                id=path.stem,
                path=path.stem,
                image=fields.get("linux", ""),
                arguments=fields.get("options", ""),
            )
        )
    return found


def flatten(entries: list[Entry]) -> list[Entry]:
    """Entries that boot something, submenus opened, in the menu's order."""
    found = []
    for entry in entries:
        found += flatten(entry.children) if entry.children else [entry]
    return found


def resolve(wanted: str, entries: list[Entry]) -> str | None:
    """The path of an entry that is named by ids, titles or numbers, joined by ">"."""
    here = entries
    found: Entry | None = None
    for part in filter(None, wanted.split(">")):
        found = next((e for e in here if part in {e.id, e.title}), None)
        if found is None and re.fullmatch(r"[0-9]{1,9}", part) and int(part) < len(here):
            found = here[int(part)]
        if found is None:
            return None
        here = found.children
    # A submenu that is chosen boots its first entry.
    while found is not None and found.children:
        found = found.children[0]
    return found.path if found is not None else None


def _entry(line: str, title: str, parent: Entry | None) -> Entry:
    match = _ID.search(line)
    name = _unquoted(match, 1) if match is not None else title
    return Entry(title=title, id=name, path=f"{parent.path}>{name}" if parent else name)


def _unquoted(match: re.Match[str], first: int) -> str:
    return next((match[i] for i in range(first, first + 3) if match[i] is not None), "")


def _braces(line: str) -> int:
    """Depth change; quoted text and ${variables} do not count."""
    bare = re.sub(r"'[^']*'|\"[^\"]*\"|\$\{[^}]*\}", "", line)
    return bare.count("{") - bare.count("}")


def _fixed_default(text: str) -> str:
    """The number, id or title that is written down; "${next_entry}" before it is none."""
    found = re.finditer(r"^\s*set default=" + _QUOTED, text, re.MULTILINE)
    written = (_unquoted(match, 1) for match in found)
    return next((name for name in written if "$" not in name), "0")


def _tool(name: str) -> str | None:
    """Debian calls it grub-NAME, Fedora and SUSE grub2-NAME."""
    return next((t for t in (f"grub-{name}", f"grub2-{name}") if subprocesses.available(t)), None)


def _read(path: Path) -> str:
    try:
        with files.open_followed(path) as file:
            return file.read(_LIMIT).decode("utf-8", "replace")
    except (OSError, MkupgradeError):
        return ""
