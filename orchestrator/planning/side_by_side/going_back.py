"""The way back behind the commit, which only `mkupgrade rollback` takes.

return   the old generations run again, with their workloads:
             one that is kept is started, and its workloads are moved back;
             one that is gone is made again in the place of the new one;
             where there was none, the new one is halted
recover  what is left of the new generations is taken away, and sizes are as before

What fails in `return` is reverted, so that workloads run on in the new generations. Where only
sizes have changed, `return` is about them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter

from orchestrator.model.params.side_by_side import LoadedImage, LoadInstance
from orchestrator.model.spec import Workload
from orchestrator.model.steps import Section, Step
from orchestrator.planning import cmdline, host_steps
from orchestrator.planning.builder import SectionBuilder, Strand
from orchestrator.planning.side_by_side import resize_steps, steps
from orchestrator.planning.side_by_side.choices import Choice, Choices


def going_back(c: Choices) -> tuple[SectionBuilder, SectionBuilder]:
    """Sections return and recover; empty where nothing is kept (rollback.keep_old_kernel: 0s)."""
    back = SectionBuilder(Section.RETURN, c.spec.retry)
    last = SectionBuilder(Section.RECOVER, c.spec.retry)
    if c.spec.rollback.keep_old_kernel <= 0:
        return back, last
    if not c.changed:
        resize_steps.undo(back, c.resized, c.pool)
        return back, last
    _return(back, c)
    left = {name: it for name, it in c.changed.items() if it.back is None}
    gone = {
        name: steps.take_out(last, it.new) if it.old.running else steps.take_away(last, it.new)
        for name, it in left.items()
    }
    last.strands({name: Strand.of(row) for name, row in gone.items()})
    resize_steps.undo(last, c.resized, c.pool)
    return back, last


def _return(b: SectionBuilder, c: Choices) -> None:
    theirs = c.workloads()
    kept = {n: it for n, it in c.changed.items() if it.back is None and it.old.running is not None}
    new = {n: it for n, it in c.changed.items() if it.old.running is None}
    steps.check_old_files(b, c)
    host_steps.undo_hooks(b, c.spec.hooks.after)
    rows = {
        n: steps.start_up(
            b,
            c,
            steps.old_place(it).generation,
            dark=False,
            agent=steps.awaited_again(c, it, None),
        )
        for n, it in kept.items()
    }
    own = {w.name: rows[n][-1].id for n in kept for w in theirs[n].values()}
    rows |= {n: [*_stops(b, c, it, theirs[n]), steps.halt(b, c, it.new)] for n, it in new.items()}
    b.strands({name: Strand.of(row) for name, row in rows.items()})
    moved = {w.name: w for name in kept for w in theirs[name].values()}
    moves = {n: steps.move_back(b, c.changed[w.instance], w) for n, w in moved.items()}
    b.fan(moves, _pairs(moved), own)
    for name in reversed(c.order.names):
        it = c.changed[name]
        if it.back is not None:
            _make_again(b, c, it, it.back, theirs[name])
    host_steps.undo_hooks(b, c.spec.hooks.before)


def _stops(
    b: SectionBuilder, c: Choices, it: Choice, workloads: Mapping[str, Workload]
) -> list[Step]:
    """Of an instance that was not there before: what rests on others goes first."""
    sorter: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(workloads, ()))
    for earlier, later in _pairs(workloads):
        sorter.add(later, earlier)
    order = reversed(list(sorter.static_order()))
    return [steps.stop(b, c, it, workloads[name], old=False) for name in order]


def _make_again(
    b: SectionBuilder, c: Choices, it: Choice, image: LoadedImage, workloads: Mapping[str, Workload]
) -> None:
    """The new generation gives its place back."""
    made, loaded = steps.new_place(c, it)
    old, dark = steps.old_place(it), bool(workloads)
    again = LoadInstance(
        generation=old.generation,
        image=image.image,
        image_sha256=image.image_sha256,
        initrd=image.initrd,
        cmdline=str(cmdline.inherited(image.cmdline)),
        release=c.host.artifacts[image.image].release or "",
        agent=image.agent,
    )
    ours = LoadedImage(
        image=loaded.image,
        image_sha256=loaded.image_sha256,
        initrd=loaded.initrd,
        cmdline=loaded.cmdline,
        ours=True,
        agent=loaded.agent,
    )
    pairs = _pairs(workloads)
    stops = {n: steps.stop(b, c, it, w, old=False) for n, w in workloads.items()}
    b.fan(stops, _reversed(pairs))
    for step in steps.give_way(b, c, made, ours, dark=dark):
        b.put(step)
    agent = steps.awaited_again(c, it, again.release)
    for step in steps.come_up(b, c, old, again, dark=dark, agent=agent):
        b.put(step)
    b.fan({n: steps.start(b, it, w, old=True) for n, w in workloads.items()}, pairs)


def _pairs(workloads: Mapping[str, Workload]) -> list[tuple[str, str]]:
    """(earlier, later) among them."""
    found = [(e, w.name) for w in workloads.values() for e in w.after if e in workloads]
    return list(dict.fromkeys(found))


def _reversed(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(later, earlier) for earlier, later in pairs]
