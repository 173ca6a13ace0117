"""Makes oq's own limits small, so that a few tasks get to where otherwise only thousands would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import oq.committer
import oq.hub
import oq.store.lmdb.following
import oq.store.memory
import oq.streams
from simulation.trial import Trial

_SMALL: tuple[tuple[Any, str, tuple[int, ...]], ...] = (
    (oq.committer, "MAX_BATCH", (1, 3)),
    (oq.committer, "INLINE_BATCH", (1, 3)),
    (oq.hub, "EVENTS_A_TURN", (1, 3)),
    (oq.streams, "BLOCK_BYTES", (200, 2_000)),
    (oq.streams, "MOST_UNKEPT_BYTES", (300, 3_000)),
    (oq.streams, "BLOCKS_PER_READ", (1, 2)),
    (oq.store.memory, "RELEASED_AT_ONCE", (1, 2)),
    (oq.store.lmdb.following, "RELEASED_AT_ONCE", (1, 2)),
)
"""Where, what, and how small it may be."""


@contextmanager
def scaled_down(trial: Trial) -> Iterator[None]:
    """Have some limits small for the length of the block, if the trial's plan says so."""
    chance = trial.chance("scale")
    before = [(module, name, getattr(module, name)) for module, name, _ in _SMALL]
    try:
        for module, name, values in _SMALL:
            if chance.random() < trial.plan.small:
                setattr(module, name, chance.choice(values))
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
