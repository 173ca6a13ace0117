"""The contract of `Advance` and `TakeOver`: what time and the death of processes do to tasks."""

from __future__ import annotations

import pytest

from oq.events import EventKind
from oq.store.base import Advance, AppendChunks, Claimed, Finish, Renew, Succeeded
from oq.store.transitions import LOSSES_BEFORE_ALONE
from oq.task import Outcome, Phase, Status
from oq.testing.builders import at, block, claim, new_task, offer, pause
from oq.testing.driver import StoreDriver, task_ids
from oq.testing.store_contract.base import ContractFrame
from oq.testing.store_contract.following import kinds
from oq.testing.store_contract.situations import FINAL, PHASES, Place, bring


class Passing(ContractFrame):
    """Time passes."""

    # Due

    def test_nothing_to_do_is_said(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        reply = driver.advance(100)
        assert (reply.events, reply.next_at, reply.more) == ((), None, False)
        assert reply.lanes_version == driver.store.lanes()[0]

    def test_a_scheduled_task_is_ready_at_its_moment_and_not_before(self, driver: StoreDriver) -> None:
        driver.add(new_task("a", run_at=at(10)))
        early = driver.advance(9.999999)
        assert (early.events, early.next_at, early.more) == ((), at(10), False)
        assert driver.claim(now=at(9)).runs == ()
        reply = driver.advance(10)
        assert kinds(reply) == [(EventKind.READY, "a")]
        assert (reply.events[0].at, reply.next_at) == (at(10), None)
        assert (driver.state("a").phase, driver.state("a").due_at) == (Phase.READY, None)
        assert driver.advance(11).events == ()

    def test_a_retrying_task_is_ready_at_its_moment_and_not_before(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.retry(driver.start("a"), due_at=at(10))
        assert driver.advance(9).next_at == at(10)
        assert kinds(driver.advance(10)) == [(EventKind.READY, "a")]
        assert driver.start("a").state.attempt == 2

    def test_moments_are_told_apart_to_the_microsecond(self, driver: StoreDriver) -> None:
        driver.add(new_task("b", run_at=at(1.000002)), new_task("a", run_at=at(1.000001)))
        assert driver.advance(1.000001).next_at == at(1.000002)
        assert driver.state("b").phase is Phase.SCHEDULED

    def test_moments_may_be_far_away(self, driver: StoreDriver) -> None:
        past, future = at(-50 * 365 * 86_400), at(200 * 365 * 86_400)
        driver.add(new_task("a", run_at=future), new_task("b"), new_task("c", expires_at=past))
        driver.retry(driver.claim(limit=1).runs[0], due_at=past)
        reply = driver.send(Advance(now=past))
        assert sorted(kinds(reply)) == [(EventKind.FAILED, "c"), (EventKind.READY, "b")]
        assert reply.next_at == future
        assert driver.state("a").due_at == future

    def test_a_clock_that_went_back_makes_nothing_due(self, driver: StoreDriver) -> None:
        driver.add(new_task("a", run_at=at(10)))
        driver.advance(9)
        reply = driver.advance(-100)
        assert (reply.events, reply.next_at) == ((), at(10))

    def test_what_is_due_first_comes_first(self, driver: StoreDriver) -> None:
        driver.add(new_task("c", run_at=at(3)), new_task("a", run_at=at(1)), new_task("b", run_at=at(2)))
        assert task_ids(driver.advance(9, limit=1).events) == ["a"]
        assert task_ids(driver.advance(9, limit=1).events) == ["b"]

    def test_the_next_moment_is_the_earliest_of_all(self, driver: StoreDriver) -> None:
        driver.add(new_task("a", run_at=at(50)), new_task("b", lane="b"), new_task("c", lane="c", expires_at=at(70)))
        assert driver.advance().next_at == at(50)
        driver.claim(offer("b"), lease_until=at(30))
        assert driver.advance().next_at == at(30)
        driver.add(new_task("d", expires_at=at(20)))
        assert driver.advance().next_at == at(20)
        driver.cancel("d")
        assert driver.advance().next_at == at(30)
        driver.succeed(driver.claim(offer("c"), limit=1).runs[0])
        driver.take_over()
        driver.cancel("a")
        assert driver.advance().next_at is None

    def test_a_limit_leaves_more_to_do_and_loses_nothing(self, driver: StoreDriver) -> None:
        names = [f"task {n}" for n in range(25)]
        driver.add(*(new_task(name, run_at=at(5)) for name in names))
        replies = [driver.advance(5, limit=10) for _ in range(3)]
        assert [len(reply.events) for reply in replies] == [10, 10, 5]
        assert [reply.more for reply in replies] == [True, True, False]
        assert sorted(name for reply in replies for name in task_ids(reply.events)) == sorted(names)

    def test_a_limit_that_just_suffices_leaves_nothing(self, driver: StoreDriver) -> None:
        driver.add(*(new_task(name, run_at=at(5)) for name in "ab"), new_task("c", run_at=at(6)))
        reply = driver.advance(5, limit=2)
        assert (reply.more, reply.next_at) == (False, at(6))

    def test_a_paused_queue_still_moves_with_time(self, driver: StoreDriver) -> None:
        driver.send(pause("default"))
        driver.add(new_task("a", run_at=at(5)), new_task("b", expires_at=at(5)))
        driver.advance(5)
        assert (driver.state("a").phase, driver.state("b").status) == (Phase.READY, Status.FAILED)

    # Expiry

    @pytest.mark.parametrize("phase", [phase for phase in PHASES if phase is not Phase.RETRYING])
    def test_a_task_that_never_started_expires(self, driver: StoreDriver, phase: Phase) -> None:
        bring(driver, "a", phase, expires_at=at(10))
        assert driver.advance(9.999999).events == ()
        reply = driver.advance(10)
        full = driver.full("a")
        assert (full.state.status, full.state.phase, full.state.finished_at) == (Status.FAILED, None, at(10))
        assert full.state.failure is not None
        assert (full.state.failure.type, full.state.failure.retryable) == ("Expired", False)
        assert (full.state.due_at, full.state.expires_at, full.attempts) == (None, None, ())
        assert [(event.kind, event.failure) for event in reply.events] == [(EventKind.FAILED, full.state.failure)]
        assert driver.claim(now=at(11)).runs == ()
        assert driver.advance_fully(5_000) == []

    def test_expiry_goes_before_a_moment_that_comes_with_it(self, driver: StoreDriver) -> None:
        driver.add(new_task("a", run_at=at(10), expires_at=at(10)))
        assert kinds(driver.advance(10)) == [(EventKind.FAILED, "a")]

    def test_a_scheduled_task_that_is_due_may_still_expire(self, driver: StoreDriver) -> None:
        driver.add(new_task("a", run_at=at(5), expires_at=at(10)))
        assert driver.advance(5).next_at == at(10)
        assert kinds(driver.advance(10)) == [(EventKind.FAILED, "a")]

    def test_an_expired_follower_is_not_revived_by_its_parent(self, driver: StoreDriver) -> None:
        bring(driver, "a", Phase.BLOCKED, expires_at=at(10))
        driver.advance(10)
        assert kinds(driver.succeed(driver.claim(offer("parents")).runs[0])) == [(EventKind.COMPLETED, "parent of a")]
        assert driver.state("a").status is Status.FAILED

    @pytest.mark.parametrize("way", ["running", "released", "retrying", "lost"])
    def test_a_task_that_started_once_does_not_expire(self, driver: StoreDriver, way: str) -> None:
        driver.add(new_task("a", expires_at=at(10)))
        run = driver.start("a")
        match way:
            case "released":
                driver.release(run)
            case "retrying":
                driver.retry(run, due_at=at(500))
            case "lost":
                driver.take_over()
        assert driver.advance(100).events == ()
        assert not driver.state("a").status.final

    # Leases

    def test_a_run_whose_lease_has_passed_is_lost(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.start("a", now=at(1), lease_until=at(10))
        early = driver.advance(9)
        assert (early.events, early.next_at) == ((), at(10))
        reply = driver.advance(10)
        full = driver.full("a")
        assert (full.state.status, full.state.phase, full.state.losses) == (Status.PENDING, Phase.READY, 1)
        assert [(attempt.epoch, attempt.outcome, attempt.ended_at) for attempt in full.attempts] == [
            (1, Outcome.LOST, at(10))
        ]
        assert [(event.kind, event.status, event.epoch) for event in reply.events] == [
            (EventKind.LOST, Status.PENDING, 1)
        ]
        assert driver.store.stops() == []
        assert driver.start("a").state.epoch == 2

    def test_only_the_present_lease_of_a_task_counts(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.release(driver.start("a", lease_until=at(10)))
        driver.start("a", lease_until=at(50))
        assert driver.advance(10).events == ()
        assert kinds(driver.advance(50)) == [(EventKind.LOST, "a")]

    def test_a_renewed_lease_may_also_become_shorter(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        run = driver.start("a", lease_until=at(50))
        driver.send(Renew(runs=((run.seq, 1),), until=at(10)))
        assert driver.advance().next_at == at(10)
        assert kinds(driver.advance(10)) == [(EventKind.LOST, "a")]

    def test_leases_of_other_runs_go_on(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "ab"))
        driver.claim(limit=1, lease_until=at(10))
        driver.claim(limit=1, lease_until=at(20))
        assert kinds(driver.advance(15)) == [(EventKind.LOST, "a")]
        assert driver.state("b").status is Status.RUNNING

    def test_a_task_lost_while_it_ran_alone_is_poisoned(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.lose("a", LOSSES_BEFORE_ALONE)
        driver.start("a", lease_until=at(10))
        reply = driver.advance(10)
        full = driver.full("a")
        assert (full.state.status, full.state.losses) == (Status.FAILED, LOSSES_BEFORE_ALONE + 1)
        assert full.state.failure is not None
        assert (full.state.failure.type, full.state.failure.retryable) == ("Poisoned", False)
        assert full.state.finished_at == at(10)
        assert kinds(reply) == [(EventKind.FAILED, "a")]
        assert [attempt.outcome for attempt in full.attempts] == [Outcome.LOST] * (LOSSES_BEFORE_ALONE + 1)
        assert [attempt.failure for attempt in full.attempts] == [None] * LOSSES_BEFORE_ALONE + [full.state.failure]

    def test_losses_are_counted_though_runs_between_them_ended_otherwise(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.lose("a")
        driver.retry(driver.start("a"))
        driver.advance()
        driver.release(driver.start("a"))
        driver.lose("a")
        assert (driver.state("a").status, driver.state("a").losses) == (Status.PENDING, 2)
        driver.lose("a")
        assert driver.state("a").status is Status.FAILED

    # TTL

    def test_a_result_past_its_ttl_is_dropped_with_the_output(self, driver: StoreDriver) -> None:
        driver.add(new_task("a", result_ttl=10.5))
        run = driver.start("a")
        driver.send(AppendChunks(seq=run.seq, epoch=1, block=block(0, 2)))
        reply = driver.send(Finish(seq=run.seq, epoch=1, ending=Succeeded(b"result"), now=at(1), block=block(2, 1)))
        assert reply.events[0].wakes_at == driver.state("a").drop_at == at(11.5)
        early = driver.advance(11)
        assert (early.events, early.next_at) == ((), at(11.5))
        reply_at = driver.advance(11.5)
        full = driver.full("a")
        assert (full.state.status, full.result, full.state.result_size) == (Status.COMPLETED, None, None)
        assert driver.store.blocks(run.seq, 1, 0, 10) == []
        assert (full.payload, full.state.finished_at) == (b"payload", at(1))
        assert kinds(reply_at) == [(EventKind.DROPPED, "a")]
        assert (reply_at.next_at, driver.advance_fully(9_999)) == (None, [])

    def test_output_of_earlier_runs_is_dropped_with_the_result(self, driver: StoreDriver) -> None:
        driver.add(new_task("a", result_ttl=10))
        run = driver.start("a")
        driver.finish(run, Succeeded(None)) if run.state.epoch > 1 else driver.release(run)
        driver.send(AppendChunks(seq=run.seq, epoch=driver.start("a").state.epoch, block=block(0, 1)))
        driver.send(Finish(seq=run.seq, epoch=2, ending=Succeeded(None), now=at(0)))
        driver.advance(10)
        assert driver.store.blocks(run.seq, 1, 0, 10) == driver.store.blocks(run.seq, 2, 0, 10) == []

    def test_a_result_without_a_ttl_is_kept(self, driver: StoreDriver) -> None:
        bring(driver, "a", Status.COMPLETED)
        assert driver.advance(1_000_000_000).events == ()
        assert driver.full("a").result == b"result"

    def test_a_follower_still_sees_that_its_parent_completed_once_the_result_is_dropped(
        self, driver: StoreDriver
    ) -> None:
        bring(driver, "parent", Status.COMPLETED, result_ttl=1)
        driver.advance(5)
        driver.add(new_task("a", after=("parent",)))
        assert driver.state("a").phase is Phase.READY

    # Takeover

    def test_a_takeover_loses_every_run(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "abc"), new_task("d", lane="other"))
        driver.claim(limit=1)
        driver.claim(limit=1, worker="other", lease_until=at(500))
        reply = driver.take_over(now=at(7))
        assert sorted(kinds(reply)) == [(EventKind.LOST, "a"), (EventKind.LOST, "b")]
        assert {event.at for event in reply.events} == {at(7)}
        for task_id in "ab":
            full = driver.full(task_id)
            assert (full.state.phase, full.state.losses, full.state.lease_until) == (Phase.READY, 1, None)
            assert [attempt.outcome for attempt in full.attempts] == [Outcome.LOST]
        assert task_ids(driver.claim().runs) == ["a", "b", "c"]

    @pytest.mark.parametrize("place", [*(p for p in PHASES), *FINAL])
    def test_a_takeover_leaves_what_does_not_run_alone(self, driver: StoreDriver, place: Place) -> None:
        bring(driver, "a", place)
        before = driver.full("a")
        assert driver.take_over().events == ()
        assert driver.full("a") == before

    def test_after_a_takeover_nothing_is_to_stop(self, driver: StoreDriver) -> None:
        bring(driver, "a", Status.CANCELLED)
        assert driver.store.stops() != []
        driver.take_over()
        assert driver.store.stops() == []

    def test_a_second_takeover_finds_nothing(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.start("a")
        driver.take_over()
        assert driver.take_over().events == ()
        assert driver.state("a").losses == 1

    def test_a_claim_sent_again_after_a_takeover_gives_no_dead_run(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        op = claim()
        driver.send(op)
        driver.take_over()
        reply = driver.send(op)
        assert isinstance(reply, Claimed)
        assert [run.state for run in reply.runs if run.state != driver.state("a")] == []
