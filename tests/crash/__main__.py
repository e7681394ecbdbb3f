"""python -m tests.crash: run crash schedules, tell of one, or try the simulator on mutants."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from pathlib import Path

from tests.crash import campaign, mutants
from tests.crash.choices import decode, encode
from tests.crash.coverage import POSSIBLE
from tests.crash.faults import FAULTS
from tests.crash.schedule import SETUPS

FOUND_WITHIN = 20_000
ENOUGH = 3


def main(arguments: list[str]) -> int:
    options = _options().parse_args(arguments)
    if options.mutants is not None:
        return _mutants(options)
    if options.replay is not None or options.seed is not None:
        return _one(options)
    failed = 0
    ranges = [(options.first, options.seeds)] if options.seeds else []
    if options.fresh:
        ranges.append((secrets.randbelow(10**12), options.fresh))
    for first, count in ranges:
        failed += _many(options, first, count)
    return 1 if failed else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    add = parser.add_argument
    add("--seeds", type=int, default=0, metavar="N", help="this many schedules from --first on")
    add("--first", type=int, default=0, metavar="S", help="the first seed (default 0)")
    add("--fresh", type=int, default=0, metavar="N", help="this many from a seed that is new")
    add("--jobs", type=int, default=os.cpu_count() or 1, metavar="J")
    add("--journal", choices=sorted(SETUPS), default="fast", help="what schedules are made of")
    add("--seed", type=int, metavar="X", help="this schedule only")
    add(
        "--replay",
        metavar="WORD|FILE",
        help="a schedule by its decisions, as a failure prints them",
    )
    add("--trace", action="store_true", help="tell what happens in it")
    add("--mutant", choices=sorted(mutants.MUTANTS), help="with this bug put in")
    add("--mutants", nargs="*", metavar="NAME", help="is every bug that is put in found?")
    return parser


def _many(options: argparse.Namespace, first: int, count: int) -> int:
    tally = campaign.campaign(
        options.journal, first, count, jobs=options.jobs, mutant=options.mutant
    )
    seen = tally.coverage
    print(
        f"{tally.schedules} schedules from seed {first}: {tally.failed} broke a promise;"
        f" {tally.schedules / tally.seconds:.0f} a second on {options.jobs} processes"
        f" ({tally.schedules / tally.cpu:.0f} a second of processor)"
    )
    print(f"  {seen.lives} processes, {seen.events} events")
    for title, counted in (("hosts", seen.hosts), ("outcomes", seen.outcomes)):
        words = ", ".join(f"{k} {v}" for k, v in sorted(counted.items()))
        print(f"  {title}: {words}")
    places = [(where, kind) for where, kinds in FAULTS.items() for kind in kinds]
    print(f"  event pairs: {len(seen.pairs)} of {len(POSSIBLE)} possible")
    print(f"  faults: {len(seen.faults)} of {len(places)} kinds by place")
    _missing("pairs not seen", [f"{a}>{b}" for a, b in sorted(POSSIBLE - seen.pairs)])
    _missing("faults not seen", [f"{w}:{k}" for w, k in places if (w, k) not in seen.faults])
    for failure in tally.failures:
        _tell_failure(options, failure)
    return tally.failed


def _missing(title: str, names: list[str]) -> None:
    if names:
        print(f"  {title}: {', '.join(names)}")


def _tell_failure(options: argparse.Namespace, failure: campaign.Failure) -> None:
    small = campaign.made_small(options.journal, failure, options.mutant)
    print(f"\nseed {failure.seed}: {failure.invariant}: {failure.what}")
    rest = f" --journal {options.journal}" if options.journal != "fast" else ""
    rest += f" --mutant {options.mutant}" if options.mutant else ""
    print(f"  python -m tests.crash --replay {encode(small)}{rest}")
    told = campaign.trace(options.journal, stream=small, mutant=options.mutant)
    print("\n".join(f"    {line}" for line in told.trace))


def _one(options: argparse.Namespace) -> int:
    stream = None
    if options.replay is not None:
        path = Path(options.replay)
        is_file = len(options.replay) < 200 and path.is_file()
        stream = decode(path.read_text(encoding="ascii") if is_file else options.replay)
    told = campaign.trace(options.journal, seed=options.seed, stream=stream, mutant=options.mutant)
    if options.trace or stream is not None:
        print("\n".join(told.trace))
    print(f"outcome {told.outcome}; {told.violation or 'every promise was kept'}")
    return 1 if told.violation else 0


def _mutants(options: argparse.Namespace) -> int:
    """Each must be found within FOUND_WITHIN schedules."""
    survived = 0
    for name in options.mutants or mutants.MUTANTS:
        setup = mutants.MUTANTS[name].setup
        tally = campaign.campaign(
            setup, options.first, FOUND_WITHIN, jobs=options.jobs, mutant=name, enough=ENOUGH
        )
        by = ", ".join(sorted({f.invariant for f in tally.failures})) or "NOT FOUND"
        print(f"{name:42} {tally.failed:3} of {tally.schedules:5} schedules  {by}", flush=True)
        survived += not tally.failed
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
