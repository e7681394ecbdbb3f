"""Times of the day, also across midnight."""

from __future__ import annotations

from datetime import time

import pytest

from orchestrator.offers.window import Window


@pytest.mark.parametrize(
    ("window", "inside", "outside"),
    [
        ("02:00-05:00", ["02:00", "04:59"], ["01:59", "05:00", "14:00"]),
        ("22:30-04:00", ["22:30", "23:59", "00:00", "03:59"], ["04:00", "12:00", "22:29"]),
    ],
)
def test_a_window_holds_its_start_and_not_its_end(
    window: str, inside: list[str], outside: list[str]
) -> None:
    found = Window.parse(window)
    assert str(found) == window
    assert all(found.holds(time.fromisoformat(moment)) for moment in inside)
    assert not any(found.holds(time.fromisoformat(moment)) for moment in outside)


@pytest.mark.parametrize(
    "text", ["", "02:00", "2:00-5:00", "02:00-24:00", "02:60-05:00", "02:00-02:00", "02:00-05:00\n"]
)
def test_anything_else_is_no_window(text: str) -> None:
    with pytest.raises(ValueError, match="expected a window"):
        Window.parse(text)
