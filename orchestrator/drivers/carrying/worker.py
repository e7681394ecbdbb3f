"""Runs in an instance, started by its agent: one piece of work with one workload.

    python -m orchestrator.drivers.carrying.worker DIR     request on stdin, answer on stdout

    DIR/work/<transaction>/<workload>/<section>/ahead/       what was copied while it ran on
                                                state/       what a checkpoint left
                                                trial/       while a checkpoint is tried
                                                arrived/     what has come, unpacked
                                                arrived.ahead/
                                                taken.json, brought.json
    DIR/work/<workload>.lock                                 held while it is worked on
    DIR/handover/<transaction>/of/<workload>/<section>/      the handover, taken here or come here
                                             <section>.ahead/

Every piece of work may be asked for again: after a cut connection, or a death of either end, what
is there decides what is left to do.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.agent.wire import WORK
from orchestrator.drivers.carrying.requests import (
    AHEAD,
    Look,
    Request,
    Verb,
    done,
    failed,
    read_request,
)
from orchestrator.drivers.jobs import absent, unknown
from orchestrator.drivers.records import Shelf, drop_tree, keep_log, make_private_directories
from orchestrator.handover.channels import Head, Item
from orchestrator.handover.disk import DiskChannel
from orchestrator.handover.manifest import Manifest
from orchestrator.model.errors import ErrorClass, HandoverError, MkupgradeError, WorkloadError
from orchestrator.model.seams import Control, Result
from orchestrator.model.steps import Inspected, Inspection
from orchestrator.system import proc
from orchestrator.system.limited import Limited
from orchestrator.workloads.elsewhere import Needs
from orchestrator.workloads.facade import Workloads
from orchestrator.workloads.findings import Finding

_PAUSE = 0.1
TAKEN, BROUGHT = "taken", "brought"
"""Records: of a checkpoint that began, and of a restore that began or ended."""


class Worker:
    """Does one request.

    Args:
        directory: the agent's state directory.
    """

    def __init__(
        self, request: Request, directory: Path, workloads: Workloads, control: Control
    ) -> None:
        self._request = request
        self._workload = request.workload
        self._directory = directory
        self._workloads = workloads
        self._control = control
        parcel = request.parcel
        self._root = directory / "work" / parcel.transaction / self._workload.name
        self._place = self._root / parcel.section.value
        self._workdir = self._place / "state"
        self._records = Shelf(self._place)
        self._channel = parcel.channel(directory)
        self._ahead = self._place / "ahead"
        self._ahead_channel = parcel.copied_ahead().channel(directory)

    def do(self) -> Result:
        """Raises: MkupgradeError."""
        calls = {
            Verb.LOOK: self.look,
            Verb.AHEAD: self.ahead,
            Verb.UNPACK: self.unpack,
            Verb.TAKE: self.take,
            Verb.BRING: self.bring,
            Verb.AGAIN: self.again,
            Verb.END: self.end,
            Verb.TRY: self.try_out,
            Verb.ADMIT: self.admit,
            Verb.DROP: self.drop,
        }
        with self._alone():
            return calls[self._request.verb]()

    def look(self) -> Result:
        running, reason, pids = self._running()
        manifest = self._manifest()
        other = self._request.model_copy(update={"section": self._request.parcel.back().section})
        back = Worker(other, self._directory, self._workloads, self._control)
        return Look(
            running=running,
            reason=reason,
            pids=pids,
            taken=self._taken().verdict,
            taken_back=back._taken().verdict,
            tag_back=(back._records.read(TAKEN) or {}).get("tag", ""),
            brought=self._brought().verdict,
            manifest=manifest.digest() if manifest else "",
        ).model_dump(mode="json")

    def ahead(self) -> Result:
        if self._workloads.begun(self._workdir) is not None:
            raise WorkloadError(
                "its checkpoint was begun: nothing is copied ahead of it any more",
                where=self._workload.name,
                state="nothing was changed",
            )
        self._require_running()
        self._ahead_channel.discard()
        drop_tree(self._ahead)
        for directory in (self._place, self._ahead):
            make_private_directories(directory)
        with self._logged(self._ahead):
            self._workloads.copy_ahead(self._workload, self._ahead, self._control)
        manifest = self._send(self._ahead_channel, {AHEAD: True}, self._ahead)
        return {"manifest": manifest.digest(), "bytes": _size(manifest)}

    def try_out(self) -> Result:
        self._require_running()
        trial = self._place / "trial"
        make_private_directories(self._place)
        try:
            found = self._workloads.preflight(
                self._workload, "disk", trial, self._control, self._directory, jumps=False
            )
        finally:
            drop_tree(trial)
            self._drop_empty()
        return {**_held(found), "needs": self._workloads.needs(self._workload).model_dump()}

    def admit(self) -> Result:
        needed = self._request.needs or Needs()
        return _held(self._workloads.lacks(self._workload, needed, self._directory))

    def unpack(self) -> Result:
        manifest = self._ahead_channel.manifest()
        if manifest is None:
            raise HandoverError("nothing of it has come ahead", where=self._workload.name)
        self._come_ahead(manifest.digest())
        return {}

    def take(self) -> Result:
        found = self._taken()
        whole = found.verdict is Inspection.PRESENT and self._record() is not None
        meta = self._with_ahead(found.result if whole else self._checkpoint())
        manifest = self._manifest()
        if manifest is None or not self._is_of(manifest, meta):
            manifest = self._pack(meta)
        return {
            "manifest": manifest.digest(),
            "taken": manifest.created.isoformat(timespec="seconds"),
            "bytes": _size(manifest),
        }

    def bring(self) -> Result:
        manifest = self._channel.manifest()
        if manifest is None:
            raise HandoverError("no state of it has arrived here", where=self._workload.name)
        digest, record = manifest.digest(), self._restored(manifest)
        if record is not None and record.get("phase") == "ended":
            there = self._brought()
            if there.verdict is Inspection.PRESENT:
                return {"pids": there.result.get("pids", []), "notes": ["it ran already"]}
        running, reason, _ = self._running()
        if running is not False and record is None:
            raise WorkloadError(
                f"it is not restored: {reason}, and not from this state",
                where=self._workload.name,
                state="nothing was changed here",
                error_class=ErrorClass.REFUSED,
            )
        directory = self._unpacked(manifest)
        meta = manifest.workload(self._workload.name).meta
        if directory is not None and meta.get(AHEAD):
            come = self._come_ahead(meta[AHEAD])
            self._workloads.rest_on(self._workload, directory, come)
        if self._request.outrun:
            meta = {**meta, "outrun": True}
        note = {"boot_id": proc.boot_id(), "manifest": digest, "meta": meta}
        self._records.write(BROUGHT, {**note, "phase": "began"})
        restored = self._workloads.restore(self._workload, directory, meta, self._control)
        self._records.write(BROUGHT, {**note, "phase": "ended"})
        return {
            **restored,
            "taken": manifest.created.isoformat(timespec="seconds"),
            "from": manifest.source.release,
        }

    def again(self) -> Result:
        record = self._record()
        running, _, pids = self._running()
        if record is None or self._workloads.begun(self._workdir) is None:
            if running:
                return {"pids": pids, "how": "ran-on"}
            raise WorkloadError(
                f"no state of {self._workload.name} is kept here", where=self._workload.name
            )
        if record.get(AHEAD):
            self._workloads.rest_on(self._workload, self._workdir, self._ahead)
        older = self._request.outrun or record.get("boot_id") != proc.boot_id()
        if not older:
            result = self._workloads.undo_checkpoint(self._workload, self._workdir, self._control)
        elif running:
            result = {"pids": pids, "how": "ran-on"}
        else:
            result = self._again_from_older()
        self._forget()
        return {"how": "again", **result, "taken": record["taken"]}

    def end(self) -> Result:
        record = self._records.read(BROUGHT)
        result: Result = {}
        if record is not None and record.get("boot_id") == proc.boot_id():
            result = self._workloads.stop(self._workload, record["meta"], self._control)
        self._forget()
        return result

    def drop(self) -> Result:
        back = self._request.parcel.back()
        for parcel in (back, back.copied_ahead()):
            parcel.channel(self._directory).discard()
        drop_tree(self._root)
        self._forget()
        return {}

    def _again_from_older(self) -> Result:
        """What it holds open, and what its peers know, may have changed since: as behind a jump."""
        found = self._taken()
        if found.verdict is not Inspection.PRESENT:
            raise WorkloadError(
                f"its state is not whole: {found.reason}", where=self._workload.name
            )
        meta = {**found.result, **({"outrun": True} if self._request.outrun else {})}
        return self._workloads.restore(self._workload, self._workdir, meta, self._control)

    def _checkpoint(self) -> Result:
        self._require_running()
        self._channel.discard()
        make_private_directories(self._place)
        ahead = self._usable_ahead()
        taken = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        boot = {"boot_id": proc.boot_id(), "taken": taken, "tag": self._request.tag}
        # Whatever comes of it: another checkpoint would not see what was written before this one.
        self._records.write(TAKEN, {**boot, AHEAD: ahead})
        with self._logged(self._workdir):
            return self._workloads.checkpoint(
                self._workload, self._workdir, self._control, self._ahead if ahead else None
            )

    def _usable_ahead(self) -> str:
        """The digest of what was copied ahead, if a checkpoint can go on from there; or ""."""
        if not self._request.ahead or self._records.read(TAKEN) is not None:
            return ""
        try:
            manifest = self._ahead_channel.manifest()
        except HandoverError:
            return ""
        if manifest is None or manifest.source.boot_id != proc.boot_id():
            return ""
        digest = manifest.digest()
        return digest if digest == self._request.ahead else ""

    def _with_ahead(self, meta: Result) -> Result:
        """Says what it rests on, for whoever restores it."""
        ahead = (self._record() or {}).get(AHEAD)
        return {**meta, AHEAD: ahead} if ahead else meta

    def _come_ahead(self, wanted: str) -> Path:
        """What has come ahead, unpacked.

        Args:
            wanted: digest of its manifest.

        Raises:
            HandoverError: that has not come, or is damaged.
        """
        manifest = self._ahead_channel.manifest()
        if manifest is None or manifest.digest() != wanted:
            raise HandoverError(
                "what was copied ahead of its state is not here", where=self._workload.name
            )
        come = self._unpack(self._ahead_channel, manifest, self._place / "arrived.ahead")
        if come is None:
            raise HandoverError("what was copied ahead is damaged", where=self._workload.name)
        return come

    def _require_running(self) -> None:
        running, reason, _ = self._running()
        if not running:
            raise WorkloadError(
                f"there is no state to take: {reason}",
                where=self._workload.name,
                state="nothing was changed",
                error_class=ErrorClass.REFUSED,
            )

    @contextmanager
    def _logged(self, workdir: Path) -> Iterator[None]:
        """What tools have said of an error is kept, though `workdir` goes."""
        try:
            yield
        except MkupgradeError as error:
            logs = self._directory / "work" / "logs" / f"{self._workload.name}.log"
            keep_log(error, workdir, logs)
            raise

    def _pack(self, meta: Result) -> Manifest:
        if meta.get(AHEAD):
            self._workloads.rest_on(self._workload, self._workdir, None)
        return self._send(self._channel, meta, self._workdir)

    def _send(self, channel: DiskChannel, meta: Result, directory: Path) -> Manifest:
        head = Head(
            transaction=self._request.transaction,
            plan_digest=self._request.plan_digest,
            section=self._request.section,
            source_release=proc.release(),
            source_boot_id=proc.boot_id(),
        )
        method = self._workload.migrate.method
        item = Item(self._workload.name, method, meta, directory)
        return channel.send(head, [item], self._control)

    def _is_of(self, manifest: Manifest, meta: Result) -> bool:
        """Is it whole, and of this very checkpoint?"""
        carried = manifest.workload(self._workload.name)
        if carried.meta != meta:
            return False
        return self._channel.inspect_sent().verdict is Inspection.PRESENT

    def _unpacked(self, manifest: Manifest) -> Path | None:
        return self._unpack(self._channel, manifest, self._place / "arrived")

    def _unpack(self, channel: DiskChannel, manifest: Manifest, destination: Path) -> Path | None:
        make_private_directories(self._place)
        marker = destination / "manifest"
        if marker.is_file() and marker.read_bytes() != manifest.encode():
            drop_tree(destination)
        received = channel.receive(destination, self._control)
        return received.directories.get(self._workload.name)

    def _manifest(self) -> Manifest | None:
        """Of the handover that is complete here; one that cannot be read is as good as none."""
        try:
            return self._channel.manifest()
        except HandoverError:
            return None

    def _running(self) -> tuple[bool | None, str, list[int]]:
        state = self._workloads.find(self._workload)
        if state.pids:
            return True, f"{self._workload.name} runs as pid {state.pids[0]}", list(state.pids)
        reason = state.error or f"not running: {self._workload.name}"
        return (False if reason.startswith("not running") else None), reason, []

    def _record(self) -> Result | None:
        """Of the checkpoint that this request is about."""
        record = self._records.read(TAKEN)
        return record if record is not None and record.get("tag") == self._request.tag else None

    def _taken(self) -> Inspected:
        try:
            if self._workloads.begun(self._workdir) is None:
                return absent("no checkpoint was begun here")
            return self._workloads.inspect_checkpoint(self._workload, self._workdir)
        except MkupgradeError as error:
            return unknown(str(error))

    def _restored(self, manifest: Manifest | None) -> Result | None:
        """The record of a restore in this boot, of this very handover."""
        record = self._records.read(BROUGHT)
        if record is None or manifest is None or record.get("boot_id") != proc.boot_id():
            return None
        return record if record.get("manifest") == manifest.digest() else None

    def _brought(self) -> Inspected:
        record = self._restored(self._manifest())
        if record is None:
            return absent("it was not restored here, in this boot, from what is here")
        try:
            return self._workloads.inspect_restore(self._workload, record["meta"])
        except MkupgradeError as error:
            return unknown(str(error))

    def _forget(self) -> None:
        for channel in (self._channel, self._ahead_channel):
            channel.discard()
        drop_tree(self._place)
        self._drop_empty()

    def _drop_empty(self) -> None:
        for place in (self._place, self._root, self._root.parent):
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else works on this workload: not for a connection that was cut, either."""
        make_private_directories(self._directory / "work")
        path = self._directory / "work" / f"{self._workload.name}.lock"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            while not _locked(fd):
                if self._control.remaining() <= _PAUSE:
                    raise WorkloadError(
                        "an earlier piece of work with it has not ended",
                        where=self._workload.name,
                        error_class=ErrorClass.BUSY,
                    )
                time.sleep(_PAUSE)
            yield
        finally:
            os.close(fd)


def answer(data: bytes, directory: Path, workloads: Workloads) -> bytes:
    """Do what a request asks for. Never raises for what may go wrong with it."""
    try:
        request = read_request(data)
        return done(Worker(request, directory, workloads, Limited(request.seconds)).do())
    except MkupgradeError as error:
        return failed(error)
    except OSError as error:
        what = f"work could not be done: {error.strerror or error}"
        where = str(error.filename) if error.filename is not None else None
        return failed(WorkloadError(what, where=where, error_class=ErrorClass.IO))


def main(arguments: list[str]) -> int:
    (directory,) = arguments
    request = sys.stdin.buffer.read(WORK + 1)
    sys.stdout.buffer.write(answer(request, Path(directory), Workloads()))
    sys.stdout.buffer.flush()
    return 0


def _held(found: list[Finding]) -> Result:
    """
    Raises:
        WorkloadError: there are errors among it.
    """
    errors = [line for it in found if it.severity == "error" for line in it.text.splitlines()]
    if errors:
        raise WorkloadError(
            errors[0],
            where=found[0].workload,
            state="nothing was changed; it runs",
            details=tuple(line.strip() for line in errors[1:]),
            error_class=ErrorClass.REFUSED,
        )
    return {"warnings": [it.text for it in found]}


def _size(manifest: Manifest) -> int:
    """Bytes of state."""
    return sum(it.payload.length for it in manifest.workloads if it.payload)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
