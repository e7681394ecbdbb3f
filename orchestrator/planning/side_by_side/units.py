"""One instance from old to new, with its workloads: what the strategies but surge put in an order.

    the old generation goes:   check-artifacts, its workloads stopped, the old generation halted,
                               unloaded and removed; create, load, start, await; its workloads
                               started, and their checks
    it stays until the commit: check-artifacts, create, load, start, await, admit; its workloads
                               moved, and their checks

The old generation that went is made again from what the plan holds of it, and from the image that
the spec names (rollback.kernel).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from orchestrator.model.kinds import Kind
from orchestrator.model.spec import Workload
from orchestrator.model.steps import Step
from orchestrator.planning import host_steps
from orchestrator.planning.builder import SectionBuilder, Strand
from orchestrator.planning.side_by_side import steps
from orchestrator.planning.side_by_side.choices import Choice, Choices


def units(b: SectionBuilder, c: Choices, names: Iterable[str]) -> dict[str, Strand]:
    """By instance, in this order: everything until its workloads run in the new generation."""
    theirs = c.workloads()
    return {name: _unit(b, c, c.changed[name], theirs[name]) for name in names}


def _unit(b: SectionBuilder, c: Choices, it: Choice, workloads: Mapping[str, Workload]) -> Strand:
    old, new = it.old.running, it.new.name
    checked = steps.check_files(b, c, it)
    dark = bool(workloads) and it.back is not None
    row, stops = (
        steps.come_up(b, c, *steps.new_place(c, it), dark=dark, agent=steps.awaited(c, it)),
        {},
    )
    if old is not None and it.back is not None:
        row = [*steps.give_way(b, c, steps.old_place(it), it.back, dark=dark), *row]
        stops = {name: steps.stop(b, c, it, w, old=True) for name, w in workloads.items()}
    both = old is not None and it.back is None
    if both:
        row += steps.admit(b, it, workloads.values())
    begun = {
        n: steps.move(b, it, w) if both else steps.start(b, it, w, old=False)
        for n, w in workloads.items()
    }
    found = [check for w in workloads.values() for check in w.checks if "after" in check.when]
    last = host_steps.make_checks(b, "after", found, f"in {new}", new) if found else None
    after = [(e, w.name) for w in workloads.values() for e in dict.fromkeys(w.after)]
    inner = [(e, w) for e, w in after if e in workloads]
    edges = [*_fan(checked, stops, [(w, e) for e, w in inner], row[0])]
    edges += itertools.pairwise(step.id for step in row)
    edges += _fan(row[-1], begun, inner, last)
    waited_for = {e for e, _ in inner}
    ends = [step for name, step in begun.items() if name not in waited_for] or row[-1:]
    made = [checked, *stops.values(), *row, *begun.values(), *([last] if last else [])]
    return Strand(made, edges, checked.id, [last.id] if last else [step.id for step in ends])


def one_place_at_a_time(b: SectionBuilder, c: Choices, names: Iterable[str]) -> None:
    """No old generation gives its memory away before the new one before it has taken its own:
    what a small one took of a large one's place would be missing there, on the way back too."""
    before = None
    for name in names:
        it = c.changed[name]
        if before is not None and it.back is not None and it.old.running is not None:
            removal = f"{Kind.REMOVE_INSTANCE.value}/{it.old.running.name}"
            b.edges.append((f"{Kind.CREATE_INSTANCE.value}/{before}", removal))
        before = it.new.name


def _fan(
    earlier: Step, steps: Mapping[str, Step], pairs: list[tuple[str, str]], later: Step | None
) -> Iterable[tuple[str, str]]:
    """Edges of steps between two others, in the order of `pairs`."""
    if not steps:
        return [(earlier.id, later.id)] if later is not None else []
    inner = [(a, b) for a, b in pairs if a in steps and b in steps]
    has_earlier, has_later = {b for _, b in inner}, {a for a, _ in inner}
    edges = [(earlier.id, it.id) for name, it in steps.items() if name not in has_earlier]
    edges += [(steps[a].id, steps[b].id) for a, b in inner]
    if later is not None:
        edges += [(it.id, later.id) for name, it in steps.items() if name not in has_later]
    return edges
