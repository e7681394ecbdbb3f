"""The package builds from a part of the tree: the fast tests in it must ask for no more."""

from __future__ import annotations

import re

import pytest

from tests.support.nix import ROOT

PACKAGE = (ROOT / "nix/package.nix").read_text(encoding="utf-8")
TAKEN = set(re.findall(r'\(root \+ "/([^"]+)"\)', PACKAGE)) - {"orchestrator/__init__.py"}
NOT_TAKEN = [
    name
    for name in ("Makefile", "CHANGELOG.md", "flake.nix", "scripts", "benchmarks", "nix", ".ci")
    if name not in TAKEN
]


def _excluded(name: str) -> set[str]:
    """A list of strings of the package; comments are none of it."""
    [listed] = re.findall(rf"{name} = \[(.*?)\];", PACKAGE, re.DOTALL)
    return set(re.findall(r'"([^"]+)"', re.sub(r"#.*", "", listed)))


def test_source_has_what_the_package_is_built_from() -> None:
    for name in TAKEN:
        assert (ROOT / name).exists(), name
    assert {"pyproject.toml", "setup.py", "native", "orchestrator", "tests"} <= TAKEN


@pytest.mark.parametrize("name", NOT_TAKEN)
def test_tests_that_read_what_is_left_out_are_left_out(name: str) -> None:
    """`ROOT / "Makefile"`, "scripts/bootstrap" and the like, in every test of the package's."""
    asks = re.compile(rf'["/]{re.escape(name)}["/]')
    # What only tests that are left out use.
    support = {"tests/support/nix.py", "tests/support/debian_tree.py"}
    left_out = _excluded("disabledTestPaths") | support
    for path in sorted((ROOT / "tests").rglob("*.py")):
        relative = str(path.relative_to(ROOT))
        text = path.read_text(encoding="utf-8")
        if not any(relative.startswith(out) for out in left_out) and "parents[" in text:
            assert not asks.search(text), f"{relative} asks for {name}"


def test_tests_that_are_left_out_are_there() -> None:
    """The hook of nixpkgs ends the build over a path that matches nothing."""
    for path in _excluded("disabledTestPaths"):
        assert (ROOT / path).exists(), path
    names = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("test_*.py"))
    for test in _excluded("disabledTests"):
        assert f"def {test}(" in names, test
