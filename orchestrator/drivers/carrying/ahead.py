"""The host's part in what is copied of a workload while it runs on: fetched, passed on, unpacked in
the target, before the workload stands still. What it costs when it fails is time."""

from __future__ import annotations

from pathlib import Path

from orchestrator.drivers.carrying.ends import Cargo, End
from orchestrator.drivers.carrying.requests import AHEAD, Verb
from orchestrator.handover.parcel import Parcel
from orchestrator.handover.stream import ConnectionLostError
from orchestrator.model.errors import HandoverError, MkupgradeError
from orchestrator.model.seams import Control, Result


class Ahead:
    """Of one workload, in one process.

    Args:
        state_dir: of the host.
    """

    def __init__(self, state_dir: Path, cargo: Cargo, control: Control) -> None:
        self._state_dir = state_dir
        self._cargo = cargo
        self._control = control
        self._sent: set[tuple[str, str]] = set()
        """Ends, and digests of what was passed on to them."""

    def copy(self, source: End, target: End | None) -> tuple[str, Result]:
        """
        Args:
            target: passed on to it, too, if it runs already.

        Returns:
            The digest of its manifest, or "" where nothing could be copied; and what to tell:
            `bytes_ahead`, or in `notes` why not.

        Raises:
            ConnectionLostError: an agent does not answer.
        """
        workload, there = self._cargo.workload, self._cargo.parcel
        if workload.migrate.method != "criu":
            return "", {}
        self._control.progress(f"Copy the memory of {workload.name} in {source.name} ahead")
        try:
            done = source.work(Verb.AHEAD, self._cargo, there, self._control)
            digest = str(done["manifest"])
            source.fetch(self._cargo, there.copied_ahead(), self._state_dir, self._control)
            if target is not None:
                self._send(target, there, digest)
        except ConnectionLostError:
            raise
        except MkupgradeError as error:
            self._control.progress(f"Nothing is copied ahead: {error.what}")
            return "", {"notes": [f"nothing was copied ahead: {error.what}"]}
        return digest, {"bytes_ahead": done["bytes"]}

    def pass_on(self, end: End, parcel: Parcel) -> None:
        """State that is on the host's disk, with what it rests on, unless that is there."""
        try:
            manifest = parcel.channel(self._state_dir).manifest()
        except HandoverError:
            manifest = None  # told below
        if manifest is not None:
            digest = manifest.workload(self._cargo.workload.name).meta.get(AHEAD)
            if digest and (end.name, digest) not in self._sent:
                self._send(end, parcel, str(digest))
        end.pass_on(self._cargo, parcel, self._state_dir, self._control)

    def _send(self, end: End, parcel: Parcel, digest: str) -> None:
        """What goes ahead of this parcel; it is unpacked there, so that its restore need not."""
        end.pass_on(self._cargo, parcel.copied_ahead(), self._state_dir, self._control)
        end.work(Verb.UNPACK, self._cargo, parcel, self._control)
        self._sent.add((end.name, digest))
