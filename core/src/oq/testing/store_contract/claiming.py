"""The contract of `Claim`: rank, lanes, pools, pauses, tokens, tasks that run alone."""

from __future__ import annotations

import pytest

from oq.errors import IllegalMove
from oq.events import EventKind
from oq.store.base import EVERY_QUEUE, Cancel
from oq.store.transitions import LOSSES_BEFORE_ALONE
from oq.task import Phase, Priority, Status
from oq.testing.builders import POOL, START, at, claim, new_task, offer, pause
from oq.testing.driver import StoreDriver, task_ids
from oq.testing.store_contract.base import ContractFrame
from oq.testing.store_contract.situations import LATER, PLACES, Place, bring

LOW, NORMAL, HIGH, CRITICAL = Priority


class Claiming(ContractFrame):
    """Tasks are taken, best rank first."""

    # What a claim gives

    def test_a_run_has_all_that_is_needed_to_run_it(self, driver: StoreDriver) -> None:
        task = new_task("a", payload=b"prompt", priority=HIGH, tags=("t",))
        driver.add(task)
        reply = driver.claim(worker="w7", now=at(3), lease_until=at(30))
        (run,) = reply.runs
        assert (run.seq, run.head, run.payload, run.units) == (driver.record("a").seq, task.head, b"prompt", (POOL,))
        assert run.state == driver.state("a")
        assert (run.state.status, run.state.phase) == (Status.RUNNING, None)
        assert (run.state.worker, run.state.started_at, run.state.lease_until) == ("w7", at(3), at(30))
        assert (run.state.epoch, run.state.attempt) == (1, 1)
        assert [(event.kind, event.task_id, event.epoch, event.at) for event in reply.events] == [
            (EventKind.STARTED, "a", 1, at(3))
        ]

    def test_a_run_without_a_lease_has_none(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        assert driver.start("a").state.lease_until is None

    def test_nothing_ready_gives_nothing(self, driver: StoreDriver) -> None:
        reply = driver.claim()
        assert (reply.runs, reply.more, reply.events) == ((), False, ())

    def test_a_claimed_task_is_not_claimed_again(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.start("a")
        assert driver.claim(worker="other").runs == ()

    @pytest.mark.parametrize("place", [place for place in PLACES if place is not Phase.READY])
    def test_only_ready_tasks_are_claimed(self, driver: StoreDriver, place: Place) -> None:
        bring(driver, "a", place)
        assert driver.claim(now=LATER).runs == ()

    def test_events_and_runs_come_best_rank_first(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"), new_task("b", priority=HIGH), new_task("c"))
        reply = driver.claim()
        assert task_ids(reply.runs) == task_ids(reply.events) == ["b", "a", "c"]

    def test_a_claim_tells_the_version_of_the_lanes(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"), new_task("b", lane="other"))
        assert driver.claim().lanes_version == driver.store.lanes()[0]

    # Rank

    def test_the_highest_priority_starts_first(self, driver: StoreDriver) -> None:
        driver.add(*(new_task(p.name, priority=p) for p in (NORMAL, LOW, CRITICAL, HIGH)))
        assert task_ids(driver.claim().runs) == ["CRITICAL", "HIGH", "NORMAL", "LOW"]

    def test_of_one_priority_the_first_added_starts_first(self, driver: StoreDriver) -> None:
        names = [f"task {n}" for n in (3, 1, 2, 10, 0)]
        driver.add(*map(new_task, names))
        assert task_ids(driver.claim().runs) == names

    @pytest.mark.parametrize("step", [0, -60])
    def test_clocks_play_no_part_in_the_order(self, driver: StoreDriver, step: int) -> None:
        for index, name in enumerate("cab"):
            moment = at(index * step)
            driver.add(new_task(name, submitted_at=moment), now=moment)
        assert task_ids(driver.claim(now=at(-1_000)).runs) == list("cab")

    def test_rank_goes_across_lanes_and_queues(self, driver: StoreDriver) -> None:
        driver.add(
            new_task("a", lane="x"),
            new_task("b", lane="y", priority=HIGH),
            new_task("c", queue="q"),
            new_task("d", lane="x"),
            new_task("e", queue="q", priority=HIGH),
        )
        offers = offer("x"), offer("y"), offer(queue="q")
        assert task_ids(driver.claim(*offers).runs) == list("beacd")

    def test_a_limit_takes_the_best(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"), new_task("b"), new_task("c", priority=HIGH))
        first = driver.claim(limit=2)
        assert (task_ids(first.runs), first.more) == (["c", "a"], True)
        second = driver.claim(limit=2)
        assert (task_ids(second.runs), second.more) == (["b"], False)

    def test_a_limit_that_just_suffices_leaves_nothing(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"), new_task("b"))
        assert driver.claim(limit=2).more is False

    def test_a_retried_task_keeps_its_rank(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.retry(driver.start("a"), due_at=at(1))
        driver.add(new_task("b"))
        driver.advance(1)
        assert task_ids(driver.claim().runs) == ["a", "b"]

    def test_a_released_task_keeps_its_rank(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        run = driver.start("a")
        driver.add(new_task("b"))
        driver.release(run)
        assert task_ids(driver.claim().runs) == ["a", "b"]

    def test_a_lost_task_keeps_its_rank(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.start("a")
        driver.add(new_task("b"))
        driver.take_over()
        assert task_ids(driver.claim().runs) == ["a", "b"]

    def test_a_scheduled_task_keeps_its_rank(self, driver: StoreDriver) -> None:
        driver.add(new_task("a", run_at=at(5)), new_task("b"))
        driver.advance(5)
        assert task_ids(driver.claim().runs) == ["a", "b"]

    def test_a_requeued_task_keeps_its_rank(self, driver: StoreDriver) -> None:
        bring(driver, "a", Status.FAILED)
        driver.add(new_task("b"))
        driver.requeue("a")
        assert task_ids(driver.claim().runs) == ["a", "b"]

    def test_a_follower_keeps_its_rank(self, driver: StoreDriver) -> None:
        driver.add(new_task("parent"), new_task("a", after=("parent",)), new_task("b"))
        driver.succeed(driver.claim(limit=1).runs[0])
        assert task_ids(driver.claim().runs) == ["a", "b"]

    def test_a_changed_priority_changes_the_rank_and_nothing_else(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "abcd"))
        driver.set_priority("c", HIGH)
        driver.set_priority("a", LOW)
        driver.set_priority("b", CRITICAL)
        driver.set_priority("b", NORMAL)
        assert task_ids(driver.claim().runs) == list("cbda")

    def test_a_priority_changed_while_blocked_counts_once_ready(self, driver: StoreDriver) -> None:
        bring(driver, "a", Phase.SCHEDULED)
        driver.add(new_task("b"))
        driver.set_priority("a", LOW)
        driver.advance_fully(1_000)
        assert task_ids(driver.claim().runs) == ["b", "a"]

    def test_a_priority_changed_while_running_counts_in_the_next_run(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        run = driver.start("a")
        driver.add(new_task("b"))
        driver.set_priority("a", LOW)
        driver.release(run)
        assert task_ids(driver.claim().runs) == ["b", "a"]

    def test_a_requeued_task_keeps_its_priority(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.set_priority("a", HIGH)
        driver.cancel("a")
        driver.requeue("a")
        assert driver.state("a").priority == HIGH

    # Lanes

    @pytest.mark.parametrize("where", [{"lane": "other"}, {"queue": "other"}, {"executor": "other"}], ids=str)
    def test_only_lanes_that_are_offered_are_looked_at(self, driver: StoreDriver, where: dict[str, str]) -> None:
        driver.add(new_task("a", priority=CRITICAL, **where), new_task("b"))  # type: ignore[arg-type]
        reply = driver.claim()
        assert (task_ids(reply.runs), reply.more) == (["b"], False)

    def test_no_offers_take_nothing(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        assert driver.claim(offer("empty"), offer("lane", queue="empty")).runs == ()

    def test_names_of_lanes_do_not_run_together(self, driver: StoreDriver) -> None:
        driver.add(new_task("a", queue="x", executor="yz", lane="l"), new_task("b", queue="xy", executor="z", lane="l"))
        driver.add(new_task("c", queue="x", executor="y", lane="zl"))
        assert task_ids(driver.claim(offer("l", queue="xy", executor="z")).runs) == ["b"]

    # Pools

    def test_no_more_are_taken_than_units_are_free(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "abc"))
        reply = driver.claim(free={POOL: 2})
        assert (task_ids(reply.runs), reply.more) == (["a", "b"], True)

    def test_units_that_just_suffice_leave_nothing(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "ab"))
        assert driver.claim(free={POOL: 2}).more is False

    def test_a_task_needs_a_unit_of_each_of_its_pools(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "abc"))
        reply = driver.claim(offer(needs=("p", "q")), free={"p": 5, "q": 1})
        assert [(run.head.id, run.units) for run in reply.runs] == [("a", ("p", "q"))]

    def test_a_pool_that_is_not_said_to_be_free_is_not(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        reply = driver.claim(offer(needs=("p",)), free={"q": 5})
        assert (reply.runs, reply.more) == ((), True)

    def test_a_task_that_needs_no_pool_starts(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        assert driver.claim(offer(needs=()), free={}).runs[0].units == ()

    def test_the_last_unit_goes_to_the_best_rank(self, driver: StoreDriver) -> None:
        driver.add(new_task("a", lane="x"), new_task("b", lane="y", priority=HIGH))
        assert task_ids(driver.claim(offer("x"), offer("y"), free={POOL: 1}).runs) == ["b"]

    def test_a_full_lane_holds_up_no_other(self, driver: StoreDriver) -> None:
        driver.add(*(new_task(f"full {n}", lane="full", priority=HIGH) for n in range(50)), new_task("a", lane="open"))
        offers = offer("full", needs=(POOL, "gpu")), offer("open")
        reply = driver.claim(*offers, free={POOL: 3, "gpu": 2})
        assert task_ids(reply.runs) == ["full 0", "full 1", "a"]
        assert reply.more is True

    def test_a_lane_that_finds_no_unit_takes_none(self, driver: StoreDriver) -> None:
        driver.add(new_task("a", lane="x"), new_task("b", lane="y"))
        reply = driver.claim(offer("x", needs=(POOL, "gpu")), offer("y"), free={POOL: 1, "gpu": 0})
        assert task_ids(reply.runs) == ["b"]

    def test_a_choice_takes_the_pool_of_the_first_group_with_most_free(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "abcdef"))
        chosen = driver.claim(
            offer(choices=(("one", "two"), ("spare",))), free={POOL: 10, "one": 1, "two": 3, "spare": 1}
        )
        assert [run.units for run in chosen.runs[:2]] == [(POOL, "two"), (POOL, "two")]
        assert sorted(run.units for run in chosen.runs[2:4]) == [(POOL, "one"), (POOL, "two")]
        assert [run.units for run in chosen.runs[4:]] == [(POOL, "spare")]
        assert chosen.more is True

    def test_an_offer_is_for_tasks_of_its_priorities(self, driver: StoreDriver) -> None:
        driver.add(*(new_task(p.name, priority=p) for p in Priority))
        urgent, rest = offer(lowest=HIGH, choices=[["far"]]), offer(highest=Priority.NORMAL, choices=[["near"]])
        reply = driver.claim(urgent, rest, free={POOL: 10, "near": 2, "far": 1})
        assert [(run.head.id, run.units[-1]) for run in reply.runs] == [
            ("CRITICAL", "far"),
            ("NORMAL", "near"),
            ("LOW", "near"),
        ]
        assert reply.more is True
        assert task_ids(driver.claim(urgent, free={POOL: 10, "far": 1}).runs) == ["HIGH"]

    # Pauses

    @pytest.mark.parametrize("name", ["default", EVERY_QUEUE])
    def test_a_paused_queue_gives_nothing_until_it_is_resumed(self, driver: StoreDriver, name: str) -> None:
        driver.add(new_task("a"))
        driver.send(pause(name))
        assert driver.claim().runs == ()
        assert driver.state("a").phase is Phase.READY
        driver.send(pause(name, paused=False))
        assert task_ids(driver.claim().runs) == ["a"]

    def test_a_paused_queue_holds_up_no_other(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"), new_task("b", queue="other"))
        driver.send(pause("default"))
        assert task_ids(driver.claim(offer(), offer(queue="other")).runs) == ["b"]

    def test_a_pause_of_every_queue_holds_for_each(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"), new_task("b", queue="other"))
        driver.send(pause("other", paused=False))
        driver.send(pause(EVERY_QUEUE))
        assert driver.claim(offer(), offer(queue="other")).runs == ()

    def test_a_pause_ends_with_its_value(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        op = pause("default")
        driver.apply(op, type(op)(namespace=op.namespace, key=op.key, value=None))
        assert task_ids(driver.claim().runs) == ["a"]

    def test_a_pause_leaves_running_tasks_alone(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        run = driver.start("a")
        driver.send(pause("default"))
        driver.succeed(run)
        assert driver.state("a").status is Status.COMPLETED

    # Epochs and attempts

    def test_every_claim_begins_a_new_epoch(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.release(first := driver.start("a"))
        driver.retry(second := driver.start("a"))
        driver.advance()
        driver.start("a")
        driver.take_over()
        driver.fail(fourth := driver.start("a"))
        driver.requeue("a")
        driver.start("a")
        driver.cancel("a")
        driver.requeue("a")
        epochs = [first.state.epoch, second.state.epoch, fourth.state.epoch, driver.start("a").state.epoch]
        assert epochs == [1, 2, 4, 6]

    def test_a_requeue_starts_counting_attempts_anew(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.retry(driver.start("a"))
        driver.advance()
        driver.fail(driver.start("a"))
        driver.requeue("a")
        run = driver.start("a")
        assert (run.state.epoch, run.state.attempt) == (3, 1)

    # Tokens

    def test_a_claim_sent_again_gives_the_same_runs(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "abc"))
        op = claim(limit=2)
        first = driver.send(op)
        before = driver.snapshot()
        again = driver.send(op)
        assert (again.runs, again.events) == (first.runs, ())
        assert driver.snapshot() == before

    def test_another_token_takes_other_tasks(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "ab"))
        for token, expected in (("first", "a"), ("second", "b")):
            assert task_ids(driver.claim(token=token, limit=1).runs) == [expected]

    def test_another_worker_with_the_same_token_takes_other_tasks(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "ab"))
        for worker, token, expected in (("v", "same", "a"), ("w", "same", "b")):
            assert task_ids(driver.claim(token=token, worker=worker, limit=1).runs) == [expected]

    def test_claims_of_other_workers_do_not_make_a_store_forget_a_token(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "ab"))
        op = claim(worker="v", limit=1)
        first = driver.send(op)
        driver.claim(worker="w")
        assert driver.send(op).runs == first.runs

    def test_a_claim_sent_again_in_the_same_batch_gives_the_same_runs(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "ab"))
        op = claim(limit=1)
        first, again = driver.apply(op, op)
        assert first.runs == again.runs  # type: ignore[attr-defined]
        assert driver.state("b").phase is Phase.READY

    # Tasks that run alone

    def test_a_task_lost_twice_waits_until_nothing_runs(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.lose("a", LOSSES_BEFORE_ALONE)
        reply = driver.claim(idle=False)
        assert (reply.runs, reply.more) == ((), True)
        assert task_ids(driver.claim(idle=True).runs) == ["a"]

    def test_a_task_lost_once_runs_beside_others(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.lose("a", LOSSES_BEFORE_ALONE - 1)
        driver.add(new_task("b"))
        assert task_ids(driver.claim(idle=False).runs) == ["a", "b"]

    def test_a_task_that_runs_alone_is_taken_alone(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.lose("a", LOSSES_BEFORE_ALONE)
        driver.add(new_task("b"), new_task("c", lane="other"))
        assert task_ids(driver.claim(offer(), offer("other")).runs) == ["a"]

    @pytest.mark.parametrize("left", [None, "lane", "other", "full"])
    def test_a_task_taken_alone_tells_whether_others_were_left(self, driver: StoreDriver, left: str | None) -> None:
        driver.add(new_task("a"))
        driver.lose("a", LOSSES_BEFORE_ALONE)
        if left is not None:
            driver.add(new_task("b", lane=left, priority=HIGH if left == "full" else LOW))
        reply = driver.claim(offer(), offer("other"), offer("full", needs=("gpu",)))
        assert (task_ids(reply.runs), reply.more) == (["a"], left is not None)

    def test_nothing_ranked_lower_passes_a_task_that_waits_to_run_alone(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.lose("a", LOSSES_BEFORE_ALONE)
        driver.add(new_task("b"), new_task("c", lane="other"))
        assert driver.claim(offer(), offer("other"), idle=False).runs == ()

    def test_what_ranks_higher_goes_before_a_task_that_runs_alone(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.lose("a", LOSSES_BEFORE_ALONE)
        driver.add(new_task("b", priority=HIGH), new_task("c"))
        assert task_ids(driver.claim().runs) == ["b"]

    def test_a_task_that_runs_alone_but_has_no_unit_holds_up_no_other_lane(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.lose("a", LOSSES_BEFORE_ALONE)
        driver.add(new_task("b", lane="open"))
        reply = driver.claim(offer(needs=("gpu",)), offer("open"), free={POOL: 5, "gpu": 0})
        assert task_ids(reply.runs) == ["b"]

    def test_a_changed_priority_does_not_make_a_task_run_beside_others(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.lose("a", LOSSES_BEFORE_ALONE)
        driver.set_priority("a", LOW)
        assert driver.claim(idle=False).runs == ()

    def test_a_requeue_forgets_losses(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.lose("a", LOSSES_BEFORE_ALONE)
        driver.cancel("a")
        driver.requeue("a")
        assert driver.state("a").losses == 0
        assert task_ids(driver.claim(idle=False).runs) == ["a"]

    def test_cancelled_means_not_claimed(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"), new_task("b"))
        driver.cancel("a")
        assert task_ids(driver.claim().runs) == ["b"]
        driver.refused(Cancel(task_id="a", now=START), IllegalMove)
