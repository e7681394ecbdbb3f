"""What old transactions leave is removed, and nothing that one could still need."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestrator.drivers.leftovers import KEPT
from orchestrator.drivers.live_update.closing import COMMIT
from orchestrator.drivers.live_update.pruning import prune
from orchestrator.drivers.records import Records
from orchestrator.model.outcomes import Outcome
from orchestrator.model.steps import Section

Over = list[tuple[str, Outcome]]


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    return path


def leave(state_dir: Path, transaction: str, *, kept_for: float = -1.0) -> None:
    """A record, and state whose clean-up failed."""
    records = Records(state_dir, transaction, Section.FORWARD)
    records.write(COMMIT, {"old_kernel_until": time.time() + kept_for})
    for place in (records.dir / "work", state_dir / "handover" / transaction / "forward"):
        place.mkdir(parents=True)
        (place / "payload").write_bytes(b"memory")


def left(state_dir: Path, kind: str) -> set[str]:
    return {p.name for p in (state_dir / kind).iterdir()}


def many(state_dir: Path, count: int, outcome: Outcome) -> Over:
    over = [(f"t-{number:03d}", outcome) for number in range(count)]
    for transaction, _ in over:
        leave(state_dir, transaction)
    return over


def test_a_bounded_number_of_records_stays_and_only_the_newest_state(state_dir: Path) -> None:
    over = many(state_dir, KEPT + 10, Outcome.ROLLED_BACK)
    assert prune(state_dir, over) == [t for t, _ in over[:-1]]
    assert left(state_dir, "transactions") == {t for t, _ in over[-KEPT:]}
    newest = over[-1][0]
    assert left(state_dir, "handover") == {newest}
    assert {p.relative_to(state_dir).parts[1] for p in state_dir.rglob("payload")} == {newest}
    assert prune(state_dir, over) == []


def test_the_last_committed_one_can_still_be_rolled_back_however_old(state_dir: Path) -> None:
    over = many(state_dir, KEPT + 10, Outcome.ROLLED_BACK)
    over[1] = (over[1][0], Outcome.COMMITTED)
    over[2] = (over[2][0], Outcome.COMMITTED)
    prune(state_dir, over)
    assert {"t-001", "t-002"} & left(state_dir, "transactions") == {"t-002"}


def test_as_long_as_the_old_kernel_is_kept_its_record_is(state_dir: Path) -> None:
    over = many(state_dir, KEPT + 10, Outcome.COMMITTED)
    Records(state_dir, "t-003", Section.FORWARD).write(
        COMMIT, {"old_kernel_until": time.time() + 60}
    )
    (state_dir / "transactions/t-004/forward/commit.json").write_text("damaged")
    prune(state_dir, over)
    assert {"t-003", "t-004"} < left(state_dir, "transactions")


@pytest.mark.parametrize("outcome", [Outcome.UNKNOWN, Outcome.ROLLBACK_INCOMPLETE])
def test_what_may_go_on_is_not_touched(state_dir: Path, outcome: Outcome) -> None:
    over = many(state_dir, KEPT + 10, Outcome.ROLLED_BACK)
    over[0] = (over[0][0], outcome)
    prune(state_dir, over)
    assert (state_dir / "transactions/t-000/forward/work/payload").is_file()
    assert (state_dir / "handover/t-000/forward/payload").is_file()


def test_what_the_journal_does_not_know_is_not_touched(state_dir: Path) -> None:
    over = many(state_dir, KEPT + 10, Outcome.ROLLED_BACK)
    leave(state_dir, "stranger")
    prune(state_dir, over)
    assert (state_dir / "handover/stranger/forward/payload").is_file()
    assert (state_dir / "transactions/stranger/forward/work/payload").is_file()


def test_a_link_in_the_place_of_a_transaction_leads_nowhere(
    state_dir: Path, tmp_path: Path
) -> None:
    over = many(state_dir, KEPT + 10, Outcome.ROLLED_BACK)
    outside = tmp_path / "outside"
    (state_dir / "transactions/t-000").rename(outside)
    (state_dir / "transactions/t-000").symlink_to(outside)
    prune(state_dir, over)
    assert (outside / "forward/work/payload").is_file()
    assert "t-000" not in left(state_dir, "transactions")
