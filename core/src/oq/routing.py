"""Which endpoints a task may go to: by its model and its urgency, by what endpoints serve, and by their health."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Protocol, TypeVar

from attrs import field, frozen
from attrs.validators import ge

from oq.breaker import Health
from oq.executor import Choices, LanePools, Urgent
from oq.task import Priority


class Endpoint(Protocol):
    """A server that can do the work; plugins bring a class of their own, with more to it."""

    @property
    def name(self) -> str: ...

    @property
    def priority(self) -> int:
        """Those with a higher one are taken first."""

    @property
    def enabled(self) -> bool: ...

    @property
    def concurrency(self) -> int:
        """How many tasks it takes at once."""

    @property
    def models(self) -> tuple[str, ...]:
        """Patterns (`*`, `?`, `[…]`) of the models it serves; empty: all."""

    @property
    def remote(self) -> bool:
        """Whether its use is to be saved for urgent tasks (`Routing.local_first`)."""


E = TypeVar("E", bound=Endpoint)

NOBODY: Choices = ((),)
"""A choice out of nothing, so that no task can start."""


@frozen(kw_only=True)
class Routing:
    """When remote endpoints are used, where there are local ones too."""

    local_first: bool = True
    """Whether only some tasks go to remote endpoints: those that ask for it, critical ones, and ones of high priority
    while the backlog is long. With false, all endpoints are alike."""
    max_local_queue_size: int = field(default=100, validator=ge(0))
    """The backlog is long when more tasks of the queue are ready than this."""
    fallback_to_local: bool = True
    """Whether such tasks go to a local endpoint where no remote one is free."""


@frozen
class Lane:
    """What the name of a lane says: tasks of one lane may go to the same endpoints."""

    model: str
    """A name that does not itself end like what may follow it in a lane's name: ` [own] @endpoint (remote)`."""
    remote: bool = False
    """Whether its tasks ask for a remote endpoint."""
    own: str | None = None
    """The lane that the task's submitter wished for."""
    endpoint: str | None = None
    """The name of the only endpoint that its tasks may go to; has no spaces."""

    def __str__(self) -> str:
        own = "" if self.own is None else f" [{self.own}]"
        endpoint = "" if self.endpoint is None else f" @{self.endpoint}"
        return f"{self.model}{own}{endpoint}{' (remote)' if self.remote else ''}"

    @classmethod
    def parse(cls, name: str) -> Lane:
        """The lane of this name."""
        found = re.fullmatch(r"(.*?)(?: \[(.*)\])?(?: @(\S+))?( \(remote\))?", name, re.DOTALL)
        assert found is not None, "the pattern fits every text"
        model, own, endpoint, remote = found.groups()
        return cls(model, remote is not None, own, endpoint)


def serves(endpoint: Endpoint, model: str) -> bool:
    """Whether the endpoint is there for this model, by its settings."""
    return endpoint.enabled and (not endpoint.models or any(fnmatchcase(model, pattern) for pattern in endpoint.models))


def groups(endpoints: Iterable[E], health: Callable[[E], Health]) -> list[list[E]]:
    """Those that may be given work, the group to be preferred first: by priority, then healthy before tried.

    Were all healthy ones before all tried ones, one that failed would never be tried while another one has room.
    """
    order = list(Health)

    def rank(endpoint: E) -> tuple[int, int]:
        return -endpoint.priority, order.index(health(endpoint))

    usable = sorted((endpoint for endpoint in endpoints if health(endpoint) is not Health.RESTING), key=rank)
    return [list(group) for _, group in groupby(usable, rank)]


def lane_pools(
    lane: Lane,
    endpoints: Iterable[E],
    health: Callable[[E], Health],
    pool: Callable[[E], str],
    routing: Routing,
) -> LanePools | None:
    """What tasks of the lane need; None when no endpoint may ever take them.

    While all that may rest, that is a choice out of nothing. `endpoints` are those that serve the lane's model.
    """
    endpoints = list(endpoints)
    near = [endpoint for endpoint in endpoints if not endpoint.remote]
    far = [endpoint for endpoint in endpoints if endpoint.remote]
    if not (far or (near and (routing.fallback_to_local or not lane.remote))):
        return None

    def choices(*sides: list[E]) -> Choices:
        return tuple(tuple(map(pool, group)) for side in sides for group in groups(side, health))

    away = choices(far, near) if routing.fallback_to_local else choices(far)
    urgent: tuple[Urgent, ...] = ()
    if lane.remote:
        usual = away
    elif not routing.local_first:
        usual = choices([*near, *far])
    elif near and far:
        usual = choices(near)
        urgent = (
            Urgent(priority=Priority.HIGH, choices=away or NOBODY, backlog=routing.max_local_queue_size + 1),
            Urgent(priority=Priority.CRITICAL, choices=away or NOBODY),
        )
    else:
        usual = choices(near, far)
    return LanePools(choices=usual or NOBODY, urgent=urgent)
