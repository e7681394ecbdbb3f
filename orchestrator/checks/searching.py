"""Looking for a text in a stream that may be long."""

from __future__ import annotations

from collections.abc import Iterable


def contains(chunks: Iterable[bytes], text: str) -> bool:
    """Is the text, as UTF-8, somewhere in the chunks joined together?"""
    needle = text.encode()
    tail = b""
    for chunk in chunks:
        window = tail + chunk
        if needle in window:
            return True
        tail = window[max(0, len(window) - len(needle) + 1) :]
    return False
