"""What both channels do alike: build a manifest, unpack what was verified, look again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from orchestrator.handover.channels import Head, Item, Received
from orchestrator.handover.frame import SIZE, FrameKind, Header
from orchestrator.handover.manifest import (
    MAX_BYTES,
    CarriedWorkload,
    Manifest,
    Payload,
    Protocol,
    Source,
)
from orchestrator.handover.payload import Tick, unpack_payload, verify_directory
from orchestrator.model.errors import (
    DeadlineError,
    HandoverError,
    MkupgradeError,
    SystemCallError,
)
from orchestrator.model.quantities import format_size
from orchestrator.model.seams import Control
from orchestrator.model.steps import Inspected, Inspection, Section
from orchestrator.system import files

OpenPayload = Callable[[Payload], AbstractContextManager[int]]
"""Opens the frame of a payload for reading; the descriptor is closed at the end of the `with`."""


def build_manifest(head: Head, items: Sequence[Item], headers: dict[str, Header]) -> Manifest:
    """The manifest of what was packed.

    Raises:
        HandoverError: an id, a name or a digest is not valid; nothing was written.
    """
    try:
        return Manifest(
            protocol=Protocol(),
            transaction=head.transaction,
            plan_digest=head.plan_digest,
            section=head.section,
            source=Source(release=head.source_release, boot_id=head.source_boot_id),
            created=datetime.now(UTC),
            workloads=[
                CarriedWorkload(
                    name=item.name,
                    method=item.method,
                    payload=_payload(headers.get(item.name)),
                    meta=dict(item.meta),
                )
                for item in items
            ],
            extra=dict(head.extra),
        )
    except ValidationError as error:
        details = tuple(str(problem["msg"]) for problem in error.errors(include_url=False))
        raise HandoverError(
            "no valid manifest can be made", where=head.transaction, details=details
        ) from error


def with_payload(items: Sequence[Item]) -> list[tuple[int, str, Path]]:
    """(token, workload name, directory) of the items that have state, tokens from 1."""
    found = [(item.name, item.directory) for item in items if item.directory is not None]
    return [(token, name, directory) for token, (name, directory) in enumerate(found, 1)]


def _payload(header: Header | None) -> Payload | None:
    if header is None:
        return None
    return Payload(token=header.token, length=header.length, sha256=header.sha256)


def header_of(payload: Payload) -> Header:
    """The header that the payload's frame must have."""
    return Header(FrameKind.DIRECTORY, payload.token, payload.length, payload.sha256)


def packed_size(directory: Path) -> int:
    """Upper bound of a payload's size, in bytes."""
    entries = [p.lstat().st_size for p in directory.rglob("*")]
    return sum(entries) + 2048 * (len(entries) + 2)


def ticker(control: Control, text: str, total: int) -> Tick:
    """Progress for the operator, and an end at the deadline.

    Raises (when called):
        DeadlineError
    """

    def tick(done: int) -> None:
        if control.remaining() <= 0:
            raise DeadlineError(f"out of time: {text}, {format_size(done)} done")
        control.progress(text, min(1.0, done / total) if total else None)

    return tick


def check_belongs(manifest: Manifest, transaction: str, section: Section) -> None:
    """Refuse a manifest of something else.

    Raises:
        HandoverError
    """
    found = (manifest.transaction, manifest.section)
    if found != (transaction, section):
        raise HandoverError(
            f"the manifest is of transaction {found[0]}, section {found[1].value};"
            f" expected {transaction}, {section.value}",
            state="nothing was restored",
        )


def unpack(
    manifest: Manifest,
    open_payload: OpenPayload,
    destination: Path,
    control: Control,
    damaged: Mapping[str, str],
) -> Received:
    """Unpack verified payloads into `destination`, made anew; the manifest last.

    Args:
        damaged: workloads that are left out, and why.

    Raises:
        HandoverError
    """
    files.make_private_directory(destination)
    (destination / "manifest").unlink(missing_ok=True)
    state = destination / "state"
    if state.exists() or state.is_symlink():
        _remove(state)
    state.mkdir(mode=0o700)
    directories = {}
    for workload in manifest.workloads:
        if workload.payload is None or workload.name in damaged:
            continue
        target = state / workload.name
        text = f"Unpack the state of {workload.name}"
        with open_payload(workload.payload) as fd:
            length = workload.payload.length
            unpack_payload(fd, length, target, ticker(control, text, length))
        directories[workload.name] = target
    files.write_durably(destination / "manifest", manifest.encode())
    return Received(manifest, directories, damaged)


def verify_each(
    manifest: Manifest, verify: Callable[[CarriedWorkload, Payload], None]
) -> dict[str, str]:
    """Which payloads cannot be used, and why. One must not cost the others their state.

    Args:
        verify: raises for a payload that is missing or damaged.

    Raises:
        MkupgradeError: none can be used: what the first one raised.
    """
    damaged: dict[str, str] = {}
    first: MkupgradeError | None = None
    carried = [(w, w.payload) for w in manifest.workloads if w.payload is not None]
    for workload, payload in carried:
        try:
            verify(workload, payload)
        except (HandoverError, SystemCallError) as error:
            damaged[workload.name] = str(error)
            first = first or error
    if first is not None and len(damaged) == len(carried):
        raise first
    return damaged


def _remove(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        shutil.rmtree(path)


def inspect_unpacked(
    destination: Path, transaction: str, section: Section
) -> tuple[Inspected, Received | None]:
    """Is a whole handover in `destination`? Every directory is packed again and must give the
    digest of the manifest."""
    where = destination / "manifest"
    if not where.exists():
        verdict = Inspection.PARTIAL if (destination / "state").exists() else Inspection.ABSENT
        return Inspected(verdict=verdict, reason=f"no manifest in {destination}"), None
    try:
        files.require_private_directory(destination)
        manifest = Manifest.decode(files.read_regular(where, SIZE + MAX_BYTES), str(where))
        check_belongs(manifest, transaction, section)
    except MkupgradeError as error:
        return Inspected(verdict=Inspection.PARTIAL, reason=str(error)), None
    directories = {}
    for workload in manifest.workloads:
        if workload.payload is None:
            continue
        directory = destination / "state" / workload.name
        if not verify_directory(directory, header_of(workload.payload)):
            reason = f"{directory} does not fit the manifest"
            return Inspected(verdict=Inspection.PARTIAL, reason=reason), None
        directories[workload.name] = directory
    reason = f"{len(directories)} payloads in {destination}, digests fit"
    present = Inspected(verdict=Inspection.PRESENT, reason=reason)
    return present, Received(manifest, directories)
