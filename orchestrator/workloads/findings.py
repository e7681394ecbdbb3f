"""What was found about a workload while nothing has happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing."""

    severity: Literal["error", "warning"]
    """An error would make the transaction fail when the workload stands still."""
    workload: str
    text: str
    """What it is and what to do about it."""
