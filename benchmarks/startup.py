"""Start-up time of the command against what its heaviest dependency alone would cost.

    python benchmarks/startup.py [rounds]

Prints the best of `rounds` (default 15) wall-clock times of each command, in milliseconds, and
its ratio to a bare interpreter and to `import pydantic`. The best, because everything that
disturbs a measurement makes it longer.
"""

from __future__ import annotations

import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "python -c 'import click'": ["-c", "import click"],
    "python -c 'import pydantic'": ["-c", "import pydantic; pydantic.BaseModel"],
    "python -c 'import rich.console'": ["-c", "import rich.console"],
    "mkupgrade --version": ["-m", "orchestrator.cli", "--version"],
    "mkupgrade --help": ["-m", "orchestrator.cli", "--help"],
    "mkupgrade apply --help": ["-m", "orchestrator.cli", "apply", "--help"],
    "mkupgrade status": ["-m", "orchestrator.cli", "status", "--state-dir", "/nonexistent"],
}
PLAIN, PYDANTIC = "python -c pass", "python -c 'import pydantic'"


def best_of(rounds: int, arguments: list[str]) -> float:
    """Seconds of the fastest run."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    found = {name: best_of(rounds, arguments) for name, arguments in COMMANDS.items()}
    print(f"{'command':<34} {'ms':>7} {'x python':>9} {'x pydantic':>11}")
    for name, seconds in found.items():
        bare, heavy = seconds / found[PLAIN], seconds / found[PYDANTIC]
        print(f"{name:<34} {seconds * 1000:>7.1f} {bare:>9.2f} {heavy:>11.2f}")


if __name__ == "__main__":
    main()
