"""Random plans: before the pivot, behind it, behind the commit, and the ways back."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import pairwise

from pydantic import PrivateAttr

from orchestrator.model.host import HostState, KernelState
from orchestrator.model.spec.policy import RetryPolicy
from orchestrator.model.steps import Reversibility, Section, Step, StepGraph
from tests.crash.choices import Choices

HOST = HostState(
    driver="graph",
    machine_id="m",
    hostname="h",
    boot_id="boot-0",
    kernel=KernelState(release="old", cmdline=""),
)
HELD_BY = ("", "-held", "-kernel")
"""What an effect lives in: the disk, the process, the kernel."""
RESOURCES: tuple[tuple[str, ...], ...] = ((), (), ("disk",), ("kexec",), ("disk", "kexec"))
DEADLINE = 2.0


class WrittenOnce(StepGraph):
    """A plan that many schedules begin: its canonical text is made for the first of them only."""

    _text: str = PrivateAttr("")

    def pieces(self) -> Iterator[str]:
        if not self._text:
            self._text = "".join(super().pieces())
        yield self._text


@cache
def _step(step_id: str, resources: tuple[str, ...] = (), attempts: int = 2) -> Step:
    prefix, _, rest = step_id.rpartition(".")
    kinds = {"jump": Reversibility.PIVOT, "commit": Reversibility.COMMIT}
    return Step(
        id=step_id,
        kind="test",
        title=step_id,
        section=Section(prefix) if prefix else Section.FORWARD,
        resources=list(resources),
        reversibility=kinds.get(rest, Reversibility.REVERSIBLE),
        deadline=DEADLINE,
        retry=RetryPolicy(attempts=attempts),
    )


def random_graph(choices: Choices) -> StepGraph:
    """A plan of one to some twenty steps."""
    steps: list[Step] = []
    edges: list[tuple[str, str]] = []

    def part(prefix: str, most: int) -> list[str]:
        ids: list[str] = []
        for i in range(choices.below(most + 1)):
            step_id = f"{prefix}{i}{choices.pick(HELD_BY)}"
            steps.append(_step(step_id, choices.pick(RESOURCES), 1 + choices.below(3)))
            edges.extend((e, step_id) for e in ids if choices.chance(0.33))
            ids.append(step_id)
        return ids

    def one(step_id: str) -> list[str]:
        steps.append(_step(step_id))
        return [step_id]

    pivoted = choices.chance(0.7)
    parts = [part("a", 4)]
    if pivoted:
        parts += [one("jump"), part("b", 3)]
    parts += [one("commit"), part("c", 2)]
    for earlier, later in pairwise([p for p in parts if p]):
        edges.extend((a, b) for a in earlier for b in later)
    part("x", 1)  # in no order with anything: still before the pivot and the commit
    if pivoted:
        edges.extend((a, "return.jump") for a in part("return.", 3))
        one("return.jump")
        part("recover.", 3)
    return WrittenOnce(
        name="random",
        spec_digest="spec",
        intent_digest="intent",
        state_dir="/nowhere",
        driver="graph",
        steps=steps,
        edges=list(dict.fromkeys(edges)),
        limits={"disk": 1 + choices.below(2)},
        deadline=choices.pick((3600.0, 3600.0, 3600.0, 2.0)),
        automatic_rollback=not choices.chance(0.4),
        host=HOST,
    )
