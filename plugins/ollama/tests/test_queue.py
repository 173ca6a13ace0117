"""Models as tasks of a queue: units, cancels, and who comes first."""

import random
from contextlib import suppress

import pytest
import trio

import oq
from oq import Registry
from oq.testing import virtual_queue
from oq_ollama import OllamaEndpoint, OllamaExecutor, OllamaSettings, chat
from oq_ollama.testing import fake_ollama, stall


async def test_the_result_comes_back_as_its_class(queue):
    """What is stored is an `oq.ChatResult` again."""
    result = await (await queue.submit(chat("qwen3", "hi"))).result()
    assert isinstance(result, oq.ChatResult)
    assert result.message.content == "This is a simulated answer of qwen3 to: hi"


async def test_a_cancel_closes_the_connection_at_once_and_frees_the_unit(queue, fake):
    """The server sees it within a tenth of a second, so it stops; the next task starts."""
    fake.fail(stall(after=1))
    task = await queue.submit(chat("qwen3", "for ever"))
    await fake.until(lambda fake: fake.requests and fake.requests[0].frames == 1)
    cancelled_at = trio.current_time()
    await task.cancel()
    (request,) = fake.requests
    await request.http.closed.wait()
    assert request.disconnected
    assert request.closed_at - cancelled_at < 0.1
    following = await (await queue.submit(chat("qwen3", "hi"))).wait()
    assert following.status is oq.Status.COMPLETED
    assert (await queue.stats()).busy == 0


async def test_a_cancel_before_the_first_byte_closes_the_connection_at_once(queue, fake):
    """A model that is still being loaded need not be waited for."""
    fake.fail(stall())
    task = await queue.submit(chat("qwen3", "for ever"))
    await fake.wait_requests(1)
    cancelled_at = trio.current_time()
    await task.cancel()
    (request,) = fake.requests
    await request.http.closed.wait()
    assert request.disconnected
    assert request.closed_at - cancelled_at < 0.1


async def test_a_time_out_closes_the_connection(queue, fake):
    """The attempt fails as `Timeout`; the server need not work on."""
    fake.fail(stall(after=1))
    task = await (await queue.submit(chat("qwen3", "for ever", timeout=0.1, retry=oq.NO_RETRY))).wait()
    assert task.failure.type == "Timeout"
    await fake.requests[0].http.closed.wait()
    assert fake.requests[0].disconnected


async def test_the_end_of_the_queue_closes_the_connection(fake, executor_with):
    """The task is given back, to be run another time."""
    fake.fail(stall(after=1))
    async with virtual_queue(executor_with(), workers=1) as queue:
        task = await queue.submit(chat("qwen3", "for ever"))
        await fake.until(lambda fake: fake.requests and fake.requests[0].frames == 1)
        await queue.stop(grace=0)
        assert (await task.refresh()).status is oq.Status.PENDING
    await fake.requests[0].http.closed.wait()
    assert fake.requests[0].disconnected


async def test_no_more_tasks_are_started_than_the_endpoint_takes(queue, fake):
    """With concurrency 1 and four workers, the server sees one request at a time: none waits inside of it."""
    tasks = [await queue.submit(chat("qwen3", str(number))) for number in range(6)]
    for task in tasks:
        await task.wait()
    assert len(fake.requests) == 6
    assert not any(request.waited for request in fake.requests)


@pytest.mark.parametrize("concurrency", [2, 3])
async def test_as_many_tasks_run_at_once_as_the_endpoint_takes(concurrency):
    """As `concurrency` says, up to the number of workers."""
    async with fake_ollama(parallel=10) as fake:
        gate = trio.Event()
        fake.fail(stall(after=1, until=gate), times=None)
        endpoint = OllamaEndpoint(name="local", url=fake.url, concurrency=concurrency)
        executor = OllamaExecutor(OllamaSettings(endpoints=(endpoint,)))
        async with virtual_queue(executor, workers=4) as queue:
            tasks = [await queue.submit(chat("qwen3", str(number))) for number in range(5)]
            await fake.until(lambda fake: len(fake.running) == concurrency)
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert len(fake.requests) == concurrency
            gate.set()
            for task in tasks:
                await task.wait()


async def test_a_critical_task_of_another_model_never_waits_behind_a_claimed_one(queue, fake):
    """One endpoint of concurrency 1, two models, four workers: what is claimed runs, so the critical one is next."""
    gate = trio.Event()
    fake.fail(stall(after=1, until=gate))
    tasks = [await queue.submit(chat("qwen3", f"usual {number}")) for number in range(4)]
    await fake.until(lambda fake: fake.requests and fake.requests[0].frames == 1)
    tasks.append(await queue.submit(chat("llama3.2", "urgent", priority="critical")))
    statuses = [(await task.refresh()).status for task in tasks]
    assert statuses == [oq.Status.RUNNING] + [oq.Status.PENDING] * 4
    gate.set()
    for task in tasks:
        assert (await task.wait()).status is oq.Status.COMPLETED
    asked = [request.body["messages"][0]["content"] for request in fake.requests]
    assert asked == ["usual 0", "urgent", "usual 1", "usual 2", "usual 3"]


async def test_a_lane_of_another_model_is_not_held_up_by_a_long_backlog(fake, executor_with):
    """A thousand tasks of one model ahead, and the best-ranked task of another starts first all the same."""
    async with virtual_queue(executor_with(), workers=4, start=False) as queue:
        await queue.submit_many([chat("qwen3", str(number)) for number in range(1000)])
        urgent = await queue.submit(chat("llama3.2", "urgent", priority="high"))
        await queue.start()
        await urgent.wait()
        assert fake.requests[0].model == "llama3.2"
        await queue.stop(grace=0)


async def test_no_request_waits_inside_the_client():
    """Two hundred runs at once are two hundred requests at the server: whoever counts, it is not the client."""
    async with fake_ollama(parallel=1000) as fake:
        gate = trio.Event()
        fake.fail(stall(after=1, until=gate), times=None)
        registry = Registry([OllamaExecutor(OllamaSettings(host=fake.url))])
        async with registry.opened(), trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(registry.execute, chat("qwen3", "hi"))
            with trio.fail_after(30):
                await fake.until(lambda fake: len(fake.running) == 200)
            gate.set()


async def test_200_tasks_with_random_cancels_leave_the_client_healthy():
    """Whatever moment a cancel comes at, nothing is stuck: the others complete, and so do 200 more."""
    chance = random.Random(7)
    async with fake_ollama(parallel=1000, loaded_at_once=2) as fake:
        registry = Registry([OllamaExecutor(OllamaSettings(host=fake.url))])
        completed = set()

        def progress(fake):
            return len(fake.requests) + sum(request.frames for request in fake.requests)

        async def run(number, scope):
            with scope:
                await registry.execute(chat(chance.choice(["qwen3", "llama3.2"]), "hi"))
                completed.add(number)

        async def cancel(scopes):
            for scope, moment in zip(scopes, sorted(chance.sample(range(800), len(scopes))), strict=True):
                await fake.until(lambda fake, moment=moment: progress(fake) >= moment)
                scope.cancel()

        async with registry.opened():
            with trio.fail_after(100):
                scopes = [trio.CancelScope() for _ in range(200)]
                async with trio.open_nursery() as nursery:
                    for number, scope in enumerate(scopes):
                        nursery.start_soon(run, number, scope)
                    nursery.start_soon(cancel, chance.sample(scopes[100:], 100))
                assert set(range(100)) <= completed
                assert len(completed) < 200, "no cancel came in time"
                completed.clear()
                async with trio.open_nursery() as nursery:
                    for number in range(200):
                        nursery.start_soon(run, number, trio.CancelScope())
            assert len(completed) == 200
        await fake.until(lambda fake: not fake.running)


async def test_200_tasks_of_a_queue_with_random_cancels_leave_it_healthy():
    """Likewise with units: in the end none is held, and one more task completes."""
    chance = random.Random(8)
    async with fake_ollama(parallel=100) as fake:
        endpoint = OllamaEndpoint(name="local", url=fake.url, concurrency=16)
        executor = OllamaExecutor(OllamaSettings(endpoints=(endpoint,)))
        async with virtual_queue(executor, workers=32) as queue:
            with trio.fail_after(60):
                tasks = await queue.submit_many([chat("qwen3", str(number)) for number in range(200)])
                async with trio.open_nursery() as nursery:
                    for task in chance.sample(tasks, 100):
                        await fake.wait_requests(chance.randrange(1, 50))

                        async def cancel(task=task):
                            with suppress(oq.IllegalMove):  # it has ended
                                await task.cancel()

                        nursery.start_soon(cancel)
                statuses = {(await task.wait()).status for task in tasks}
                assert statuses == {oq.Status.COMPLETED, oq.Status.CANCELLED}
                last = await (await queue.submit(chat("qwen3", "hi"))).wait()
            assert last.status is oq.Status.COMPLETED
            assert (await queue.stats()).busy == 0
