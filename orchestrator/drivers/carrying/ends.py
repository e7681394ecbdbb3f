"""An instance as the host reaches it: by the agent in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.agent.client import About, AgentClient
from orchestrator.agent.status import Status
from orchestrator.agent.work import LONGEST
from orchestrator.drivers.carrying.requests import Look, Request, Verb, read_answer, read_look
from orchestrator.handover.parcel import Parcel
from orchestrator.handover.stream import ConnectionLostError, Peer, StreamChannel
from orchestrator.model.errors import DeadlineError, ErrorClass, WorkloadError
from orchestrator.model.seams import Control, Result
from orchestrator.model.spec.workloads import Workload
from orchestrator.workloads.elsewhere import Needs

OpenAgent = Callable[[Callable[[], float], About], AgentClient]
"""Connects: seconds that are left, and what it is about. Raises `ConnectionLostError` where nobody
answers."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0
PATIENCE = 20.0
"""Seconds for which an agent that does not answer is tried again: its unit starts it anew after
one, and a busy instance may take a while."""

T = TypeVar("T")


@dataclass(frozen=True)
class Cargo:
    """A workload that is carried, and for which transaction."""

    workload: Workload
    parcel: Parcel
    """The way it goes; `parcel.back()` is the way back."""
    plan_digest: str


@dataclass(frozen=True)
class End:
    """One of the two instances.

    Every call about a workload may raise `ConnectionLostError` (its agent does not answer, however
    often it is asked), `WorkloadError` (what went wrong there) and other `MkupgradeError`s.
    """

    name: str
    open: OpenAgent
    runs: Callable[[], bool]
    """Was its kernel started, and has not stopped, as the host's kernel says?"""
    fence: Callable[[], None] | None = None
    """Stop its kernel, by force if need be, so that nothing runs in it. None: that must not be."""
    patience: float = PATIENCE
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def status(self, cargo: Cargo, control: Control) -> Status:
        """That it lives; and whether it does what is asked for here."""
        return self._patiently(cargo, control, lambda agent: agent.status())

    def require_work(self, cargo: Cargo, control: Control) -> None:
        """
        Raises:
            WorkloadError: its agent is not ready, or takes state only.
        """
        said = self.status(cargo, control)
        wrong = None if said.ready else "is not ready: " + "; ".join(said.problems)
        if wrong is None and not said.works:
            wrong = "takes state only; its unit must be mkupgrade-agent-work.service (--work)"
        if wrong is not None:
            raise WorkloadError(
                f"the agent in {self.name} {wrong}",
                where=self.name,
                state="nothing was changed",
                error_class=ErrorClass.REFUSED,
            )

    def minor(self, cargo: Cargo, control: Control) -> int:
        """Version 1.MINOR of the protocol is what its agent speaks."""
        return self._patiently(cargo, control, lambda agent: agent.minor)

    def look(self, cargo: Cargo, parcel: Parcel, control: Control) -> Look:
        """What became of the workload there, and of this handover."""
        return read_look(self.work(Verb.LOOK, cargo, parcel, control), self.name)

    def told(
        self, cargo: Cargo, parcel: Parcel, control: Control, *, state: str | None = None
    ) -> Look:
        """The same, of a workload that runs or does not.

        Raises:
            WorkloadError: it cannot be told; `state`: what is so now.
        """
        look = self.look(cargo, parcel, control)
        if look.running is None:
            raise WorkloadError(
                f"it cannot be told whether it runs: {look.reason}",
                where=self.name,
                state=state,
                error_class=ErrorClass.BUSY,
            )
        return look

    def work(
        self,
        verb: Verb,
        cargo: Cargo,
        parcel: Parcel,
        control: Control,
        *,
        tag: str = "",
        ahead: str = "",
        outrun: bool = False,
        needs: Needs | None = None,
    ) -> Result:
        """Have it done there, and wait for its end; asked again where the connection is cut."""

        def ask(agent: AgentClient) -> dict[str, Any]:
            request = Request(
                verb=verb,
                transaction=parcel.transaction,
                section=parcel.section,
                plan_digest=cargo.plan_digest,
                workload=cargo.workload,
                seconds=_seconds(control, self.name),
                tag=tag,
                ahead=ahead,
                outrun=outrun,
                needs=needs,
            )
            return read_answer(agent.work(request.model_dump_json().encode()), self.name)

        return self._patiently(cargo, control, ask)

    def fetch(self, cargo: Cargo, parcel: Parcel, state_dir: Path, control: Control) -> None:
        """Make a handover that is complete there durable here."""
        place, incoming = parcel.channel(state_dir), parcel.channel(state_dir, "incoming")
        self._channel(cargo, parcel, state_dir).fetch(place, incoming, control)

    def pass_on(self, cargo: Cargo, parcel: Parcel, state_dir: Path, control: Control) -> None:
        """Send a handover that is durable here."""
        place = parcel.channel(state_dir)
        self._channel(cargo, parcel, state_dir).pass_on(place, control)

    def _channel(self, cargo: Cargo, parcel: Parcel, state_dir: Path) -> StreamChannel:
        @contextmanager
        def open_peer(control: Control) -> Iterator[Peer]:
            about = About(parcel.transaction, parcel.workload, parcel.ahead)
            with self.open(control.remaining, about) as client:
                yield client

        return StreamChannel(
            state_dir, parcel.transaction, parcel.section, open_peer, sleep=self.sleep
        )

    def _patiently(self, cargo: Cargo, control: Control, call: Callable[[AgentClient], T]) -> T:
        end, pause = self.now() + self.patience, _FIRST_PAUSE
        while True:
            try:
                with self.open(control.remaining, _about(cargo)) as agent:
                    return call(agent)
            except ConnectionLostError as error:
                left = min(end - self.now(), control.remaining())
                if left <= pause or not self.runs():
                    error.where = f"{self.name} ({error.where})" if error.where else self.name
                    raise
                control.progress(f"Connect to the agent in {self.name} again: {error.what}")
                self.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)


def _about(cargo: Cargo) -> About:
    return About(cargo.parcel.transaction, cargo.workload.name)


def _seconds(control: Control, where: str) -> float:
    left = min(control.remaining(), LONGEST)
    if left <= 0:
        raise DeadlineError("out of time", where=where)
    return left
