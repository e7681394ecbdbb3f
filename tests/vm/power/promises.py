"""What must hold after a cut of power, whenever it came. Pure: what was seen in, broken ones out.

- The host is settled: the transaction is committed or rolled back, or the cut came before it was
  on disk at all. None is left unfinished, incomplete or unknown.
- The journal is whole.
- Numbers that the workload had told of are in its file: it tells of a number when it is synced.
  What it had not told of may be there or not.
- Its file holds every number once and in order, and exactly one process goes on with it.
- No kernel is left loaded, and the next plan can be made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

GOOD = frozenset({"committed", "rolled-back"})


@dataclass(frozen=True)
class Judged:
    """One look at the host after a cut."""

    outcome: str
    """Of the transaction; "none": there was none."""
    at: str
    """The last event that was durable when the power went, e.g. "performed preserve/host"."""
    broken: tuple[str, ...]
    """Promises that were not kept, in words."""


def judge(seen: dict[str, Any], told: int, boots: frozenset[str]) -> Judged:
    """Which promises the host has broken.

    Args:
        seen: what `scene.seen_in` found.
        told: the last number that the workload had told of before the cut.
        boots: ids of the boots before the cut.
    """
    transactions = seen["transactions"]
    events = transactions[-1]["events"] if transactions else []
    ends = [e["outcome"] for e in events if e["type"] == "ended"]
    outcome = ends[-1] if ends else "unfinished"
    if not transactions:
        outcome = "none"
    broken = [
        *_settled(outcome, seen),
        *_ledger(seen, told),
        *_plan(seen),
    ]
    if seen["kexec_loaded"] != "0":
        broken.append("a kernel is still loaded for kexec")
    return Judged(outcome, _at(events, boots), tuple(broken))


def gapless(text: str) -> str | None:
    """What is wrong with a ledger: every number once and in order, whole lines only."""
    if text and not text.endswith("\n"):
        return f"the file ends in half a line: {text[-20:]!r}"
    numbers = [line.partition(" ")[0] for line in text.splitlines()]
    for place, number in enumerate(numbers, 1):
        if number != str(place):
            return (
                f"line {place} holds number {number!r}, after {numbers[max(0, place - 4) : place]}"
            )
    return None


def _settled(outcome: str, seen: dict[str, Any]) -> list[str]:
    broken = []
    if outcome not in GOOD and outcome != "none":
        broken.append(f"the transaction is {outcome}")
    if seen["verified"] is not None:
        broken.append(f"the journal is not whole: {seen['verified']}")
    return broken


def _ledger(seen: dict[str, Any], told: int) -> list[str]:
    broken = []
    problem = gapless(seen["ledger"])
    if problem is not None:
        broken.append(problem)
    kept = seen["ledger"].count("\n")
    if kept < told:
        broken.append(f"numbers up to {told} had been told of, and the file holds {kept}")
    if len(seen["writers"]) != 1:
        broken.append(f"processes that write the file: {seen['writers']}")
    return broken


def _plan(seen: dict[str, Any]) -> list[str]:
    refused = seen["planned"]
    return [] if refused is None else [f"the next plan is refused: {refused}"]


def _at(events: list[dict[str, Any]], boots: frozenset[str]) -> str:
    before = [e for e in events if e["boot"] in boots]
    if not before:
        return "no transaction"
    return " ".join(filter(None, (before[-1]["type"], before[-1].get("step"))))
