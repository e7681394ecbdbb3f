"""Cut the power of a guest at random moments of an update, and see whether promises hold.

    python -m tests.vm.powercut --runs 200 --seed S      one line per run, a table at the end
    python -m tests.vm.powercut --only S/17              one of them again
    python -m tests.vm.powercut --runs 0 --looks 1000    only looks at disks, without booting them

One update is recorded first, without a cut. A run is drawn from the seed and its number: whether a
guest is updated anew and killed, or the recorded update is cut; when; and which sectors a disk
loses. What a guest was doing at that moment depends on the machine, too. Exit code 1: some promise
was broken; what is promised is in `tests/vm/power/promises.py`.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed

import click

from orchestrator.rehearsal.kernels import prepared_pair
from tests.vm.power.cut import Run, Verdict, carry_out, draw, look, recorded
from tests.vm.power.recording import Recording
from tests.vm.power.scene import Scene

GUESTS = 2
"""At the same time."""


def cuts(
    stage: Scene, runs: Iterable[Run], recording: Recording, guests: int = GUESTS
) -> Iterator[Verdict]:
    """Carry the runs out, and yield each verdict as it comes."""
    with ThreadPoolExecutor(guests) as pool:
        waiting = [pool.submit(carry_out, stage, run, recording) for run in runs]
        try:
            for done in as_completed(waiting):
                yield done.result()
        finally:
            for future in waiting:
                future.cancel()


def looked(recording: Recording, seed: str, number: int) -> str | None:
    """Look at the disk of one cut; None: every promise about it is kept."""
    run = draw(f"{seed}/look", number, "recorded")
    broken = look(recording, run)
    return f"{run.name} after {recording.at(run.fraction)} requests: {broken}" if broken else None


def line(verdict: Verdict) -> str:
    """One run in one line."""
    run, replay = verdict.run, verdict.replay
    lost = f", {replay.survived} of {replay.in_doubt} sectors in doubt" if replay else ""
    end = "; ".join(verdict.judged.broken) or "kept"
    return (
        f"{run.name:<12} {run.variant:<10} {verdict.after:6.2f} s  {verdict.judged.outcome:<12} "
        f"{end}  [{verdict.judged.at}; told {verdict.told}{lost}; {verdict.seconds:.0f} s]"
    )


def table(verdicts: list[Verdict]) -> str:
    """Outcomes by the last event that was durable at the cut."""
    counts = Counter((v.judged.at, v.judged.outcome) for v in verdicts)
    rows = [f"{count:5}  {outcome:<14} {at}" for (at, outcome), count in sorted(counts.items())]
    broken = sum(1 for v in verdicts if v.judged.broken)
    variants = Counter(v.run.variant for v in verdicts)
    again = sum(1 for v in verdicts if v.run.again and not v.judged.broken)
    kinds = ", ".join(f"{n} {name}" for name, n in sorted(variants.items()))
    total = (
        f"{len(verdicts)} cuts ({kinds}), {again} second updates, {broken} with a promise broken"
    )
    return "\n".join([*rows, total])


@click.command(help=__doc__)
@click.option("--runs", default=30, show_default=True, help="How many cuts.")
@click.option("--seed", default="1", show_default=True, help="Any text.")
@click.option("--looks", default=0, help="Cuts of which only the disk is looked at.")
@click.option("--only", help="SEED/NUMBER of one run, instead of all.")
@click.option("--guests", default=GUESTS, show_default=True, help="At the same time.")
def main(runs: int, seed: str, looks: int, only: str | None, guests: int) -> None:
    kernels = prepared_pair()
    if kernels is None:
        raise click.ClickException("no kernels with KHO at hand: run `make kernels`")
    stage = Scene(kernels)
    began = time.monotonic()
    chosen = [draw(seed, number) for number in range(runs)]
    if only is not None:
        name, _, number = only.rpartition("/")
        chosen = [draw(name, int(number))]
    verdicts = []
    with recorded(stage) as recording:
        requests = recording.requests - recording.begun
        click.echo(f"a whole update: {recording.seconds:.1f} s, {requests} requests of its disk")
        wrong = [found for n in range(looks) if (found := looked(recording, seed, n))]
        if looks:
            click.echo(
                "\n".join([*wrong, f"{looks} looks at a disk, {len(wrong)} with a promise broken"])
            )
        for verdict in cuts(stage, chosen, recording, guests):
            verdicts.append(verdict)
            click.echo(line(verdict))
    click.echo(table(verdicts))
    click.echo(f"{time.monotonic() - began:.0f} s in all")
    sys.exit(1 if wrong or any(v.judged.broken for v in verdicts) else 0)


if __name__ == "__main__":
    main()
