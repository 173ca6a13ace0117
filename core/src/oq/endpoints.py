"""Several servers that do the same work, as pools: who is offered, who takes over, and who is left alone for a while.

An executor with endpoints keeps them in one `Endpoints`, and lets it answer for `lane`, `pools`, `lane_pools` and
`on_pools_change`. It makes its requests within `Endpoints.call`, which moves on to another endpoint while nothing has
been emitted, and enters `Endpoints.watched` with its other resources.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from typing import Generic, TypeVar, assert_never

import trio
from attrs import define, field, frozen

from oq.breaker import Breaker, Health, RestPolicy
from oq.errors import InvalidSettings, PermanentError, Problem, RetryLater, Steering
from oq.executor import Choices, Context, LanePools
from oq.routing import E, Lane, Routing, lane_pools, serves
from oq.task import Priority, Task

log = logging.getLogger(__name__)

FORGET_AFTER = 60.0
"""Seconds for which it is remembered that an endpoint does not have a model."""

BUSY_REST = 1.0
"""Seconds that an endpoint is left alone when it is busy and does not say for how long."""

LONG_BACKLOG = 2**62
"""Longer than any limit."""

T = TypeVar("T")


class Verdict(Enum):
    """What a failed call says of its endpoint."""

    UNREACHABLE = "unreachable"
    """There is nobody: it rests at once."""
    FAILED = "failed"
    """It failed by its own fault; after a few times in a row it rests."""
    BUSY = "busy"
    """It has too much to do, and rests for as long as it asks for."""
    UNSUITED = "unsuited"
    """It is well, but does not have the model."""


class EndpointFault(Exception):
    """Raised within `Endpoints.call` by a call that may succeed at another endpoint."""

    def __init__(self, verdict: Verdict, error: Steering, *, rest: float = BUSY_REST) -> None:
        self.verdict = verdict
        self.error = error
        """What the attempt fails with when nobody else can take over."""
        self.rest = rest
        """Seconds that a busy endpoint asks for."""
        super().__init__(str(error))


@frozen(kw_only=True)
class EndpointState:
    """How an endpoint is doing."""

    name: str
    health: Health
    last_error: str
    """What is wrong; empty while nothing is."""
    rests_for: float
    """Seconds of rest that are left."""
    first_byte: float | None
    """Seconds that it took of late to begin an answer; None before the first one."""


@define(kw_only=True)
class _Kept(Generic[E]):
    """An endpoint and what is known of it."""

    endpoint: E
    breaker: Breaker
    first_byte: float | None = None
    lacks: dict[str, float] = field(factory=dict)
    """Models that it does not have, and until when that is remembered."""
    wanted: trio.Event = field(factory=trio.Event)
    """Set when tasks that it serves have been heard of; nobody looks after it before."""
    stirred: trio.Event = field(factory=trio.Event)
    """Set when its health has changed."""


@define
class Call(Generic[E]):
    """One call at one endpoint."""

    endpoint: E
    _tell: Callable[[E, float], None]
    _asked_at: float
    begun: bool = False
    """Whether the answer has."""

    def answered(self) -> None:
        """Say that the answer has begun: that, and nothing less, is health."""
        self.begun = True
        self._tell(self.endpoint, self._asked_at)


class Endpoints(Generic[E]):
    """The endpoints of one executor. Its methods are called within `trio.run`, but for `serving`."""

    def __init__(
        self,
        executor: str,
        endpoints: Sequence[E],
        *,
        routing: Routing | None = None,
        rest: RestPolicy | None = None,
        pool: Callable[[E], str] | None = None,
    ) -> None:
        """`pool` names the pool of an endpoint whose units another executor keeps; raises InvalidSettings."""
        names = [endpoint.name for endpoint in endpoints]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InvalidSettings(
                [Problem(f"{executor}.endpoints", f"two endpoints are named {name!r}") for name in twice]
            )
        self._executor = executor
        self._kept = {e.name: _Kept(endpoint=e, breaker=Breaker(policy=rest or RestPolicy())) for e in endpoints}
        self._routing = routing or Routing()
        self._pool = pool or self._own_pool
        self._tell: Callable[[], None] = lambda: None

    # What the scheduler asks

    def pools(self) -> Mapping[str, int]:
        """Units by pool: as many as the endpoint takes, or one while it is tried."""
        return {
            pool: 1 if self._health(kept.endpoint) is Health.TRIED else kept.endpoint.concurrency
            for kept in self._kept.values()
            if kept.endpoint.enabled and (pool := self._own_pool(kept.endpoint)) == self._pool(kept.endpoint)
        }

    def lane_pools(self, lane: str) -> LanePools | None:
        """What tasks of the lane need; see `oq.executor.HasPools`."""
        parsed = Lane.parse(lane)
        for endpoint in self._serving(parsed):
            self._kept[endpoint.name].wanted.set()
        return self._wanted(parsed)

    def on_pools_change(self, tell: Callable[[], None]) -> None:
        """Call `tell` when an endpoint's health has changed."""
        self._tell = tell

    # What the executor asks

    def can_serve(self, lane: Lane) -> bool:
        """Whether some endpoint may take tasks of the lane, by the settings, be it not at present."""
        return lane_pools(lane, self._serving(lane), lambda _: Health.HEALTHY, self._pool, self._routing) is not None

    def serving(self, model: str) -> list[E]:
        """The endpoints that are there for this model, by their settings."""
        return [kept.endpoint for kept in self._kept.values() if serves(kept.endpoint, model)]

    def states(self) -> list[EndpointState]:
        """How they are doing, in the order of the settings."""
        now = _now()
        return [
            EndpointState(
                name=name,
                health=kept.breaker.health(now),
                last_error=kept.breaker.last_error,
                rests_for=max(0.0, (kept.breaker.until or now) - now),
                first_byte=kept.first_byte,
            )
            for name, kept in self._kept.items()
            if kept.endpoint.enabled
        ]

    async def call(self, task: Task, ctx: Context, attempt: Callable[[Call[E]], Awaitable[T]]) -> T:
        """What `attempt` returns, at the endpoint that the run holds a unit of or at those that can take over.

        `attempt` raises EndpointFault when another endpoint may do better. One is asked if nothing has been emitted
        and it has a unit free. Raises what the fault says, or what `attempt` raises otherwise; and PermanentError when
        no endpoint serves the model.
        """
        lane = Lane.parse(task.lane)
        faults: list[EndpointFault] = []
        tried: list[str] = []
        kept = self._first(lane, task.priority, ctx)
        while True:
            tried.append(kept.endpoint.name)
            ctx.executed_on = kept.endpoint.name
            kept.wanted.set()
            call = Call(kept.endpoint, self._answered, _now())
            try:
                return await attempt(call)
            except EndpointFault as fault:
                faults.append(fault)
                self._note(kept, lane.model, fault, call)
            except trio.Cancelled:
                if not call.begun and _now() >= ctx.deadline:
                    kept.breaker.failed(_now(), "it did not begin to answer within the time of the task")
                    self._changed(kept)
                raise
            following = None if ctx.emitted else await self._next(lane, task.priority, ctx, tried)
            if following is None:
                raise self._conclusion(lane, faults, tried)
            log.info("%s: %s; %s takes over", kept.endpoint.name, faults[-1], following.endpoint.name)
            kept = following

    @asynccontextmanager
    async def watched(self, check: Callable[[E], Awaitable[None]], every: float) -> AsyncIterator[None]:
        """Look after the endpoints for the length of the block.

        `check` raises an exception when nobody answers at the endpoint. It is called every so many seconds, and before
        an endpoint that has rested is tried, so that no attempt is wasted on one that is not there. An endpoint that no
        task has asked for is let alone.
        """
        async with trio.open_nursery() as nursery:
            for kept in self._kept.values():
                kept.breaker = Breaker(policy=kept.breaker.policy)  # moments of another run of trio mean nothing here
                kept.lacks.clear()
                if kept.endpoint.enabled:
                    nursery.start_soon(self._watch, kept, check, every)
            yield
            nursery.cancel_scope.cancel()

    # Within

    def _own_pool(self, endpoint: E) -> str:
        return f"{self._executor}:{endpoint.name}"

    def _health(self, endpoint: E) -> Health:
        return self._kept[endpoint.name].breaker.health(_now())

    def _serving(self, lane: Lane) -> list[E]:
        """The endpoints that are there for the lane, by their settings."""
        return [endpoint for endpoint in self.serving(lane.model) if lane.endpoint in (None, endpoint.name)]

    def _suited(self, lane: Lane) -> list[E]:
        """Those of them that are not known to lack the model; if all are, all."""
        serving = self._serving(lane)
        return [endpoint for endpoint in serving if not self._lacks(endpoint, lane.model)] or serving

    def _lacks(self, endpoint: E, model: str) -> bool:
        return self._kept[endpoint.name].lacks.get(model, 0.0) > _now()

    def _wanted(self, lane: Lane) -> LanePools | None:
        return lane_pools(lane, self._suited(lane), self._health, self._pool, self._routing)

    def _first(self, lane: Lane, priority: Priority, ctx: Context) -> _Kept[E]:
        """The endpoint that the run holds a unit of; without a queue, the one that a queue would take first."""
        serving = self._serving(lane)
        names = {self._pool(endpoint): endpoint.name for endpoint in serving}
        for unit in ctx.units:
            if unit in names:
                return self._kept[names[unit]]
        wanted = self._wanted(lane)
        for pool in [] if wanted is None else (*_pools_of(wanted.choices_for(priority, 0)), *names):
            return self._kept[names[pool]]
        named = "" if lane.endpoint is None else f" named {lane.endpoint!r}"
        raise PermanentError(
            f"no endpoint{named} serves the model {lane.model!r}; see [[{self._executor}.endpoints]] in the settings",
            type="NoEndpoint",
        )

    async def _next(self, lane: Lane, priority: Priority, ctx: Context, tried: Sequence[str]) -> _Kept[E] | None:
        """Another endpoint that the task may go to, with a unit of it held; None when there is none."""
        wanted = self._wanted(lane)
        if wanted is None:
            return None
        names = {self._pool(e): e.name for e in self._suited(lane) if e.name not in tried}
        held = self._pool(self._kept[tried[-1]].endpoint)
        choices = wanted.choices_for(priority, 0)
        if self._went_by_backlog(held, lane, priority):
            choices = wanted.choices_for(priority, LONG_BACKLOG)
        pools = [pool for pool in _pools_of(choices) if pool in names]
        taken = await ctx.exchange(held, pools) if held in ctx.units else next(iter(pools), None)
        return None if taken is None else self._kept[names[taken]]

    def _went_by_backlog(self, held: str, lane: Lane, priority: Priority) -> bool:
        """Whether the task may only be where it is because the backlog was long."""
        usual = lane_pools(lane, self._serving(lane), lambda _: Health.HEALTHY, self._pool, self._routing)
        return usual is not None and held not in _pools_of(usual.choices_for(priority, 0))

    def _conclusion(self, lane: Lane, faults: Sequence[EndpointFault], tried: Sequence[str]) -> Steering:
        """What the attempt fails with."""
        left = [e.name for e in self._serving(lane) if e.name not in tried and not self._lacks(e, lane.model)]
        hopeful = [fault.error for fault in faults if not isinstance(fault.error, PermanentError)]
        later = [error for error in hopeful if isinstance(error, RetryLater)]
        if hopeful and len(later) < len(hopeful):
            return next(error for error in reversed(hopeful) if not isinstance(error, RetryLater))
        if later:
            soonest = min(later, key=lambda error: error.after)
            if left:  # one of them may come free before these have rested
                soonest.after = min(soonest.after, BUSY_REST)
            return soonest
        if left:
            message = f"{faults[-1].error}; {', '.join(left)} may do better"
            return RetryLater(BUSY_REST, message, counted=False, type="OtherEndpoint")
        return faults[-1].error

    def _note(self, kept: _Kept[E], model: str, fault: EndpointFault, call: Call[E]) -> None:
        """Remember what a fault says of its endpoint."""
        now, error = _now(), str(fault.error)
        match fault.verdict:
            case Verdict.UNREACHABLE:
                kept.breaker.unreachable(now, error)
            case Verdict.FAILED:
                kept.breaker.failed(now, error)
            case Verdict.BUSY:
                kept.breaker.busy(now, fault.rest, error)
            case Verdict.UNSUITED:
                call.answered()
                kept.lacks[model] = now + FORGET_AFTER
            case _:
                assert_never(fault.verdict)
        self._changed(kept)

    def _answered(self, endpoint: E, asked_at: float) -> None:
        kept = self._kept[endpoint.name]
        took = _now() - asked_at
        kept.first_byte = took if kept.first_byte is None else 0.8 * kept.first_byte + 0.2 * took
        if kept.breaker.until is not None or kept.breaker.failures:
            kept.breaker.answered(asked_at)
            self._changed(kept)

    def _changed(self, kept: _Kept[E]) -> None:
        kept.stirred.set()
        self._tell()

    async def _watch(self, kept: _Kept[E], check: Callable[[E], Awaitable[None]], every: float) -> None:
        """Look at the endpoint when its rest ends, and every so often; forget what it lacks when its time has come."""
        await kept.wanted.wait()
        next_look = _now() + every
        while True:
            kept.stirred = trio.Event()
            now = _now()
            resting = kept.breaker.health(now) is Health.RESTING
            look_at = kept.breaker.until or now if resting else next_look
            with trio.move_on_after(max(0.0, min([look_at, *kept.lacks.values()]) - now)):
                await kept.stirred.wait()
                continue
            now = _now()
            for model in [model for model, until in kept.lacks.items() if until <= now]:
                del kept.lacks[model]
            if now >= look_at:
                await self._look(kept, check)
                next_look = _now() + every
            self._tell()

    async def _look(self, kept: _Kept[E], check: Callable[[E], Awaitable[None]]) -> None:
        was_healthy = kept.breaker.health(_now()) is Health.HEALTHY
        try:
            await check(kept.endpoint)
        except Exception as error:  # noqa: BLE001  # whatever goes wrong, nobody answered
            level = logging.WARNING if was_healthy else logging.DEBUG
            log.log(level, "%s endpoint %s does not answer: %s", self._executor, kept.endpoint.name, error)
            kept.breaker.unreachable(_now(), str(error))
        else:
            kept.breaker.looks_well(_now())


def _pools_of(choices: Choices) -> list[str]:
    return [pool for group in choices for pool in group]


def _now() -> float:
    return trio.current_time()
