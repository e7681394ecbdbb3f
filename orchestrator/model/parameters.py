"""Kernel parameters in a line, taken apart as the kernel does (lib/cmdline.c, next_arg)."""

from __future__ import annotations


def split_parameters(text: str) -> list[str]:
    """At white space outside double quotes."""
    words: list[str] = []
    current, quoted = "", False
    for char in text:
        quoted ^= char == '"'
        if char.isspace() and not quoted:
            words.append(current)
            current = ""
        else:
            current += char
    return [w for w in (*words, current) if w]


def is_removed(word: str, remove: list[str]) -> bool:
    """Does one of a spec's `cmdline.remove` take this parameter away? "name=" takes any value."""
    return any(word == it or (it.endswith("=") and word.startswith(it)) for it in remove)
