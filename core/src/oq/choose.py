"""Which ready tasks may start now: a pure function over the heads of lanes and the free units of pools."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from msgspec import Struct


class Offer(Struct, frozen=True, kw_only=True):
    """One lane from which a worker would take tasks, and the units that each of them needs."""

    queue: str
    executor: str
    lane: str
    needs: tuple[str, ...]
    """A unit of each of these pools."""
    choices: tuple[tuple[str, ...], ...] = ()
    """And, unless empty, a unit of one pool out of these: the first group with a free unit, there the one with most."""
    lowest: int = 0
    """Only tasks of at least this priority …"""
    highest: int = 255
    """… and at most this one: tasks of different urgency may have different choices."""


class Ready(NamedTuple):
    """A ready task, in the order in which tasks start."""

    minus_priority: int
    seq: int
    alone: bool = False
    """Whether it may only run while nothing else does."""


class Choice(NamedTuple):
    """A task to start, and where its units come from."""

    offer: Offer
    ready: Ready
    units: tuple[str, ...]


class Chosen(NamedTuple):
    """The tasks to start, best first."""

    choices: list[Choice]
    more: bool
    """Whether ready tasks were left behind for want of units."""


def choose(
    offers: Iterable[Offer],
    heads: Callable[[Offer], Iterator[Ready]],
    free: Mapping[str, int],
    limit: int,
    *,
    idle: bool,
) -> Chosen:
    """The best-ranked ready tasks whose pools have free units, at most `limit`.

    `heads(offer)` yields the ready tasks that are offered, best first; no more are pulled than are chosen, plus one an
    offer, so a backlog costs nothing. Units only shrink in here, so an offer that finds none is done with. A task that
    must run alone is taken only when nothing runs (`idle`) and nothing was chosen before it; while it is the best of
    all that could start, nothing ranked below it is taken, or it would wait for ever.
    """
    left = dict(free)
    lanes = [(heads(offer), offer, {pool: offer.needs.count(pool) for pool in offer.needs}) for offer in offers]
    heap: list[tuple[Ready, int]] = []
    for index, (iterator, _, _) in enumerate(lanes):
        if (first := next(iterator, None)) is not None:
            heap.append((first, index))
    heapq.heapify(heap)
    chosen: list[Choice] = []
    starved = False
    while heap and len(chosen) < limit:
        ready, index = heap[0]
        iterator, offer, needs = lanes[index]
        units = _units(offer, needs, left)
        if units is None:
            starved = True
            heapq.heappop(heap)
            continue
        if ready.alone:
            if chosen or not idle:
                break
            chosen.append(Choice(offer, ready, units))
            following = next(iterator, None)
            return Chosen(chosen, more=starved or following is not None or len(heap) > 1)
        for unit in units:
            left[unit] -= 1
        chosen.append(Choice(offer, ready, units))
        following = next(iterator, None)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (following, index))
    return Chosen(chosen, more=starved or bool(heap))


def _units(offer: Offer, needs: Mapping[str, int], left: Mapping[str, int]) -> tuple[str, ...] | None:
    """The pools to take a unit from, or None when one of them has none left; `needs` says how many of each."""
    for pool, number in needs.items():
        if left.get(pool, 0) < number:
            return None
    if not offer.choices:
        return offer.needs

    def spare(pool: str) -> int:
        """What is left once the needs are met."""
        return left.get(pool, 0) - needs.get(pool, 0)

    for group in offer.choices:
        best = max(group, key=spare, default=None)
        if best is not None and spare(best) > 0:
            return (*offer.needs, best)
    return None
