"""What is offered and not done yet: offers, held to the journal."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.model.outcomes import Outcome

if TYPE_CHECKING:
    from orchestrator.engine.journal import Journal
    from orchestrator.engine.report import Summary
    from orchestrator.offers.store import Offer

_MOST_PLANS = 50
"""Transactions of an offer's name that are looked at, the last first: each plan is read whole."""


@dataclass(frozen=True)
class Offered:
    """An offer that waits, as `status` shows it."""

    path: str
    instance: str | None = None
    release: str | None = None
    """None: the file cannot be read as an offer."""
    image: str | None = None
    name: str | None = None
    problem: str | None = None
    """Why an apply of it would not begin, as far as that is known here."""
    next_command: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The form of `--json`."""
        return asdict(self)


def waiting(state_dir: Path, running: str | None, *, still: bool = False) -> list[Offered]:
    """Offers that nobody has committed, and whose kernel does not run.

    Args:
        running: the release that runs; None where instances have kernels of their own.
        still: as `Journal.open_readonly`.
    """
    from orchestrator.cli.journals import reading
    from orchestrator.model.errors import MkupgradeError
    from orchestrator.offers import store

    found = []
    try:
        with reading(state_dir, still=still) as journal:
            for offer in store.offers(state_dir):
                if isinstance(offer, store.Unreadable):
                    found.append(Offered(str(offer.path), problem=offer.error.what))
                elif offer.release != running:
                    last = _last(journal, offer)
                    if last is None or last.outcome is not Outcome.COMMITTED:
                        found.append(_offered(offer, last))
    except MkupgradeError as error:
        found.append(Offered(str(state_dir / store.DIRECTORY), problem=error.what))
    return found


def is_committed(state_dir: Path, offer: Offer) -> bool:
    """Was this very plan committed, and not rolled back since?"""
    from orchestrator.cli.journals import reading

    with reading(state_dir) as journal:
        last = _last(journal, offer)
    return last is not None and last.outcome is Outcome.COMMITTED


def _last(journal: Journal | None, offer: Offer) -> Summary | None:
    """The last transaction that carried this offer out, or tried to."""
    from orchestrator.engine.queries import history

    if journal is None:
        return None
    wanted = offer.spec.digest()
    same_name = [s for s in reversed(history(journal)) if s.name == offer.spec.metadata.name]
    for summary in same_name[:_MOST_PLANS]:
        if journal.plan(summary.transaction)[0].spec_digest == wanted:
            return summary
    return None


def _offered(offer: Offer, last: Summary | None) -> Offered:
    image = offer.instance.kernel.wanted_image
    command = f"mkupgrade apply {shlex.quote(str(offer.path))}"
    problem = None
    if not Path(image).exists():
        problem = f"{image} is not there any more"
        command = f"mkupgrade offer --withdraw {shlex.quote(offer.release)}"
    elif last is not None and last.outcome is not None:
        problem = f"transaction {last.transaction} ended {last.outcome.value}: {last.reason}"
        command += " --again"
    return Offered(
        str(offer.path),
        instance=offer.instance.name,
        release=offer.release,
        image=str(image),
        name=offer.spec.metadata.name,
        problem=problem,
        next_command=command,
    )
