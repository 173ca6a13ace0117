"""The output of runs: everybody who reads it sees every chunk in order from the first, whenever they come."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from oq.codec import decode_block
from oq.errors import QueueClosed, TaskNotFound
from oq.executor import Chunk
from oq.retry import RetryPolicy
from oq.store.base import AppendChunks, Finish
from oq.store.memory import MemoryStore
from oq.streams import BLOCK_BYTES, MOST_UNKEPT_BYTES, StreamRestarted
from oq.task import Status
from oq.testing import ScriptedExecutor, SteeredStore, run_virtually, virtual_queue

AT_ONCE = RetryPolicy(delay=0, jitter=0)


@pytest.fixture
def executor():
    return ScriptedExecutor()


@pytest.fixture
def store():
    return SteeredStore(MemoryStore())


async def texts(handle):
    """What a reader gets who comes now and stays to the end."""
    async with handle.stream() as chunks:
        return [chunk.text for chunk in [chunk async for chunk in chunks]]


class Reader:
    """Reads a stream in the background."""

    def __init__(self, nursery, handle, *, pause=0.0):
        self.got = []
        self.times = []
        self.ended = False
        nursery.start_soon(self._read, handle, pause)

    @property
    def texts(self):
        return [chunk.text for chunk in self.got]

    async def _read(self, handle, pause):
        async with handle.stream() as chunks:
            async for chunk in chunks:
                self.got.append(chunk)
                self.times.append(trio.current_time())
                if pause:
                    await trio.sleep(pause)
        self.ended = True


def appends(store):
    """The blocks that were sent on their own, in order."""
    return [op.block for batch in store.batches for op in batch if isinstance(op, AppendChunks)]


class TestReading:
    async def test_a_reader_gets_each_chunk_at_the_very_moment(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue, trio.open_nursery() as nursery:
            handle = await queue.submit(executor.spec())
            reader = Reader(nursery, handle)
            run = await executor.next_run()
            for text in "abc":
                await trio.sleep(1)
                await run.emit(text)
            await wait_all_tasks_blocked()
            assert (reader.texts, reader.times) == (["a", "b", "c"], [1, 2, 3])
            run.complete()
            await wait_all_tasks_blocked()
            assert reader.ended

    async def test_each_of_many_readers_gets_everything(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue, trio.open_nursery() as nursery:
            handle = await queue.submit(executor.spec())
            readers = [Reader(nursery, handle) for _ in range(5)]
            run = await executor.next_run()
            for number in range(20):
                await run.emit(str(number))
                readers.append(Reader(nursery, handle))
                await trio.sleep(0.1)
            run.complete()
            await handle.wait()
        assert [reader.texts for reader in readers] == [[str(number) for number in range(20)]] * 25

    async def test_one_who_comes_before_the_task_runs_waits_for_it(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue, trio.open_nursery() as nursery:
            handle = await queue.submit(executor.spec(delay=100))
            reader = Reader(nursery, handle)
            run = await executor.next_run()
            await run.emit("first")
            run.complete()
            await handle.wait()
        assert (reader.texts, reader.times) == (["first"], [100])

    async def test_one_who_comes_after_the_end_sees_it_all_again(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec())
            run = await executor.next_run()
            await run.emit("a", "b")
            await trio.sleep(10)
            await run.emit("c")
            run.complete()
            await handle.wait()
            assert await texts(handle) == ["a", "b", "c"]
            assert await texts(handle) == ["a", "b", "c"]

    async def test_chunks_are_numbered_and_keep_what_was_in_them(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue, trio.open_nursery() as nursery:
            handle = await queue.submit(executor.spec())
            reader = Reader(nursery, handle)
            run = await executor.next_run()
            await run.emit(Chunk(text="hm", kind="thinking", data={"tokens": (1, 2)}, epoch=9, index=9), "ok")
            run.complete()
            await handle.wait()
            async with handle.stream() as chunks:
                replayed = [chunk async for chunk in chunks]
        assert reader.got == replayed
        assert replayed == [
            Chunk(text="hm", kind="thinking", data={"tokens": [1, 2]}, epoch=1, index=0),
            Chunk(text="ok", epoch=1, index=1),
        ]

    async def test_what_the_executor_does_to_its_data_afterwards_changes_nothing(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec())
            run = await executor.next_run()
            data = {"n": 1}
            await run.emit(Chunk(data=data))
            data["n"] = object()
            run.complete("fine")
            assert await handle.result() == "fine"
            async with handle.stream() as chunks:
                assert [chunk.data async for chunk in chunks] == [{"n": 1}]

    async def test_a_task_without_output_has_an_empty_stream(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec())
            (await executor.next_run()).complete()
            assert await texts(handle) == []

    async def test_the_stream_of_a_failed_task_ends_with_it(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec(retry=RetryPolicy(max_attempts=1)))
            run = await executor.next_run()
            await run.emit("so far")
            run.fail(RuntimeError())
            assert await texts(handle) == ["so far"]

    async def test_nobodys_stream_is_an_error(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            with pytest.raises(TaskNotFound):
                async with queue.stream("nobody") as chunks:
                    await anext(chunks)

    async def test_a_reader_may_leave_early(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec())
            run = await executor.next_run()
            await run.emit("a", "b")
            async with handle.stream() as chunks:
                assert (await anext(chunks)).text == "a"
            run.complete()
            assert (await handle.wait()).status is Status.COMPLETED

    async def test_a_reader_who_waits_can_be_cancelled(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec())
            with trio.move_on_after(5) as scope:
                await texts(handle)
            assert scope.cancelled_caught
            (await executor.next_run()).complete()

    async def test_one_who_still_reads_when_the_queue_closes_is_told(self, executor, autojump_clock):
        told = []

        async def read(handle):
            with pytest.raises(QueueClosed):
                await texts(handle)
            told.append(True)

        async with trio.open_nursery() as nursery, virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec())
            nursery.start_soon(read, handle)
            await trio.sleep(1)
        assert told == [True]

    async def test_a_long_replay_lets_others_run(self, executor, autojump_clock):
        turns = []

        async def other():
            while True:
                turns.append(1)
                await trio.lowlevel.checkpoint()

        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec())
            run = await executor.next_run()
            await run.emit(*["x" * 1_000] * 3_000)
            run.complete()
            await handle.wait()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(other)
                assert len(await texts(handle)) == 3_000
                nursery.cancel_scope.cancel()
        assert len(turns) > 2


class TestSlowReaders:
    async def test_a_slow_reader_loses_nothing_and_holds_nobody_up(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue, trio.open_nursery() as nursery:
            handle = await queue.submit(executor.spec())
            slow, quick = Reader(nursery, handle, pause=10), Reader(nursery, handle)
            run = await executor.next_run()
            for number in range(30):
                await run.emit(str(number))
                await trio.sleep(1)
            run.complete()
            assert (await handle.wait()).finished_at.minute == 0
            assert len(slow.got) < 5
        assert slow.texts == quick.texts == [str(number) for number in range(30)]
        assert quick.times[-1] == 29

    @given(
        pauses=st.lists(st.sampled_from([0.0, 0.1, 0.3, 2.0]), min_size=1, max_size=4),
        steps=st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.1, 0.3, 2.0])), max_size=12),
        size=st.sampled_from([1, BLOCK_BYTES // 2, BLOCK_BYTES]),
    )
    def test_whoever_reads_at_whatever_speed_sees_all_of_it_in_order(self, pauses, steps, size):
        async def main():
            executor = ScriptedExecutor()
            async with virtual_queue(executor) as queue, trio.open_nursery() as nursery:
                handle = await queue.submit(executor.spec())
                readers = [Reader(nursery, handle, pause=pause) for pause in pauses]
                run = await executor.next_run()
                emitted = []
                for count, pause in steps:
                    chunks = [f"{len(emitted) + number:{size}}" for number in range(count)]
                    emitted += chunks
                    await run.emit(*chunks)
                    await trio.sleep(pause)
                run.complete()
                await handle.wait()
                readers += [Reader(nursery, handle, pause=pause) for pause in pauses]
            for reader in readers:
                assert reader.texts == emitted

        run_virtually(main)


class TestRestarts:
    async def test_a_reader_is_told_that_the_task_runs_again(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue, trio.open_nursery() as nursery:
            handle = await queue.submit(executor.spec(retry=AT_ONCE))
            reader = Reader(nursery, handle)
            run = await executor.next_run()
            await run.emit("half of")
            await wait_all_tasks_blocked()
            run.fail(RuntimeError())
            run = await executor.next_run()
            await run.emit("all of it")
            run.complete()
            await handle.wait()
        assert reader.got == [
            Chunk(text="half of", epoch=1, index=0),
            StreamRestarted(epoch=2),
            Chunk(text="all of it", epoch=2, index=0),
        ]
        assert "".join(reader.texts) == "half ofall of it"

    async def test_a_slow_reader_sees_the_rest_of_the_old_run_first(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue, trio.open_nursery() as nursery:
            handle = await queue.submit(executor.spec(retry=AT_ONCE))
            reader = Reader(nursery, handle, pause=10)
            run = await executor.next_run()
            await run.emit("a", "b", "c")
            await trio.sleep(1)
            run.fail(RuntimeError())
            run = await executor.next_run()
            await run.emit("d", "e")
            run.complete()
        assert [chunk.text or chunk.kind for chunk in reader.got] == ["a", "b", "c", "restarted", "d", "e"]

    async def test_a_replay_shows_the_last_run_only(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec(retry=AT_ONCE))
            for text in ("first", "second"):
                run = await executor.next_run()
                await run.emit(text)
                run.fail(RuntimeError()) if text == "first" else run.complete()
            await handle.wait()
            assert await texts(handle) == ["second"]

    async def test_a_requeued_task_streams_anew(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec(retry=RetryPolicy(max_attempts=1)))
            run = await executor.next_run()
            await run.emit("first")
            run.fail(RuntimeError())
            assert await texts(handle) == ["first"]
            await handle.requeue()
            run = await executor.next_run()
            await run.emit("second")
            run.complete()
            assert await texts(handle) == ["second"]

    async def test_an_older_run_that_will_not_stop_is_not_mixed_in(self, executor, autojump_clock):
        async with virtual_queue(executor, workers=2) as queue, trio.open_nursery() as nursery:
            handle = await queue.submit(executor.spec())
            old = await executor.next_run()
            old.ignore_cancellation()
            await handle.cancel()
            await handle.requeue()
            new = await executor.next_run()
            reader = Reader(nursery, handle)
            await new.emit("new 1")
            await old.emit("old")
            await new.emit("new 2")
            await wait_all_tasks_blocked()
            assert reader.texts == ["new 1", "new 2"]
            old.complete()
            await new.emit("new 3")
            await wait_all_tasks_blocked()
            assert reader.texts == ["new 1", "new 2", "new 3"]
            new.complete()
            await handle.wait()
            assert await texts(handle) == ["new 1", "new 2", "new 3"]


class TestKeeping:
    async def test_chunks_of_a_quarter_of_a_second_share_a_block(self, executor, store, autojump_clock):
        async with virtual_queue(executor, store=store) as queue:
            await queue.submit(executor.spec())
            run = await executor.next_run()
            for number in range(5):
                await run.emit(str(number))
                await trio.sleep(0.05)
            await trio.sleep(1)
            assert [(block.first, block.count) for block in appends(store)] == [(0, 5)]
            run.complete()

    async def test_a_block_that_has_grown_large_goes_at_once(self, executor, store, autojump_clock):
        async with virtual_queue(executor, store=store) as queue:
            await queue.submit(executor.spec())
            run = await executor.next_run()
            await run.emit(*["x" * 10_000] * 8)
            await wait_all_tasks_blocked()
            (block,) = appends(store)
            assert (block.first, block.count) == (0, 7)
            assert [chunk.index for chunk in decode_block(block.data)] == list(range(7))
            run.complete()

    async def test_the_last_of_it_goes_with_the_end(self, executor, store, autojump_clock):
        async with virtual_queue(executor, store=store) as queue:
            handle = await queue.submit(executor.spec())
            run = await executor.next_run()
            await run.emit("a", "b")
            run.complete()
            await handle.wait()
            assert appends(store) == []
            (end,) = [op for batch in store.batches for op in batch if isinstance(op, Finish)]
            assert (end.block.first, end.block.count) == (0, 2)

    async def test_what_was_emitted_before_a_cancel_is_kept(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec())
            run = await executor.next_run()
            await run.emit("a", "b")
            await handle.cancel()
            assert await texts(handle) == ["a", "b"]

    async def test_what_is_emitted_after_it_is_nobodys(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec())
            run = await executor.next_run()
            run.ignore_cancellation()
            await run.emit("before")
            await handle.cancel()
            await run.emit(*["after"] * 10)
            await trio.sleep(1)
            await run.emit("later")
            run.complete()
            await run.wait_over()
            await queue.wait_idle()
            assert await texts(handle) == ["before"]

    async def test_nor_does_it_fill_the_memory_or_wait_for_anybody(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec())
            run = await executor.next_run()
            run.ignore_cancellation()
            await run.emit("before")
            await handle.cancel()
            await run.emit(*["x" * 100_000] * 50)
            await trio.sleep(1)
            await run.emit(*["x" * 100_000] * 50)
            held = [len(chunk.text) for output in queue._streams._outputs.values() for chunk in output.tail]
            assert sum(held) < 2 * MOST_UNKEPT_BYTES
            run.heed_cancellation()

    async def test_nothing_of_it_stays_in_memory(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec())
            run = await executor.next_run()
            await run.emit("a")
            run.complete()
            await handle.wait()
            await queue.wait_idle()
            assert not queue._streams._outputs
            assert not queue._streams._young


class TestBackPressure:
    async def test_emit_waits_while_the_store_is_behind(self, executor, store, autojump_clock):
        emitted = 0

        async def behave(run):
            nonlocal emitted
            for _ in range(100):
                await run.ctx.emit("x" * 50_000)
                emitted += 1

        executor = ScriptedExecutor(behave=behave)
        async with virtual_queue(executor, store=store) as queue:
            handle = await queue.submit(executor.spec())
            store.refuse()
            await trio.sleep(60)
            assert MOST_UNKEPT_BYTES // 50_000 <= emitted <= MOST_UNKEPT_BYTES // 50_000 + 3
            store.recover()
            assert (await handle.wait()).status is Status.COMPLETED
            assert await texts(handle) == ["x" * 50_000] * 100

    async def test_nothing_is_lost_when_the_store_refused_for_a_while(self, executor, store, autojump_clock):
        async with virtual_queue(executor, store=store) as queue, trio.open_nursery() as nursery:
            handle = await queue.submit(executor.spec())
            reader = Reader(nursery, handle)
            run = await executor.next_run()
            store.refuse()
            for number in range(10):
                await run.emit(str(number))
                await trio.sleep(1)
            assert len(reader.got) == 10
            store.recover()
            await run.emit("10")
            run.complete()
            await handle.wait()
            assert await texts(handle) == [str(number) for number in range(11)]

    async def test_one_who_waits_for_room_can_be_cancelled(self, executor, store, autojump_clock):
        async def behave(run):
            while True:
                await run.ctx.emit("x" * 50_000)

        executor = ScriptedExecutor(behave=behave)
        async with virtual_queue(executor, store=store) as queue:
            handle = await queue.submit(executor.spec(timeout=5, retry=RetryPolicy(max_attempts=1)))
            store.refuse()
            await trio.sleep(10)
            assert executor.runs[0].cancelled
            store.recover()
            assert (await handle.wait()).failure.type == "Timeout"

    async def test_one_huge_chunk_passes(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec())
            run = await executor.next_run()
            for _ in range(3):
                await run.emit("x" * 3 * MOST_UNKEPT_BYTES)
            run.complete()
            assert [len(text) for text in await texts(handle)] == [3 * MOST_UNKEPT_BYTES] * 3

    async def test_emit_lets_others_run(self, autojump_clock):
        turns = []

        async def behave(run):
            if run.label == "other":
                while not executor.runs[0].over:
                    turns.append(1)
                    await trio.lowlevel.checkpoint()
            else:
                for _ in range(100):
                    await run.ctx.emit("x")

        executor = ScriptedExecutor(behave=behave)
        async with virtual_queue(executor, workers=2) as queue:
            await queue.submit(executor.spec("emitter"))
            await queue.submit(executor.spec("other"))
            await queue.wait_idle()
        assert len(turns) > 50
