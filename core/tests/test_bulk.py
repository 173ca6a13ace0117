"""One change for all tasks that fit: none is left out, and others go on meanwhile."""

import pytest
import trio

import oq
from oq.errors import StoreUnavailable
from oq.store.memory import MemoryStore
from oq.testing import ScriptedExecutor, SteeredStore, virtual_queue

EVERYTHING = oq.TaskFilter()


@pytest.fixture
def executor():
    async def behave(run):
        if run.label == "fails":
            raise oq.PermanentError("no", type="NoSuchThing")
        await trio.sleep(10)

    return ScriptedExecutor(behave=behave)


async def by_status(queue):
    counted = (await queue.stats()).tasks.by_status
    return {status.value: number for status, number in counted.items() if number}


async def test_all_tasks_that_fit_are_cancelled_however_many_pages_they_fill(executor, autojump_clock):
    async with virtual_queue(executor, start=False) as queue:
        await queue.submit_many([executor.spec(tags=["red"] if n % 3 else []) for n in range(1_000)])
        assert await queue.cancel_all(oq.TaskFilter(tag="red")) == 666
        assert await by_status(queue) == {"pending": 334, "cancelled": 666}


async def test_running_ones_are_stopped(executor, autojump_clock):
    async with virtual_queue(executor, workers=3) as queue:
        await queue.submit_many([executor.spec() for _ in range(5)])
        await trio.sleep(1)
        assert await queue.cancel_all(EVERYTHING) == 5
        await queue.wait_idle()
        assert trio.current_time() == 1
        assert all(run.cancelled for run in executor.runs)


async def test_failed_ones_are_requeued_by_the_type_of_their_failure(executor, autojump_clock):
    async with virtual_queue(executor, workers=3) as queue:
        await queue.submit_many([executor.spec(label) for label in ("fails", "works", "fails")])
        await queue.wait_idle()
        await queue.pause()
        assert await queue.requeue_all(oq.TaskFilter(failure_type="Other")) == 0
        assert await queue.requeue_all(oq.TaskFilter(failure_type="NoSuchThing")) == 2
        assert await by_status(queue) == {"pending": 2, "completed": 1}


async def test_priorities_of_unfinished_ones_are_changed(executor, autojump_clock):
    async with virtual_queue(executor, start=False) as queue:
        first, second = await queue.submit_many([executor.spec(), executor.spec()])
        await first.cancel()
        assert await queue.set_priority_all(EVERYTHING, "critical") == 1
        assert [(await task.refresh()).priority for task in (first, second)] == [
            oq.Priority.NORMAL,
            oq.Priority.CRITICAL,
        ]
        with pytest.raises(oq.InvalidTask, match="priority"):
            await queue.set_priority_all(EVERYTHING, "urgent")


async def test_others_are_served_between_two_steps(executor, autojump_clock):
    async with virtual_queue(executor, start=False) as queue:
        await queue.submit_many([executor.spec() for _ in range(1_000)])
        turns = 0

        async def count():
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            await queue.cancel_all(EVERYTHING)
            nursery.cancel_scope.cancel()
        assert turns >= 5


async def test_a_disk_that_refuses_is_told(executor, autojump_clock):
    store = SteeredStore(MemoryStore())
    async with virtual_queue(executor, store=store, start=False) as queue:
        await queue.submit_many([executor.spec() for _ in range(3)])
        store.refuse()
        with pytest.raises(StoreUnavailable):
            await queue.cancel_all(EVERYTHING)
        store.recover()
        assert await queue.cancel_all(EVERYTHING) == 3


async def test_tasks_of_paused_queues_can_be_told_from_those_that_are_ready(executor, autojump_clock):
    async with virtual_queue(executor, start=False) as queue:
        await queue.submit_many([executor.spec("here"), executor.spec("there", queue="night")])
        await queue.pause("night")
        for phase, name in ((oq.Phase.PAUSED, "night"), (oq.Phase.READY, "default")):
            page = await queue.list(oq.TaskFilter(phase=phase))
            assert [task.queue for task in page.items] == [name]


async def test_an_id_that_is_the_beginning_of_another_is_itself(executor, autojump_clock):
    async with virtual_queue(executor, start=False) as queue:
        await queue.submit_many([executor.spec(id=name) for name in ("report", "report-1", "report-2")])
        assert await queue.resolve("report") == "report"
        with pytest.raises(oq.AmbiguousId, match=r"\(report-1, report-2\)"):
            await queue.resolve("report-")
