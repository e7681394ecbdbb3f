"""Strategies surge and blue-green: every new generation beside its old one, switched together.

    per instance, side by side where `after` allows: check-artifacts, create, load, start, await,
    admit; hooks before, workloads moved
    … COMMIT; per instance: the old generation halted, and kept or taken away

Until the commit the old generations run on untouched. Blue-green is a surge whose hooks must be
there: they wait for all new generations, and turn the traffic once, before a workload is touched.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.planning import host_steps
from orchestrator.planning.builder import SectionBuilder, Strand
from orchestrator.planning.side_by_side import steps
from orchestrator.planning.side_by_side.choices import Choices


def bring(b: SectionBuilder, c: Choices) -> None:
    """New generations up, and the workloads in them."""
    changed = c.changed
    after = [
        (e, i.name) for i in c.spec.instances for e in i.after if {e, i.name} <= changed.keys()
    ]
    theirs = c.workloads()
    rows = {
        name: [
            steps.check_files(b, c, it),
            *steps.come_up(b, c, *steps.new_place(c, it), dark=False, agent=steps.awaited(c, it)),
            *steps.admit(b, it, theirs[name].values()),
        ]
        for name, it in changed.items()
    }
    b.strands({name: Strand.of(row) for name, row in rows.items()}, dict.fromkeys(after))
    host_steps.run_hooks(b, c.spec.hooks.before)
    _move_workloads(b, c, {name: row[-1].id for name, row in rows.items()})


def _move_workloads(b: SectionBuilder, c: Choices, up: Mapping[str, str]) -> None:
    """In the order of `after`: what others rest on is moved first. Each waits for its own new
    generation only, unless hooks come before all of them.

    Args:
        up: instance -> id of the step behind which its new generation is ready.
    """
    moved = {w.name: w for w in c.spec.workloads if w.instance in c.changed}
    pairs = [(e, w.name) for w in moved.values() for e in w.after if e in moved]
    made = {name: steps.move(b, c.changed[w.instance], w) for name, w in moved.items()}
    own = {name: up[w.instance] for name, w in moved.items()}
    b.fan(made, list(dict.fromkeys(pairs)), None if c.spec.hooks.before else own)
