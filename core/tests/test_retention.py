"""What is deleted, by hand and by age, as a queue shows it: nothing that is needed, and in nobody's way."""

import pytest
import trio

import oq
from oq.config import RetentionSettings, Settings
from oq.errors import IllegalMove, QueueClosed, TaskInUse, TaskNotFound
from oq.retention import FIRST_SWEEP
from oq.store.base import Purge
from oq.store.memory import MemoryStore
from oq.testing import ScriptedExecutor, SteeredStore, virtual_queue

EVERYTHING = oq.TaskFilter()
MINUTE, HOUR, DAY = 60, 3_600, 86_400


@pytest.fixture
def executor():
    async def behave(run):
        if run.label == "fails":
            raise oq.PermanentError("no")
        return run.label

    return ScriptedExecutor(behave=behave)


def keeping(**retention):
    return Settings(retention=RetentionSettings(**retention))


async def there(queue):
    return {task.id for task in (await queue.list(limit=1_000)).items}


class CountingStore(MemoryStore):
    """Notes each batch with a purge in it, and when it came."""

    def __init__(self):
        super().__init__()
        self.purges = []

    def apply(self, ops):
        self.purges += [(trio.current_time(), len(ops), op) for op in ops if isinstance(op, Purge)]
        return super().apply(ops)


class TestByHand:
    async def test_a_deleted_task_is_given_once_more_and_then_gone(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec("x"))
            await handle.result()
            with queue.subscribe() as events:
                gone = await handle.delete()
                assert [event.kind for event in events.receive_nowait()] == [oq.EventKind.DELETED]
            assert (gone.id, gone.status) == (handle.id, oq.Status.COMPLETED)
            for look in (handle.refresh, handle.wait, handle.result, handle.cancel, handle.delete):
                with pytest.raises(TaskNotFound):
                    await look()
            with pytest.raises(TaskNotFound):
                async with handle.stream() as chunks:
                    await anext(chunks)
            assert (await queue.stats()).tasks.by_status[oq.Status.COMPLETED] == 0

    async def test_a_task_that_is_not_final_cannot_be_deleted(self, executor, autojump_clock):
        async with virtual_queue(executor, start=False) as queue:
            handle = await queue.submit(executor.spec())
            with pytest.raises(IllegalMove, match="is pending; delete is not possible"):
                await handle.delete()

    async def test_one_that_another_task_needs_is_refused_by_name(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            parent = await queue.submit(executor.spec(id="parent"))
            follower = await queue.submit(executor.spec(id="follower", after=["parent"], delay=HOUR))
            await parent.wait()
            with pytest.raises(TaskInUse, match="'parent' cannot be deleted: task 'follower'"):
                await parent.delete()
            await follower.wait()
            await parent.delete()

    async def test_a_stream_ends_with_its_task_though_the_id_is_taken_again(self, executor, autojump_clock):
        executor = ScriptedExecutor()
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec(id="a"))
            run = await executor.next_run()
            await run.emit("one")
            async with handle.stream() as chunks:
                assert (await anext(chunks)).text == "one"
                run.complete()
                await handle.wait()
                await handle.delete()
                await queue.submit(executor.spec(id="a"))
                await (await executor.next_run()).emit("another", "task")
                with pytest.raises(TaskNotFound):
                    await anext(chunks)

    async def test_a_callback_whose_task_was_deleted_before_is_not_called(self, executor, caplog, autojump_clock):
        calls = []
        async with virtual_queue(executor, start=False) as queue:
            handle = await queue.submit(executor.spec(id="a"), on_final=calls.append)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(handle.cancel)
                nursery.start_soon(queue.delete_all, EVERYTHING)
            if "a" in await there(queue):
                await handle.delete()
            await queue.finish_callbacks()
        assert calls == [] or [task.id for task in calls] == ["a"]
        assert "failed" not in caplog.text

    async def test_all_final_tasks_that_fit_are_deleted_however_many(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            specs = [executor.spec("fails" if n % 3 else "works", tags=["red"] if n % 2 else []) for n in range(600)]
            await queue.submit_many(specs)
            await queue.wait_idle()
            await queue.submit(executor.spec(delay=HOUR, tags=["red"]))
            assert await queue.delete_all(oq.TaskFilter(tag="red", status=oq.Status.FAILED)) == 200
            assert await queue.delete_all(oq.TaskFilter(tag="red")) == 100
            assert await queue.delete_all(EVERYTHING) == 300
            assert len(await there(queue)) == 1

    async def test_those_in_use_are_passed_over(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            await queue.submit_many([executor.spec(id=name) for name in "abc"])
            await queue.submit(executor.spec(id="d", after=["b"], delay=HOUR))
            await queue.wait_idle()
            assert await queue.delete_all(EVERYTHING) == 2
            assert await there(queue) == {"b", "d"}


class TestByAge:
    async def test_everything_is_kept_unless_it_is_said_otherwise(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            await queue.submit_many([executor.spec(label) for label in ("works", "fails")])
            await trio.sleep(3 * DAY)
            assert len(await there(queue)) == 2

    async def test_each_status_has_its_age(self, executor, autojump_clock):
        settings = keeping(completed=HOUR, failed=DAY, cleanup_interval=MINUTE)
        async with virtual_queue(executor, settings=settings) as queue:
            await queue.submit_many([executor.spec(label, id=label) for label in ("works", "fails")])
            await (await queue.submit(executor.spec(id="cancelled", delay=HOUR))).cancel()
            await trio.sleep(HOUR - 2 * MINUTE)
            assert await there(queue) == {"works", "fails", "cancelled"}
            await trio.sleep(4 * MINUTE)
            assert await there(queue) == {"fails", "cancelled"}
            await trio.sleep(DAY)
            assert await there(queue) == {"cancelled"}

    async def test_the_newest_completed_tasks_are_kept(self, executor, autojump_clock):
        settings = keeping(max_completed_tasks=10, cleanup_interval=MINUTE)
        async with virtual_queue(executor, workers=1, settings=settings) as queue:
            handles = await queue.submit_many([executor.spec() for _ in range(500)])
            await trio.sleep(10 * MINUTE)
            assert await there(queue) == {handle.id for handle in handles[-10:]}

    async def test_what_an_unfinished_task_needs_is_kept_until_that_is_final(self, executor, autojump_clock):
        settings = keeping(completed=MINUTE, cleanup_interval=MINUTE)
        async with virtual_queue(executor, settings=settings) as queue:
            await queue.submit(executor.spec("works", id="parent"))
            await queue.submit(executor.spec(id="follower", after=["parent"], delay=DAY))
            await trio.sleep(DAY - MINUTE)
            assert (await queue.get("parent")).result == "works"
            await trio.sleep(10 * MINUTE)
            assert await there(queue) == set()

    async def test_a_sweep_goes_in_small_steps_with_pauses(self, executor, autojump_clock):
        store = CountingStore()
        settings = keeping(completed=0, cleanup_interval=MINUTE)
        async with virtual_queue(executor, store=store, workers=50, settings=settings) as queue:
            await queue.submit_many([executor.spec() for _ in range(1_000)])
            await trio.sleep(MINUTE / 2)
            assert await there(queue) == set()
        assert len(store.purges) == 10
        assert len({moment for moment, _, _ in store.purges}) == 10, "there is time for others between them"
        assert store.purges[0][0] == FIRST_SWEEP

    async def test_a_process_that_does_not_run_the_queue_deletes_nothing(self, executor, autojump_clock):
        store = CountingStore()
        async with virtual_queue(executor, store=store, workers=0, settings=keeping(completed=0)):
            await trio.sleep(DAY)
        assert store.purges == []

    async def test_a_disk_that_refuses_is_tried_again(self, executor, caplog, autojump_clock):
        store = SteeredStore(MemoryStore())
        settings = keeping(completed=HOUR, cleanup_interval=MINUTE)
        async with virtual_queue(executor, store=store, settings=settings) as queue:
            await queue.submit(executor.spec())
            await trio.sleep(HOUR)
            store.refuse()
            await trio.sleep(2 * MINUTE)
            store.recover()
            assert len(await there(queue)) == 1
            await trio.sleep(2 * MINUTE)
            assert await there(queue) == set()
        assert "it is tried again later" in caplog.text

    async def test_idempotency_keys_are_forgotten_after_a_day(self, executor, autojump_clock):
        store = CountingStore()
        async with virtual_queue(executor, store=store):
            await trio.sleep(MINUTE)
        [(_, _, purge)] = store.purges
        assert purge.now - purge.idempotent_before == oq.retention.IDEMPOTENCY_KEPT

    async def test_the_end_of_the_queue_ends_it(self, executor, autojump_clock):
        async with virtual_queue(executor, settings=keeping(completed=0, cleanup_interval=MINUTE)) as queue:
            await queue.submit(executor.spec())
            await trio.sleep(FIRST_SWEEP)
        with pytest.raises(QueueClosed):
            await queue.delete_all(EVERYTHING)
