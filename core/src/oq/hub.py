"""Who listens: watches on single tasks, and bounded subscribers to events. No listener can hold up the queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import trio
from attrs import define, field, frozen

from oq.events import Event, EventKind

DEFAULT_CAPACITY = 10_000
"""Events that wait for one subscriber; what comes beyond is counted, not kept."""

EVENTS_A_TURN = 64
"""Events that a subscriber is given before it must let others run."""


class Watch:
    """Notices that something about one task changed. Compare `version` before and after looking, then wait."""

    def __init__(self) -> None:
        self.version = 0
        self._lot = trio.lowlevel.ParkingLot()
        self.users = 0

    def touch(self) -> None:
        """Something changed."""
        self.version += 1
        self._lot.unpark_all()

    async def changed(self, since: int) -> None:
        """Return when `version` is no longer `since`. A checkpoint."""
        if self.version != since:
            await trio.lowlevel.checkpoint()
        while self.version == since:
            await self._lot.park()


@frozen(kw_only=True)
class EventFilter:
    """Which events are wanted; every field that is not None must fit."""

    kinds: frozenset[EventKind] | None = None
    task_id: str | None = None
    queue: str | None = None
    executor: str | None = None

    def matches(self, event: Event) -> bool:
        return (
            (self.kinds is None or event.kind in self.kinds)
            and (self.task_id is None or event.task_id == self.task_id)
            and (self.queue is None or event.queue == self.queue)
            and (self.executor is None or event.executor == self.executor)
        )


EVERYTHING = EventFilter()


@define(eq=False)
class Subscription:
    """An async iterator over events as they happen, from the moment of `subscribe` on."""

    _filter: EventFilter
    _capacity: int
    missed: int = 0
    """How many events were dropped because this subscriber was too slow; it only grows."""
    _events: deque[Event] = field(factory=deque)
    _lot: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)
    _closed: bool = False
    _taken: int = 0

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        """The next event. Lets others run only now and then while events are at hand, so as to keep up with them."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            await self._lot.park()
        event = self._events.popleft()
        self._taken += 1
        if self._taken % EVENTS_A_TURN == 0:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return event

    def receive_nowait(self) -> list[Event]:
        """The events at hand, at once."""
        events = list(self._events)
        self._events.clear()
        return events

    def offer(self, events: Sequence[Event]) -> None:
        """Take those of the events that are wanted and for which there is room."""
        if self._filter is not EVERYTHING:
            events = [event for event in events if self._filter.matches(event)]
        room = self._capacity - len(self._events)
        if len(events) > room:
            self.missed += len(events) - room
            events = events[:room]
        self._events.extend(events)
        if self._lot:
            self._lot.unpark(count=len(events))

    def close(self) -> None:
        """End the iteration once the events at hand have been taken."""
        self._closed = True
        self._lot.unpark_all()


class Hub:
    """Passes events on to whoever listens in this process."""

    def __init__(self) -> None:
        self._watches: dict[str, Watch] = {}
        self._subscriptions: list[Subscription] = []
        self._on_final: dict[str, list[Callable[[], None]]] = {}

    def publish(self, events: Sequence[Event]) -> None:
        """Tell everybody; never waits."""
        watches, on_final = self._watches, self._on_final
        if watches or on_final:
            for event in events:
                if (watch := watches.get(event.task_id)) is not None:
                    watch.touch()
                if on_final and event.final:
                    self.became_final(event.task_id)
        for subscription in self._subscriptions:
            subscription.offer(events)

    def touch(self, task_id: str) -> None:
        """Something about the task changed that is no event: output, or a note from another process."""
        if (watch := self._watches.get(task_id)) is not None:
            watch.touch()

    def touch_all(self) -> None:
        """Anything may have changed, by another process."""
        for watch in list(self._watches.values()):
            watch.touch()

    def awaited(self) -> list[str]:
        """The tasks whose end a callback waits for."""
        return list(self._on_final)

    def call_at_final(self, task_id: str, call: Callable[[], None]) -> None:
        """Call once, when the task becomes final."""
        self._on_final.setdefault(task_id, []).append(call)

    def became_final(self, task_id: str) -> None:
        """Call whoever waits for this task's end."""
        for call in self._on_final.pop(task_id, ()):
            call()

    @contextmanager
    def watch(self, task_id: str) -> Iterator[Watch]:
        """Watch one task for the length of the block."""
        watch = self._watches.setdefault(task_id, Watch())
        watch.users += 1
        try:
            yield watch
        finally:
            watch.users -= 1
            if watch.users == 0:
                del self._watches[task_id]

    @contextmanager
    def subscribe(self, wanted: EventFilter = EVERYTHING, capacity: int = DEFAULT_CAPACITY) -> Iterator[Subscription]:
        """Get events for the length of the block."""
        subscription = Subscription(wanted, capacity)
        self._subscriptions.append(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.remove(subscription)
            subscription.close()

    def close(self) -> None:
        """End every subscription and wake every watch."""
        for subscription in self._subscriptions:
            subscription.close()
        self.touch_all()
