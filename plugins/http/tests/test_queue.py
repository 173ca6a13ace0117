"""Requests as tasks of a queue: what the queue makes of their results, failures, time-outs and cancels."""

import random

import pytest
import trio

from oq import NO_RETRY, InvalidTask, Phase, RetryPolicy, Status
from oq_http import HttpResult, gopherq, request

AT_ONCE = RetryPolicy(max_attempts=3, delay=0.0)


async def ok(_, exchange):
    await exchange.respond_json(200, {"all": "well"})


async def stall(_, exchange):
    await exchange.stall()


async def test_the_result_comes_back_as_its_class(asking, queue_with):
    async with asking(ok) as ask, queue_with() as queue:
        result = await (await queue.submit(request("GET", ask.server.url))).result()
    assert isinstance(result, HttpResult)
    assert (result.status, result.body) == (200, {"all": "well"})


async def test_a_bad_payload_is_refused_before_it_is_stored(queue_with):
    async with queue_with() as queue:
        with pytest.raises(
            InvalidTask, match=r"payload\.url: requests do not go there: 169\.254\.169\.254 is link-local"
        ):
            await queue.submit(request("GET", "http://169.254.169.254/"))
        assert not (await queue.list()).items


async def test_what_may_pass_is_tried_again(asking, queue_with):
    async def handler(seen, exchange):
        await exchange.respond(200 if len(ask.server.requests) == 3 else 503, "busy")

    async with asking(handler) as ask, queue_with() as queue:
        task = await (await queue.submit(request("GET", ask.server.url, retry=AT_ONCE))).wait()
    assert (task.status, task.attempt) == (Status.COMPLETED, 3)
    assert [attempt.failure.details["status"] for attempt in task.attempts[:-1]] == [503, 503]


async def test_retry_after_is_the_least_wait(asking, queue_with):
    async def handler(seen, exchange):
        await exchange.respond(429, headers={"Retry-After": "1000"})

    async with asking(handler) as ask, queue_with() as queue:
        with queue.subscribe() as events:
            await queue.submit(request("GET", ask.server.url, retry=AT_ONCE))
            retried = await anext(event async for event in events if event.phase is Phase.RETRYING)
    assert retried.failure.retry_after == 1000
    assert (retried.due_at - retried.at).total_seconds() > 999


async def test_what_does_not_pass_is_not_tried_again(asking, queue_with):
    async def handler(seen, exchange):
        await exchange.respond(404)

    async with asking(handler) as ask, queue_with() as queue:
        task = await (await queue.submit(request("GET", ask.server.url, retry=AT_ONCE))).wait()
    assert (task.status, task.attempt, task.failure.type) == (Status.FAILED, 1, "HttpStatus")


async def test_a_task_that_is_not_allowed_any_more_is_not_run(asking, queue_with, tmp_path):
    async with asking(ok) as ask:
        async with queue_with(location=tmp_path, start=False) as queue:
            handle = await queue.submit(request("GET", ask.server.url, retry=AT_ONCE))
        async with queue_with({"denied_networks": ["127.0.0.0/8"]}, tmp_path) as queue:
            task = await queue.wait(handle.id)
        assert not ask.server.requests
    assert (task.status, task.attempt, task.failure.type) == (Status.FAILED, 1, "InvalidTask")
    assert "denied_networks" in task.failure.message


async def test_a_cancel_is_heard_by_the_server_at_once(asking, queue_with):
    async with asking(stall) as ask, queue_with() as queue:
        handle = await queue.submit(request("GET", ask.server.url))
        [seen] = await ask.server.wait_requests(1)
        await handle.cancel()
        with trio.fail_after(5):
            await seen.closed.wait()
        assert (await handle.wait()).status is Status.CANCELLED


async def test_a_time_out_is_a_failure(asking, queue_with):
    async with asking(stall) as ask, queue_with() as queue:
        handle = await queue.submit(request("GET", ask.server.url, timeout=0.05, retry=NO_RETRY))
        assert (await handle.wait()).failure.type == "Timeout"
        with trio.fail_after(5):
            await ask.server.requests[0].closed.wait()


async def test_a_stream_is_kept(asking, queue_with):
    async def handler(_, exchange):
        await exchange.start(200, {"Content-Type": "text/event-stream"})
        for number in range(3):
            await exchange.send(f"data: {number}\n\n")
        await exchange.end()

    async with asking(handler) as ask, queue_with() as queue:
        handle = await queue.submit(request("GET", ask.server.url, stream=True))
        await handle.wait()
        async with handle.stream() as chunks:
            assert "".join([chunk.text async for chunk in chunks]) == "data: 0\n\ndata: 1\n\ndata: 2\n\n"


async def test_a_task_of_gopherq_is_made_as_it_was_there(asking, queue_with):
    async with asking(ok) as ask, queue_with() as queue:
        task = {
            "id": "job-7",
            "method": "POST",
            "url": f"{ask.server.url}/hook",
            "header": {"X-A": "1"},
            "body": '{"a":1}',
        }
        handle = await queue.submit(gopherq(task))
        await handle.result()
        [seen] = ask.server.requests
    assert handle.id == "job-7"
    assert (seen.method, seen.path, seen.headers["x-a"], seen.json()) == ("POST", "/hook", "1", {"a": 1})
    assert seen.headers["content-type"] == "application/json; charset=utf-8"


async def test_two_hundred_tasks_of_which_many_are_cancelled_leave_the_rest_to_work(asking, queue_with):
    names = [f"task-{number}" for number in range(200)]
    stalled = set(random.Random(3).sample(names, 80))

    async def handler(seen, exchange):
        await (stall if seen.path[1:] in stalled else ok)(seen, exchange)

    async with asking(handler) as ask, queue_with() as queue:
        specs = [request("GET", f"{ask.server.url}/{name}", id=name, retry=NO_RETRY) for name in names]
        handles = {handle.id: handle for handle in await queue.submit_many(specs)}
        for number in range(1, 201):
            seen = (await ask.server.wait_requests(number))[number - 1]
            if seen.path[1:] in stalled:
                await handles[seen.path[1:]].cancel()
        tasks = [await handle.wait() for handle in handles.values()]
        assert {task.id for task in tasks if task.status is Status.CANCELLED} == stalled
        assert {task.id for task in tasks if task.status is Status.COMPLETED} == set(names) - stalled
        for seen in ask.server.requests:
            await seen.closed.wait()
            assert seen.disconnected == (seen.path[1:] in stalled)
