"""The contract of deletion: what may go, what goes with it, what stays sound without it, and how retention works."""

from __future__ import annotations

import pytest

from oq.errors import IdempotencyConflict, IllegalMove, InvalidTask, LeaseLost, TaskInUse, TaskNotFound
from oq.events import EventKind
from oq.store.base import AppendChunks, Cancel, Claimed, Delete, Finish, Requeue, Succeeded
from oq.store.transitions import RELEASED_AT_ONCE
from oq.task import Phase, Status
from oq.testing.builders import START, at, block, claim, new_task
from oq.testing.driver import StoreDriver
from oq.testing.store_contract.base import ContractFrame
from oq.testing.store_contract.situations import FINAL, LIVE, Place, bring


class Deleting(ContractFrame):
    """Final tasks can be deleted."""

    @pytest.mark.parametrize("status", FINAL)
    def test_a_deleted_task_is_gone_from_every_read(self, driver: StoreDriver, status: Status) -> None:
        run = bring(driver, "a", status, unique_key="k", group="g", result_ttl=100)
        assert run is not None
        before = driver.state("a")
        (event,) = driver.delete("a", now=at(5)).events
        assert (event.kind, event.at, event.task_id, event.seq) == (EventKind.DELETED, at(5), "a", run.seq)
        assert (event.status, event.epoch) == (before.status, before.epoch)
        store = driver.store
        assert store.get("a") is None
        assert store.load("a") is None
        assert store.resolve("a", 3) == []
        assert driver.records() == []
        assert [count for count in store.counts() if count.number] == []
        driver.refused(Delete(task_id="a", now=at(6)), TaskNotFound)
        assert store.check() == []
        reply = driver.advance(0)
        assert (reply.events, reply.next_at) == ((), None), "a timer outlives its task"

    def test_output_and_attempts_go_with_their_task(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        run = driver.start("a")
        driver.send(AppendChunks(seq=run.seq, epoch=1, block=block(0, 2)))
        driver.retry(run)
        driver.advance()
        driver.send(Finish(seq=run.seq, epoch=driver.start("a").state.epoch, ending=Succeeded(b"r"), now=START))
        driver.delete("a")
        assert driver.store.blocks(run.seq, 1, 0, 10) == []
        driver.add(new_task("a"))
        assert driver.full("a").attempts == ()
        assert (driver.full("a").result, driver.state("a").epoch) == (None, 0)

    @pytest.mark.parametrize("place", LIVE)
    def test_a_task_that_is_not_final_is_not_deleted(self, driver: StoreDriver, place: Place) -> None:
        bring(driver, "a", place)
        error = driver.refused(Delete(task_id="a", now=at(1)), IllegalMove)
        assert (error.task_id, error.move) == ("a", "delete")

    def test_an_unknown_task_is_not_deleted(self, driver: StoreDriver) -> None:
        assert driver.refused(Delete(task_id="nobody", now=START), TaskNotFound).task_id == "nobody"

    def test_neighbours_stay_as_they_are(self, driver: StoreDriver) -> None:
        for name in "abc":
            bring(driver, name, Status.COMPLETED)
        before = [driver.full("a"), driver.full("c")]
        driver.delete("b")
        assert [driver.full("a"), driver.full("c")] == before
        assert driver.ids() == ["c", "a"]

    def test_an_id_and_its_unique_key_can_be_used_again(self, driver: StoreDriver) -> None:
        bring(driver, "a", Status.CANCELLED, unique_key="k")
        driver.delete("a")
        (entry,) = driver.add(new_task("a", unique_key="k")).entries
        assert (entry.seq, entry.duplicate) == (2, False), "sequence numbers are given once"
        assert driver.start("a").seq == 2

    def test_what_was_deleted_stays_away_after_the_store_is_opened_again(self, driver: StoreDriver) -> None:
        bring(driver, "a", Status.COMPLETED)
        bring(driver, "b", Status.COMPLETED)
        driver.delete("b")
        driver.reopened(self.reopen(driver.store))
        assert driver.ids() == ["a"]
        assert driver.add(new_task("c")).entries[0].seq == 3

    # In use

    def test_a_task_is_kept_while_one_that_comes_after_it_is_not_final(self, driver: StoreDriver) -> None:
        driver.add(new_task("parent"), new_task("a", after=("parent",)))
        driver.succeed(driver.start("parent"), b"result")
        error = driver.refused(Delete(task_id="parent", now=START), TaskInUse)
        assert (error.task_id, error.needed_by) == ("parent", "a")
        run = driver.start("a")
        driver.refused(Delete(task_id="parent", now=START), TaskInUse)
        driver.retry(run, due_at=at(5))
        driver.refused(Delete(task_id="parent", now=START), TaskInUse)
        driver.advance(5)
        driver.succeed(driver.start("a"))
        driver.delete("parent")
        assert driver.ids() == ["a"]

    def test_a_task_that_was_final_when_another_came_after_it_is_in_use_too(self, driver: StoreDriver) -> None:
        bring(driver, "parent", Status.COMPLETED)
        driver.add(new_task("a", after=("parent",)))
        driver.refused(Delete(task_id="parent", now=START), TaskInUse)

    def test_the_first_of_those_in_need_is_named(self, driver: StoreDriver) -> None:
        bring(driver, "parent", Status.COMPLETED)
        driver.add(*(new_task(name, after=("parent", "parent")) for name in "bca"))
        assert driver.refused(Delete(task_id="parent", now=START), TaskInUse).needed_by == "b"
        driver.cancel("b")
        assert driver.refused(Delete(task_id="parent", now=START), TaskInUse).needed_by == "c"
        driver.cancel("c")
        driver.cancel("a")
        driver.delete("parent")

    def test_a_requeued_task_needs_its_parents_again(self, driver: StoreDriver) -> None:
        driver.add(new_task("parent"), new_task("a", after=("parent",)))
        driver.succeed(driver.start("parent"))
        driver.cancel("a")
        driver.requeue("a")
        driver.refused(Delete(task_id="parent", now=START), TaskInUse)
        driver.cancel("a")
        driver.delete("parent")

    def test_a_task_that_failed_with_its_parent_needs_it_no_more(self, driver: StoreDriver) -> None:
        driver.add(new_task("parent"), new_task("a", after=("parent",)))
        driver.fail(driver.start("parent"))
        bring(driver, "other", Status.FAILED)
        driver.add(new_task("b", after=("other",)))
        assert driver.state("b").status is Status.FAILED
        driver.delete("parent")
        driver.delete("other")

    def test_a_task_whose_parent_is_gone_is_ready_when_requeued(self, driver: StoreDriver) -> None:
        driver.add(new_task("parent"), new_task("other"), new_task("a", after=("parent", "other")))
        driver.cancel("parent")
        driver.delete("parent")
        driver.requeue("a")
        assert (driver.state("a").phase, driver.state("a").waiting_on) == (Phase.BLOCKED, 1)
        driver.succeed(driver.start("other"))
        assert driver.state("a").phase is Phase.READY

    def test_nobody_comes_after_a_later_task_under_the_id_of_a_deleted_one(self, driver: StoreDriver) -> None:
        driver.add(new_task("parent"), new_task("a", after=("parent",)))
        driver.cancel("parent")
        driver.delete("parent")
        driver.add(new_task("parent", after=("a",), on_parent_failure="continue"))
        driver.requeue("a")
        assert driver.state("a").phase is Phase.READY
        driver.refused(Delete(task_id="a", now=START), IllegalMove)
        driver.cancel("parent")
        driver.delete("parent")

    def test_no_new_task_comes_after_a_deleted_one(self, driver: StoreDriver) -> None:
        bring(driver, "parent", Status.COMPLETED)
        driver.delete("parent")
        with pytest.raises(InvalidTask):
            driver.add(new_task("a", after=("parent",)))

    def test_a_cancelled_follower_can_be_deleted_before_its_parent_ends(self, driver: StoreDriver) -> None:
        driver.add(new_task("parent"), *(new_task(name, after=("parent",)) for name in "ab"))
        driver.cancel("a")
        driver.delete("a")
        assert [event.task_id for event in driver.succeed(driver.start("parent")).events] == ["parent", "b"]

    def test_a_parent_whose_cancelled_followers_were_not_told_can_be_deleted(self, driver: StoreDriver) -> None:
        names = [f"follower {n}" for n in range(RELEASED_AT_ONCE + 5)]
        driver.add(new_task("parent"), *(new_task(name, after=("parent",)) for name in names))
        for name in names:
            driver.cancel(name)
        driver.cancel("parent")
        driver.delete("parent")
        driver.requeue(names[-1])
        assert driver.state(names[-1]).phase is Phase.READY
        assert driver.advance_fully() == []

    def test_a_result_past_its_ttl_is_kept_while_it_is_needed_and_not_much_longer(self, driver: StoreDriver) -> None:
        driver.add(new_task("parent", result_ttl=10), new_task("a", after=("parent",)))
        driver.succeed(driver.start("parent"), b"result")
        (event,) = driver.advance_fully(10)
        assert (event.kind, event.wakes_at) == (EventKind.SPARED, driver.state("parent").drop_at)
        assert driver.full("parent").result == b"result"
        next_at = driver.advance(11).next_at
        assert next_at is not None
        driver.succeed(driver.start("a"))
        assert next_at <= at(300)
        assert [event.kind for event in driver.advance_fully(300)] == [EventKind.DROPPED]
        assert driver.full("parent").result is None

    # Ops that name what is gone

    def test_a_claim_sent_again_gives_no_deleted_task(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"), new_task("b"))
        op = claim(limit=2)
        first, _ = driver.send(op).runs
        driver.succeed(first)
        driver.delete("a")
        again = driver.send(op)
        assert isinstance(again, Claimed)
        assert [run.head.id for run in again.runs] == ["b"]

    def test_a_run_that_was_cancelled_and_deleted_is_still_to_stop(self, driver: StoreDriver) -> None:
        run = bring(driver, "a", Status.CANCELLED)
        assert run is not None
        driver.delete("a")
        assert driver.store.stops() == [(run.seq, 1)]
        late = Finish(seq=run.seq, epoch=1, ending=Succeeded(b"late"), now=at(1))
        driver.refused(late, LeaseLost, stop=(run.seq, 1))
        driver.refused(AppendChunks(seq=run.seq, epoch=1, block=block(0, 1)), LeaseLost)
        assert driver.store.stops() == []

    def test_an_idempotency_key_goes_on_giving_the_task_that_was_deleted(self, driver: StoreDriver) -> None:
        first = driver.add(new_task("a"), idempotency="key", digest="d")
        driver.cancel("a")
        driver.delete("a")
        again = driver.add(new_task("b"), idempotency="key", digest="d")
        assert (again.entries, again.events, driver.ids()) == (first.entries, (), [])

    def test_all_else_says_that_a_deleted_task_is_not_found(self, driver: StoreDriver) -> None:
        bring(driver, "a", Status.FAILED)
        driver.delete("a")
        driver.refused(Cancel(task_id="a", now=START), TaskNotFound)
        driver.refused(Requeue(task_id="a", now=START), TaskNotFound)

    # Retention

    def test_tasks_that_ended_long_enough_ago_are_purged(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "abcd"))
        for seconds, name in enumerate("abcd"):
            driver.succeed(driver.claim(limit=1).runs[0], now=at(seconds))
            assert driver.state(name).status is Status.COMPLETED
        assert driver.purge(10, before=2) == ["a", "b", "c"]
        assert driver.ids() == ["d"]

    @pytest.mark.parametrize("status", FINAL)
    def test_each_status_has_a_moment_of_its_own(self, driver: StoreDriver, status: Status) -> None:
        for other in FINAL:
            bring(driver, other, other)
        assert driver.purge(10, before={status: at(5)}) == [status]

    @pytest.mark.parametrize("place", LIVE)
    def test_what_is_not_final_is_never_purged(self, driver: StoreDriver, place: Place) -> None:
        bring(driver, "a", place)
        assert driver.purge(10_000, before=10_000, most_completed=0) == []

    def test_tasks_in_use_are_passed_over_by_a_purge(self, driver: StoreDriver) -> None:
        for name in "abc":
            bring(driver, name, Status.COMPLETED)
        driver.add(new_task("follower", after=("b",)))
        assert driver.purge(10, before=5, limit=1) == ["a", "c"]
        driver.cancel("follower")
        assert driver.purge(10, before=5) == ["b", "follower"]

    def test_an_early_task_that_ended_late_is_judged_by_its_end(self, driver: StoreDriver) -> None:
        driver.add(new_task("slow", lane="slow"), *(new_task(name, submitted_at=at(1)) for name in "ab"))
        for run in driver.claim().runs:
            driver.succeed(run, now=at(2))
        driver.cancel("slow", now=at(100))
        assert driver.purge(150, before=50) == ["a", "b"]
        assert driver.purge(150, before=100) == ["slow"]

    def test_a_clock_that_was_ahead_for_a_while_does_not_stop_retention(self, driver: StoreDriver) -> None:
        driver.add(new_task("future", submitted_at=at(10**9)), new_task("a"))
        for run in driver.claim().runs:
            driver.succeed(run)
        assert driver.purge(10, before={Status.COMPLETED: at(5)}, limit=1) == ["future", "a"]

    @pytest.mark.parametrize("limit", [100, 3, 1])
    def test_completed_tasks_beyond_a_number_are_purged_oldest_first(self, driver: StoreDriver, limit: int) -> None:
        for name in "abcdef":
            bring(driver, name, Status.COMPLETED)
        bring(driver, "x", Status.FAILED)
        assert driver.purge(10, most_completed=4, limit=limit) == ["a", "b"]
        assert driver.purge(10, most_completed=4, limit=limit) == []
        assert driver.purge(10, most_completed=0, limit=limit) == ["c", "d", "e", "f"]

    @pytest.mark.parametrize("limit", [100, 1])
    def test_a_task_in_use_does_not_push_a_newer_one_out(self, driver: StoreDriver, limit: int) -> None:
        for name in "abc":
            bring(driver, name, Status.COMPLETED)
        driver.add(new_task("follower", after=("a",)))
        assert driver.purge(10, most_completed=2, limit=limit) == []
        assert driver.purge(10, most_completed=1, limit=limit) == ["b"]

    def test_a_step_of_a_purge_is_bounded_and_says_where_to_go_on(self, driver: StoreDriver) -> None:
        names = [f"task {n:02}" for n in range(25)]
        for name in names:
            bring(driver, name, Status.COMPLETED)
        assert driver.purge(10, before=5, limit=10) == names

    @pytest.mark.parametrize("limit", [100, 1])
    def test_idempotency_keys_are_forgotten_when_they_are_old(self, driver: StoreDriver, limit: int) -> None:
        for second, name in enumerate("abc"):
            driver.add(new_task(name), idempotency=f"key {name}" + "!" * 600 * second, digest=name, now=at(second))
        assert driver.purge(10, idempotent_before=at(1), limit=limit) == []
        driver.add(new_task("d"), idempotency="key a", digest="another")
        with pytest.raises(IdempotencyConflict):
            driver.add(new_task("e"), idempotency="key c" + "!" * 1_200, digest="another")
        assert driver.add(new_task("f"), idempotency="key b" + "!" * 600, digest="b").entries[0].task_id == "f"

    def test_a_purge_with_nothing_to_do_does_nothing(self, driver: StoreDriver) -> None:
        bring(driver, "a", Status.COMPLETED)
        assert driver.purge(10) == []
        assert driver.purge(10, before=-5) == []
