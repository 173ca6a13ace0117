"""The contract of `after`: who waits for whom, who fails with whom, and that nobody is forgotten."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from oq.events import Event, EventKind
from oq.store.base import Finish, Reply, Succeeded
from oq.store.transitions import LOSSES_BEFORE_ALONE
from oq.task import OnParentFailure, Phase, Priority, Status
from oq.testing.builders import at, new_task, offer
from oq.testing.driver import StoreDriver, task_ids
from oq.testing.store_contract.base import ContractFrame
from oq.testing.store_contract.situations import bring

FALLEN = (Status.FAILED, Status.CANCELLED)

MANY = 1_000
"""More followers than any op tells at once."""


def kinds(reply: Reply) -> list[tuple[EventKind, str]]:
    return [(event.kind, event.task_id) for event in reply.events]


class Following(ContractFrame):
    """Tasks come after others."""

    # Waiting

    def test_a_follower_is_blocked_until_its_parent_completes(self, driver: StoreDriver) -> None:
        driver.add(new_task("parent"), new_task("a", after=("parent",)))
        assert (driver.state("a").phase, driver.state("a").waiting_on) == (Phase.BLOCKED, 1)
        reply = driver.succeed(driver.start("parent"), now=at(5))
        assert kinds(reply) == [(EventKind.COMPLETED, "parent"), (EventKind.READY, "a")]
        assert (driver.state("a").phase, driver.state("a").waiting_on) == (Phase.READY, 0)
        assert [event.at for event in reply.events] == [at(5), at(5)]
        assert driver.start("a").state.attempt == 1

    @pytest.mark.parametrize("apart", [False, True], ids=["one op", "two ops"])
    def test_a_follower_may_come_in_the_op_of_its_parent_or_later(self, driver: StoreDriver, apart: bool) -> None:
        parent, follower = new_task("parent"), new_task("a", after=("parent",))
        if apart:
            driver.add(parent)
            driver.add(follower)
        else:
            driver.add(parent, follower)
        assert task_ids(driver.claim().runs) == ["parent"]

    def test_a_follower_waits_for_each_of_its_parents(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "xyz"), new_task("a", after=("x", "y", "z")))
        x, y, z = driver.claim().runs
        assert kinds(driver.succeed(y)) == [(EventKind.COMPLETED, "y")]
        assert driver.state("a").waiting_on == 2
        driver.succeed(x)
        assert driver.state("a").phase is Phase.BLOCKED
        assert kinds(driver.succeed(z)) == [(EventKind.COMPLETED, "z"), (EventKind.READY, "a")]

    def test_a_parent_named_twice_counts_once(self, driver: StoreDriver) -> None:
        driver.add(new_task("parent"), new_task("a", after=("parent", "parent")))
        assert driver.state("a").waiting_on == 1
        driver.succeed(driver.start("parent"))
        assert driver.state("a").phase is Phase.READY

    def test_a_completed_parent_is_not_waited_for(self, driver: StoreDriver) -> None:
        bring(driver, "done", Status.COMPLETED)
        driver.add(new_task("a", after=("done",)), new_task("open"), new_task("b", after=("done", "open")))
        assert driver.state("a").phase is Phase.READY
        assert driver.state("b").waiting_on == 1

    def test_a_follower_still_waits_for_its_own_moment(self, driver: StoreDriver) -> None:
        driver.add(new_task("parent"), new_task("a", after=("parent",), run_at=at(60)))
        assert driver.state("a").phase is Phase.BLOCKED
        _, event = driver.succeed(driver.start("parent"), now=at(5)).events
        assert (driver.state("a").phase, driver.state("a").due_at) == (Phase.SCHEDULED, at(60))
        assert (event.task_id, event.phase, event.wakes_at) == ("a", Phase.SCHEDULED, at(60))
        assert [(event.kind, event.task_id) for event in driver.advance_fully(60)] == [(EventKind.READY, "a")]

    def test_a_follower_whose_moment_passed_meanwhile_is_ready(self, driver: StoreDriver) -> None:
        driver.add(new_task("parent"), new_task("a", after=("parent",), run_at=at(60)))
        assert driver.advance_fully(70) == []
        driver.succeed(driver.start("parent"), now=at(70))
        assert driver.state("a").phase is Phase.READY

    def test_a_retry_or_release_of_the_parent_tells_nobody(self, driver: StoreDriver) -> None:
        driver.add(new_task("parent"), new_task("a", after=("parent",)))
        driver.release(driver.start("parent"))
        driver.retry(driver.start("parent"))
        driver.advance()
        driver.lose("parent")
        assert driver.state("a").phase is Phase.BLOCKED

    def test_followers_are_told_in_the_order_they_were_added(self, driver: StoreDriver) -> None:
        driver.add(new_task("parent"))
        driver.add(new_task("c", after=("parent",)), new_task("b", after=("parent",), priority=Priority.HIGH))
        driver.add(new_task("a", after=("parent",)))
        assert task_ids(driver.succeed(driver.start("parent")).events) == ["parent", "c", "b", "a"]

    # Failing

    @pytest.mark.parametrize("status", FALLEN)
    def test_a_follower_fails_with_its_parent(self, driver: StoreDriver, status: Status) -> None:
        driver.add(new_task("parent"), new_task("a", after=("parent",)))
        reply = self._end(driver, "parent", status)
        state = driver.state("a")
        assert (state.status, state.phase, state.finished_at) == (Status.FAILED, None, at(5))
        assert state.failure is not None
        assert (state.failure.type, state.failure.retryable) == ("ParentFailed", False)
        assert kinds(reply)[1:] == [(EventKind.FAILED, "a")]
        assert driver.full("a").attempts == ()

    @pytest.mark.parametrize("status", FALLEN)
    def test_a_follower_that_continues_is_ready_whatever_became_of_its_parent(
        self, driver: StoreDriver, status: Status
    ) -> None:
        driver.add(new_task("parent"), new_task("a", after=("parent",), on_parent_failure="continue"))
        assert kinds(self._end(driver, "parent", status))[1:] == [(EventKind.READY, "a")]
        assert driver.state("a").failure is None

    @pytest.mark.parametrize("status", FALLEN)
    def test_a_task_added_after_a_failed_parent_fails_at_once(self, driver: StoreDriver, status: Status) -> None:
        bring(driver, "parent", status)
        reply = driver.add(new_task("a", after=("parent",)), new_task("b", after=("a",)), now=at(6))
        assert kinds(reply) == [
            (EventKind.SUBMITTED, "a"),
            (EventKind.FAILED, "a"),
            (EventKind.SUBMITTED, "b"),
            (EventKind.FAILED, "b"),
        ]
        assert reply.events[1].failure == driver.state("a").failure
        assert driver.claim().runs == ()

    @pytest.mark.parametrize("status", FALLEN)
    def test_a_task_that_continues_after_a_failed_parent_is_ready_at_once(
        self, driver: StoreDriver, status: Status
    ) -> None:
        bring(driver, "parent", status)
        driver.add(new_task("a", after=("parent",), on_parent_failure="continue"))
        assert driver.state("a").phase is Phase.READY

    @pytest.mark.parametrize("status", FALLEN)
    def test_a_task_that_continues_after_a_failed_parent_still_waits_for_those_open(
        self, driver: StoreDriver, status: Status
    ) -> None:
        bring(driver, "fallen", status)
        driver.add(new_task("open"), new_task("a", after=("fallen", "open"), on_parent_failure="continue"))
        assert (driver.state("a").phase, driver.state("a").waiting_on) == (Phase.BLOCKED, 1)
        assert kinds(driver.fail(driver.start("open"))) == [(EventKind.FAILED, "open"), (EventKind.READY, "a")]

    def test_a_failed_parent_outweighs_those_still_open(self, driver: StoreDriver) -> None:
        bring(driver, "fallen", Status.FAILED)
        driver.add(new_task("open"), new_task("a", after=("open", "fallen")))
        assert driver.state("a").status is Status.FAILED
        assert kinds(driver.succeed(driver.start("open"))) == [(EventKind.COMPLETED, "open")]
        assert driver.state("a").status is Status.FAILED

    def test_one_failed_parent_of_several_fails_the_follower_once(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "xy"), new_task("a", after=("x", "y")))
        x, y = driver.claim().runs
        assert kinds(driver.fail(x)) == [(EventKind.FAILED, "x"), (EventKind.FAILED, "a")]
        assert kinds(driver.fail(y)) == [(EventKind.FAILED, "y")]

    def test_a_failure_cascades_and_stops_at_those_who_continue(self, driver: StoreDriver) -> None:
        driver.add(
            new_task("parent"),
            new_task("a", after=("parent",)),
            new_task("b", after=("a",)),
            new_task("c", after=("b",), on_parent_failure="continue"),
            new_task("d", after=("c",)),
        )
        reply = driver.cancel("parent")
        assert kinds(reply)[1:] == [(EventKind.FAILED, "a"), (EventKind.FAILED, "b"), (EventKind.READY, "c")]
        assert driver.state("d").phase is Phase.BLOCKED

    def test_a_parent_that_expires_tells_its_followers(self, driver: StoreDriver) -> None:
        driver.add(new_task("parent", expires_at=at(5)), new_task("a", after=("parent",)))
        assert kinds(driver.advance(5)) == [(EventKind.FAILED, "parent"), (EventKind.FAILED, "a")]

    def test_a_poisoned_parent_tells_its_followers(self, driver: StoreDriver) -> None:
        driver.add(new_task("parent"), new_task("a", after=("parent",)))
        driver.lose("parent", LOSSES_BEFORE_ALONE)
        driver.start("parent")
        assert kinds(driver.take_over()) == [(EventKind.FAILED, "parent"), (EventKind.FAILED, "a")]

    def test_a_failed_follower_whose_expiry_passed_too_ends_once(self, driver: StoreDriver) -> None:
        driver.add(new_task("parent", expires_at=at(5)), new_task("a", after=("parent",), expires_at=at(6)))
        events = driver.advance_fully(10)
        assert [(event.kind, event.task_id) for event in events] == [
            (EventKind.FAILED, "parent"),
            (EventKind.FAILED, "a"),
        ]

    # Cancelled and requeued

    def test_a_cancelled_follower_is_not_revived_by_its_parent(self, driver: StoreDriver) -> None:
        driver.add(new_task("parent"), new_task("a", after=("parent",)))
        driver.cancel("a")
        assert kinds(driver.succeed(driver.start("parent"))) == [(EventKind.COMPLETED, "parent")]
        assert driver.state("a").status is Status.CANCELLED

    def test_a_requeued_follower_waits_again_for_a_parent_that_is_open(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "xy"), new_task("a", after=("x", "y")))
        x, y = driver.claim().runs
        driver.cancel("a")
        driver.succeed(x)
        driver.requeue("a")
        assert (driver.state("a").phase, driver.state("a").waiting_on) == (Phase.BLOCKED, 1)
        assert kinds(driver.succeed(y)) == [(EventKind.COMPLETED, "y"), (EventKind.READY, "a")]

    def test_a_follower_requeued_again_and_again_waits_for_each_parent_once(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "xy"), new_task("a", after=("x", "y")))
        x, y = driver.claim().runs
        for _ in range(3):
            driver.cancel("a")
            driver.requeue("a")
        assert driver.state("a").waiting_on == 2
        driver.succeed(x)
        assert (driver.state("a").phase, driver.state("a").waiting_on) == (Phase.BLOCKED, 1)
        driver.succeed(y)
        assert driver.state("a").phase is Phase.READY

    def test_a_requeued_follower_does_not_wait_for_a_parent_that_ended(self, driver: StoreDriver) -> None:
        driver.add(new_task("parent"), new_task("a", after=("parent",)))
        driver.cancel("parent")
        driver.requeue("a")
        assert driver.state("a").phase is Phase.READY

    def test_a_requeued_parent_leaves_its_failed_followers_failed(self, driver: StoreDriver) -> None:
        driver.add(new_task("parent"), new_task("a", after=("parent",)))
        driver.cancel("parent")
        driver.requeue("parent")
        assert kinds(driver.succeed(driver.start("parent"))) == [(EventKind.COMPLETED, "parent")]
        assert driver.state("a").status is Status.FAILED

    def test_a_follower_requeued_after_its_parent_waits_for_it_again(self, driver: StoreDriver) -> None:
        driver.add(new_task("parent"), new_task("a", after=("parent",)))
        driver.cancel("parent")
        driver.requeue("parent")
        driver.requeue("a")
        assert driver.state("a").phase is Phase.BLOCKED
        assert kinds(driver.succeed(driver.start("parent"))) == [
            (EventKind.COMPLETED, "parent"),
            (EventKind.READY, "a"),
        ]

    def test_a_follower_told_once_does_not_wait_again_for_a_requeued_parent(self, driver: StoreDriver) -> None:
        driver.add(new_task("x"), new_task("y"), new_task("a", after=("x", "y"), on_parent_failure="continue"))
        driver.cancel("x")
        driver.requeue("x")
        assert driver.state("a").waiting_on == 1
        x, y = driver.claim().runs
        assert kinds(driver.succeed(y)) == [(EventKind.COMPLETED, "y"), (EventKind.READY, "a")]
        assert kinds(driver.succeed(x)) == [(EventKind.COMPLETED, "x")]

    # Many

    @pytest.mark.parametrize("on_parent_failure", ["fail", "continue"])
    @pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.CANCELLED])
    def test_a_thousand_followers_are_told_in_portions(
        self, driver: StoreDriver, status: Status, on_parent_failure: OnParentFailure
    ) -> None:
        names = self._add_many(driver, on_parent_failure)
        reply = self._end(driver, "parent", status)
        assert reply.unsettled is True
        assert 1 < len(reply.events) < MANY
        rest = driver.advance_fully(6, limit=100)
        told = [*reply.events[1:], *rest]
        assert task_ids(told) == names
        failed = status is not Status.COMPLETED and on_parent_failure == "fail"
        assert {event.kind for event in told} == {EventKind.FAILED if failed else EventKind.READY}
        assert driver.advance(7).events == ()
        if not failed:
            assert task_ids(driver.claim().runs) == names

    @pytest.mark.parametrize("way", ["expired", "poisoned", "lease over"])
    def test_a_thousand_followers_hear_of_a_parent_that_time_or_death_ended(
        self, driver: StoreDriver, way: str
    ) -> None:
        names = self._add_many(driver, expires_at=at(10) if way == "expired" else None)
        if way != "expired":
            driver.lose("parent", LOSSES_BEFORE_ALONE)
            driver.start("parent", lease_until=at(10))
        if way == "poisoned":
            death = driver.take_over()
            assert death.unsettled is True
            events = [*death.events, *driver.advance_fully(10)]
        else:
            passing = driver.advance(10, limit=5)
            assert passing.more is True
            events = [*passing.events, *driver.advance_fully(10)]
        assert task_ids(events) == ["parent", *names]
        assert {event.status for event in events} == {Status.FAILED}

    def test_an_advance_tells_no_more_followers_than_its_limit(self, driver: StoreDriver) -> None:
        self._add_many(driver)
        told = len(driver.succeed(driver.start("parent")).events) - 1
        reply = driver.advance(limit=10)
        assert (len(reply.events), reply.more, reply.unsettled) == (10, True, True)
        rest = driver.advance(limit=MANY)
        assert (len(rest.events), rest.more, rest.unsettled) == (MANY - told - 10, False, False)

    def test_a_long_chain_fails_to_its_end(self, driver: StoreDriver) -> None:
        names = [f"link {n}" for n in range(MANY)]
        driver.add(new_task(names[0]), *(new_task(b, after=(a,)) for a, b in pairwise(names)))
        events: list[Event] = [*driver.cancel(names[0]).events]
        assert len(events) < MANY
        events += driver.advance_fully()
        assert task_ids(events) == names

    def test_followers_not_yet_told_wait_on_when_their_parent_is_requeued(self, driver: StoreDriver) -> None:
        names = self._add_many(driver)
        told = task_ids(driver.fail(driver.start("parent")).events)[1:]
        driver.requeue("parent")
        assert driver.advance_fully() == []
        waiting = names[len(told) :]
        assert {driver.state(name).phase for name in waiting} == {Phase.BLOCKED}
        events = [*driver.succeed(driver.start("parent")).events[1:], *driver.advance_fully()]
        assert task_ids(events) == waiting
        assert {event.kind for event in events} == {EventKind.READY}
        assert {driver.state(name).status for name in told} == {Status.FAILED}

    def test_a_follower_cancelled_before_it_is_told_stays_cancelled(self, driver: StoreDriver) -> None:
        names = self._add_many(driver)
        driver.succeed(driver.start("parent"))
        driver.cancel(names[-1])
        assert names[-1] not in task_ids(driver.advance_fully())
        assert driver.state(names[-1]).status is Status.CANCELLED

    def test_a_follower_requeued_before_it_is_told_still_waits_for_its_other_parent(self, driver: StoreDriver) -> None:
        self._add_many(driver)
        driver.add(new_task("open", lane="open"), new_task("a", after=("parent", "open")))
        driver.succeed(driver.start("parent"))
        driver.cancel("a")
        driver.requeue("a")
        driver.advance_fully()
        assert (driver.state("a").phase, driver.state("a").waiting_on) == (Phase.BLOCKED, 1)
        driver.succeed(driver.claim(offer("open")).runs[0])
        assert driver.state("a").phase is Phase.READY

    def test_a_follower_added_while_others_are_told_does_not_wait(self, driver: StoreDriver) -> None:
        self._add_many(driver)
        driver.succeed(driver.start("parent"))
        driver.add(new_task("late", after=("parent",)))
        assert driver.state("late").phase is Phase.READY
        assert "late" not in task_ids(driver.advance_fully())

    def test_a_task_can_come_after_very_many(self, driver: StoreDriver) -> None:
        names = [f"parent {n}" for n in range(MANY)]
        driver.add(*map(new_task, names), new_task("a", after=tuple(names)))
        assert driver.state("a").waiting_on == MANY
        *most, last = driver.claim(limit=MANY).runs
        driver.apply(*(Finish(seq=run.seq, epoch=1, ending=Succeeded(None), now=at(5)) for run in most))
        assert (driver.state("a").phase, driver.state("a").waiting_on) == (Phase.BLOCKED, 1)
        assert kinds(driver.succeed(last))[1:] == [(EventKind.READY, "a")]

    def _add_many(
        self,
        driver: StoreDriver,
        on_parent_failure: OnParentFailure = "fail",
        **parent: Any,
    ) -> list[str]:
        """Add a task `parent` and very many that come after it; gives their ids."""
        names = [f"follower {n}" for n in range(MANY)]
        followers = (new_task(name, after=("parent",), on_parent_failure=on_parent_failure) for name in names)
        driver.add(new_task("parent", **parent), *followers)
        return names

    def _end(self, driver: StoreDriver, task_id: str, status: Status) -> Reply:
        """End a ready task; gives the reply to the op that did it."""
        if status is Status.CANCELLED:
            return driver.cancel(task_id, now=at(5))
        run = driver.start(task_id)
        return driver.succeed(run, now=at(5)) if status is Status.COMPLETED else driver.fail(run, now=at(5))
