"""The lifecycle of a task as one table; checks, the diagram in the docs and the property tests come from it.

Only the table and what reads it may live here. What else a move changes is in `store/transitions.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from oq.task import Status

__all__ = ["TABLE", "Move", "allowed", "as_mermaid", "moves_from", "targets"]


class Move(StrEnum):
    """What can be done to a task."""

    CLAIM = "claim"
    """A worker takes it; a new epoch begins."""
    SUCCEED = "succeed"
    """Its run gave a result."""
    FAIL = "fail"
    """Its run failed for good; or it expired, or a task that it waits for failed."""
    RETRY = "retry"
    """Its run failed and another attempt follows."""
    RELEASE = "release"
    """Its run was given back unfinished (shutdown); the attempt does not count."""
    LOSE = "lose"
    """The process that ran it died."""
    CANCEL = "cancel"
    """Somebody wants it no more."""
    REQUEUE = "requeue"
    """Somebody wants it once again."""


PENDING, RUNNING, COMPLETED, FAILED, CANCELLED = Status

TABLE: Mapping[tuple[Status, Move], frozenset[Status]] = MappingProxyType(
    {
        (PENDING, Move.CLAIM): frozenset({RUNNING}),
        (PENDING, Move.FAIL): frozenset({FAILED}),
        (PENDING, Move.CANCEL): frozenset({CANCELLED}),
        (RUNNING, Move.SUCCEED): frozenset({COMPLETED}),
        (RUNNING, Move.FAIL): frozenset({FAILED}),
        (RUNNING, Move.RETRY): frozenset({PENDING}),
        (RUNNING, Move.RELEASE): frozenset({PENDING}),
        (RUNNING, Move.LOSE): frozenset({PENDING, FAILED}),
        (RUNNING, Move.CANCEL): frozenset({CANCELLED}),
        (FAILED, Move.REQUEUE): frozenset({PENDING}),
        (CANCELLED, Move.REQUEUE): frozenset({PENDING}),
    }
)
"""(status, move) -> the statuses it may lead to. What is not in here is an `IllegalMove`."""

_NOWHERE: frozenset[Status] = frozenset()


def targets(status: Status, move: Move) -> frozenset[Status]:
    """The statuses that `move` may lead to from `status`; empty where it is not allowed."""
    return TABLE.get((status, move), _NOWHERE)


def allowed(status: Status, move: Move) -> bool:
    """Whether the lifecycle has `move` from `status`."""
    return (status, move) in TABLE


def moves_from(status: Status) -> frozenset[Move]:
    """Every move that `status` allows."""
    return frozenset(move for at, move in TABLE if at is status)


def as_mermaid() -> str:
    """The table as a Mermaid state diagram, for the docs."""
    lines = ["stateDiagram-v2", f"    [*] --> {PENDING}: submit"]
    for (status, move), ends in TABLE.items():
        lines += [f"    {status} --> {end}: {move}" for end in Status if end in ends]
    lines += [f"    {status} --> [*]" for status in Status if status.final]
    return "\n".join(lines) + "\n"
