"""A workload from one running instance to another, by the host between them.

    ahead    the source copies its memory while it runs on; the host fetches that, and passes it on
    take     the source checkpoints it, and the host fetches its state onto its own disk
    bring    the host passes the state on, and the target restores it

What was copied ahead is no state, and nobody's loss: a checkpoint that can go on from there holds
what was written since, and takes no longer than that; one that cannot holds everything.

The source keeps its copy, so that from the checkpoint on the state is durable in at least one
place, and from the fetch on in two. Taking it back is the same the other way round, with the state
that it has by then, and nothing ahead of it. Where that cannot be had (the target is dead, or
refuses), the source starts it again from what it kept, and the result says which state that is. On
the way back behind a commit, a workload that runs no more is brought home with the state of the
way there.

Records say what was begun, before it is begun; what is there, the agents and the host's kernel say.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrator.drivers.carrying.ahead import Ahead
from orchestrator.drivers.carrying.ends import Cargo, End
from orchestrator.drivers.carrying.requests import Look, Verb
from orchestrator.drivers.jobs import absent, partial, present, unknown
from orchestrator.drivers.records import Shelf
from orchestrator.handover.manifest import Manifest
from orchestrator.handover.parcel import Parcel
from orchestrator.handover.stream import ConnectionLostError
from orchestrator.model.errors import ErrorClass, HandoverError, MkupgradeError, WorkloadError
from orchestrator.model.seams import Control, Result
from orchestrator.model.steps import Inspected, Inspection, Section

_TO_TELL = 5.0
"""Seconds without which it is not said of an agent that it does not answer."""
_ASKED = ("asked", "ended")
"""Phases in which the target may have restored it."""


class Carrier:
    """Of one workload, for one step.

    Args:
        state_dir: of the host.
        records: of the section; `take.WORKLOAD` and `bring.WORKLOAD` are ours.
    """

    def __init__(self, state_dir: Path, records: Shelf, cargo: Cargo, control: Control) -> None:
        self._state_dir = state_dir
        self._records = records
        self._cargo = cargo
        self._control = control
        self._there = cargo.parcel
        self._back = cargo.parcel.back()
        self._name = cargo.workload.name
        self._took, self._brought = f"take.{self._name}", f"bring.{self._name}"
        self._ahead = Ahead(state_dir, cargo, control)

    def carry(self, source: End, target: End) -> Result:
        """Both halves. Before the workload is touched both ends are asked whether they can."""
        self._make_room(target)
        taken = self.take(source, target)
        brought = self.bring(target)
        notes = [*taken.get("notes", ()), *brought.get("notes", ())]
        return {**taken, **brought, "notes": notes}

    def take(self, source: End, target: End | None = None) -> Result:
        """The source half: it stands still afterwards, and its state is on the host's disk.

        Args:
            target: that runs already; what is copied ahead is passed on to it, too.
        """
        record = self._records.read(self._took)
        if record is None:
            gone = self._why_gone(source)
            if gone is not None:
                return self._as_before(source, gone)
            record = {"phase": "began", "tag": secrets.token_hex(8)}
            self._records.write(self._took, record)
        if "newest" in record:
            return {}
        began = source.now()
        digest, said = self._ahead.copy(source, target)
        if digest:
            said["ran_on_seconds"] = round(source.now() - began, 3)
        self._control.progress(f"Checkpoint {self._name} in {source.name}")
        taken = source.work(
            Verb.TAKE, self._cargo, self._there, self._control, tag=record["tag"], ahead=digest
        )
        source.fetch(self._cargo, self._there, self._state_dir, self._control)
        self._records.write(self._took, {**record, "phase": "ended", "manifest": taken["manifest"]})
        return {key: taken[key] for key in ("taken", "bytes") if key in taken} | said

    def bring(self, target: End) -> Result:
        """The target half: what is on the host's disk runs there."""
        self._make_room(target)
        took = self._records.read(self._took) or {}
        parcel = self._newest(took)
        self._ahead.pass_on(target, parcel)
        note = {"section": parcel.section.value}
        self._records.write(self._brought, {**note, "phase": "asked"})
        self._control.progress(f"Restore {self._name} in {target.name}")
        outrun = "lost" in took
        restored = target.work(Verb.BRING, self._cargo, parcel, self._control, outrun=outrun)
        self._records.write(self._brought, {**note, "phase": "ended"})
        text = f"{self._name} runs on in {target.name}"
        return {"text": text, **{k: restored[k] for k in ("pids", "notes") if k in restored}}

    def inspect_take(self, source: End) -> Inspected:
        """Of a step that is the source half alone."""
        record = self._records.read(self._took)
        if record is None:
            return absent(f"{self._name} was not asked for its state")
        kept = self._is_here(record)
        if not source.runs():
            where = "its state is on the host's disk" if kept else "its state is not here"
            found = f"{source.name} does not run, and {where}"
            return present(found) if kept else partial(found)
        look = self._look(source, self._there)
        if isinstance(look, MkupgradeError):
            return unknown(str(look)) if record.get("phase") == "ended" else partial(str(look))
        if look.running is None:
            return unknown(look.reason)
        if kept and not look.running:
            return present(f"it does not run in {source.name}, and its state is here")
        return partial(f"{source.name}: {look.reason}; its state is asked for")

    def inspect_bring(self, target: End) -> Inspected:
        """Of a step that is the target half alone."""
        record = self._records.read(self._brought)
        if record is None:
            return absent(f"nothing of {self._name} was sent")
        if not target.runs():
            return partial(f"{target.name} does not run")
        look = self._look(target, self._sent(record))
        if isinstance(look, MkupgradeError):
            return unknown(str(look)) if record["phase"] == "ended" else partial(str(look))
        if look.running is None:
            return unknown(look.reason)
        if look.running and look.brought is Inspection.PRESENT:
            return present(f"{target.name}: {look.reason}", {"pids": look.pids})
        return partial(f"{target.name}: {look.reason}")

    def inspect(self, source: End, target: End) -> Inspected:
        """Of both halves. It is PRESENT where the target runs what was brought and the source does
        not run it; whatever else was begun is PARTIAL, and `undo` brings it home."""
        if self._records.read(self._took) is None:
            return absent(f"{self._name} was not asked for its state")
        if self._records.read(self._brought) is None:
            return partial(f"{self._name} was taken out of {source.name} at most")
        there = self.inspect_bring(target)
        if there.verdict is not Inspection.PRESENT or not source.runs():
            return there
        look = self._look(source, self._there)
        if isinstance(look, MkupgradeError):
            return there.model_copy(update={"reason": f"{there.reason} ({look})"})
        if look.running:
            return unknown(f"{there.reason}, and {source.name}: {look.reason}")
        return there

    def undo(self, source: End, target: End) -> Result:
        """Home from wherever it is."""
        self._out_of(target)
        result = self.undo_take(source)
        self._tidy(target)
        return result

    def undo_bring(self, target: End) -> Result:
        """Out of the target, with the state that it has by now, which is on the host's disk then.
        What could not be had of it is noted for `undo_take`."""
        result = self._out_of(target)
        self._tidy(target)
        return result

    def _out_of(self, target: End) -> Result:
        record = self._records.read(self._brought)
        if record is None:
            return {}
        took = self._records.read(self._took) or {}
        note = self._emptied(target, record, took)
        if took:
            self._records.write(self._took, {**took, **note})
        self._records.drop(self._brought)
        return {"problems": [note["lost"]]} if "lost" in note else {}

    def undo_take(self, source: End) -> Result:
        """It runs in the source again, from the newest state there is.

        Raises:
            WorkloadError: the source does not run, or no state can be used; all of it stays.
        """
        record = self._records.read(self._took)
        if record is None:
            return {}
        if not source.runs():
            raise WorkloadError(
                f"{source.name} does not run, so that {self._name} cannot run in it again",
                where=source.name,
                state=f"its state is kept below {self._state_dir / 'handover'}",
                error_class=ErrorClass.BUSY,
            )
        result = self._started_again(source, record)
        self._records.drop(self._took)  # from here on it is home, whatever is left of copies
        for parcel in (self._there, self._there.copied_ahead(), self._back):
            parcel.channel(self._state_dir).discard()
        if "newest" in record:
            self._tidy(source)
        return result

    def _tidy(self, end: End) -> None:
        """Nothing of it is left there, once it runs elsewhere or its state is here: what an end
        that does not answer keeps is small harm."""
        if end.runs():
            with suppress(MkupgradeError):
                end.work(Verb.DROP, self._cargo, self._there, self._control)

    def _emptied(self, target: End, record: dict[str, Any], took: dict[str, Any]) -> dict[str, Any]:
        """The workload does not run in the target afterwards. `newest`: the handover with its state
        of now, which is here; `lost`: why it could not be had; neither: it never ran there."""
        sent = self._sent(record)
        if record["phase"] not in _ASKED or self._newest(took) != sent:
            return {}
        if not target.runs():
            return {"lost": f"{target.name} does not run any more"}
        try:
            return self._emptied_alive(target, sent, took, ended=record["phase"] == "ended")
        except ConnectionLostError as error:
            if target.fence is None or not self._is_silent(target):
                raise
            target.fence()
            return {"lost": f"{target.name} was halted, for its agent is gone: {error.what}"}

    def _is_silent(self, target: End) -> bool:
        """Does its agent answer nothing at all? One that is slow, or was cut off once, is asked
        again; that there is no time left to ask says nothing of it."""
        if self._control.remaining() < _TO_TELL:
            return False
        try:
            target.status(self._cargo, self._control)
        except ConnectionLostError:
            return self._control.remaining() > 0
        return False

    def _emptied_alive(
        self, target: End, sent: Parcel, took: dict[str, Any], *, ended: bool
    ) -> dict[str, Any]:
        there = target.told(self._cargo, sent, self._control)
        runs = there.running and there.brought is Inspection.PRESENT
        stopped = there.taken_back is Inspection.PRESENT and there.tag_back == took.get("tag")
        if runs or stopped:
            return self._taken_back(target, sent, took)
        if there.running or there.brought is Inspection.PARTIAL:
            target.work(Verb.END, self._cargo, sent, self._control)
            return {"lost": f"its restore in {target.name} did not come to its end"}
        return {"lost": f"it did not run any more in {target.name}"} if ended else {}

    def _taken_back(self, target: End, sent: Parcel, took: dict[str, Any]) -> dict[str, Any]:
        self._control.progress(f"Checkpoint {self._name} in {target.name}")
        try:
            tag = took.get("tag", "")
            target.work(Verb.TAKE, self._cargo, sent.back(), self._control, tag=tag)
        except ConnectionLostError:
            raise
        except MkupgradeError as error:
            for parcel in (sent, sent.back()):
                target.work(Verb.END, self._cargo, parcel, self._control)
            return {"lost": f"{target.name} did not give its state: {error.what}"}
        target.fetch(self._cargo, sent.back(), self._state_dir, self._control)
        return {"newest": sent.back().section.value}

    def _started_again(self, source: End, record: dict[str, Any]) -> Result:
        """From the newest state that can be used, the one that the source kept before the host's
        copy of it."""
        outrun = "lost" in record
        problems = [record["lost"]] if outrun else []
        if "newest" in record:
            newest = self._newest(record)
            try:
                done = self._brought_home(source, newest, outrun=outrun)
            except ConnectionLostError:
                raise
            except MkupgradeError as error:
                source.work(Verb.END, self._cargo, newest, self._control)
                problems.append(f"its newest state cannot be used: {error}")
                outrun = True
            else:
                return self._said(source, done, "as it was last", problems)
        try:
            done = source.work(
                Verb.AGAIN, self._cargo, self._there, self._control,
                tag=record["tag"], outrun=outrun,
            )  # fmt: skip
        except ConnectionLostError:
            raise
        except MkupgradeError as error:
            problems.append(f"what {source.name} kept cannot be used: {error}")
        else:
            if done["how"] == "ran-on":
                return {"text": f"{self._name} ran on in {source.name}"}
            return self._said(source, done, "from the state that it kept", problems)
        try:
            self._require_here(record)
            done = self._brought_home(source, self._there, outrun=outrun)
        except ConnectionLostError:
            raise
        except MkupgradeError as error:
            raise WorkloadError(
                f"{self._name} cannot be started again in {source.name}: {error.what}",
                where=error.where or source.name,
                state=f"what is left of its state is below {self._state_dir / 'handover'}",
                details=tuple(problems),
                error_class=error.error_class,
            ) from error
        return self._said(source, done, "from the host's copy of its state", problems)

    def _brought_home(self, source: End, parcel: Parcel, *, outrun: bool) -> Result:
        self._ahead.pass_on(source, parcel)
        return source.work(Verb.BRING, self._cargo, parcel, self._control, outrun=outrun)

    def _said(self, source: End, done: Result, how: str, problems: list[str]) -> Result:
        taken = done.get("taken")
        with suppress(TypeError, ValueError):
            clock = datetime.fromisoformat(str(taken)).astimezone().strftime("%H:%M:%S")
            how = f"{how}, of {clock}"
        text = f"{self._name} runs again in {source.name}, {how}"
        return {"text": text, "taken": taken, "problems": problems}

    def _why_gone(self, source: End) -> str | None:
        """Why it has no state there to be taken; None: it runs."""
        if not source.runs():
            return f"{source.name} does not run"
        source.require_work(self._cargo, self._control)
        look = source.told(self._cargo, self._there, self._control, state="nothing was changed")
        return None if look.running else f"{source.name}: {look.reason}"

    def _as_before(self, source: End, gone: str) -> Result:
        """What was taken on the way there has to do, if this is the way back."""
        back = self._there.section is Section.RETURN
        manifest = self._manifest(self._back) if back else None
        if manifest is None:
            raise WorkloadError(
                f"{self._name} has no state in {source.name} to carry: {gone}",
                where=source.name,
                state="nothing was changed",
                error_class=ErrorClass.REFUSED,
            )
        lost = f"{gone}: its state of the way there is used"
        note = {"newest": self._back.section.value, "lost": lost}
        self._records.write(self._took, {"phase": "ended", "tag": "", **note})
        taken = manifest.created.isoformat(timespec="seconds")
        return {"taken": taken, "problems": [lost]}

    def _make_room(self, target: End) -> None:
        """Nothing of it runs there, and the agent is one that works: asked before the workload
        stands still, where the step has both halves."""
        if self._records.read(self._brought) is not None:
            return
        target.require_work(self._cargo, self._control)
        look = target.look(self._cargo, self._there, self._control)
        if look.running is not False:
            raise WorkloadError(
                f"{self._name} is in {target.name} already: {look.reason}",
                where=target.name,
                state="nothing was changed",
                details=(f"what starts {self._name} by itself must not do so in the new instance",),
                error_class=ErrorClass.REFUSED,
            )
        note = {"section": self._there.section.value}
        self._records.write(self._brought, {**note, "phase": "began"})

    def _newest(self, took: dict[str, Any]) -> Parcel:
        """The handover on the host's disk with the newest state."""
        return self._parcel(took.get("newest"))

    def _sent(self, brought: dict[str, Any]) -> Parcel:
        """The handover that the target was given."""
        return self._parcel(brought.get("section"))

    def _parcel(self, section: Any) -> Parcel:
        """The one of a section that a record names; none named: the one that this step takes."""
        return self._back if section == self._back.section.value else self._there

    def _look(self, end: End, parcel: Parcel) -> Look | MkupgradeError:
        """The error, where it cannot be asked."""
        try:
            return end.look(self._cargo, parcel, self._control)
        except MkupgradeError as error:
            return error

    def _is_here(self, took: dict[str, Any]) -> bool:
        """Is what was taken whole on the host's disk, and not what an earlier step has left?"""
        manifest = self._manifest(self._newest(took))
        if manifest is None or "newest" in took:
            return manifest is not None
        return manifest.digest() == took.get("manifest")

    def _manifest(self, parcel: Parcel) -> Manifest | None:
        """Of what is whole on the host's disk."""
        try:
            return parcel.channel(self._state_dir).manifest()
        except HandoverError:
            return None

    def _require_here(self, took: dict[str, Any]) -> None:
        if not self._is_here(took):
            raise HandoverError("its state has not come to the host", where=str(self._state_dir))
