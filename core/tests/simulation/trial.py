"""One seed's run as all parts share it: chance, clock, trace, and the promise that was found broken."""

from __future__ import annotations

import random
from collections import deque

import trio
from attrs import define, field, frozen

from oq.testing import VirtualClock
from simulation.plan import Plan

TRACE_SHOWN = 40
"""Lines of the trace that a report shows."""


@frozen
class Violation:
    """A promise that did not hold."""

    promise: int
    """Its number in DESIGN.md §4; 0 where the queue itself broke down."""
    sentence: str
    trace: tuple[str, ...]
    """The last lines before it was noticed."""

    def __str__(self) -> str:
        return f"promise {self.promise} is broken: {self.sentence}"


@define(eq=False)
class Trial:
    """The run of one seed."""

    plan: Plan
    clock: VirtualClock = field(factory=VirtualClock)
    trace: list[str] = field(factory=list)
    violation: Violation | None = None
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    """Holds everything; cancelled by the first violation."""

    def chance(self, purpose: str) -> random.Random:
        """Chance of its own for each purpose, so that a change to one part does not change what others draw."""
        return random.Random(f"{self.plan.seed}/{purpose}")

    def say(self, line: str) -> None:
        """Add to the trace."""
        self.trace.append(f"{trio.current_time():10.4f}  {line}")

    def expect(self, holds: object, promise: int, sentence: str) -> None:
        """Note a violation unless `holds`."""
        if not holds:
            self.broken(promise, sentence)

    def broken(self, promise: int, sentence: str) -> None:
        """Note that a promise does not hold, unless another was broken before, and end the run."""
        if self.violation is None:
            self.say(f"!! promise {promise}: {sentence}")
            self.violation = Violation(promise, sentence, tuple(deque(self.trace, TRACE_SHOWN)))
            self.scope.cancel()
