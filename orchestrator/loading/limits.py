"""How large a document may be. A plan of a hundred workloads stays far below all of it."""

from __future__ import annotations

MAX_BYTES = 1 << 20
"""Of the file."""
MAX_LINE = 1 << 14
"""Characters in one line; the YAML scanner takes quadratic time over some long ones."""
MAX_DEPTH = 32
"""Nested lists and mappings, aliases followed."""
MAX_NODES = 20_000
"""Values, aliases followed."""
MAX_TEXT = 4 << 20
"""Characters in all values, aliases followed."""
MAX_PROBLEMS = 1000
"""Problems after which the parser gives up."""
