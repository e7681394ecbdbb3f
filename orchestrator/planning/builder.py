"""Putting a section together: steps one after the other, or a fan of them by workload."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.model.base import Record
from orchestrator.model.host import Cap
from orchestrator.model.kinds import Kind
from orchestrator.model.spec import Retry, RetryPolicy
from orchestrator.model.steps import Reversibility, Section, Step
from orchestrator.planning import policies


@dataclass(frozen=True)
class Strand:
    """Steps that belong together: `first` comes before all others, and each of them before one of
    `ends`."""

    steps: Sequence[Step]
    edges: Sequence[tuple[str, str]]
    first: str
    ends: Sequence[str]

    @classmethod
    def of(cls, row: Sequence[Step]) -> Strand:
        """One after the other; at least one."""
        ids = [step.id for step in row]
        return cls(row, list(itertools.pairwise(ids)), ids[0], ids[-1:])


class SectionBuilder:
    """Collects the steps and edges of one section.

    `then` puts a step behind everything so far; `fan` puts many there, ordered among themselves;
    `beside` puts one nowhere.
    A fan hangs on its first and last members only, so that edges stay as few as steps.
    """

    def __init__(self, section: Section, retry: Retry) -> None:
        self.section = section
        self.steps: list[Step] = []
        self.edges: list[tuple[str, str]] = []
        self._retry = retry
        self._policies: dict[Kind, RetryPolicy] = {}
        self._last: list[str] = []

    def make(
        self,
        kind: Kind,
        about: str,
        title: str,
        params: Record | dict[str, Any],
        *,
        estimate: float,
        deadline: float = policies.SHORT,
        reversibility: Reversibility = Reversibility.REVERSIBLE,
        requires: Sequence[Cap] = (),
        resources: Sequence[str] = (),
        blackout: bool = False,
    ) -> Step:
        """A step of this section; `about` makes its id: "<kind>/<about>".

        Args:
            params: of this kind; or what they would be dumped to, where there are many.
        """
        prefix = "" if self.section is Section.FORWARD else f"{self.section.value}."
        retry = self._policies.get(kind)
        if retry is None:
            retry = self._policies[kind] = policies.retry_for(kind, self._retry)
        return Step(
            id=f"{prefix}{kind.value}/{about}",
            kind=kind.value,
            title=title,
            section=self.section,
            params=params if isinstance(params, dict) else params.model_dump(mode="json"),
            reversibility=reversibility,
            requires=list(requires),
            resources=list(resources),
            estimate=estimate,
            deadline=policies.deadline(retry, deadline),
            retry=retry,
            blackout=blackout,
        )

    def then(self, kind: Kind, about: str, title: str, params: Record, **rest: Any) -> None:
        """Make a step and put it behind everything so far."""
        self.put(self.make(kind, about, title, params, **rest))

    def put(self, step: Step) -> None:
        """Put a step behind everything so far."""
        self.steps.append(step)
        self.edges += [(earlier, step.id) for earlier in self._last]
        self._last = [step.id]

    def beside(self, kind: Kind, about: str, title: str, params: Record, **rest: Any) -> None:
        """Make a step in no order with any other of the section: neither keeps the other back."""
        self.steps.append(self.make(kind, about, title, params, **rest))

    def strands(self, strands: Mapping[str, Strand], after: Iterable[tuple[str, str]] = ()) -> None:
        """Put strands behind everything so far, side by side; `after` holds (earlier, later) among
        their keys: the earlier one is done before the later one begins."""
        if not strands:
            return
        pairs = list(after)
        has_earlier, has_later = {b for _, b in pairs}, {a for a, _ in pairs}
        for name, strand in strands.items():
            self.steps += strand.steps
            self.edges += strand.edges
            if name not in has_earlier:
                self.edges += [(earlier, strand.first) for earlier in self._last]
        for a, b in pairs:
            self.edges += [(end, strands[b].first) for end in strands[a].ends]
        self._last = [
            end for name, it in strands.items() if name not in has_later for end in it.ends
        ]

    def fan(
        self,
        steps: Mapping[str, Step],
        after: Iterable[tuple[str, str]],
        behind: Mapping[str, str] | None = None,
    ) -> None:
        """Put steps behind everything so far; `after` holds (earlier, later) among their keys.

        Args:
            behind: key -> id of the one step so far that it waits for, instead of for all.
        """
        if not steps:
            return
        has_earlier: set[str] = set()
        has_later: set[str] = set()
        inner = []
        for earlier, later in after:
            has_earlier.add(later)
            has_later.add(earlier)
            inner.append((steps[earlier].id, steps[later].id))
        first = [step.id for name, step in steps.items() if name not in has_earlier]
        self.steps += steps.values()
        open_ends: list[str] = []
        if behind is None:
            self.edges += [(earlier, later) for earlier in self._last for later in first]
        else:
            self.edges += [(behind[name], step.id) for name, step in steps.items()]
            taken = set(behind.values())
            open_ends = [end for end in self._last if end not in taken]
        self.edges += inner
        ends = [step.id for name, step in steps.items() if name not in has_later]
        self._last = [*open_ends, *ends]
