"""Those who listen: waiters, callbacks, readers of streams and subscribers; each checks what it hears."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import trio
from attrs import define

from oq.errors import QueueClosed, TaskCancelled, TaskFailed, TaskNotFound
from oq.handle import TaskHandle
from oq.hub import Subscription
from oq.streams import StreamRestarted
from oq.task import Status, Task
from simulation.executors import chunk_text, result_of
from simulation.ledger import Known, Ledger
from simulation.trial import Trial

if TYPE_CHECKING:
    from simulation.process import Process


@define(eq=False)
class Listener:
    """Somebody who is to hear of a task's end."""

    kind: str
    known: Known
    may_lag: bool = False
    """Whether it takes its time by its own will."""


class Listeners:
    """All who listen to one process's queue."""

    def __init__(self, trial: Trial, ledger: Ledger, process: Process) -> None:
        self._trial = trial
        self._ledger = ledger
        self._process = process
        self.listening: dict[Listener, None] = {}
        self.called: Counter[str] = Counter()
        self.to_call: Counter[str] = Counter()
        self._to_check: dict[str, None] = {}
        """Tasks with callbacks that were not called yet."""

    # What they do

    async def wait(self, handle: TaskHandle, *, by_result: bool) -> None:
        """Wait for a task as a user does."""
        known = self._ledger.ids[handle.id]
        listener = Listener("waiter", known)
        self.listening[listener] = None
        try:
            if by_result:
                self._check_result(known, await handle.result())
            else:
                self._check_final("a waiter", known, await handle.wait())
        except (TaskFailed, TaskCancelled) as error:
            self._check_final("a waiter", known, error.task)
        except TaskNotFound:
            self._not_found(listener)
        except QueueClosed:
            self._closed(listener)
        finally:
            del self.listening[listener]

    async def read(self, handle: TaskHandle, chance: random.Random, *, slow: bool) -> None:
        """Read a task's stream from its beginning to its end."""
        known = self._ledger.ids[handle.id]
        listener = Listener("reader", known, may_lag=slow)
        self.listening[listener] = None
        epoch, index = None, 0
        try:
            async with handle.stream() as chunks:
                async for chunk in chunks:
                    if isinstance(chunk, StreamRestarted):
                        self._trial.expect(
                            epoch is None or chunk.epoch > epoch, 7, f"the stream of {known.name} restarted backwards"
                        )
                        epoch, index = chunk.epoch, 0
                    else:
                        if epoch is None:
                            epoch = chunk.epoch
                        self._check_chunk(known, epoch, index, chunk)
                        index += 1
                    if slow:
                        await trio.sleep(chance.choice((0.1, 2)))
            self._check_whole(known, epoch, index)
        except TaskNotFound:
            self._not_found(listener)
        except QueueClosed:
            self._closed(listener)
        finally:
            del self.listening[listener]

    def new_callback(self, chance: random.Random) -> Any:
        """A function to be called at the end of tasks."""
        mood = chance.choice(("plain", "plain", "raises", "slow"))

        def call(task: Task) -> Any:
            if self._process.dead:
                return None
            known = self._ledger.ids[task.id]
            self.called[task.id] += 1
            self._check_final("a callback", known, task)
            self._trial.expect(
                self.called[task.id] <= self.to_call[task.id], 7, f"a callback of {known.name} was called twice"
            )
            if mood == "raises":
                raise RuntimeError("a callback broke")
            return trio.sleep(20) if mood == "slow" else None

        return call

    def expect_call(self, task_id: str) -> None:
        """A callback was registered for the task."""
        self.to_call[task_id] += 1
        self._to_check[task_id] = None

    async def subscribe(self, events: Subscription, start: int) -> None:
        """Take every event at once, and compare it with what the store said."""
        index = start
        async for event in events:
            told = self._process.gate.events
            self._trial.expect(
                index < len(told) and told[index] == event,
                7,
                f"a subscriber heard {event.kind} of #{event.seq} out of turn",
            )
            index += 1
            self._process.subscriber_at = index

    async def subscribe_slowly(self, events: Subscription, start: int, chance: random.Random) -> None:
        """Look now and then only, and count what was missed."""
        taken = 0
        while True:
            await trio.sleep(chance.uniform(1, 30))
            if self._process.gate.in_flight:
                continue
            taken += len(events.receive_nowait())
            said = len(self._process.gate.events) - start
            self._trial.expect(
                taken + events.missed == said,
                7,
                f"a slow subscriber got {taken} events and missed {events.missed}, but there were {said}",
            )

    # What is checked at rest

    def check_heard(self) -> None:
        """Nobody may still listen to a task that is final, or to a queue that is closed."""
        for listener in self.listening:
            if listener.may_lag:
                continue
            if listener.known.final:
                self._trial.broken(7, f"a {listener.kind} of {listener.known.name} was not told that it is final")
            elif self._process.closed:
                self._trial.broken(
                    7, f"a {listener.kind} of {listener.known.name} was not told that the queue is closed"
                )
        for task_id in list(self._to_check):
            if self.called[task_id] >= self.to_call[task_id] or self._ledger.ids[task_id].deleted:
                del self._to_check[task_id]
            elif self._ledger.ids[task_id].final and not self._process.closing:
                self._trial.broken(7, f"a callback of {self._ledger.ids[task_id].name} was not called")

    # Inside

    def _closed(self, listener: Listener) -> None:
        self._trial.expect(
            self._process.closing, 7, f"a {listener.kind} was told that the queue is closed, which it is not"
        )

    def _not_found(self, listener: Listener) -> None:
        known = listener.known
        self._trial.expect(
            self._process.dead or known.deleted, 7, f"a {listener.kind} of {known.name} was told that there is none"
        )

    def _check_final(self, who: str, known: Known, task: Task) -> None:
        if self._process.dead:
            return
        self._trial.expect(task.final, 7, f"{who} of {known.name} was given a task that is {task.status}")
        self._trial.expect(
            (task.status, task.epoch) in known.finals,
            7,
            f"{who} of {known.name} was told {task.status} in epoch {task.epoch}, which it never was",
        )
        if task.status is Status.COMPLETED:
            self._check_result(known, task.result)

    def _check_result(self, known: Known, result: Any) -> None:
        if self._process.dead or (result is None and known.head.result_ttl is not None):
            return
        run = self._ledger.runs.get((known.seq, known.epoch))
        self._trial.expect(
            run is not None and result == result_of(run),
            2,
            f"the result of {known.name} is {result}, not that of its run",
        )

    def _check_chunk(self, known: Known, epoch: int, index: int, chunk: Any) -> None:
        run = self._ledger.runs[known.seq, epoch]
        self._trial.expect(
            (chunk.epoch, chunk.index) == (epoch, index) and chunk.text.startswith(chunk_text(run, index)),
            7,
            f"a reader of {known.name} got chunk {chunk.epoch}.{chunk.index} ({chunk.text[:30]!r}) "
            f"where {epoch}.{index} was next",
        )

    def _check_whole(self, known: Known, epoch: int | None, index: int) -> None:
        """After the end of a stream: it must have been all of the last run's output."""
        run = self._ledger.runs.get((known.seq, known.epoch))
        if self._process.dead or run is None or not known.final or known.head.result_ttl is not None:
            return
        if not run.recorded_whole:
            return
        read = index if epoch == run.epoch else 0
        self._trial.expect(
            read == run.emitted, 7, f"a reader of {run.name} got {read} chunks, but {run.emitted} were emitted"
        )
