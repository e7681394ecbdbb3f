"""Fuzz one reader of hostile bytes, or all of them, as long as you like.

    python -m tests.fuzz --target plan --seconds 600
    python -m tests.fuzz --seconds 60 --seed 7       # every target, a minute each
    python -m tests.fuzz --target grub --engine atheris --seconds 600
    python -m tests.fuzz --target grub --replay FILE

Inputs that a target does not stand are written to --found, and the exit code is 1. `plain` edits
valid examples at random; `atheris` (the extra `fuzz`) is led by coverage. Each target runs in a
process of its own whose memory is bounded.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.mutations import mutated
from tests.fuzz.target import TARGETS, Target
from tests.fuzz.watch import BrokenError, hold

ADDRESS_SPACE = 2 << 30
"""Bytes for the whole process, interpreter and libraries included."""
HANGS = 20
"""Seconds of wall clock after which an input counts as one that never ends."""
MOST_FOUND = 20


def main() -> int:
    """Exit code 0: nothing was found."""
    options = _options()
    _register(options.engine)
    if options.target not in {None, *TARGETS}:
        raise SystemExit(f"there is no target {options.target}; {', '.join(sorted(TARGETS))}")
    names = [options.target] if options.target else sorted(TARGETS)
    if options.replay is not None:
        for path in options.replay:
            with tempfile.TemporaryDirectory() as directory:
                hold(TARGETS[names[0]], path.read_bytes(), Path(directory))
        return 0
    if options.inside:
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        return _plain(TARGETS[names[0]], options)
    if options.engine == "atheris":
        return _atheris(TARGETS[names[0]], options)
    again = [sys.executable, "-m", "tests.fuzz", *sys.argv[1:], "--inside"]
    return max(subprocess.run([*again, "--target", name], check=False).returncode for name in names)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--target")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--engine", choices=("plain", "atheris"), default="plain")
    parser.add_argument("--seed", type=int, default=0, help="of the plain engine")
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"))
    parser.add_argument("--replay", type=Path, nargs="+")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.target is None and (options.engine == "atheris" or options.replay):
        parser.error("--engine atheris and --replay need --target")
    return options


def _register(engine: str) -> None:
    """Import the targets; for atheris, our own modules so that it sees where inputs lead."""
    if engine == "atheris":
        try:
            import atheris
        except ImportError:
            raise SystemExit("atheris is not installed: pip install -e '.[fuzz]'") from None
        with atheris.instrument_imports(include=["orchestrator"]):
            import tests.fuzz.targets
    else:
        import tests.fuzz.targets  # noqa: F401


def _keep(target: Target, data: bytes, error: object, found: Path) -> None:
    directory = found / target.name
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / hashlib.sha256(data).hexdigest()[:16]
    path.write_bytes(data)
    print(f"{path}: {error}", flush=True)


def _plain(target: Target, options: argparse.Namespace) -> int:
    seeds = target.seeds()
    chance = random.Random(f"{target.name} {options.seed}")
    end = time.monotonic() + options.seconds
    tried, kinds = 0, set()
    data = b""

    def hangs(*_: object) -> None:
        _keep(target, data, f"still busy after {HANGS} s", options.found)
        os._exit(1)

    signal.signal(signal.SIGALRM, hangs)
    while time.monotonic() < end and len(kinds) < MOST_FOUND:
        with tempfile.TemporaryDirectory() as directory:
            for _ in range(100):
                data = mutated(target, seeds, chance)
                signal.alarm(HANGS)
                try:
                    hold(target, data, Path(directory))
                except (BrokenError, MemoryError) as error:
                    kind = _kind(error)
                    if kind not in kinds:
                        kinds.add(kind)
                        _keep(target, data, error, options.found)
                signal.alarm(0)
                tried += 1
                if time.monotonic() > end:
                    break
    print(f"{target.name}: {tried} inputs, {len(kinds)} kinds of trouble", flush=True)
    return 1 if kinds else 0


def _kind(error: BaseException) -> str:
    """Two inputs with one cause are one finding: the place that it came from."""
    cause = error.__cause__ or error
    trace = cause.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
    return f"{type(cause).__name__} {place}"


def _atheris(target: Target, options: argparse.Namespace) -> int:
    """libFuzzer: it ends at the first input that is not stood, and says so by its exit code."""
    import atheris

    corpus = options.found / f"corpus-{target.name}"
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    directory = tempfile.mkdtemp(prefix="mkupgrade-fuzz-")

    def one(data: bytes) -> None:
        try:
            hold(target, data, Path(directory), patience=10.0)
        except BrokenError as error:
            _keep(target, data, error, options.found)
            raise

    arguments = [
        sys.argv[0], str(corpus), f"-max_total_time={int(options.seconds)}", f"-timeout={HANGS}",
        f"-rss_limit_mb={ADDRESS_SPACE >> 20}", f"-artifact_prefix={options.found}/",
        "-max_len=200000", "-print_final_stats=1",
    ]  # fmt: skip
    atheris.Setup(arguments, one)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
