"""How large a document may be: what is accepted is read, or refused, within a second of the
processor. A plan of two thousand workloads stays below all of it."""

from __future__ import annotations

MAX_BYTES = 1 << 20
"""Of the file."""
MAX_LINE = 1 << 14
"""Characters in one line; the YAML scanner takes quadratic time over some long ones."""
MAX_DEPTH = 32
"""Nested lists and mappings, aliases followed."""
MAX_NODES = 40_000
"""Values, aliases followed."""
MAX_TEXT = 4 << 20
"""Characters in all values, aliases followed."""
MAX_PROBLEMS = 500
"""Problems after which no more are looked for."""
MAX_COMPARED = 20_000
"""Words compared with others to find what was probably meant."""
MAX_LISTED = 20
"""Names of the document listed in one problem."""
