"""HTML put together so that a string can only ever become text."""

from __future__ import annotations

from html import escape

from orchestrator.cli.terminal import clean


class Safe(str):
    """HTML made by `tag`; every other string is escaped when it is put into a tag."""

    __slots__ = ()


_VOID = frozenset({"br", "hr", "meta"})


def tag(name: str, *children: str | Safe | None, **attributes: str | None) -> Safe:
    """An element. `class_` is the attribute class; None leaves a child or attribute out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(clean(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Safe(f"<{name}{given}>")
    return Safe(f"<{name}{given}>{join(*children)}</{name}>")


def join(*children: str | Safe | None) -> Safe:
    """Several children one after the other."""
    return Safe("".join(_html(c) for c in children if c is not None))


def _html(child: str | Safe) -> str:
    return child if isinstance(child, Safe) else escape(clean(child))
