"""What the agent does with the frames of one proven connection.

Every question has one answer. Blocks and recipes have none: what is wrong with one of them is told
in answer to the next question, so that a client that sends many never has to wait in between.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from orchestrator.agent import messages
from orchestrator.agent.errors import ProtocolError, RefusedError
from orchestrator.agent.link import Link
from orchestrator.agent.pool import MOST_BLOCKS
from orchestrator.agent.status import Status
from orchestrator.agent.store import Store
from orchestrator.agent.wire import Type
from orchestrator.agent.work import Work
from orchestrator.handover.parcel import Parcel
from orchestrator.handover.stream import DIGEST
from orchestrator.model.errors import ErrorClass, HandoverError, MkupgradeError

Tell = Callable[[str, dict[str, object]], None]
"""Told what happened, by a word and what belongs to it."""

_COUNT = struct.Struct("<Q")


class Conversation:
    """One client's.

    Args:
        status: asked for each time that the client asks.
        tell: of what was taken whole, and of what was refused.
        work: does what is asked for with workloads; None: this agent does nothing of the kind.
    """

    def __init__(
        self, store: Store, status: Callable[[], Status], tell: Tell, work: Work | None = None
    ) -> None:
        self._store = store
        self._status = status
        self._tell = tell
        self._work = work
        self._recipe: list[bytes] = []
        self._wrong: MkupgradeError | None = None

    def hold(self, link: Link, idle_seconds: float) -> None:
        """Until the client hangs up.

        Raises:
            ConnectionLostError: the ordinary end. ProtocolError, NotProvenError
        """
        try:
            while True:
                kind, body = link.receive(idle_seconds)
                answer = self.answer(kind, body)
                if answer is not None:
                    link.send(*answer)
        finally:
            self._store.release(self)

    def answer(self, kind: Type, body: bytes) -> tuple[Type, bytes] | None:
        """The answer to a frame; None: it has none.

        Raises:
            ProtocolError: no client of ours sends that; the connection ends.
        """
        one_way = {Type.BLOCK: self._block, Type.RECIPE: self._take_recipe}
        if kind in one_way:
            if self._wrong is None:
                self._wrong = self._caught(lambda: one_way[kind](body))
            return None
        question = {
            Type.ASK: self._ask,
            Type.BEGIN: self._begin,
            Type.HAVE: self._have,
            Type.FLUSH: self._flush,
            Type.DRAFT: self._draft,
            Type.PAYLOAD: self._payload,
            Type.FINISH: self._finish,
            Type.INSPECT: self._inspect,
            Type.DISCARD: self._discard,
            Type.FETCH: self._fetch,
            Type.WORK: self._do,
        }.get(kind)
        if question is None:
            raise ProtocolError(f"a client that sends {kind.name}")
        answers: list[tuple[Type, bytes]] = []
        wrong, self._wrong = self._wrong, None
        if wrong is None:
            wrong = self._caught(lambda: answers.append(question(body)))
        if wrong is None:
            return answers[0]
        self._tell("refused", {"question": kind.name, "error": wrong.what})
        return Type.ERROR, messages.error_body(wrong)

    def _caught(self, call: Callable[[], None]) -> MkupgradeError | None:
        try:
            call()
        except ProtocolError:
            raise
        except MkupgradeError as error:
            return error
        except OSError as error:
            return HandoverError(
                f"state cannot be kept: {error.strerror}",
                where=str(error.filename) if error.filename is not None else None,
                error_class=ErrorClass.IO,
            )
        return None

    def _ask(self, _body: bytes) -> tuple[Type, bytes]:
        return Type.STATUS, self._status().encode()

    def _begin(self, body: bytes) -> tuple[Type, bytes]:
        parcel = self._parcel(body)
        self._recipe = []
        self._store.begin(self, parcel)
        return Type.BEGUN, b""

    def _have(self, body: bytes) -> tuple[Type, bytes]:
        lacking = self._store.lacking(self, messages.parse_digests(body))
        return Type.LACKING, messages.bits(lacking)

    def _block(self, body: bytes) -> None:
        self._store.add(self, body[:DIGEST], body[DIGEST:])

    def _flush(self, _body: bytes) -> tuple[Type, bytes]:
        return Type.FLUSHED, _COUNT.pack(self._store.flush(self))

    def _take_recipe(self, body: bytes) -> None:
        self._recipe += messages.parse_digests(body)
        if len(self._recipe) > MOST_BLOCKS:
            self._recipe = []
            raise RefusedError(f"a payload of more than {MOST_BLOCKS} blocks")

    def _payload(self, body: bytes) -> tuple[Type, bytes]:
        recipe, self._recipe = self._recipe, []
        self._store.payload(self, body, recipe)
        return Type.TAKEN, b""

    def _draft(self, body: bytes) -> tuple[Type, bytes]:
        recipe, self._recipe = self._recipe, []
        self._store.draft(self, body, recipe)
        return Type.DRAFTED, b""

    def _finish(self, body: bytes) -> tuple[Type, bytes]:
        manifest = self._store.finish(self, body)
        self._tell(
            "received",
            {
                "transaction": manifest.transaction,
                "section": manifest.section.value,
                "workloads": [workload.name for workload in manifest.workloads],
                "bytes": sum(w.payload.length for w in manifest.workloads if w.payload),
            },
        )
        return Type.FINISHED, b""

    def _inspect(self, body: bytes) -> tuple[Type, bytes]:
        found, manifest = self._store.inspect(self._parcel(body))
        digest = manifest.digest() if manifest is not None else ""
        return Type.INSPECTED, messages.inspected_body(found, digest)

    def _discard(self, body: bytes) -> tuple[Type, bytes]:
        parcel = self._parcel(body)
        self._store.discard(parcel)
        self._tell("discarded", {"handover": parcel.text()})
        return Type.DISCARDED, b""

    def _fetch(self, body: bytes) -> tuple[Type, bytes]:
        wanted = messages.parse_fetch(body, self._store.transaction)
        return Type.FETCHED, self._store.fetch(*wanted)

    def _do(self, body: bytes) -> tuple[Type, bytes]:
        if self._work is None:
            raise RefusedError(
                "this agent takes state and does nothing with workloads",
                next_command="systemctl enable --now mkupgrade-agent-work.service",
            )
        self._tell("working", {"bytes": len(body)})
        answer = self._work(body)
        self._tell("worked", {"bytes": len(answer)})
        return Type.WORKED, answer

    def _parcel(self, body: bytes) -> Parcel:
        return messages.parse_own_parcel(body, self._store.transaction)
