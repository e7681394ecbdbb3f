"""Files: encodings, sizes, and things that are no files."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from orchestrator.loading import InvalidSpecError, load_spec, load_spec_file
from orchestrator.model.errors import ErrorClass, SpecError

GOOD = """\
api_version: mkupgrade/v1
metadata: {name: example, description: "Grüße"}
instances:
  - {name: host, kernel: {image: /boot/vmlinuz, release: 7.3.4}}
"""


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_bytes(data)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InvalidSpecError) as caught:
        load_spec_file(path)
    return caught.value.details[0].removeprefix(f"{path}:")


@pytest.mark.parametrize(
    "data",
    [GOOD.encode(), b"\xef\xbb\xbf" + GOOD.encode(), GOOD.replace("\n", "\r\n").encode()],
    ids=["utf-8", "bom", "crlf"],
)
def test_utf8_is_read_with_and_without_its_mark(tmp_path: Path, data: bytes) -> None:
    assert load_spec_file(written(tmp_path, data)).metadata.description == "Grüße"


def test_columns_do_not_count_the_byte_order_mark(tmp_path: Path) -> None:
    path = written(tmp_path, b"\xef\xbb\xbfcolour: 1\n")
    with pytest.raises(InvalidSpecError) as caught:
        load_spec_file(path)
    assert {p.column for p in caught.value.problems} == {1}


def test_a_byte_that_is_not_utf8_is_shown_with_its_place(tmp_path: Path) -> None:
    path = written(tmp_path, "a: 1\nb: Grü".encode() + b"\xdfe\n")

    assert refusal(path) == "2:7: expected UTF-8, found the byte 0xDF"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_other_unicode_encodings_are_named_or_refused(tmp_path: Path, encoding: str) -> None:
    bom = "\ufeff" if encoding.endswith("be") else ""
    line = refusal(written(tmp_path, (bom + GOOD.replace("ü", "u")).encode(encoding)))

    assert line == f"1:1: expected UTF-8, found UTF-{encoding[4:6]}"


def test_a_nul_is_refused_at_its_place(tmp_path: Path) -> None:
    path = written(tmp_path, b"a: 1\nbc\x00d: 2\n")

    assert refusal(path) == "2:3: expected text, found the control character U+0000"


def test_a_file_above_the_limit_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 40)

    assert refusal(path) == "1:1: too large: at most 1048576 bytes are read"


@pytest.mark.parametrize("name", ["missing.yaml", "no\0name", "", "x" * 5000])
def test_a_file_that_cannot_be_opened_is_an_error_of_the_tree(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec_file(name and os.path.join(tmp_path, name))  # noqa: PTH118
    assert caught.value.error_class is ErrorClass.INVALID
    assert caught.value.next_command


def test_a_directory_and_a_device_are_not_opened(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/zero")):
        with pytest.raises(SpecError, match="not a file"):
            load_spec_file(path)


def test_a_pipe_is_read_as_shells_hand_it_over(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(GOOD.encode()))
    writer.start()

    assert load_spec_file(pipe) == load_spec(GOOD)
    writer.join()
