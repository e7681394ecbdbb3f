"""The command line, as the kernel reads it."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from orchestrator.model.spec import CommandLine
from orchestrator.planning import cmdline

WORDS = st.sampled_from(
    ["quiet", "ro", "panic=1", "panic=30", "console=tty0", "console=ttyS0,115200", "kho=off",
     "kho=on", "liveupdate=on", "BOOT_IMAGE=/vmlinuz", "mkupgrade.transaction=a/forward",
     'dyndbg="file a.c +p"', "root=/dev/vda"]
)  # fmt: skip
LINES = st.lists(WORDS, max_size=8).map(" ".join)
EDITS = st.builds(
    CommandLine,
    inherit=st.booleans(),
    append=st.lists(WORDS, max_size=4),
    remove=st.lists(st.sampled_from(["quiet", "console=", "panic=", "kho=", "root="]), max_size=3),
)


def wanted(running: str, **edits: object) -> str:
    return str(cmdline.wanted(running, CommandLine.model_validate(edits)))


def test_what_the_boot_loader_and_we_add_for_one_boot_is_not_inherited():
    running = "BOOT_IMAGE=/vmlinuz initrd=\\a.img root=/dev/vda mkupgrade.transaction=x/forward"
    assert wanted(running) == "root=/dev/vda"


def test_remove_takes_a_parameter_exactly_or_every_value_of_a_name():
    running = "quiet quieter console=tty0 console=ttyS0"
    assert wanted(running, remove=["quiet"]) == "quieter console=tty0 console=ttyS0"
    assert wanted(running, remove=["console="]) == "quiet quieter"
    assert wanted(running, remove=["console=tty0"]) == "quiet quieter console=ttyS0"


def test_append_is_for_the_kernel_and_not_for_init():
    assert wanted("ro -- single", append=["quiet"]) == "ro quiet -- single"


def test_spaces_inside_quotes_do_not_end_a_parameter():
    assert cmdline.split('a="b c" d').kernel == ['a="b c"', "d"]


def test_what_is_in_force_already_is_not_appended_again():
    assert wanted("a=1 quiet", append=["quiet", "a=1"]) == "a=1 quiet"
    assert wanted("a=1 a=2", append=["a=1"]) == "a=1 a=2 a=1"


def test_without_inherit_only_the_appended_ones_are_there():
    assert wanted("root=/dev/vda quiet", inherit=False, append=["ro"]) == "ro"


def test_a_running_panic_is_replaced_where_it_stands():
    words = cmdline.completed(cmdline.split("a panic=0 b panic=5"), panic_timeout=10, kho=False)
    assert str(words) == "a panic=10 b"


def test_panic_is_never_rounded_to_never():
    words = cmdline.completed(cmdline.Words(), panic_timeout=0.2, kho=False)
    assert str(words) == "panic=1"


def test_kho_switches_both_parameters_on():
    words = cmdline.completed(cmdline.split("kho=on"), panic_timeout=10, kho=True)
    assert str(words) == "kho=on panic=10 liveupdate=on"


@pytest.mark.parametrize(
    ("edits", "running", "why"),
    [
        ({"append": ["kho=off"]}, "", "says kho=off"),
        ({}, "liveupdate=0", "says liveupdate=0"),
        ({"remove": ["kho="]}, "kho=on", "removes kho="),
        ({}, "kho=1 liveupdate=yes", None),
        ({}, "", None),
    ],
)
def test_a_command_line_that_forbids_kho_is_recognised(edits, running, why):
    edits = CommandLine.model_validate(edits)
    found = cmdline.kho_refused(cmdline.wanted(running, edits), edits)
    assert found is None if why is None else why in (found or "")


def test_difference_counts_repeated_parameters():
    old, new = cmdline.split("a a quiet"), cmdline.split("a kho=on")
    assert cmdline.difference(old, new) == "+ kho=on - a - quiet"


def test_a_line_that_leaves_no_room_for_the_mark_does_not_fit():
    assert cmdline.fits(cmdline.Words(["a" * (2047 - 96)]))
    assert not cmdline.fits(cmdline.Words(["a" * (2047 - 95)]))


@given(LINES, EDITS, st.booleans())
def test_an_upgrade_applied_again_changes_no_command_line(running, edits, kho):
    asked = cmdline.wanted(running, edits)
    assume(not (kho and cmdline.kho_refused(asked, edits)))
    first = cmdline.completed(asked, panic_timeout=10, kho=kho)
    second = cmdline.completed(cmdline.wanted(str(first), edits), panic_timeout=10, kho=kho)
    assert cmdline.same(first, second)


@given(LINES)
def test_taking_a_line_apart_and_together_keeps_its_words(line):
    assert str(cmdline.split(line)) == line


def test_order_counts_among_values_of_one_name_only():
    same = cmdline.same
    assert same(cmdline.split("a=1 b=2 a=3"), cmdline.split("b=2 a=1 a=3"))
    assert not same(cmdline.split("a=1 a=3"), cmdline.split("a=3 a=1"))
    assert not same(cmdline.split("a"), cmdline.split("a -- b"))
