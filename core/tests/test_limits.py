"""Full is an answer: what may be pending, how large each thing may be, and what is said beyond that."""

import pytest
import trio
from attrs import evolve

from oq import Failure, InvalidTask, PermanentError, Phase, QueueFull, Settings, Status
from oq.limits import Limits
from oq.rate import RateMeter
from oq.store.base import Added, AddMany, Advance, Finish, Refused, Retried, Room
from oq.store.lmdb import LmdbStore
from oq.store.memory import MemoryStore
from oq.testing import ScriptedExecutor, claim, new_task, offer, virtual_queue
from oq.testing.builders import START


def limited(**limits):
    return {"settings": Settings(limits=Limits(**limits))}


def sized(task_id, size, **fields):
    return new_task(task_id, payload=b"x" * size, size=size, **fields)


@pytest.fixture(params=["memory", "lmdb"])
def store(request, tmp_path):
    store = MemoryStore() if request.param == "memory" else LmdbStore(tmp_path, durability="relaxed")
    yield store
    assert store.check() == []
    store.close()


class TestRoom:
    """What a store refuses when an op says how much may be pending."""

    def add(self, store, *tasks, **room):
        [reply] = store.apply([AddMany(tasks=tasks, now=START, room=Room(**room))])
        return reply

    def test_as_many_as_there_is_room_for_are_taken(self, store):
        assert isinstance(self.add(store, new_task("a"), new_task("b"), tasks=2), Added)

    def test_one_more_is_refused_with_the_limit_and_nothing_of_the_op_is_stored(self, store):
        self.add(store, new_task("a"), tasks=2)
        reply = self.add(store, new_task("b"), new_task("c"), tasks=2)
        assert isinstance(reply, Refused)
        assert isinstance(reply.error, QueueFull)
        assert (reply.error.what, reply.error.limit) == ("the number of pending tasks", 2)
        assert store.get("b") is None

    def test_each_queue_has_room_of_its_own(self, store):
        self.add(store, new_task("a", queue="one"), tasks_per_queue=1)
        assert isinstance(self.add(store, new_task("b", queue="two"), tasks_per_queue=1), Added)
        reply = self.add(store, new_task("c", queue="one"), tasks_per_queue=1)
        assert isinstance(reply, Refused)
        assert "in queue 'one'" in str(reply.error)

    def test_payloads_count_by_their_bytes(self, store):
        self.add(store, sized("a", 600), size=1_000)
        assert isinstance(self.add(store, sized("b", 401), size=1_000), Refused)
        assert isinstance(self.add(store, sized("c", 400), size=1_000), Added)

    def test_payloads_of_one_queue_count_by_their_bytes(self, store):
        self.add(store, sized("a", 600, queue="one"), size_per_queue=1_000)
        assert isinstance(self.add(store, sized("b", 401, queue="one"), size_per_queue=1_000), Refused)
        assert isinstance(self.add(store, sized("c", 401, queue="two"), size_per_queue=1_000), Added)

    def test_what_has_started_makes_room(self, store):
        self.add(store, sized("a", 600), tasks=1, size=600)
        store.apply([claim(offer())])
        assert isinstance(self.add(store, sized("b", 600), tasks=1, size=600), Added)

    def test_a_duplicate_needs_no_room(self, store):
        self.add(store, new_task("a", unique_key="k"), tasks=1)
        reply = self.add(store, new_task("b", unique_key="k"), tasks=1)
        assert isinstance(reply, Added)
        assert reply.entries[0].duplicate

    def test_the_count_survives_reopening(self, tmp_path):
        store = LmdbStore(tmp_path)
        self.add(store, sized("a", 600), size=1_000)
        store.close()
        store = LmdbStore(tmp_path)
        assert isinstance(self.add(store, sized("b", 401), size=1_000), Refused)
        store.close()


def test_of_very_many_attempts_the_last_hundred_are_kept(store):
    store.apply([AddMany(tasks=(new_task("a"),), now=START)])
    retry = Retried(Failure(type="Busy", message="later"), START, counted=False)
    for epoch in range(1, 131):
        store.apply([Advance(now=START)])
        store.apply([claim(offer())])
        store.apply([Finish(seq=1, epoch=epoch, ending=retry, now=START)])
    assert [attempt.epoch for attempt in store.load("a").attempts] == list(range(31, 131))


class TestQueue:
    async def test_submit_says_what_is_full_and_when_to_come_back(self, autojump_clock):
        executor = ScriptedExecutor()
        async with virtual_queue(executor, workers=1, **limited(pending=2)) as queue:

            async def work():
                for _ in range(5):
                    await trio.sleep(1)
                    (await executor.next_run()).complete()

            refusals: list[QueueFull] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(work)
                for _ in range(5):
                    while True:
                        try:
                            handle = await queue.submit(executor.spec())
                        except QueueFull as full:
                            refusals.append(full)
                            await trio.sleep(full.retry_after)
                        else:
                            break
                assert (await handle.wait()).status is Status.COMPLETED
            assert refusals
            assert all(full.limit == 2 and full.retry_after > 0 for full in refusals)

    async def test_when_nothing_drains_no_moment_is_promised(self, autojump_clock):
        executor = ScriptedExecutor()
        async with virtual_queue(executor, start=False, **limited(pending=1)) as queue:
            await queue.submit(executor.spec())
            with pytest.raises(QueueFull) as caught:
                await queue.submit(executor.spec())
            assert caught.value.retry_after is None

    async def test_running_work_can_be_finished_and_retried_though_the_queue_is_full(self, autojump_clock):
        executor = ScriptedExecutor()
        async with virtual_queue(executor, workers=1, **limited(pending=1)) as queue:
            first = await queue.submit(executor.spec())
            run = await executor.next_run()
            await queue.submit(executor.spec())
            run.fail(ValueError("once more"))
            assert (await queue.stats()).tasks.by_phase[Phase.READY] <= 1
            (await executor.next_run()).complete()
            (await executor.next_run()).complete()
            assert (await first.wait()).status is Status.COMPLETED

    async def test_a_payload_that_is_too_large_is_refused_with_its_size(self, autojump_clock):
        async with virtual_queue(start=False, **limited(payload=100)) as queue:

            @queue.task()
            async def say(text: str) -> None: ...

            with pytest.raises(InvalidTask, match=r"payload: takes 1,0\d\d bytes; at most 100 are allowed"):
                await queue.submit(say.spec("x" * 1_000))
            await queue.submit(say.spec("short"))

    async def test_a_result_that_is_too_large_is_a_failure_that_no_retry_mends(self, autojump_clock):
        async with virtual_queue(**limited(result=100)) as queue:

            @queue.task()
            async def long() -> str:
                return "x" * 101

            task = await (await queue.submit(long.spec())).wait()
            assert task.failure.type == "ResultTooLarge"
            assert len(task.attempts) == 1

    async def test_failure_details_that_are_too_large_are_left_out_and_that_is_said(self, autojump_clock):
        async with virtual_queue(**limited(failure=1024)) as queue:

            @queue.task()
            async def fail() -> None:
                raise PermanentError("no", details={"log": "x" * 2_000})

            task = await (await queue.submit(fail.spec())).wait()
            assert task.failure.message == "no"
            assert "at most 1,024 are kept" in task.failure.details["dropped"]

    async def test_output_that_is_too_long_ends_with_a_chunk_that_says_so(self, autojump_clock):
        executor = ScriptedExecutor()
        async with virtual_queue(executor, **limited(output=10_000)) as queue:
            handle = await queue.submit(executor.spec())
            run = await executor.next_run()
            for _ in range(100):
                await run.emit("x" * 1_000)
            run.complete()
            async with handle.stream() as chunks:
                seen = [chunk async for chunk in chunks]
            assert len(seen) < 15
            assert [chunk.kind for chunk in seen].count("truncated") == 1
            assert seen[-1].kind == "truncated"


class TestRateMeter:
    async def test_it_tells_how_long_more_takes_at_the_pace_of_late(self, autojump_clock):
        meter = RateMeter()
        for _ in range(10):
            meter.count(5)
            await trio.sleep(1)
        assert meter.time_for(50) == pytest.approx(10, rel=0.3)

    async def test_what_is_long_past_does_not_count(self, autojump_clock):
        meter = RateMeter()
        meter.count(1_000)
        await trio.sleep(60)
        assert meter.time_for(1) is None


def test_every_limit_must_be_positive():
    for name in Limits.__attrs_attrs__:
        with pytest.raises(ValueError, match=name.name):
            evolve(Limits(), **{name.name: 0})


async def test_a_lane_whose_tasks_were_refused_is_not_offered(autojump_clock):
    """A submitter who tries again and again makes no claim dearer."""
    executor = ScriptedExecutor()
    async with virtual_queue(executor, **limited(pending=1)) as queue:
        await queue.pause()
        await queue.submit(executor.spec())
        for number in range(100):
            with pytest.raises(QueueFull):
                await queue.submit(executor.spec(lane=f"lane {number}"))
        await queue.resume()
        (await executor.next_run()).complete()
        await queue.wait_idle()
        assert len(queue._scheduler.offers.made) == 1
