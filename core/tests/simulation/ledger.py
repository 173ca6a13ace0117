"""An independent record of what the store said: every task and run by its events, each checked against the rules."""

from __future__ import annotations

import heapq
import random
from bisect import bisect_left, insort
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from attrs import define, field

from oq.events import Event, EventKind
from oq.retry import RetryPolicy
from oq.task import Phase, Status, TaskHead
from simulation.trial import Trial

if TYPE_CHECKING:
    from simulation.process import Process

Lane = tuple[str, str, str]
Stage = Phase | Status

LOSSES_BEFORE_ALONE = 2

LOOKED_AGAIN = timedelta(seconds=61)
"""After so long it is looked again whether a result that is needed may be dropped; a second is for slow commits."""

_LIVE: frozenset[Stage] = frozenset({*Phase, Status.RUNNING}) - {Phase.PAUSED}
_FINAL: frozenset[Stage] = frozenset(status for status in Status if status.final)
_BEFORE: dict[EventKind, frozenset[Stage]] = {
    EventKind.READY: frozenset({Phase.SCHEDULED, Phase.RETRYING, Phase.BLOCKED}),
    EventKind.STARTED: frozenset({Phase.READY}),
    EventKind.COMPLETED: frozenset({Status.RUNNING}),
    EventKind.FAILED: _LIVE,
    EventKind.RETRYING: frozenset({Status.RUNNING}),
    EventKind.RELEASED: frozenset({Status.RUNNING}),
    EventKind.LOST: frozenset({Status.RUNNING}),
    EventKind.CANCELLED: _LIVE,
    EventKind.REQUEUED: frozenset({Status.FAILED, Status.CANCELLED}),
    EventKind.PRIORITY_CHANGED: _LIVE,
    EventKind.SPARED: frozenset({Status.COMPLETED}),
    EventKind.DROPPED: frozenset({Status.COMPLETED}),
    EventKind.DELETED: _FINAL,
}
_AFTER: dict[EventKind, frozenset[Stage]] = {
    EventKind.READY: frozenset({Phase.READY, Phase.SCHEDULED}),
    EventKind.STARTED: frozenset({Status.RUNNING}),
    EventKind.COMPLETED: frozenset({Status.COMPLETED}),
    EventKind.FAILED: frozenset({Status.FAILED}),
    EventKind.RETRYING: frozenset({Phase.RETRYING}),
    EventKind.RELEASED: frozenset({Phase.READY}),
    EventKind.LOST: frozenset({Phase.READY}),
    EventKind.CANCELLED: frozenset({Status.CANCELLED}),
    EventKind.REQUEUED: frozenset({Phase.READY, Phase.BLOCKED}),
    EventKind.PRIORITY_CHANGED: _LIVE,
    EventKind.SPARED: frozenset({Status.COMPLETED}),
    EventKind.DROPPED: frozenset({Status.COMPLETED}),
    EventKind.DELETED: _FINAL,
}
_ENDS_A_RUN = {
    EventKind.COMPLETED,
    EventKind.FAILED,
    EventKind.RETRYING,
    EventKind.RELEASED,
    EventKind.LOST,
    EventKind.CANCELLED,
}


@define(eq=False)
class Known:
    """A task as its events tell."""

    seq: int
    head: TaskHead
    stage: Stage
    priority: int
    due_at: datetime | None
    wakes_at: datetime | None
    epoch: int = 0
    attempt: int = 0
    losses: int = 0
    acknowledged: bool = False
    dropped: bool = False
    deleted: bool = False
    finals: list[tuple[Status, int]] = field(factory=list)
    """Each final status it had, with the epoch it had then."""
    ended_at: datetime | None = None
    """When it became final last."""
    followers: list[Known] = field(factory=list)
    """The tasks that come after it."""

    @property
    def name(self) -> str:
        return f"#{self.seq}"

    @property
    def lane(self) -> Lane:
        return self.head.queue, self.head.executor, self.head.lane

    @property
    def final(self) -> bool:
        return isinstance(self.stage, Status) and self.stage.final

    def was_needed_at(self, moment: datetime) -> bool:
        """Whether its result had to be kept then, because a task that comes after it was not final."""
        return self.final and any(
            not follower.final or (follower.ended_at is not None and follower.ended_at > moment)
            for follower in self.followers
        )

    @property
    def alone(self) -> bool:
        """Whether it may only run while nothing else does."""
        return self.losses >= LOSSES_BEFORE_ALONE

    @property
    def rank(self) -> tuple[int, int]:
        """Sorts in the order in which tasks are to start."""
        return -self.priority, self.seq


@define(eq=False)
class Run:
    """One epoch of a task: what the store says of it, and what its executor does."""

    known: Known
    epoch: int
    process: Process
    units: tuple[str, ...]
    alone: bool
    """Whether nothing may run beside it."""
    recorded: EventKind | None = None
    """How the store says that it ended."""
    lost: bool = False
    """Whether its process was over by then."""
    began: bool = False
    ended: str | None = None
    """How its executor ended: returned, invalid, raised, permanent, later, uncounted, cancelled; or `unregistered`."""
    deadline: float = float("inf")
    stubborn: bool = False
    """Whether it does not heed cancellation for the time being."""
    emitted: int = 0
    given_back: bool = False
    """Whether its process stopped, or began to close, before it ended."""

    timed_out: bool = False
    """Whether its time was over when it ended."""

    @property
    def name(self) -> str:
        return f"{self.known.name} epoch {self.epoch}"

    @property
    def recorded_whole(self) -> bool:
        """Whether it ended by itself and the store has that, with all of its output."""
        kinds = {EventKind.COMPLETED, EventKind.FAILED, EventKind.RETRYING}
        return self.ended not in {None, "cancelled", "died"} and self.recorded in kinds and not self.lost


class Ledger:
    """Every task and run there ever was."""

    def __init__(self, trial: Trial, default_retry: RetryPolicy) -> None:
        self._trial = trial
        self._default_retry = default_retry
        self.tasks: dict[int, Known] = {}
        self.ids: dict[str, Known] = {}
        self.runs: dict[tuple[int, int], Run] = {}
        self.open_runs: dict[tuple[int, int], Run] = {}
        """Those whose epoch, or whose executor, has not ended."""
        self.ready: dict[Lane, list[tuple[int, int]]] = {}
        """The ranks of ready tasks, best first."""
        self.blocked: dict[int, Known] = {}
        self.unfinished = 0
        self.events = 0
        self.tokens: set[int] = set()
        """The tokens that stored tasks carry."""
        self.tell_final: list[Callable[[Known], None]] = []
        self._heads: dict[str, TaskHead] = {}
        self._timers: list[tuple[datetime, int]] = []

    def announce(self, head: TaskHead) -> None:
        """A task of this head is about to be added."""
        self._heads[head.id] = head

    def heard(self, event: Event) -> None:
        """Take in what the store says has happened, and check that it may."""
        self.events += 1
        self._trial.say(f"#{event.seq} {event.kind}: {event.phase or event.status}, epoch {event.epoch}")
        if event.kind is EventKind.SUBMITTED:
            self._submitted(event)
            return
        known = self.tasks[event.seq]
        self._check(known, event)
        run = self.runs.get((event.seq, event.epoch)) if event.kind in _ENDS_A_RUN else None
        if run is not None and run.recorded is None:
            self._recorded(run, event.kind)
        if event.kind is EventKind.DELETED:
            self._deleted(known)
            return
        self._leave(known)
        was_final = known.final
        known.stage = event.phase or event.status
        known.priority, known.epoch, known.attempt = event.priority, event.epoch, event.attempt
        known.due_at, known.wakes_at = event.due_at, event.wakes_at
        if event.kind is EventKind.LOST:
            known.losses += 1
        elif event.kind is EventKind.REQUEUED:
            known.losses = 0
            known.dropped = False
        elif event.kind is EventKind.DROPPED:
            known.dropped = True
        self._enter(known)
        if known.final != was_final:
            self.unfinished += -1 if known.final else 1
        if known.final and not was_final:
            known.finals.append((event.status, event.epoch))
            known.ended_at = event.at
            for tell in self.tell_final:
                tell(known)

    def claimed(self, run: Run) -> None:
        """A claim gave this run."""
        self.runs[run.known.seq, run.epoch] = self.open_runs[run.known.seq, run.epoch] = run

    def run_ended(self, run: Run) -> None:
        """Its executor is done with this run."""
        if run.recorded is not None:
            self.open_runs.pop((run.known.seq, run.epoch), None)

    def process_over(self, process: Process) -> None:
        """No run of this process goes on."""
        for key, run in list(self.open_runs.items()):
            if run.process is process:
                run.ended = run.ended or "died"
                if run.recorded is not None:
                    del self.open_runs[key]

    def is_current(self, seq: int, epoch: int) -> bool:
        """Whether this epoch runs."""
        known = self.tasks.get(seq)
        return known is not None and known.stage is Status.RUNNING and known.epoch == epoch

    def recent(self, number: int) -> list[Known]:
        """The tasks submitted last."""
        return list(self.tasks.values())[-number:]

    def some(self, chance: random.Random, *, unfinished: bool = False) -> Known | None:
        """A task drawn by chance, preferably one that is not final where that is wanted."""
        if not self.tasks:
            return None
        tasks = list(self.tasks.values())
        drawn = chance.choices(tasks, k=3)
        return next((known for known in drawn if not (unfinished and known.final)), drawn[0])

    def some_final(self, chance: random.Random) -> Known | None:
        """A task drawn by chance, preferably a final one."""
        drawn = [chance.choice(list(self.tasks.values())) for _ in range(5)] if self.tasks else []
        return next((known for known in drawn if known.final), drawn[0] if drawn else None)

    def some_ready(self, chance: random.Random) -> Known | None:
        """A ready task drawn by chance, preferably one that is to run alone."""
        ready = [self.tasks[seq] for ranks in self.ready.values() for _, seq in ranks]
        return chance.choice([known for known in ready if known.alone] or ready) if ready else None

    def with_output(self) -> list[Known]:
        """The tasks whose last run said something."""
        runs = ((known, self.runs.get((known.seq, known.epoch))) for known in self.tasks.values())
        return [known for known, run in runs if run is not None and run.emitted]

    def some_earlier_run(self, chance: random.Random) -> Run | None:
        """A run whose epoch is over, drawn by chance, preferably of a task that runs again."""
        over = [run for run in self.runs.values() if not self.is_current(run.known.seq, run.epoch)]
        again = [run for run in over if run.known.stage is Status.RUNNING]
        return chance.choice(again or over) if over else None

    def overdue(self, now: datetime) -> Known | None:
        """A task whose moment has passed and that was not woken."""
        while self._timers:
            moment, seq = self._timers[0]
            known = self.tasks.get(seq)
            if known is None or known.wakes_at != moment:
                heapq.heappop(self._timers)
            elif moment < now and known.was_needed_at(moment):
                known.wakes_at = moment + LOOKED_AGAIN
                heapq.heapreplace(self._timers, (known.wakes_at, seq))
            elif moment < now:
                return known
            else:
                return None
        return None

    def needlessly_blocked(self) -> Known | None:
        """A task that waits for others though all of them are final."""
        for known in self.blocked.values():
            if all(self.ids[parent].final for parent in known.head.after):
                return known
        return None

    # Inside

    def _submitted(self, event: Event) -> None:
        head = self._heads.pop(event.task_id)
        self._trial.expect(event.seq not in self.tasks, 3, f"sequence number {event.seq} was given twice")
        self._trial.expect(head.id not in self.ids, 2, f"two tasks have the id {head.id}")
        self._trial.expect(event.epoch == 0 and event.attempt == 0, 2, f"#{event.seq} has run before it was submitted")
        known = Known(
            seq=event.seq,
            head=head,
            stage=event.phase or event.status,
            priority=event.priority,
            due_at=event.due_at,
            wakes_at=event.wakes_at,
        )
        self.tasks[event.seq] = self.ids[head.id] = known
        for parent in head.after:
            self.ids[parent].followers.append(known)
        self.tokens.add(head.metadata["token"])
        self.unfinished += 1
        self._enter(known)

    def _deleted(self, known: Known) -> None:
        known.deleted = True
        del self.tasks[known.seq]
        for other in self.tasks.values():
            needs = known.head.id in other.head.after and not other.final
            self._trial.expect(not needs, 2, f"{known.name} was deleted, though {other.name} needs it")

    def _recorded(self, run: Run, kind: EventKind) -> None:
        run.recorded, run.lost = kind, run.process.over
        if run.ended is not None or (not run.began and kind is not EventKind.CANCELLED):
            self.open_runs.pop((run.known.seq, run.epoch), None)
        expected = self._endings_of(run)
        self._trial.expect(
            kind in expected,
            10,
            f"{run.name} {run.ended or 'has not ended'}, but is recorded as {kind}",
        )

    def _endings_of(self, run: Run) -> set[EventKind]:
        """How a run may be recorded."""
        from_outside = {EventKind.CANCELLED}
        if run.process.over:
            from_outside |= {EventKind.FAILED if run.alone else EventKind.LOST}
        failed = {EventKind.RETRYING, EventKind.FAILED}
        by_itself: set[EventKind] = set()
        match run.ended:
            case "returned":
                by_itself = {EventKind.COMPLETED}
            case "invalid" | "permanent":
                by_itself = {EventKind.FAILED}
            case "uncounted":
                by_itself = {EventKind.RETRYING}
            case "unregistered":
                by_itself = {EventKind.RELEASED}
            case "raised" | "later":
                by_itself = failed
            case "cancelled" if run.timed_out:
                by_itself = failed
        if run.given_back and run.ended != "returned":
            by_itself |= {EventKind.RELEASED}
        if (run.process.closing or run.process.resting) and not run.began:
            by_itself = {EventKind.RELEASED}
        return by_itself | from_outside

    def _check(self, known: Known, event: Event) -> None:
        expect, name, kind = self._trial.expect, known.name, event.kind
        after: Stage = event.phase or event.status
        expect(known.stage in _BEFORE[kind], 2, f"{name} is {known.stage}, so it cannot have been {kind}")
        expect(after in _AFTER[kind], 2, f"{name} was {kind} and is {after} after that")
        if kind is EventKind.STARTED:
            expect(event.epoch > known.epoch, 2, f"{name} started as epoch {event.epoch} after epoch {known.epoch}")
        else:
            expect(event.epoch == known.epoch, 2, f"{name} went from epoch {known.epoch} to {event.epoch} by {kind}")
        if kind in _ENDS_A_RUN and known.stage is Status.RUNNING:
            run = self.runs.get((event.seq, event.epoch))
            expect(run is not None and run.recorded is None, 2, f"{name} epoch {event.epoch} ended twice")
        if kind is not EventKind.PRIORITY_CHANGED:
            expect(event.priority == known.priority, 3, f"the priority of {name} changed by {kind}")
        self._check_attempt(known, event)
        if kind is EventKind.READY:
            due_at = known.due_at or (None if known.finals else known.head.run_at)
            early = due_at is not None and event.at < due_at and event.due_at != due_at
            expect(not early, 8, f"{name} is due at {due_at}, but became ready at {event.at}")
        if kind is EventKind.RETRYING:
            self._check_retry(known, event)

    def _check_attempt(self, known: Known, event: Event) -> None:
        before = known.attempt
        match event.kind:
            case EventKind.STARTED:
                right = {before + 1}
            case EventKind.RELEASED | EventKind.LOST:
                right = {before - 1}
            case EventKind.RETRYING:
                right = {before, before - 1}
            case EventKind.REQUEUED:
                right = {0}
            case _:
                right = {before}
        self._trial.expect(
            event.attempt in right,
            2,
            f"{known.name} was {event.kind} and went from attempt {before} to {event.attempt}",
        )
        policy = known.head.retry or self._default_retry
        failure = event.failure
        if event.kind is EventKind.RETRYING and event.attempt == before:
            self._trial.expect(before < policy.max_attempts, 8, f"{known.name} is tried again after its last attempt")
        if event.kind is EventKind.FAILED and failure is not None and failure.retryable:
            self._trial.expect(before >= policy.max_attempts, 8, f"{known.name} failed with attempts left")
        if event.kind is EventKind.FAILED and failure is not None and failure.type == "Poisoned":
            self._trial.expect(known.alone, 2, f"{known.name} was lost as poisoned though it had company")
        if event.kind is EventKind.LOST:
            self._trial.expect(not known.alone, 2, f"{known.name} was lost alone and is not poisoned")

    def _check_retry(self, known: Known, event: Event) -> None:
        policy, failure = known.head.retry or self._default_retry, event.failure
        assert event.due_at is not None
        assert failure is not None
        wait = (event.due_at - event.at).total_seconds()
        counted = event.attempt == known.attempt
        most = min(policy.delay * policy.factor ** (known.attempt - 1), policy.max_delay) if counted else 0.0
        least = most * (1 - policy.jitter)
        asked = failure.retry_after or 0.0
        self._trial.expect(
            max(least, asked) - 1e-4 <= wait <= max(most, asked) + 1e-4,
            8,
            f"{known.name} waits {wait:g} s for its next attempt, which is not what its policy and failure say",
        )

    def _leave(self, known: Known) -> None:
        if known.stage is Phase.READY:
            lane = self.ready[known.lane]
            del lane[bisect_left(lane, known.rank)]
        elif known.stage is Phase.BLOCKED:
            del self.blocked[known.seq]

    def _enter(self, known: Known) -> None:
        if known.stage is Phase.READY:
            insort(self.ready.setdefault(known.lane, []), known.rank)
        elif known.stage is Phase.BLOCKED:
            self.blocked[known.seq] = known
        if known.wakes_at is not None:
            heapq.heappush(self._timers, (known.wakes_at, known.seq))


def new_run(known: Known, epoch: int, process: Any, units: tuple[str, ...]) -> Run:
    """A run that begins now."""
    return Run(known, epoch, process, units, known.alone)
