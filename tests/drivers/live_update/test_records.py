"""The driver's records are whole, private, and never taken on trust."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.drivers.records import RecordError, Records, drop_tree
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.steps import Section


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path, "t1", Section.FORWARD)


def test_a_record_is_read_back_and_replaced(records: Records) -> None:
    assert records.read("kernel") is None
    records.write("kernel", {"phase": "intended"})
    records.write("kernel", {"phase": "loaded", "größe": 3})
    assert records.read("kernel") == {"phase": "loaded", "größe": 3}
    records.drop("kernel")
    records.drop("kernel")
    assert records.read("kernel") is None


def test_records_are_private_and_leave_no_other_file(records: Records) -> None:
    records.write("kernel", {})
    assert [p.name for p in records.dir.iterdir()] == ["kernel.json"]
    assert (records.dir / "kernel.json").stat().st_mode & 0o777 == 0o600
    for directory in (records.dir, records.dir.parent, records.dir.parent.parent):
        assert directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "\xff", "1" * 3])
def test_a_damaged_record_is_an_error_and_not_an_absent_one(records: Records, text: str) -> None:
    records.write("kernel", {})
    (records.dir / "kernel.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(RecordError, match="damaged"):
        records.read("kernel")


def test_a_link_in_the_place_of_a_record_is_not_followed(records: Records, tmp_path: Path) -> None:
    records.write("other", {})
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    (records.dir / "kernel.json").symlink_to(secret)
    with pytest.raises(MkupgradeError):
        records.read("kernel")
    records.write("kernel", {"mine": True})
    assert secret.read_text() == "{}"


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a\0b"])
def test_a_name_that_is_not_one_path_component_is_refused(records: Records, name: str) -> None:
    with pytest.raises(RecordError):
        records.write(name, {})
    with pytest.raises(RecordError):
        Records(Path("/nowhere"), name, Section.FORWARD)


def test_dropping_a_tree_removes_a_link_and_not_what_it_points_to(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    (tmp_path / "link").symlink_to(kept)
    drop_tree(tmp_path / "link")
    drop_tree(tmp_path / "link")
    assert (kept / "file").exists()
