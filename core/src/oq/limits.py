"""How much a queue takes: the bounds of what waits, and of the size of each thing that is kept."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge

MIB = 2**20
GIB = 2**30


@frozen(kw_only=True)
class Limits:
    """The table `[limits]`. Sizes are bytes as stored; beyond a limit, submit answers QueueFull or InvalidTask."""

    pending: int = field(default=10_000_000, validator=ge(1))
    """How many tasks may be pending in all."""
    pending_per_queue: int = field(default=10_000_000, validator=ge(1))
    """How many tasks of one named queue may be pending."""
    pending_bytes: int = field(default=16 * GIB, validator=ge(1))
    """The size of the payloads of all pending tasks."""
    pending_bytes_per_queue: int = field(default=16 * GIB, validator=ge(1))
    """The size of the payloads of one named queue's pending tasks."""
    payload: int = field(default=16 * MIB, validator=ge(1))
    """The size of one task's payload."""
    result: int = field(default=16 * MIB, validator=ge(1))
    """The size of one task's result; a run with a larger one fails for good."""
    output: int = field(default=64 * MIB, validator=ge(1))
    """The size of one run's streamed output; what comes beyond is dropped, and the last chunk says so."""
    failure: int = field(default=256 * 1024, validator=ge(1024))
    """The size of one failure's details; larger ones are left out."""
    events: int = field(default=10_000, validator=ge(1))
    """How many events may wait for one subscriber; it is told how many it missed."""


NO_LIMITS = Limits(
    pending=2**62,
    pending_per_queue=2**62,
    pending_bytes=2**62,
    pending_bytes_per_queue=2**62,
    payload=2**62,
    result=2**62,
    output=2**62,
    failure=2**62,
)
"""For those who count by themselves."""
