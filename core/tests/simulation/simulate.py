"""Runs seeds, and says what became of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import trio
from attrs import frozen

import oq.committer
from oq.store.base import Op, Reply, Store
from simulation.determinism import run_deterministically
from simulation.gate import Livelock, SlowWriter
from simulation.plan import Plan
from simulation.scale import scaled_down
from simulation.trial import Trial, Violation
from simulation.world import World

DEFAULT_TASKS = 60

FLUSH_SECONDS = (0.0, 0.0, 0.012)
"""What a flush seems to take, so that the committer takes the disk for slow now and then."""


@frozen(kw_only=True)
class Report:
    """What became of a seed."""

    plan: Plan
    violation: Violation | None
    trace: tuple[str, ...]
    events: int
    seconds: float
    """Virtual ones."""

    def __str__(self) -> str:
        if self.violation is None:
            return f"seed {self.plan.seed}: {self.plan}: {self.events} events in {self.seconds:.0f} s"
        lines = "\n".join(self.violation.trace)
        again = f"make simulate SEED={self.plan.seed} COUNT=1 TASKS={self.plan.tasks}"
        return f"seed {self.plan.seed} ({self.plan})\n{lines}\n\n{self.violation}\nAgain: {again}\n"


def simulate(seed: int, tasks: int = DEFAULT_TASKS, store: str | None = None) -> Report:
    """Run one seed."""
    trial = Trial(Plan.drawn(seed, tasks, store))
    world = World(trial)
    ended_at = 0.0

    async def main() -> None:
        nonlocal ended_at
        await world.run()
        ended_at = trio.current_time()

    try:
        with _quiet(), _virtual_commits(trial), scaled_down(trial):
            run_deterministically(seed, main, world.at_rest)
    except (Exception, Livelock, BaseExceptionGroup):
        if trial.violation is None:
            raise
    finally:
        world.close()
    return Report(
        plan=trial.plan,
        violation=trial.violation,
        trace=tuple(trial.trace),
        events=world.ledger.events,
        seconds=ended_at,
    )


@contextmanager
def _virtual_commits(trial: Trial) -> Iterator[None]:
    """Put virtual time in the place of the committer's thread, and chance in that of the disk's speed."""
    chance = trial.chance("writer")

    def timed_apply(store: Store, ops: Sequence[Op[Reply]]) -> tuple[list[Reply], float]:
        return store.apply(ops), chance.choice(FLUSH_SECONDS)

    before = {name: getattr(oq.committer, name) for name in ("_WriterThread", "_timed_apply")}
    oq.committer._WriterThread = partial(SlowWriter, chance)
    oq.committer._timed_apply = timed_apply
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(oq.committer, name, value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep oq's log to itself: faults are what is wanted here."""
    logger = logging.getLogger("oq")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
