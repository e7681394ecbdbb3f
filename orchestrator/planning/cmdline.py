"""The kernel command line as the kernel reads it (lib/cmdline.c, next_arg; init/main.c).

A parameter ends at white space outside double quotes; what follows "--" is for init.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.model.landing import FIRST_PID, MARK
from orchestrator.model.parameters import is_removed, split_parameters
from orchestrator.model.spec import CommandLine

LIMIT = 2047
"""Characters the kernel keeps: COMMAND_LINE_SIZE is 2048 on x86-64 and arm64."""
MARK_ROOM = 96
"""Characters left for what the driver adds: the mark (name, transaction id, section), and where
process ids begin."""
KHO_NAMES = ("kho", "liveupdate")
"""Both must be on, in both kernels: either alone hands nothing over."""
_LOADERS_OWN = ("BOOT_IMAGE=", "initrd=", MARK, FIRST_PID)
"""Added by a boot loader or by us for one boot; never inherited."""


@dataclass
class Words:
    """A command line taken apart: the kernel's parameters, and what is for init."""

    kernel: list[str] = field(default_factory=list)
    init: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        tail = ["--", *self.init] if self.init else []
        return " ".join([*self.kernel, *tail])


def split(text: str) -> Words:
    """Take a command line apart at white space outside double quotes, and at "--"."""
    words = split_parameters(text)
    if "--" in words:
        at = words.index("--")
        return Words(words[:at], words[at + 1 :])
    return Words(words)


def wanted(running: str, edits: CommandLine) -> Words:
    """The command line that the spec asks for, from the running one."""
    words = split(running) if edits.inherit else Words()
    words.kernel = [w for w in _lasting(words.kernel) if not is_removed(w, edits.remove)]
    words.kernel += _not_in_force(_lasting(edits.append), words.kernel)
    return words


def inherited(running: str) -> Words:
    """The running command line without what belongs to one boot only."""
    return wanted(running, CommandLine())


def without_init(words: Words) -> Words:
    """Without `init=`, which on NixOS names a generation and not what its kernel does."""
    return Words([w for w in words.kernel if _name(w) != "init"], list(words.init))


def completed(words: Words, *, panic_timeout: float, kho: bool) -> Words:
    """With what an upgrade needs: a panic becomes a reset, and KHO is switched on.

    `panic=` counts whole seconds; 0 would mean "never", so that any shorter time becomes 1.
    """
    kernel = _with_panic(words.kernel, max(1, round(panic_timeout)))
    if kho:
        kernel += [f"{name}=on" for name in KHO_NAMES if not _is_on(_last(name, kernel))]
    return Words(kernel, list(words.init))


def kho_refused(words: Words, edits: CommandLine) -> str | None:
    """Why the spec's own command line forbids KHO, if it does."""
    for name in KHO_NAMES:
        last = _last(name, words.kernel)
        if last is not None and not _is_on(last):
            return f"the command line of the new kernel says {last}"
        if last is None and any(r.split("=", 1)[0] == name for r in edits.remove):
            return f"the spec removes {name}= from the command line"
    return None


def unmatched(running: str, edits: CommandLine) -> list[str]:
    """Entries of `remove` that are not on the running command line."""
    have = split(running).kernel if edits.inherit else []
    return [r for r in edits.remove if not any(is_removed(w, [r]) for w in have)]


def difference(old: Words, new: Words) -> str:
    """ "+ kho=on - quiet", or "" where the same parameters are there."""
    before, after = [*old.kernel, *old.init], [*new.kernel, *new.init]
    plus = [f"+ {w}" for w in _minus(after, before)]
    minus = [f"- {w}" for w in _minus(before, after)]
    return " ".join(plus + minus)


def same(old: Words, new: Words) -> bool:
    """Do they mean the same? Only among values of one name does the order count."""
    return (sorted(old.kernel, key=_name), old.init) == (sorted(new.kernel, key=_name), new.init)


def fits(words: Words) -> bool:
    """Is there room for it and the mark?"""
    return len(str(words)) + MARK_ROOM <= LIMIT


def _lasting(words: list[str]) -> list[str]:
    return [w for w in words if not w.startswith(_LOADERS_OWN)]


def _minus(these: list[str], those: list[str]) -> list[str]:
    rest = list(those)
    left = []
    for word in these:
        if word in rest:
            rest.remove(word)
        else:
            left.append(word)
    return left


def _last(name: str, words: list[str]) -> str | None:
    found = [w for w in words if _name(w) == name]
    return found[-1] if found else None


def _is_on(word: str | None) -> bool:
    """As the kernel's kstrtobool reads it."""
    return word is not None and word.partition("=")[2].lower() in ("on", "1", "y", "yes")


def _not_in_force(append: list[str], words: list[str]) -> list[str]:
    """What has to be appended so that, name by name, these are the last values.

    Taken by name and not one by one, because a name may rightly come with several values
    (console=) and the last one counts more; appending again must change nothing.
    """
    by_name: dict[str, list[str]] = {}
    for parameter in append:
        by_name.setdefault(_name(parameter), []).append(parameter)
    missing = []
    for name, values in by_name.items():
        if [w for w in words if _name(w) == name][-len(values) :] != values:
            missing += values
    return missing


def _name(word: str) -> str:
    return word.split("=", 1)[0]


def _with_panic(words: list[str], seconds: int) -> list[str]:
    """`panic=` replaced where it stands, so that doing it again changes nothing."""
    result, done = [], False
    for word in words:
        if not word.startswith("panic="):
            result.append(word)
        elif not done:
            result.append(f"panic={seconds}")
            done = True
    return result if done else [*result, f"panic={seconds}"]
