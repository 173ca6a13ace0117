"""The one writer of a store: what waits goes into one flush, ends of runs first, and everybody gets an answer."""

import threading
from itertools import pairwise

import pytest
import trio
from msgspec.structs import replace
from trio.testing import wait_all_tasks_blocked

from oq.committer import FIRST_PAUSE, INLINE_BATCH, MAX_BATCH, SLOW_FLUSH, Committer
from oq.errors import LeaseLost, QueueClosed, StoreUnavailable, TaskNotFound
from oq.store.base import (
    AddMany,
    Advance,
    AppendChunks,
    Cancel,
    Claim,
    Finish,
    PutValue,
    Refused,
    Released,
    Renew,
    Stored,
    Succeeded,
)
from oq.store.memory import MemoryStore
from oq.testing import START, ScriptedExecutor, SteeredStore, block, claim, new_task, virtual_queue


def put(key="k", value=b"v"):
    return PutValue(namespace="test", key=key, value=value)


def finish(seq=1, epoch=1):
    return Finish(seq=seq, epoch=epoch, ending=Succeeded(None), now=START)


def add(*task_ids):
    return AddMany(tasks=tuple(new_task(task_id) for task_id in task_ids), now=START)


class Flushes:
    """A committer over a steered memory store, with what its owner hears of."""

    def __init__(self, *, inline=True, extra=None):
        self.store = SteeredStore(MemoryStore())
        self.extra = extra
        self.heard = []
        self.committer = Committer(self.store, before_flush=self._before, heard=self._hear, inline=inline)

    def _before(self):
        return None if self.extra is None else self.extra()

    def _hear(self, reply):
        self.heard.append(reply)

    def kinds(self):
        """The kinds of the ops of each flush."""
        return [[type(op).__name__ for op in batch] for batch in self.store.batches]

    async def __aenter__(self):
        self._manager = trio.open_nursery()
        self.nursery = await self._manager.__aenter__()
        await self.nursery.start(self.committer.run)
        return self

    async def __aexit__(self, *error):
        self.store.recover()
        self.committer.close()
        await self._manager.__aexit__(*error)


class TestGroupCommit:
    async def test_an_op_gets_its_reply(self, autojump_clock):
        async with Flushes() as flushes:
            assert await flushes.committer.apply(put()) == Stored(version=1)
            assert flushes.store.value("test", "k").data == b"v"

    async def test_what_refuses_an_op_is_raised_and_hurts_no_neighbour(self, autojump_clock):
        async with Flushes() as flushes, trio.open_nursery() as nursery:
            nursery.start_soon(flushes.committer.apply, put())
            with pytest.raises(TaskNotFound):
                await flushes.committer.apply(Cancel(task_id="nobody", now=START))
            assert len(flushes.store.batches) == 1
            assert flushes.store.value("test", "k") is not None

    async def test_ops_that_wait_go_together(self, autojump_clock):
        async with Flushes() as flushes:
            async with trio.open_nursery() as nursery:
                for number in range(10):
                    nursery.start_soon(flushes.committer.apply, put(str(number)))
            assert flushes.kinds() == [["PutValue"] * 10]

    async def test_ops_that_come_during_a_flush_wait_for_the_next_one(self, autojump_clock):
        async with Flushes() as flushes:
            replies = []

            def again(reply):
                replies.append(reply)
                flushes.committer.post(put("second"), replies.append)

            flushes.committer.post(put("first"), again)
            await flushes.committer.wait_settled()
            assert flushes.kinds() == [["PutValue"], ["PutValue"]]
            assert len(replies) == 2

    async def test_ends_of_runs_and_what_belongs_to_them_go_first_in_their_order(self, autojump_clock):
        async with Flushes() as flushes:
            ops = [
                add("a"),
                finish(),
                put(),
                Renew(runs=(), until=START),
                AppendChunks(seq=1, epoch=1, block=block(0, 1)),
                Advance(now=START),
            ]
            for op in ops:
                flushes.committer.post(op, lambda _: None)
            await flushes.committer.wait_settled()
            assert flushes.kinds() == [["Finish", "Renew", "AppendChunks", "AddMany", "PutValue", "Advance"]]

    async def test_the_claim_goes_last_so_that_it_sees_what_the_others_made_ready(self, autojump_clock):
        claims = [claim()]
        claimed = []
        async with Flushes(extra=lambda: (claims.pop(), claimed.append) if claims else None) as flushes:
            await flushes.committer.apply(add("a"))
            assert flushes.kinds() == [["AddMany", "Claim"]]
            assert [run.head.id for run in claimed[0].runs] == ["a"]

    async def test_a_poke_flushes_for_the_claim_alone(self, autojump_clock):
        claims = []
        async with Flushes(extra=lambda: (claims.pop(), lambda _: None) if claims else None) as flushes:
            claims.append(claim())
            flushes.committer.poke()
            await flushes.committer.wait_settled()
            assert flushes.kinds() == [["Claim"]]

    async def test_with_nothing_to_do_the_store_is_left_alone(self, autojump_clock):
        async with Flushes() as flushes:
            flushes.committer.poke()
            await trio.sleep(1_000)
            assert flushes.kinds() == []

    async def test_a_flush_is_bounded_by_the_tasks_in_it(self, autojump_clock):
        async with Flushes() as flushes:
            for number in range(MAX_BATCH + 1):
                flushes.committer.post(put(str(number)), lambda _: None)
            big = AddMany(tasks=tuple(new_task(str(number)) for number in range(MAX_BATCH)), now=START)
            flushes.committer.post(big, lambda _: None)
            flushes.committer.post(put("last"), lambda _: None)
            await flushes.committer.wait_settled()
            assert [len(batch) for batch in flushes.store.batches] == [MAX_BATCH, 2, 1]

    async def test_each_reply_is_heard_before_its_sender_gets_it_refusals_excepted(self, autojump_clock):
        order = []
        async with Flushes() as flushes:
            flushes._hear = lambda _: order.append("heard")
            flushes.committer._heard = flushes._hear
            flushes.committer.post(put(), lambda reply: order.append(type(reply).__name__))
            flushes.committer.post(finish(99), lambda reply: order.append(type(reply).__name__))
            await flushes.committer.wait_settled()
        assert order == ["Refused", "heard", "Stored"]

    async def test_an_op_on_its_way_is_not_cancelled(self, autojump_clock):
        async with Flushes() as flushes:
            with trio.CancelScope() as scope:
                flushes.committer.post(put("other"), lambda _: scope.cancel())
                reply = await flushes.committer.apply(put())
            assert reply == Stored(version=1)

    async def test_one_that_is_not_yet_on_its_way_is(self, autojump_clock):
        async with Flushes() as flushes:
            with trio.CancelScope() as scope:
                scope.cancel()
                await flushes.committer.apply(put())
            assert scope.cancelled_caught
            await flushes.committer.wait_settled()
            assert flushes.kinds() == []


class TestAStoreThatRefuses:
    async def test_whoever_submits_is_told(self, autojump_clock):
        async with Flushes() as flushes:
            flushes.store.refuse()
            with pytest.raises(StoreUnavailable, match="no space left"):
                await flushes.committer.apply(put())
            assert flushes.committer.failing is not None

    async def test_ends_of_runs_are_kept_and_stored_once_it_can(self, autojump_clock):
        async with Flushes() as flushes:
            await flushes.committer.apply(add("a"))
            flushes.store.apply([claim()])
            flushes.store.refuse()
            replies = []
            flushes.committer.post(AppendChunks(seq=1, epoch=1, block=block(0, 2)), replies.append)
            flushes.committer.post(finish(), replies.append)
            await trio.sleep(100)
            assert replies == []
            flushes.store.recover()
            await flushes.committer.wait_settled()
            assert [type(reply).__name__ for reply in replies] == ["Appended", "Finished"]
            assert flushes.store.get("a").state.status == "completed"
            assert flushes.committer.failing is None

    async def test_meanwhile_the_others_are_refused_at_once_or_at_the_next_try(self, autojump_clock):
        async with Flushes() as flushes:
            flushes.store.refuse()
            flushes.committer.post(finish(), lambda _: None)
            for _ in range(5):
                with pytest.raises(StoreUnavailable), trio.fail_after(10):
                    await flushes.committer.apply(put())

    async def test_ends_go_alone_at_first_since_they_may_find_room(self, autojump_clock):
        asked = []
        async with Flushes(extra=lambda: asked.append(len(flushes.store.batches))) as flushes:
            flushes.store.refuse()
            flushes.committer.post(finish(), lambda _: None)
            await trio.sleep(1)
            flushes.committer.post(put(), lambda _: None)
            flushes.store.recover()
            asked.clear()
            await flushes.committer.wait_settled()
            assert flushes.kinds() == [["Finish"], ["PutValue"]]
            assert asked == [1]  # no claim before the store has recovered

    async def test_it_is_tried_again_at_growing_intervals(self, autojump_clock):
        tries = []
        async with Flushes() as flushes:
            flushes.store.refuse()
            apply = flushes.store.apply

            def noted(ops):
                tries.append(trio.current_time())
                return apply(ops)

            flushes.store.apply = noted
            flushes.committer.post(finish(), lambda _: None)
            await trio.sleep(60)
        waits = [later - earlier for earlier, later in pairwise(tries)]
        assert waits[0] == pytest.approx(FIRST_PAUSE)
        assert waits[1] == pytest.approx(2 * FIRST_PAUSE)
        assert max(waits) == pytest.approx(5)
        assert len(waits) < 20

    async def test_those_who_wait_for_quiet_wait_until_it_has_recovered(self, autojump_clock):
        async with Flushes() as flushes:
            flushes.store.refuse()
            flushes.committer.post(finish(), lambda _: None)
            quiet = []

            async def wait():
                await flushes.committer.wait_settled()
                quiet.append(trio.current_time())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.sleep(7)
                assert quiet == []
                flushes.store.recover()
            assert 7 <= quiet[0] <= 12

    async def test_one_that_cannot_store_one_batch_can_store_the_next(self, autojump_clock):
        async with Flushes() as flushes:
            flushes.store.refuse()
            with pytest.raises(StoreUnavailable):
                await flushes.committer.apply(put())
            flushes.store.recover()
            assert await flushes.committer.apply(put()) == Stored(version=1)


class TestWaitingForQuiet:
    async def test_with_nothing_under_way_it_takes_no_time(self, autojump_clock):
        async with Flushes() as flushes:
            await flushes.committer.wait_settled()
            assert trio.current_time() == 0

    async def test_a_flush_that_is_about_to_begin_counts(self, autojump_clock):
        claims = [claim()]
        async with Flushes(extra=lambda: (claims.pop(), lambda _: None) if claims else None) as flushes:
            await wait_all_tasks_blocked()
            flushes.committer.poke()
            await flushes.committer.wait_settled()
            assert flushes.kinds() == [["Claim"]]

    @pytest.mark.parametrize("inline", [True, False])
    async def test_it_ends_though_ops_keep_coming_during_each_flush(self, inline):
        async with Flushes(inline=inline) as flushes:
            left = 50

            def again(_):
                nonlocal left
                left -= 1
                if left:
                    flushes.committer.post(put(), again)

            async with trio.open_nursery() as nursery:
                flushes.committer.post(put(), again)
                for _ in range(5):
                    nursery.start_soon(flushes.committer.wait_settled)
                    await trio.lowlevel.checkpoint()
            assert left == 0


class TestClosing:
    async def test_what_is_at_hand_is_still_done(self, autojump_clock):
        replies = []
        async with Flushes() as flushes:
            flushes.committer.post(put(), replies.append)
            flushes.committer.close()
        assert replies == [Stored(version=1)]

    async def test_nothing_more_is_taken(self, autojump_clock):
        async with Flushes() as flushes:
            flushes.committer.close()
            with pytest.raises(QueueClosed):
                await flushes.committer.apply(put())

    async def test_what_is_posted_after_the_end_is_refused(self, autojump_clock):
        async with Flushes() as flushes:
            pass
        replies = []
        flushes.committer.post(put(), replies.append)
        assert isinstance(replies[0].error, QueueClosed)

    async def test_it_does_not_wait_for_a_store_that_refuses(self, autojump_clock):
        replies = []
        flushes = Flushes()
        async with trio.open_nursery() as nursery:
            await nursery.start(flushes.committer.run)
            flushes.store.refuse()
            flushes.committer.post(finish(), replies.append)
            await trio.sleep(100)
            before = trio.current_time()
            flushes.committer.close()
        assert isinstance(replies[0], Refused)
        assert trio.current_time() == before

    async def test_cancellation_does_not_hinder_it(self, autojump_clock):
        replies = []
        async with Flushes() as flushes:
            flushes.committer.post(put(), replies.append)
            flushes.nursery.cancel_scope.cancel()
        assert replies == [Stored(version=1)]


class TestACrash:
    @pytest.mark.parametrize("inline", [True, False])
    async def test_it_surfaces_and_everybody_is_answered(self, inline):
        answers = []

        async def ask(committer, key):
            try:
                await committer.apply(put(key))
            except QueueClosed:
                answers.append(key)

        with pytest.RaisesGroup(pytest.RaisesExc(ZeroDivisionError, match="defect")):
            async with trio.open_nursery() as nursery:
                flushes = Flushes(inline=inline)
                await nursery.start(flushes.committer.run)
                flushes.store.failure = ZeroDivisionError("defect")
                for number in range(5):
                    nursery.start_soon(ask, flushes.committer, number)
        assert sorted(answers) == list(range(5))

    @pytest.mark.parametrize("where", ["heard", "done", "before_flush", "replies"])
    async def test_so_is_one_beside_the_store(self, where, autojump_clock):
        answers = []

        def crash(*_):
            raise ZeroDivisionError("defect")

        async def ask(committer, key):
            try:
                await committer.apply(put(key))
            except QueueClosed:
                answers.append(key)
            else:
                answers.append(key)

        with pytest.RaisesGroup(ZeroDivisionError if where != "replies" else AssertionError):
            async with trio.open_nursery() as nursery:
                flushes = Flushes(extra=crash if where == "before_flush" else None)
                if where == "heard":
                    flushes.committer._heard = crash
                if where == "replies":
                    flushes.store.apply = lambda _: []
                await nursery.start(flushes.committer.run)
                for number in range(3):
                    nursery.start_soon(ask, flushes.committer, number)
                if where == "done":
                    await trio.lowlevel.checkpoint()
                    flushes.committer.post(put(), crash)
        assert sorted(answers) == list(range(3))


class TestTheWriterThread:
    async def test_flushes_have_one_thread_to_themselves(self):
        threads = set()
        async with Flushes(inline=False) as flushes:
            apply = flushes.store.apply

            def noted(ops):
                threads.add(threading.current_thread())
                return apply(ops)

            flushes.store.apply = noted
            for number in range(20):
                await flushes.committer.apply(put(str(number)))
        assert len(threads) == 1
        assert threads.pop() is not threading.main_thread()

    async def test_it_ends_with_the_committer(self):
        before = threading.active_count()
        async with Flushes(inline=False) as flushes:
            await flushes.committer.apply(put())
            assert threading.active_count() == before + 1
        assert threading.active_count() == before

    async def test_many_waiters_share_few_flushes(self):
        async with Flushes(inline=False) as flushes:
            async with trio.open_nursery() as nursery:
                for number in range(500):
                    nursery.start_soon(flushes.committer.apply, put(str(number)))
            assert len(flushes.store.batches) < 20

    async def test_left_to_itself_it_flushes_inline_what_is_small(self):
        before = threading.active_count()
        async with Flushes(inline=None) as flushes:
            for number in range(20):
                await flushes.committer.apply(put(str(number)))
            assert threading.active_count() == before

    async def test_and_on_the_thread_what_is_large(self):
        before = threading.active_count()
        async with Flushes(inline=None) as flushes:
            await flushes.committer.apply(add(*(str(number) for number in range(INLINE_BATCH + 1))))
            assert threading.active_count() == before + 1

    async def test_and_everything_when_the_disk_is_slow_until_it_is_quick_again(self, monkeypatch):
        now, takes, threads = 0.0, 10 * SLOW_FLUSH, []

        def clock():
            nonlocal now
            now += takes
            return now

        monkeypatch.setattr("oq.committer.perf_counter", clock)
        async with Flushes(inline=None) as flushes:
            apply = flushes.store.apply

            def noted(ops):
                threads.append(threading.current_thread() is not threading.main_thread())
                return apply(ops)

            flushes.store.apply = noted
            for _ in range(5):
                await flushes.committer.apply(put())
            takes = 0.0
            for _ in range(100):
                await flushes.committer.apply(put())
        assert (threads[0], threads[4], threads[-1]) == (False, True, False)

    async def test_inline_there_is_no_thread(self, autojump_clock):
        before = threading.active_count()
        async with Flushes() as flushes:
            await flushes.committer.apply(put())
            assert threading.active_count() == before


class TestInAQueue:
    async def test_a_task_through_an_idle_queue_takes_two_flushes(self, autojump_clock):
        store = SteeredStore(MemoryStore())

        async def behave(run):
            await trio.sleep(1)

        executor = ScriptedExecutor(behave=behave)
        async with virtual_queue(executor, store=store) as queue:
            await (await queue.submit(executor.spec())).wait()  # the first of its lane also makes the lane known
            await queue.wait_idle()
            store.batches.clear()
            await (await queue.submit(executor.spec())).wait()
            await queue.wait_idle()
            assert [[type(op) for op in batch] for batch in store.batches] == [[AddMany, Claim], [Finish]]

    async def test_a_busy_queue_takes_even_less(self, autojump_clock):
        store = SteeredStore(MemoryStore())

        async def behave(run):
            await trio.sleep(1)

        executor = ScriptedExecutor(behave=behave)
        async with virtual_queue(executor, store=store, workers=10) as queue:
            await queue.submit_many([executor.spec() for _ in range(100)])
            await queue.wait_idle()
            assert len(store.batches) < 20

    async def test_claims_stop_while_the_store_refuses_and_go_on_afterwards(self, autojump_clock):
        store = SteeredStore(MemoryStore())
        executor = ScriptedExecutor()
        async with virtual_queue(executor, store=store, workers=1) as queue:
            first = await queue.submit(executor.spec("first"))
            second = await queue.submit(executor.spec("second"))
            run = await executor.next_run()
            store.refuse()
            run.complete("kept")
            await trio.sleep(100)
            assert executor.labels == ["first"]
            assert (await first.refresh()).status == "running"
            store.recover()
            (await executor.next_run()).complete("too")
            assert await first.result() == "kept"
            assert await second.result() == "too"
            assert executor.labels == ["first", "second"]

    async def test_a_refused_submit_stores_nothing_and_can_be_repeated(self, autojump_clock):
        store = SteeredStore(MemoryStore())
        executor = ScriptedExecutor()
        async with virtual_queue(executor, store=store) as queue:
            store.refuse()
            with pytest.raises(StoreUnavailable):
                await queue.submit(executor.spec(id="mine"))
            assert store.get("mine") is None
            store.recover()
            await queue.submit(executor.spec(id="mine"))
            (await executor.next_run()).complete()
            await queue.wait_idle()

    async def test_retry_times_and_timers_survive_a_store_that_refused(self, autojump_clock):
        store = SteeredStore(MemoryStore())
        executor = ScriptedExecutor()
        async with virtual_queue(executor, store=store) as queue:
            await queue.submit(executor.spec(delay=10))
            store.refuse()
            await trio.sleep(50)
            assert executor.runs == []
            store.recover()
            with trio.fail_after(10):
                (await executor.next_run()).complete()

    async def test_a_late_end_of_a_released_run_is_refused_and_changes_nothing(self, autojump_clock):
        async with Flushes() as flushes:
            apply = flushes.committer.apply
            await apply(add("a"))
            await apply(claim())
            await apply(replace(finish(epoch=1), ending=Released()))
            for attempt in (1, 2):
                before = flushes.store.get("a")
                with pytest.raises(LeaseLost):
                    await apply(finish(epoch=1))
                assert flushes.store.get("a") == before
                if attempt == 1:
                    await apply(claim())
            await apply(finish(epoch=2))
            assert flushes.store.get("a").state.status == "completed"
