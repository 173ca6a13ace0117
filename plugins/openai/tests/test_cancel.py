"""A cancel closes the upstream connection at once, frees the unit, and leaves the client healthy."""

import gc
import random
import warnings
from contextlib import suppress

import pytest
import trio

import oq
from oq_openai import chat, embed, generate
from oq_openai.testing import faults

AT_ONCE = 0.1
"""Seconds."""


@pytest.mark.parametrize("spec", [chat("m", "x"), generate("m", "x"), embed("m", "x")], ids=lambda spec: spec.action)
@pytest.mark.parametrize("after", [None, 0, 3])
async def test_a_cancel_closes_the_connection_at_once_and_frees_the_unit(fake, endpoint, queue_for, spec, after):
    fake.script(faults.stall(after=after))
    async with queue_for(endpoint(fake, "a", concurrency=1)) as queue:
        handle = await queue.submit(spec)
        with trio.fail_after(20):
            [request] = await fake.wait_asked(1)
            await trio.testing.wait_all_tasks_blocked(0.005)
            cancelled_at = trio.current_time()
            await handle.cancel()
            await request.closed.wait()
            assert (await (await queue.submit(spec)).wait()).status is oq.Status.COMPLETED
        assert (await handle.refresh()).status is oq.Status.CANCELLED
    assert request.disconnected
    assert request.closed_at - cancelled_at < AT_ONCE


async def test_no_request_waits_in_the_client_for_another(fake, endpoint, queue_for):
    """What waits for a slot of httpx's own and is cancelled there would leave it taken for ever."""
    fake.set_model("m", faults.stall())
    async with queue_for(endpoint(fake, "a", concurrency=150), workers=150) as queue:
        await queue.submit_many([chat("m", "x")] * 150)
        with trio.fail_after(20):
            await fake.wait_asked(150)
        assert fake.server.open_connections == 150
        await queue.stop(grace=0)


async def test_a_time_out_closes_the_connection(fake, queue_for):
    fake.script(faults.stall(after=2))
    async with queue_for(fake) as queue:
        task = await (await queue.submit(chat("m", "x", timeout=1.0, retry=oq.NO_RETRY))).wait()
        with trio.fail_after(20):
            await fake.asked[0].closed.wait()
    assert (task.failure.type, fake.asked[0].disconnected) == ("Timeout", True)


async def test_silence_closes_the_connection(fake, queue_for):
    fake.script(faults.stall(after=2))
    async with queue_for(fake, chunk_timeout=0.05) as queue:
        await (await queue.submit(chat("m", "x", retry=oq.NO_RETRY))).wait()
        with trio.fail_after(20):
            await fake.asked[0].closed.wait()
    assert fake.asked[0].disconnected


async def test_the_end_of_the_queue_closes_the_connections(fake, queue_for):
    fake.set_model("m", faults.stall(after=2))
    async with queue_for(fake) as queue:
        await queue.submit_many([chat("m", "x")] * 3)
        with trio.fail_after(20):
            requests = await fake.wait_asked(3)
            await queue.stop(grace=0)
            for request in requests:
                await request.closed.wait()
    assert all(request.disconnected for request in requests)


async def test_two_hundred_tasks_with_random_cancels_leave_the_client_healthy(fake, endpoint, queue_for):
    chance = random.Random(0)
    fake.pace = 0.001
    fake.set_model("stalls", faults.stall(after=1))
    async with queue_for(endpoint(fake, "a", concurrency=100), workers=100) as queue:
        with trio.fail_after(60):
            doing = [chat(chance.choice(["m", "m", "stalls"]), f"number {number}") for number in range(200)]
            handles = await queue.submit_many(doing)
            order = list(zip(handles, doing, strict=True))
            chance.shuffle(order)
            cancelled = set()
            for handle, spec in order:
                if spec.payload["model"] == "stalls" or chance.random() < 0.5:
                    for _ in range(chance.randrange(20)):
                        await trio.lowlevel.checkpoint()
                    with suppress(oq.IllegalMove):  # it has completed
                        await handle.cancel()
                        cancelled.add(handle.id)
            tasks = [await handle.wait() for handle in handles]
            assert {task.id for task in tasks if task.status is not oq.Status.COMPLETED} == cancelled
            assert {task.status for task in tasks} == {oq.Status.COMPLETED, oq.Status.CANCELLED}
            again = await queue.submit_many([chat("m", "again")] * 100)
            assert {(await handle.wait()).status for handle in again} == {oq.Status.COMPLETED}
            assert (await queue.stats()).busy == 0
    with trio.fail_after(20):
        for request in fake.asked:
            await request.closed.wait()


@pytest.mark.parametrize("fault", [faults.malformed(), faults.error_event(), faults.cut(), faults.stall(after=2), None])
async def test_no_reader_is_left_behind_in_the_middle_of_an_answer(fake, opened, fault):
    """Else trio would tidy up after us, some time later."""
    fake.script(fault)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        async with opened(fake, chunk_timeout=0.1) as registry:
            with suppress(oq.Steering):
                async with registry.stream(chat("m", "x")) as chunks:
                    await anext(chunks)
                    if fault is not None:
                        async for _ in chunks:
                            pass
        gc.collect()
    assert not [str(warning.message) for warning in warned if "garbage collected" in str(warning.message)]
