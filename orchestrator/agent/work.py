"""Work with workloads, for whoever proved the key: one child process for each piece of it.

The agent knows nothing of workloads. It starts a program with the request as its input and gives
its output back; the program is the caller's (`orchestrator.drivers.carrying.worker`). What fails
there, or hangs, costs a child and not the agent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from orchestrator.agent.errors import ProtocolError, RefusedError
from orchestrator.agent.wire import Type, most
from orchestrator.model.errors import ToolError
from orchestrator.system import subprocesses

Work = Callable[[bytes], bytes]
"""Does what a request asks for. What goes wrong with the work itself is told in the answer.

Raises: MkupgradeError: nothing was, or could be, done about it."""

LONGEST = 3600.0
"""Seconds for one piece of work, whatever its request says."""
_MORE = 10.0
"""Seconds on top of the request's own, in which the program sees by itself that time is over."""


def in_a_child(argv: Sequence[str]) -> Work:
    """Work by a program: request in, answer out.

    Args:
        argv: it; no shell, and nothing of the request is an argument.
    """

    def work(request: bytes) -> bytes:
        seconds = _seconds(request)
        try:
            done = subprocesses.run(argv, timeout=seconds + _MORE, input=request)
        except ToolError as error:
            raise RefusedError(
                f"work with a workload did not end well: {error.what}",
                details=error.details,
                error_class=error.error_class,
            ) from error
        if len(done.stdout) > most(Type.WORKED):
            raise RefusedError(f"an answer of {len(done.stdout)} bytes")
        return done.stdout

    return work


def _seconds(request: bytes) -> float:
    """How long it may take, which is all that is read of a request here."""
    try:
        found = json.loads(request)["seconds"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise ProtocolError("a request for work that cannot be read") from None
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found <= LONGEST:
        raise ProtocolError(f"work that may take {found!r:.40} seconds")
    return float(found)
