"""The queue as a program sees it: hand in, wait, look, act, and leave the rest to it."""

import threading
from itertools import pairwise

import pytest
import trio
from attrs import evolve
from trio.testing import wait_all_tasks_blocked

from oq.errors import (
    AmbiguousId,
    IllegalMove,
    InvalidQuery,
    InvalidTask,
    PermanentError,
    TaskCancelled,
    TaskExists,
    TaskFailed,
    TaskNotFound,
    UniqueKeyTaken,
    UnknownAction,
    UnknownExecutor,
)
from oq.events import EventKind
from oq.hub import EventFilter
from oq.opening import open_queue
from oq.plugins import built_in_plugins
from oq.query import TaskFilter
from oq.retry import NO_RETRY, RetryPolicy
from oq.store.base import AddMany, Cancel, Claim, Finish
from oq.store.lmdb import LmdbStore
from oq.store.memory import MemoryStore
from oq.task import OMITTED, Outcome, Phase, Priority, Status, TaskSpec
from oq.testing import START, ScriptedExecutor, SteeredStore, VirtualClock, at, virtual_queue

PATIENT = RetryPolicy(max_attempts=3, delay=10, jitter=0)


@pytest.fixture
def executor():
    return ScriptedExecutor()


def quick(seconds=1.0, result="done"):
    """An executor whose runs take so long, each, and give this result."""

    async def behave(run):
        await trio.sleep(seconds)
        return result

    return ScriptedExecutor(behave=behave)


def failing():
    async def behave(run):
        raise RuntimeError("as always")

    return ScriptedExecutor(behave=behave)


def hold_up(store, task_id):
    """Let the flush that adds this task wait, on its thread, for the second event; the first tells that it does."""
    entered, go_on = threading.Event(), threading.Event()
    apply = store.apply

    def slow(ops):
        if any(new.head.id == task_id for op in ops if isinstance(op, AddMany) for new in op.tasks):
            entered.set()
            go_on.wait(5)
        return apply(ops)

    store.apply = slow
    return entered, go_on


async def ids(queue, /, **wanted):
    """The ids of the tasks that fit, newest first."""
    return [task.id for task in (await queue.list(TaskFilter(**wanted))).items]


class TestSubmitting:
    async def test_a_submitted_task_is_stored_with_all_that_was_said_of_it(self, executor, autojump_clock):
        async with virtual_queue(executor, start=False) as queue:
            spec = executor.spec(
                "mine",
                id="a",
                priority="high",
                queue="images",
                lane="slow",
                tags=("x", "y"),
                metadata={"for": ["whom", 1]},
                timeout=5.0,
                expires_at=at(500),
                retry=PATIENT,
                result_ttl=60.0,
                unique_key="only one",
                group="g",
            )
            handle = await queue.submit(spec)
            assert (handle.id, handle.duplicate) == ("a", False)
            task = await handle.refresh()
            assert (task.executor, task.action, task.queue, task.lane) == ("scripted", "run", "images", "slow")
            assert (task.priority, task.tags, task.metadata) == (Priority.HIGH, ("x", "y"), {"for": ["whom", 1]})
            assert (task.status, task.phase, task.submitted_at) == (Status.PENDING, Phase.READY, START)
            assert (task.payload.label, task.result, task.attempts) == ("mine", None, ())
            head = task.head
            assert (head.timeout, head.expires_at, head.retry, head.result_ttl) == (5, at(500), PATIENT, 60)
            assert (head.unique_key, head.group) == ("only one", "g")

    async def test_ids_that_nobody_chose_are_unique_and_in_order(self, executor, autojump_clock):
        async with virtual_queue(executor, start=False) as queue:
            made = [(await queue.submit(executor.spec())).id for _ in range(100)]
            assert all(earlier < later for earlier, later in pairwise(made))

    async def test_an_id_that_is_taken_is_refused_and_the_stored_task_untouched(self, executor, autojump_clock):
        async with virtual_queue(executor, start=False) as queue:
            first = await queue.submit(executor.spec("first", id="a", priority="low"))
            before = await first.refresh()
            await trio.sleep(1)
            with pytest.raises(TaskExists, match="'a'"):
                await queue.submit(executor.spec("second", id="a", priority="high"))
            after = await first.refresh()
            assert (after.payload, after.state, after.head) == (before.payload, before.state, before.head)
            await first.cancel()
            with pytest.raises(TaskExists):
                await queue.submit(executor.spec("third", id="a"))

    async def test_a_task_can_be_scheduled_by_delay_or_by_moment(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            await trio.sleep(5)
            by_delay = await (await queue.submit(executor.spec(delay=10))).refresh()
            by_moment = await (await queue.submit(executor.spec(run_at=at(100)))).refresh()
            past = await (await queue.submit(executor.spec(run_at=at(1)))).refresh()
            assert [(task.phase, task.due_at) for task in (by_delay, by_moment)] == [
                (Phase.SCHEDULED, at(15)),
                (Phase.SCHEDULED, at(100)),
            ]
            assert past.due_at is None

    async def test_what_is_wrong_is_refused_with_every_reason_and_nothing_is_stored(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            spec = evolve(executor.spec(queue="", timeout=-1.0), payload={"lable": "x"})
            with pytest.raises(InvalidTask) as caught:
                await queue.submit(spec)
            assert [problem.path for problem in caught.value.problems] == ["queue", "timeout", "payload"]
            assert (await queue.stats()).tasks.total == 0

    async def test_an_executor_or_action_that_is_not_there_is_refused(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            with pytest.raises(UnknownExecutor, match="oq-ollama"):
                await queue.submit(TaskSpec(executor="ollama", action="chat"))
            with pytest.raises(UnknownAction, match="run"):
                await queue.submit(TaskSpec(executor="scripted", action="dance"))
            assert (await queue.stats()).tasks.total == 0

    async def test_any_task_of_the_program_may_submit_at_any_time(self, autojump_clock):
        executor, results = quick(), []

        async def work(queue, number):
            await trio.sleep(number / 8)
            handle = await queue.submit(executor.spec(id=str(number)))
            results.append((await handle.wait()).id)

        async with virtual_queue(executor, workers=100) as queue, trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(work, queue, number)
        assert sorted(results, key=int) == [str(number) for number in range(100)]

    async def test_a_submit_that_was_cancelled_before_it_began_stores_nothing(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            with trio.CancelScope() as scope:
                scope.cancel()
                await queue.submit(executor.spec())
            assert scope.cancelled_caught
            assert (await queue.stats()).tasks.total == 0


class TestSubmittingMany:
    async def test_their_handles_come_in_their_order(self, executor, autojump_clock):
        async with virtual_queue(executor, start=False) as queue:
            handles = await queue.submit_many([executor.spec(id=name) for name in "cab"])
            assert [handle.id for handle in handles] == ["c", "a", "b"]
            assert [(await handle.refresh()).seq for handle in handles] == [1, 2, 3]

    async def test_none_is_stored_when_one_is_wrong(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            specs = [executor.spec(), executor.spec(tags=("",)), executor.spec(), TaskSpec(executor="x", action="y")]
            with pytest.raises(InvalidTask) as caught:
                await queue.submit_many(specs)
            assert [problem.path for problem in caught.value.problems] == ["tasks[1].tags[0]", "tasks[3].executor"]
            assert (await queue.stats()).tasks.total == 0

    async def test_none_is_stored_when_the_store_refuses_one(self, executor, autojump_clock):
        async with virtual_queue(executor, start=False) as queue:
            await queue.submit(executor.spec(id="taken"))
            await trio.sleep(1)
            with pytest.raises(TaskExists):
                await queue.submit_many([executor.spec(id="new"), executor.spec(id="taken")])
            with pytest.raises(InvalidTask, match=r"tasks\[1\]\.after: there is no task 'nobody'"):
                await queue.submit_many([executor.spec(id="new"), executor.spec(after=("nobody",))])
            assert await ids(queue) == ["taken"]

    async def test_a_task_may_come_after_one_before_it_in_the_list(self, autojump_clock):
        executor = quick()
        async with virtual_queue(executor) as queue:
            await queue.submit_many([executor.spec("first", id="a"), executor.spec("second", after=("a",))])
            await queue.wait_idle()
        assert [run.ctx.started_at for run in executor.runs] == [at(0), at(1)]

    async def test_nothing_is_nothing(self, autojump_clock):
        async with virtual_queue() as queue:
            assert await queue.submit_many([]) == []

    async def test_they_are_stored_and_claimed_in_one_flush(self, executor, autojump_clock):
        store = SteeredStore(MemoryStore())
        async with virtual_queue(executor, store=store, workers=3) as queue:
            await wait_all_tasks_blocked()
            store.batches.clear()
            await queue.submit_many([executor.spec() for _ in range(100)])
            assert [type(op) for op in store.batches[0]] == [AddMany, Claim]
            assert (await queue.stats()).tasks.by_status[Status.RUNNING] == 3


class TestUniqueKeys:
    async def test_while_a_task_with_the_key_is_not_final_it_is_given_back(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            first = await queue.submit(executor.spec("first", unique_key="k"))
            again = await queue.submit(executor.spec("again", unique_key="k"))
            assert (again.id, again.duplicate) == (first.id, True)
            other = await queue.submit(executor.spec("other", unique_key="other"))
            assert other.duplicate is False
            for _ in range(2):
                (await executor.next_run()).complete("the only one")
            assert await again.result() == "the only one"
            assert executor.labels.count("again") == 0

    async def test_afterwards_the_key_is_free(self, executor, autojump_clock):
        async with virtual_queue(executor, start=False) as queue:
            first = await queue.submit(executor.spec(unique_key="k"))
            await first.cancel()
            second = await queue.submit(executor.spec(unique_key="k"))
            assert (second.id != first.id, second.duplicate) == (True, False)
            with pytest.raises(UniqueKeyTaken):
                await first.requeue()

    async def test_it_holds_among_tasks_that_are_handed_in_together(self, executor, autojump_clock):
        async with virtual_queue(executor, start=False) as queue:
            first, second, third = await queue.submit_many(
                [executor.spec(unique_key="k"), executor.spec(unique_key="k"), executor.spec()]
            )
            assert (second.id, first.duplicate, second.duplicate, third.duplicate) == (first.id, False, True, False)
            assert (await queue.stats()).tasks.total == 2


class TestCallbacks:
    @pytest.fixture
    def calls(self):
        return []

    async def test_one_is_called_once_with_the_final_task(self, calls, autojump_clock):
        executor = quick(result=42)
        async with virtual_queue(executor) as queue:
            await queue.submit(executor.spec(), on_final=calls.append)
            await trio.sleep(5)
        assert [(task.status, task.result) for task in calls] == [(Status.COMPLETED, 42)]

    async def test_it_may_be_async_and_holds_nobody_up(self, calls, autojump_clock):
        async def slow(task):
            await trio.sleep(100)
            calls.append(task.id)

        executor = quick()
        async with virtual_queue(executor, workers=1) as queue:
            await queue.submit(executor.spec(id="a"), on_final=slow)
            other = await queue.submit(executor.spec(id="b"))
            assert (await other.wait()).finished_at == at(2)
            await trio.sleep(200)
        assert calls == ["a"]

    async def test_it_is_not_called_between_attempts(self, calls, autojump_clock):
        executor = failing()
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec(retry=PATIENT), on_final=calls.append)
            await trio.sleep(29)
            assert calls == []
            await handle.wait()
            await trio.sleep(1)
        assert [(task.status, task.attempt) for task in calls] == [(Status.FAILED, 3)]

    @pytest.mark.parametrize("error", [RuntimeError, TaskNotFound])
    async def test_one_that_raises_does_no_harm(self, error, calls, caplog, autojump_clock):
        def raising(task):
            calls.append(task.id)
            raise error("a fault of mine")

        async def raising_later(task):
            raising(task)

        executor = quick()
        async with virtual_queue(executor) as queue:
            await queue.submit(executor.spec(id="a"), on_final=raising)
            await queue.submit(executor.spec(id="b"), on_final=raising_later)
            await queue.wait_idle()
            await trio.sleep(1)
            assert (await (await queue.submit(executor.spec())).wait()).status is Status.COMPLETED
        assert sorted(calls) == ["a", "b"]
        assert "the callback of task a failed" in caplog.text

    async def test_a_cancelled_task_is_final_too(self, executor, calls, autojump_clock):
        async with virtual_queue(executor, start=False) as queue:
            handle = await queue.submit(executor.spec(), on_final=calls.append)
            await handle.cancel()
            await trio.sleep(1)
            await handle.requeue()
            await handle.cancel()
            await trio.sleep(1)
        assert [task.status for task in calls] == [Status.CANCELLED]

    async def test_of_many_each_is_told_and_a_duplicate_hears_of_the_task_it_stands_for(self, calls, autojump_clock):
        executor = quick()
        async with virtual_queue(executor) as queue:
            specs = [
                executor.spec(id="a"),
                executor.spec(id="b", unique_key="k"),
                executor.spec(id="c", unique_key="k"),
            ]
            await queue.submit_many(specs, on_final=calls.append)
            await queue.wait_idle()
            await trio.sleep(1)
        assert sorted(task.id for task in calls) == ["a", "b", "b"]

    async def test_one_of_a_task_that_was_final_before_its_submit_returned_is_called(self, calls, autojump_clock):
        async with virtual_queue(start=False) as queue:

            @queue.task()
            async def nothing() -> None: ...

            parent = await queue.submit(nothing.spec())
            await parent.cancel()
            await queue.submit(evolve(nothing.spec(), after=(parent.id,)), on_final=calls.append)
            await trio.sleep(1)
        assert [task.failure.type for task in calls] == ["ParentFailed"]

    async def test_those_of_tasks_that_finish_while_the_block_is_left_are_called(self, calls, autojump_clock):
        async def later(task):
            await trio.sleep(3)
            calls.append(task.id)

        executor = quick()
        async with virtual_queue(executor) as queue:
            await queue.submit(executor.spec(id="a"), on_final=later)
            await queue.submit(executor.spec(id="b"), on_final=lambda task: calls.append(task.id))
            await trio.sleep(0.5)
        assert sorted(calls) == ["a", "b"]


class TestWaiting:
    async def test_wait_gives_the_final_task_whatever_became_of_it(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handles = [await queue.submit(executor.spec(retry=NO_RETRY)) for _ in range(3)]
            runs = [await executor.next_run() for _ in handles]
            runs[0].complete("fine")
            runs[1].fail(KeyError("x"))
            await handles[2].cancel()
            finals = {handle.id: await handle.wait() for handle in handles}
            assert sorted(task.status for task in finals.values()) in (
                ["cancelled", "completed", "failed"],
                ["cancelled", "completed", "completed"],
            )
            assert finals[handles[2].id].status is Status.CANCELLED

    async def test_result_gives_the_result_or_raises_what_became_of_it(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec(retry=NO_RETRY))
            (await executor.next_run()).fail(KeyError("x"))
            with pytest.raises(TaskFailed, match="KeyError") as caught:
                await handle.result()
            assert caught.value.task.failure.type == "KeyError"
            await handle.requeue()
            await handle.cancel()
            with pytest.raises(TaskCancelled, match="cancelled"):
                await handle.result()
            await handle.requeue()
            await wait_all_tasks_blocked()
            executor.running[0].complete([1, 2])
            assert await handle.result() == [1, 2]

    async def test_any_number_may_wait_for_one_task(self, autojump_clock):
        executor, woken = quick(7), []

        async def wait(handle):
            await handle.wait()
            woken.append(trio.current_time())

        async with virtual_queue(executor) as queue, trio.open_nursery() as nursery:
            handle = await queue.submit(executor.spec())
            for _ in range(10):
                nursery.start_soon(wait, handle)
        assert woken == [7] * 10

    async def test_who_comes_after_the_end_waits_for_nothing(self, autojump_clock):
        executor = quick(7)
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec())
            await trio.sleep(100)
            task = await queue.handle(handle.id).wait()
            assert (task.result, trio.current_time()) == ("done", 100)

    async def test_a_task_that_waits_for_its_next_attempt_is_not_final(self, autojump_clock):
        executor = failing()
        async with virtual_queue(executor) as queue:
            task = await (await queue.submit(executor.spec(retry=PATIENT))).wait()
            assert (task.attempt, trio.current_time()) == (3, 30)

    async def test_nobody_can_be_waited_for_who_is_not_there(self, autojump_clock):
        async with virtual_queue() as queue:
            for call in (queue.wait, queue.get, queue.cancel, queue.requeue, queue.resolve):
                with pytest.raises(TaskNotFound, match="'nobody'"):
                    await call("nobody")
            with pytest.raises(TaskNotFound):
                await queue.set_priority("nobody", "high")


class TestWaitingForQuiet:
    async def test_an_idle_queue_is_quiet_at_once(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            await queue.wait_idle()
            assert trio.current_time() == 0

    async def test_it_lasts_until_all_is_done_retries_included(self, autojump_clock):
        executor = failing()
        async with virtual_queue(executor, workers=1) as queue:
            await queue.submit_many([executor.spec(retry=PATIENT), executor.spec()])
            await queue.wait_idle()
            assert trio.current_time() == 30
            assert (await queue.stats()).tasks.by_status[Status.FAILED] == 2

    async def test_what_cannot_start_by_itself_is_not_waited_for(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            await queue.pause("images")
            scheduled = await queue.submit(executor.spec(delay=100))
            await queue.submit(executor.spec(after=(scheduled.id,)))
            await queue.submit(executor.spec(queue="images"))
            executor.serve("closed", None)
            await queue.submit(executor.spec(lane="closed"))
            await queue.wait_idle()
            assert trio.current_time() == 0

    async def test_a_run_that_was_cancelled_is_waited_for_until_it_has_ended(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue, trio.open_nursery() as nursery:
            handle = await queue.submit(executor.spec())
            run = await executor.next_run()
            run.ignore_cancellation()
            await handle.cancel()

            async def end():
                await trio.sleep(5)
                run.heed_cancellation()

            nursery.start_soon(end)
            await queue.wait_idle()
            assert trio.current_time() == 5

    async def test_a_claim_that_finds_nothing_is_not_waited_for_for_ever(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            for _ in range(5):
                await queue.set_limit("default", 3)
                await queue.wait_idle()
                queue.executors.register(ScriptedExecutor(f"another{_}"))
                await queue.wait_idle()
            assert trio.current_time() == 0

    @pytest.mark.parametrize("options", [{"start": False}, {"workers": 0}], ids=repr)
    async def test_where_nothing_starts_it_is_quiet(self, options, executor, autojump_clock):
        async with virtual_queue(executor, **options) as queue:
            await queue.submit(executor.spec())
            await queue.wait_idle()
            assert trio.current_time() == 0


class TestLooking:
    async def test_a_list_is_newest_first_and_comes_in_pages(self, executor, autojump_clock):
        async with virtual_queue(executor, start=False) as queue:
            await queue.submit_many([executor.spec(id=str(number)) for number in range(25)])
            seen, cursor = [], None
            while True:
                page = await queue.list(cursor=cursor, limit=10)
                seen += [task.id for task in page.items]
                cursor = page.cursor
                if cursor is None:
                    break
            assert seen == [str(number) for number in reversed(range(25))]

    async def test_it_shows_what_is_asked_for_and_leaves_out_what_is_large(self, executor, autojump_clock):
        async with virtual_queue(executor, start=False) as queue:
            await queue.submit(executor.spec(id="a", tags=("x",), queue="images", priority="high", group="g"))
            await (await queue.submit(executor.spec(id="b", tags=("x", "y")))).cancel()
            assert await ids(queue) == ["b", "a"]
            assert await ids(queue, tag="x") == ["b", "a"]
            assert await ids(queue, tag="y") == await ids(queue, status=Status.CANCELLED) == ["b"]
            assert await ids(queue, queue="images") == await ids(queue, priority=Priority.HIGH) == ["a"]
            assert await ids(queue, group="g") == ["a"]
            assert await ids(queue, executor="other") == await ids(queue, action="other") == []
            task = (await queue.list()).items[0]
            assert (task.payload, task.result) == (OMITTED, OMITTED)

    @pytest.mark.parametrize("limit", [0, -1])
    async def test_an_empty_page_cannot_be_asked_for(self, limit, autojump_clock):
        async with virtual_queue() as queue:
            with pytest.raises(InvalidQuery, match="limit"):
                await queue.list(limit=limit)

    async def test_an_id_may_be_shortened_while_it_is_unambiguous(self, executor, autojump_clock):
        async with virtual_queue(executor, start=False) as queue:
            await queue.submit_many([executor.spec(id=name) for name in ("abc", "abd", "x", "xy")])
            assert await queue.resolve("abc") == "abc"
            assert await queue.resolve("xy") == "xy"
            assert await queue.resolve("x") == "x"
            with pytest.raises(AmbiguousId, match=r"abc.*abd"):
                await queue.resolve("ab")
            for nothing in ("", "q"):
                with pytest.raises(TaskNotFound):
                    await queue.resolve(nothing)

    async def test_stats_count_everything(self, executor, autojump_clock):
        async with virtual_queue(executor, workers=3) as queue:
            await queue.pause("images")
            await queue.submit_many([executor.spec(queue="images", priority="low") for _ in range(4)])
            handles = [await queue.submit(executor.spec(retry=PATIENT)) for _ in range(5)]
            await queue.submit(executor.spec(delay=100, priority="critical"))
            await queue.submit(executor.spec(after=(handles[0].id,)))
            runs = {run.task.id: run for run in [await executor.next_run() for _ in range(3)]}
            runs[handles[0].id].fail(RuntimeError())
            runs[handles[1].id].complete()
            await handles[2].cancel()
            await wait_all_tasks_blocked()
            stats = await queue.stats()
            assert (stats.workers, stats.busy, stats.idle, stats.paused) == (3, 2, 1, ("images",))
            assert stats.tasks.total == 11
            assert {status.value: number for status, number in stats.tasks.by_status.items()} == {
                "pending": 7,
                "running": 2,
                "completed": 1,
                "failed": 0,
                "cancelled": 1,
            }
            assert {phase.value: number for phase, number in stats.tasks.by_phase.items()} == {
                "ready": 0,
                "scheduled": 1,
                "retrying": 1,
                "blocked": 1,
                "paused": 4,
            }
            assert (stats.tasks.by_priority[Priority.LOW], stats.tasks.by_priority[Priority.CRITICAL]) == (4, 1)
            assert {name: each.total for name, each in stats.queues.items()} == {"default": 7, "images": 4}
            for run in executor.running:
                run.complete()

    async def test_events_tell_the_life_of_a_task(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            with queue.subscribe() as all_events, queue.subscribe(EventFilter(task_id="b")) as others:
                handle = await queue.submit(executor.spec(id="a", retry=PATIENT))
                (await executor.next_run()).fail(RuntimeError())
                (await executor.next_run()).complete()
                await handle.wait()
                await (await queue.submit(executor.spec(id="b", delay=5))).cancel()
                assert [(event.kind.value, event.at) for event in all_events.receive_nowait()] == [
                    ("submitted", at(0)),
                    ("started", at(0)),
                    ("retrying", at(0)),
                    ("ready", at(10)),
                    ("started", at(10)),
                    ("completed", at(10)),
                    ("submitted", at(10)),
                    ("cancelled", at(10)),
                ]
                assert [event.kind for event in others.receive_nowait()] == [EventKind.SUBMITTED, EventKind.CANCELLED]


class TestCancelling:
    @pytest.mark.parametrize("waits_for", ["start", "moment", "attempt", "parent", "worker"])
    async def test_a_pending_task_is_cancelled_and_never_starts(self, waits_for, executor, autojump_clock):
        async with virtual_queue(executor, workers=1, start=waits_for != "start") as queue:
            match waits_for:
                case "moment":
                    handle = await queue.submit(executor.spec("it", delay=10))
                case "attempt":
                    handle = await queue.submit(executor.spec("it", retry=PATIENT))
                    (await executor.next_run()).fail(RuntimeError())
                    await wait_all_tasks_blocked()
                case "start":
                    handle = await queue.submit(executor.spec("it"))
                case _:
                    parent = await queue.submit(executor.spec("parent"))
                    after = (parent.id,) if waits_for == "parent" else ()
                    handle = await queue.submit(executor.spec("it", after=after))
            started = len(executor.runs)
            task = await handle.cancel()
            assert (task.status, task.phase, task.due_at) == (Status.CANCELLED, None, None)
            for run in executor.running:
                run.complete()
            if waits_for == "start":
                await queue.start()
            await trio.sleep(100)
            await queue.wait_idle()
            assert len(executor.runs) in {started, 1}
            assert (await handle.wait()).status is Status.CANCELLED

    async def test_a_final_task_cannot_be_cancelled(self, autojump_clock):
        executor = quick()
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec())
            await handle.wait()
            with pytest.raises(IllegalMove, match=r"completed; cancel"):
                await handle.cancel()
            assert (await handle.refresh()).result == "done"

    async def test_it_takes_effect_in_the_store_before_the_call_returns(self, executor, autojump_clock):
        store = MemoryStore()
        async with virtual_queue(executor, store=store) as queue:
            handle = await queue.submit(executor.spec(id="a"))
            await executor.next_run()
            await handle.cancel()
            assert store.get("a").state.status is Status.CANCELLED

    async def test_a_cancel_that_meets_the_end_in_one_flush_finds_a_final_task(self, executor, autojump_clock):
        store = SteeredStore(MemoryStore())
        async with virtual_queue(executor, store=store) as queue:
            handle = await queue.submit(executor.spec())
            run = await executor.next_run()
            refused = []

            async def cancel():
                try:
                    await handle.cancel()
                except IllegalMove as error:
                    refused.append(error)

            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as nursery:
                    run.complete("just in time")
                    nursery.start_soon(cancel)
            task = await handle.wait()
            together = any({Finish, Cancel} <= {type(op) for op in batch} for batch in store.batches)
            assert (task.status is Status.COMPLETED) == bool(refused)
            assert not together or refused  # ends of runs go first


class TestPriorities:
    async def test_a_new_priority_is_stored_and_shown(self, executor, autojump_clock):
        async with virtual_queue(executor, start=False) as queue:
            handle = await queue.submit(executor.spec())
            for given, wanted in [("HIGH", Priority.HIGH), (15, Priority.CRITICAL), (Priority.LOW, Priority.LOW)]:
                assert (await handle.set_priority(given)).priority is wanted
                assert (await handle.refresh()).priority is wanted

    @pytest.mark.parametrize("priority", ["urgent", 7, None, 10.0])
    async def test_what_is_none_is_refused(self, priority, executor, autojump_clock):
        async with virtual_queue(executor, start=False) as queue:
            handle = await queue.submit(executor.spec())
            with pytest.raises(InvalidTask, match="priority"):
                await handle.set_priority(priority)

    async def test_a_final_task_has_none_to_change(self, autojump_clock):
        executor = quick()
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec())
            await handle.wait()
            with pytest.raises(IllegalMove):
                await handle.set_priority("high")


class TestRequeueing:
    async def test_a_failed_task_runs_again_with_a_fresh_count_of_attempts(self, autojump_clock):
        executor = failing()
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec(retry=PATIENT))
            assert (await handle.wait()).attempt == 3
            task = await handle.requeue()
            assert (task.phase, task.attempt, task.epoch, task.failure) == (Phase.READY, 0, 3, None)
            task = await handle.wait()
            assert (task.attempt, task.epoch) == (3, 6)
            assert [attempt.epoch for attempt in task.attempts] == [1, 2, 3, 4, 5, 6]

    async def test_neither_what_is_done_nor_what_is_under_way_can_be_requeued(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec())
            run = await executor.next_run()
            with pytest.raises(IllegalMove, match="running"):
                await handle.requeue()
            run.complete()
            await handle.wait()
            with pytest.raises(IllegalMove, match="completed"):
                await handle.requeue()

    async def test_whoever_waits_from_then_on_waits_for_the_new_end(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec(retry=NO_RETRY))
            (await executor.next_run()).fail(RuntimeError())
            assert (await handle.wait()).status is Status.FAILED
            await handle.requeue()
            (await executor.next_run()).complete("the second time")
            assert (await handle.wait()).result == "the second time"


class TestDraining:
    async def test_what_runs_is_finished_and_nothing_more_is_started(self, autojump_clock):
        executor = quick(10)
        async with virtual_queue(executor, workers=2) as queue:
            await queue.submit_many([executor.spec() for _ in range(5)])
            await trio.sleep(1)
            await queue.drain()
            assert trio.current_time() == 10
            stats = await queue.stats()
            assert (stats.tasks.by_status[Status.COMPLETED], stats.tasks.by_phase[Phase.READY]) == (2, 3)
            assert queue.is_running is False
            handle = await queue.submit(executor.spec("later"))
            await trio.sleep(100)
            assert (await handle.refresh()).phase is Phase.READY
            await queue.start()
            await queue.wait_idle()
            assert (await queue.stats()).tasks.by_status[Status.COMPLETED] == 6

    async def test_stopping_gives_back_what_does_not_finish_in_time(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec(retry=NO_RETRY))
            run = await executor.next_run()
            await queue.stop(grace=7)
            assert (trio.current_time(), run.cancelled) == (7, True)
            task = await handle.refresh()
            assert (task.phase, task.attempt) == (Phase.READY, 0)
            assert [attempt.outcome for attempt in task.attempts] == [Outcome.RELEASED]
            await queue.start()
            (await executor.next_run()).complete("after the stop")
            assert await handle.result() == "after the stop"

    async def test_the_end_of_a_run_that_outlived_the_stop_still_counts(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec())
            run = await executor.next_run()
            run.ignore_cancellation()
            await queue.stop(grace=0)
            assert (await handle.refresh()).status is Status.RUNNING
            run.complete("after all")
            assert await handle.result() == "after all"

    @pytest.mark.parametrize("way", ["drain", "stop"])
    async def test_a_claim_on_its_way_is_given_back(self, way, executor):
        store = SteeredStore(MemoryStore())
        entered, go_on = hold_up(store, "a")
        async with virtual_queue(executor, store=store, inline_commits=False) as queue, trio.open_nursery() as nursery:
            nursery.start_soon(queue.submit, executor.spec(id="a"))
            await trio.to_thread.run_sync(entered.wait)
            nursery.start_soon(queue.drain if way == "drain" else queue.stop)
            await wait_all_tasks_blocked()
            go_on.set()
        assert executor.runs == []
        record = store.load("a")
        assert (record.state.phase, record.state.attempt, record.state.epoch) == (Phase.READY, 0, 1)


class TestAFlushOnItsWay:
    async def test_a_unit_that_comes_free_meanwhile_is_used(self, executor):
        store = SteeredStore(MemoryStore())
        entered, go_on = hold_up(store, "b")
        async with virtual_queue(executor, store=store, inline_commits=False, workers=2) as queue:
            async with trio.open_nursery() as nursery:
                await queue.submit(executor.spec("a"))
                run = await executor.next_run()
                nursery.start_soon(queue.submit_many, [executor.spec("b", id="b"), executor.spec("c")])
                await trio.to_thread.run_sync(entered.wait)
                run.complete()
                await run.wait_over()
                await wait_all_tasks_blocked()
                go_on.set()
            with trio.fail_after(5):
                labels = {(await executor.next_run()).label for _ in range(2)}
            assert labels == {"b", "c"}
            for run in executor.running:
                run.complete()


class TestFunctions:
    async def test_a_function_is_a_task_and_its_result_has_its_type(self, autojump_clock):
        async with virtual_queue() as queue:

            @queue.task()
            async def add(a: int, b: int = 1) -> tuple[int, int]:
                return a, b

            assert await (await queue.submit(add.spec(2))).result() == (2, 1)
            with pytest.raises(InvalidTask, match=r"payload\.a"):
                await queue.submit(TaskSpec(executor="python", action="add", payload={"a": "x"}))

    async def test_one_that_leaves_the_program_fails_its_task_alone(self, autojump_clock):
        async with virtual_queue() as queue:

            @queue.task()
            async def leave() -> None:
                raise SystemExit(3)

            @queue.task()
            async def stay() -> str:
                return "still here"

            task = await (await queue.submit(evolve(leave.spec(), retry=NO_RETRY))).wait()
            assert (task.failure.type, task.failure.message) == ("SystemExit", "3")
            assert await (await queue.submit(stay.spec())).result() == "still here"

    async def test_a_stored_result_that_no_longer_fits_is_shown_as_it_is(self, autojump_clock):
        store = MemoryStore()

        def define(queue, result):
            async def answer():
                return "forty-two"

            answer.__annotations__["return"] = result
            return queue.task(name="answer")(answer)

        async with virtual_queue(store=store) as queue:
            handle = await queue.submit(define(queue, str).spec())
            await handle.wait()
        async with virtual_queue(store=store) as queue:
            define(queue, int)
            assert (await queue.get(handle.id)).result == "forty-two"


@pytest.mark.parametrize("inline", [False, True], ids=["thread", "inline"])
class TestOnDisk:
    """Some of it with the LMDB store, on real time."""

    def open(self, path, inline, executor, **options):
        return open_queue(path, plugins=built_in_plugins(), executors=[executor], inline_commits=inline, **options)

    async def test_tasks_go_through(self, inline, tmp_path):
        executor = quick(0)
        async with self.open(tmp_path, inline, executor, workers=8) as queue:
            handles = await queue.submit_many([executor.spec() for _ in range(200)])
            assert [await handle.result() for handle in handles] == ["done"] * 200
            await queue.wait_idle()
            assert (await queue.stats()).tasks.by_status[Status.COMPLETED] == 200
        assert executor.most_at_once <= 8

    async def test_they_go_through_when_many_submit_at_once(self, inline, tmp_path):
        executor, results = quick(0), []

        async def work(queue):
            for _ in range(5):
                results.append(await (await queue.submit(executor.spec())).result())  # noqa: PERF401  # one by one

        async with self.open(tmp_path, inline, executor) as queue, trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(work, queue)
        assert results == ["done"] * 100

    async def test_everything_is_kept_over_a_reopening(self, inline, tmp_path):
        executor = ScriptedExecutor()
        async with self.open(tmp_path, inline, executor, workers=2) as queue:
            done = await queue.submit(executor.spec("done", retry=NO_RETRY))
            run = await executor.next_run()
            await run.emit("some", "output")
            run.complete({"x": 1})
            await done.wait()
            failed = await queue.submit(executor.spec("failed", retry=NO_RETRY))
            details = {404: [1, (2,)], "object": object()}
            (await executor.next_run()).fail(PermanentError(OSError("\udc80"), details=details))
            await failed.wait()
            scheduled = await queue.submit(executor.spec("scheduled", delay=3600))
            await queue.submit(executor.spec("running"))
            await executor.next_run()
            await queue.pause("images")
            await queue.set_limit("images", 3)
            await queue.stop(grace=0)
            before = [await queue.get(task.id) for task in (await queue.list()).items]
        async with self.open(tmp_path, inline, executor, start=False) as queue:
            after = [await queue.get(task.id) for task in (await queue.list()).items]
            assert after == before
            assert [task.payload.label for task in after] == ["running", "scheduled", "failed", "done"]
            assert (await queue.get(done.id)).result == {"x": 1}
            failure = (await queue.get(failed.id)).failure
            assert (failure.message, failure.details["404"]) == ("\\udc80", [1, [2]])
            assert (await queue.get(scheduled.id)).phase is Phase.SCHEDULED
            assert after[0].attempts[0].outcome is Outcome.RELEASED
            assert (await queue.stats()).paused == ("images",)
            async with queue.stream(done.id) as chunks:
                assert [chunk.text async for chunk in chunks] == ["some", "output"]
            await queue.start()
            run = await executor.next_run()
            assert (run.label, run.ctx.attempt, run.ctx.epoch) == ("running", 1, 2)
            run.complete()
            await queue.wait_idle()

    async def test_a_retry_a_timer_and_a_cancel_work_on_real_time(self, inline, tmp_path):
        executor = ScriptedExecutor()
        async with self.open(tmp_path, inline, executor) as queue:
            retried = await queue.submit(executor.spec("a", retry=RetryPolicy(delay=0.02, jitter=0)))
            (await executor.next_run()).fail(RuntimeError())
            (await executor.next_run()).complete("again")
            assert await retried.result() == "again"
            late = await queue.submit(executor.spec("b", delay=0.02))
            (await executor.next_run()).complete("late")
            assert await late.result() == "late"
            endless = await queue.submit(executor.spec("c"))
            run = await executor.next_run()
            await endless.cancel()
            await run.wait_over()
            assert run.cancelled
            await queue.wait_idle()

    async def test_a_task_through_an_idle_queue_takes_two_commits(self, inline, tmp_path):
        executor = quick(0)
        store = LmdbStore(tmp_path)
        async with self.open(store, inline, executor) as queue:
            await (await queue.submit(executor.spec())).wait()
            await queue.wait_idle()
            before = store.commits
            for _ in range(10):
                await (await queue.submit(executor.spec())).wait()
                await queue.wait_idle()
            assert store.commits - before <= 20
        assert store.check() == []
        store.close()

    async def test_a_flood_of_output_is_kept_whole(self, inline, tmp_path):
        async def behave(run):
            for number in range(3_000):
                await run.ctx.emit(f"{number:1000}")

        executor = ScriptedExecutor(behave=behave)
        async with self.open(tmp_path, inline, executor) as queue:
            handle = await queue.submit(executor.spec())
            live = []
            async with handle.stream() as chunks:
                async for chunk in chunks:
                    live.append(int(chunk.text))  # noqa: PERF401  # a comprehension would hide the loop
            async with handle.stream() as chunks:
                replayed = [int(chunk.text) async for chunk in chunks]
            assert live == replayed == list(range(3_000))


class TestWithoutVirtualTime:
    async def test_a_clock_may_be_given(self, executor, autojump_clock):
        clock = VirtualClock(at(1_000))
        async with virtual_queue(executor, clock=clock, start=False) as queue:
            task = await (await queue.submit(executor.spec())).refresh()
            assert task.submitted_at == at(1_000)
