"""Where did the machine land? The pure rule behind the inspection of a jump.

Three facts decide: the boot id (did the machine restart?), the mark on the command line (did it
restart into what this very jump had loaded?) and the kernel's release. Where both kernels have the
same release and a reset may end in either, what their command lines do not share decides, too.
Whatever that does not settle is unknown: somebody must look.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from orchestrator.model.parameters import split_parameters
from orchestrator.model.steps import Inspected, Inspection, Section

MARK = "mkupgrade.transaction="
"""Kernel parameter; ignored by the kernel (it has a dot and names no module), kept in
/proc/cmdline. Value: <transaction id>/<section>."""
FIRST_PID = "sysctl.kernel.ns_last_pid="
"""Kernel parameter: after which id the first process that init starts gets its own. The kernel
writes it just before it runs init (fs/proc/proc_sysctl.c, do_sysctl_args)."""


@dataclass(frozen=True)
class Place:
    """The kernel that is running now."""

    boot_id: str
    release: str
    cmdline: str


@dataclass(frozen=True)
class Expected:
    """The jump whose end is looked for."""

    transaction: str
    section: Section
    method: Literal["kexec", "reset"]
    from_release: str
    to_release: str
    boot_id: str | None
    """Boot id under which the jump was intended; None: it never was."""
    from_cmdline: str = ""
    to_cmdline: str = ""
    default_moved: Callable[[], bool] = lambda: False
    """Does a reset end in what was committed to, and not in the kernel before the jump any more?
    Asked only where nothing else tells: it takes a look at the boot loader."""

    @property
    def apart(self) -> tuple[set[str], set[str]]:
        """Parameters of the kernel before only, and of the one after only."""
        before = set(split_parameters(self.from_cmdline))
        after = set(split_parameters(self.to_cmdline))
        return before - after, after - before


def mark_for(transaction: str, section: Section) -> str:
    """The parameter that `load-kernel` adds, e.g. "mkupgrade.transaction=ab12/forward"."""
    return f"{MARK}{transaction}/{section.value}"


def first_pid(number: int) -> str:
    """The parameter that `load-kernel` adds beside the mark."""
    return f"{FIRST_PID}{number}"


def marks(cmdline: str) -> list[str]:
    """Values of every mark on a command line, in order."""
    return [word[len(MARK) :] for word in cmdline.split() if word.startswith(MARK)]


def without_marks(cmdline: str) -> str:
    """The command line free of what is added for one jump: an inherited one still holds it."""
    return " ".join(word for word in cmdline.split(" ") if not word.startswith((MARK, FIRST_PID)))


def landing(expected: Expected, place: Place) -> Inspected:
    """Judge a pivot: ABSENT, PRESENT, LOST or UNKNOWN, with what was seen.

    In the order of docs/architecture.md, "How the landing is recognised". A reset goes through
    the firmware, so that it must land *without* a mark.
    """
    if expected.boot_id is None:
        return _say(Inspection.ABSENT, "the jump was never started")
    if expected.boot_id == place.boot_id:
        return _say(Inspection.ABSENT, "same boot id: the machine has not restarted")
    found = marks(place.cmdline)
    wanted = [mark_for(expected.transaction, expected.section)[len(MARK) :]]
    seen = f"new boot id, Linux {place.release}, mark {', '.join(found) or 'none'}"
    arrived = wanted if expected.method == "kexec" else []
    if found == arrived and place.release == expected.to_release:
        return _present(expected, place, seen)
    if not found and place.release == expected.from_release:
        if _may_be_the_one_after(expected, place):
            return _say(
                Inspection.UNKNOWN,
                f"{seen}: the release of both kernels, a reset ends in what was committed to, and "
                f"the command line is not that of the kernel before. Boot the kernel before"
                f"{_how_it_differs(expected)} and run `mkupgrade resume`, or look at `mkupgrade "
                f"history {expected.transaction}` and end it with `mkupgrade abort`",
            )
        return _say(Inspection.LOST, f"{seen}: the old kernel again, through a reset")
    return _say(
        Inspection.UNKNOWN,
        f"{seen}; expected Linux {expected.to_release} with mark "
        f"{', '.join(arrived) or 'none'}, or Linux {expected.from_release} with none. "
        f"Boot one of these two and run `mkupgrade resume`, or look at "
        f"`mkupgrade history {expected.transaction}` and end it with `mkupgrade abort`",
    )


def _may_be_the_one_after(expected: Expected, place: Place) -> bool:
    """Both kernels have this release, a reset ends in the one after, and the command line does not
    say that it is the one before. Where the two do not differ in it, it never says so."""
    if expected.from_release != expected.to_release or not expected.default_moved():
        return False
    only_before, only_after = expected.apart
    here = set(split_parameters(place.cmdline))
    told_apart = bool(only_before or only_after)
    return not (told_apart and only_before <= here and not only_after & here)


def _how_it_differs(expected: Expected) -> str:
    """ " (with init=/old, without init=/new)", or "" where its command line does not tell."""
    only_before, only_after = expected.apart
    words = [f"with {word}" for word in sorted(only_before)]
    words += [f"without {word}" for word in sorted(only_after)]
    return f" ({', '.join(words)})" if words else ""


def _present(expected: Expected, place: Place, seen: str) -> Inspected:
    result = {"boot_id": place.boot_id, "release": place.release, "method": expected.method}
    return Inspected(verdict=Inspection.PRESENT, reason=seen, result=result)


def _say(verdict: Inspection, reason: str) -> Inspected:
    return Inspected(verdict=verdict, reason=reason)
