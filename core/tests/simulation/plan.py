"""What kind of run a seed stands for: its store, its faults, its limits."""

from __future__ import annotations

import random
from typing import Literal

from attrs import evolve, frozen

QUEUES = ("default", "bulk", "night")

CLIMATES: tuple[dict[str, int], ...] = (
    {"refuse": 4, "full": 1, "kill": 3, "die": 3, "end": 3, "step": 3},
    {"kill": 4, "die": 4, "end": 1},
    {"refuse": 8, "full": 1, "end": 1},
    {"end": 4, "step": 4},
)
"""Which faults there are; each run has one of these."""


@frozen(kw_only=True)
class Plan:
    """The knobs of one run; all of them follow from the seed."""

    seed: int
    tasks: int
    """How many tasks are submitted."""
    store: Literal["memory", "lmdb"]
    commits: Literal["inline", "thread", "either"]
    """Whether a flush is a moment, or takes a while, as on the committer's own thread, or now this, now that."""
    workers: int
    executor_limits: dict[str, int]
    grace: float
    timeout: float
    """Seconds for attempts whose task does not say."""
    submit_every: float
    """Mean seconds between the submits of one submitter."""
    storm: float
    """Seconds that the storm lasts at least."""
    fault_every: float | None
    """Mean seconds between faults; None for a world without."""
    faults: dict[str, int]
    """How often each kind of them comes."""
    small: float
    """How likely each of oq's limits is very small."""
    hiccup: float
    """How likely the store refuses one flush."""

    @staticmethod
    def drawn(seed: int, tasks: int, store: str | None = None) -> Plan:
        """The plan of a seed; `store` overrides its choice of one."""
        chance = random.Random(f"{seed}/plan")
        plan = Plan(
            seed=seed,
            tasks=tasks,
            store=chance.choices(("memory", "lmdb"), (4, 1))[0],
            commits=chance.choices(("inline", "thread", "either"), (4, 2, 2))[0],
            workers=chance.choice((1, 2, 3, 4, 6, 10)),
            executor_limits=chance.choice(({}, {}, {"sim": 2}, {"plain": 1}, {"sim": 3, "plain": 2})),
            grace=chance.choice((0.0, 0.5, 3.0)),
            timeout=chance.choice((10.0, 30.0)),
            submit_every=chance.choice((0.05, 0.3, 1.0, 2.0)),
            storm=chance.choice((10.0, 40.0)),
            fault_every=chance.choice((None, 0.7, 1.5, 3.0, 6.0)),
            faults=chance.choice(CLIMATES),
            small=chance.choice((0.0, 0.5)),
            hiccup=chance.choice((0.0, 0.0, 0.0, 0.05)),
        )
        return plan if store is None else evolve(plan, store=store)

    def __str__(self) -> str:
        kinds = "/".join(self.faults)
        faults = "no faults" if self.fault_every is None else f"{kinds} every {self.fault_every:g} s"
        return f"{self.tasks} tasks, {self.store} store, commits {self.commits}, {self.workers} workers, {faults}"
