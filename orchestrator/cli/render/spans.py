"""Durations, times and counts for people."""

from __future__ import annotations

from datetime import datetime


def span(seconds: float) -> str:
    """A duration to about two digits: "350 ms", "8.2 s", "3 min 20 s", "2 h 05 min"."""
    if seconds < 0:
        return f"-{span(-seconds)}"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms" if seconds else "0 s"
    if seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def clock(unix: float) -> str:
    """Local time of day with seconds: "14:03:07"."""
    return _local(unix).strftime("%H:%M:%S")


def moment(unix: float) -> str:
    """Local date and time with offset: "2026-11-23 14:03:07 +0100"."""
    return _local(unix).strftime("%Y-%m-%d %H:%M:%S %z")


def _local(unix: float) -> datetime:
    try:
        return datetime.fromtimestamp(unix).astimezone()
    except (OverflowError, ValueError, OSError):  # a journal's time is input like any other
        return datetime.fromtimestamp(0).astimezone()


def count(number: int, noun: str) -> str:
    """ "1 step", "2 steps"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
