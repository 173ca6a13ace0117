"""The contract of `Cancel`, `SetPriority` and `Requeue`, and of the lifecycle's table as a whole."""

from __future__ import annotations

import pytest

from oq.errors import IllegalMove, LeaseLost, TaskNotFound, UniqueKeyTaken
from oq.events import EventKind
from oq.lifecycle import Move, allowed, targets
from oq.store.base import (
    Cancel,
    Ending,
    Failed,
    Finish,
    Moved,
    Op,
    Released,
    Requeue,
    Retried,
    SetPriority,
    Succeeded,
)
from oq.task import Outcome, Phase, Priority, Status
from oq.testing.builders import START, at, failure, new_task
from oq.testing.driver import StoreDriver
from oq.testing.store_contract.base import ContractFrame
from oq.testing.store_contract.situations import FINAL, LATER, LIVE, PHASES, PLACES, Place, bring

ENDING_OF: dict[Move, Ending] = {
    Move.SUCCEED: Succeeded(b"result"),
    Move.FAIL: Failed(failure()),
    Move.RETRY: Retried(failure(), at(1)),
    Move.RELEASE: Released(),
}

STATUSES = tuple(Status)


def op_of(move: Move, task_id: str) -> Op[Moved]:
    kind = Cancel if move is Move.CANCEL else Requeue
    return kind(task_id=task_id, now=at(9))


class Moving(ContractFrame):
    """People move tasks."""

    # The table

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("move", [Move.CANCEL, Move.REQUEUE])
    def test_a_move_is_possible_as_the_table_says(self, driver: StoreDriver, place: Place, move: Move) -> None:
        bring(driver, "a", place)
        status = driver.state("a").status
        if allowed(status, move):
            (event,) = driver.send(op_of(move, "a")).events
            assert {event.status, driver.state("a").status} == targets(status, move)
        else:
            error = driver.refused(op_of(move, "a"), IllegalMove)
            assert (error.task_id, error.status, error.move) == ("a", status, move)

    @pytest.mark.parametrize("status", STATUSES)
    @pytest.mark.parametrize("move", ENDING_OF)
    def test_a_run_ends_as_the_table_says(self, driver: StoreDriver, status: Status, move: Move) -> None:
        run = bring(driver, "a", status)
        seq, epoch = driver.record("a").seq, 0 if run is None else run.state.epoch
        op = Finish(seq=seq, epoch=epoch, ending=ENDING_OF[move], now=START)
        if status is Status.RUNNING:
            driver.send(op)
            assert driver.state("a").status in targets(status, move)
        else:
            driver.refused(op, LeaseLost, stop=(seq, epoch))

    @pytest.mark.parametrize("place", PLACES)
    def test_only_running_tasks_are_lost(self, driver: StoreDriver, place: Place) -> None:
        bring(driver, "a", place)
        before = driver.state("a")
        driver.take_over()
        assert (driver.state("a") == before) == (not allowed(before.status, Move.LOSE))

    @pytest.mark.parametrize("op", [Cancel(task_id="a", now=START), Requeue(task_id="a", now=START)])
    def test_an_unknown_task_is_not_found(self, driver: StoreDriver, op: Op[Moved]) -> None:
        driver.add(new_task("ab"))
        assert driver.refused(op, TaskNotFound).task_id == "a"

    # Cancel

    @pytest.mark.parametrize("phase", PHASES)
    def test_a_pending_task_is_cancelled_at_once(self, driver: StoreDriver, phase: Phase) -> None:
        bring(driver, "a", phase, expires_at=at(2_000))
        reply = driver.cancel("a", now=at(5))
        state = driver.state("a")
        assert (state.status, state.phase, state.finished_at) == (Status.CANCELLED, None, at(5))
        assert (state.due_at, state.expires_at, state.wakes_at) == (None, None, None)
        assert [(event.kind, event.status, event.at) for event in reply.events] == [
            (EventKind.CANCELLED, Status.CANCELLED, at(5))
        ]
        assert driver.store.stops() == []
        assert driver.advance_fully(3_000) == []

    def test_a_running_task_is_cancelled_at_once(self, driver: StoreDriver) -> None:
        run = bring(driver, "a", Status.RUNNING)
        assert run is not None
        reply = driver.cancel("a", now=at(5))
        full = driver.full("a")
        assert (full.state.status, full.state.finished_at, full.state.lease_until) == (Status.CANCELLED, at(5), None)
        assert [(event.kind, event.epoch) for event in reply.events] == [(EventKind.CANCELLED, 1)]
        assert [(attempt.epoch, attempt.outcome, attempt.ended_at) for attempt in full.attempts] == [
            (1, Outcome.CANCELLED, at(5))
        ]
        assert driver.advance_fully(3_000) == []

    # Stops

    @pytest.mark.parametrize("ending", ENDING_OF.values(), ids=ENDING_OF)
    def test_a_cancelled_run_is_to_stop_until_its_runner_says_it_has(self, driver: StoreDriver, ending: Ending) -> None:
        driver.add(new_task("a"), new_task("b"), new_task("c"))
        runs = driver.claim().runs
        driver.cancel("b")
        driver.cancel("c")
        b, c = ((run.seq, 1) for run in runs[1:])
        assert sorted(driver.store.stops()) == [b, c]
        driver.refused(Finish(seq=b[0], epoch=1, ending=ending, now=at(1)), LeaseLost, stop=b)
        assert driver.store.stops() == [c]

    def test_a_run_is_to_stop_though_its_task_was_requeued_meanwhile(self, driver: StoreDriver) -> None:
        run = bring(driver, "a", Status.CANCELLED)
        assert run is not None
        driver.requeue("a")
        present = driver.start("a")
        assert driver.store.stops() == [(run.seq, 1)]
        driver.succeed(present)
        assert driver.store.stops() == [(run.seq, 1)]

    def test_both_runs_of_a_task_cancelled_twice_are_to_stop(self, driver: StoreDriver) -> None:
        run = bring(driver, "a", Status.CANCELLED)
        assert run is not None
        driver.requeue("a")
        driver.start("a")
        driver.cancel("a")
        assert sorted(driver.store.stops()) == [(run.seq, 1), (run.seq, 2)]

    # Priority

    @pytest.mark.parametrize("place", LIVE)
    def test_a_task_that_is_not_final_takes_another_priority(self, driver: StoreDriver, place: Place) -> None:
        bring(driver, "a", place)
        before = driver.record("a")
        reply = driver.send(SetPriority(task_id="a", priority=Priority.CRITICAL, now=at(7)))
        after = driver.record("a")
        assert (after.seq, after.state.priority) == (before.seq, Priority.CRITICAL)
        assert (after.state.status, after.state.phase) == (before.state.status, before.state.phase)
        assert [(event.kind, event.priority, event.at) for event in reply.events] == [
            (EventKind.PRIORITY_CHANGED, Priority.CRITICAL, at(7))
        ]

    @pytest.mark.parametrize("status", FINAL)
    def test_a_final_task_keeps_its_priority(self, driver: StoreDriver, status: Status) -> None:
        bring(driver, "a", status)
        error = driver.refused(SetPriority(task_id="a", priority=Priority.HIGH, now=START), IllegalMove)
        assert (error.task_id, error.status) == ("a", status)

    def test_an_unknown_task_has_no_priority(self, driver: StoreDriver) -> None:
        driver.refused(SetPriority(task_id="a", priority=Priority.HIGH, now=START), TaskNotFound)

    def test_a_run_goes_on_when_its_priority_changes(self, driver: StoreDriver) -> None:
        run = bring(driver, "a", Status.RUNNING)
        assert run is not None
        driver.set_priority("a", Priority.LOW)
        driver.succeed(run)
        assert driver.state("a").priority == Priority.LOW

    # Requeue

    @pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
    def test_a_requeued_task_is_as_fresh_as_a_new_one_but_for_its_epoch(
        self, driver: StoreDriver, status: Status
    ) -> None:
        driver.add(new_task("a", expires_at=LATER))
        fresh = driver.state("a")
        driver.lose("a")
        driver.retry(driver.start("a"))
        driver.advance()
        bring(driver, "a", status, add=False)
        past = driver.full("a").attempts
        reply = driver.requeue("a", now=at(5))
        full = driver.full("a")
        assert full.state == type(fresh)(
            status=fresh.status, phase=fresh.phase, priority=fresh.priority, epoch=3, expires_at=None
        )
        assert (full.attempts, full.payload, len(past)) == (past, b"payload", 3)
        assert [(event.kind, event.phase, event.epoch, event.attempt, event.at) for event in reply.events] == [
            (EventKind.REQUEUED, Phase.READY, 3, 0, at(5))
        ]

    def test_a_requeued_task_does_not_wait_for_its_moment_again(self, driver: StoreDriver) -> None:
        bring(driver, "a", Phase.SCHEDULED)
        driver.cancel("a")
        driver.requeue("a")
        assert driver.state("a").phase is Phase.READY

    def test_an_expired_task_does_not_expire_again_once_requeued(self, driver: StoreDriver) -> None:
        driver.add(new_task("a", expires_at=at(5)))
        driver.advance(5)
        driver.requeue("a", now=at(6))
        assert driver.advance_fully(100) == []
        assert driver.state("a").phase is Phase.READY

    def test_a_task_can_be_requeued_as_often_as_it_fails(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        for epoch in range(1, 6):
            run = driver.start("a")
            assert (run.state.epoch, run.state.attempt) == (epoch, 1)
            driver.fail(run)
            driver.requeue("a")

    def test_a_requeue_is_refused_while_another_task_holds_the_unique_key(self, driver: StoreDriver) -> None:
        bring(driver, "a", Status.FAILED, unique_key="k")
        driver.add(new_task("b", unique_key="k"))
        error = driver.refused(Requeue(task_id="a", now=START), UniqueKeyTaken)
        assert (error.task_id, error.holder) == ("a", "b")

    def test_a_requeue_is_possible_once_the_unique_key_is_free(self, driver: StoreDriver) -> None:
        bring(driver, "a", Status.FAILED, unique_key="k")
        driver.add(new_task("b", unique_key="k"))
        driver.cancel("b")
        driver.requeue("a")
        assert driver.refused(Requeue(task_id="b", now=START), UniqueKeyTaken).holder == "a"
