"""Runs in the guest: what the command line says of a host that has been through something.

    judge.py [PLAN.yaml]

Without a plan: only what can be read, no calls.
The program is imported once, and each call is a forked child: starting it anew each time takes
seconds where the processor is emulated. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from orchestrator.engine.journal import Journal

STATE_DIR = Path("/var/lib/mkupgrade")
LEDGER = Path("/var/lib/ledger/log")


def call(*argv: str) -> dict[str, Any]:
    """One call of the command line in a child of its own."""
    import orchestrator.cli.main

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            code: Any = 70
            try:
                orchestrator.cli.main.cli.main(list(argv))
            except SystemExit as end:
                code = end.code
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(int(code or 0))
        status = os.waitpid(pid, 0)[1]
        streams = []
        for file in (out, err):
            file.seek(0)
            streams.append(file.read().decode(errors="replace"))
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "stdout": streams[0], "stderr": streams[1]}


def transactions() -> list[dict[str, Any]]:
    """Each with its events: in which boot, type, step, outcome."""
    if not (STATE_DIR / "journal.db").exists():
        return []
    journal = Journal.open_readonly(STATE_DIR)
    if journal is None:
        return []
    found = []
    for known in journal.transactions():
        log = [
            {"boot": e.stamp.boot_id, "type": e.event.type}
            | {f: getattr(e.event, f) for f in ("step", "outcome") if hasattr(e.event, f)}
            for e in journal.log(known.id)
        ]
        found.append({"id": known.id, "events": log})
    journal.close()
    return found


def ledgers() -> list[int]:
    """Process ids of everybody who writes the ledger."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.readlink() == LEDGER:
                found.append(int(link.parts[2]))
        except OSError:
            continue
    return sorted(set(found))


def main() -> int:
    begun = (STATE_DIR / "journal.db").exists() and len(sys.argv) > 1
    seen = {
        "release": os.uname().release,
        "transactions": transactions(),
        "verified": call("history", "--verify") if begun else None,
        "planned": call("plan", sys.argv[1], "--json") if len(sys.argv) > 1 else None,
        "kexec_loaded": Path("/sys/kernel/kexec_loaded").read_text().strip(),
        "ledgers": ledgers(),
        "ledger": LEDGER.read_text(),
    }
    print(json.dumps(seen, default=str))
    return 0


if __name__ == "__main__":
    sys.exit(main())
