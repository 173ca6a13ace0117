"""Several servers: which one is asked, who takes over, and who is left alone for a while."""

from contextlib import AsyncExitStack, ExitStack, asynccontextmanager

import pytest
import trio

import oq
from oq import Health, PermanentError, Registry, RestPolicy, RetryableError, RetryLater, Routing
from oq.testing import refused_url, virtual_queue
from oq_ollama import OllamaEndpoint, OllamaExecutor, OllamaSettings, chat
from oq_ollama.testing import busy, cut, error_line, fake_ollama, refused, stall

FAR = {"remote": True}


@asynccontextmanager
async def servers(number=2, **options):
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(fake_ollama(**options)) for _ in range(number)]


def executor_of(*endpoints, **settings):
    """An executor with these endpoints, each a server or URL and its settings, named a, b, c …"""
    made = tuple(
        OllamaEndpoint(name=name, url=getattr(server, "url", server), **fields)
        for name, (server, fields) in zip("abc", endpoints, strict=False)
    )
    return OllamaExecutor(OllamaSettings(endpoints=made, **settings), environ={})


async def executed_on(queue, spec):
    task = await (await queue.submit(spec)).wait()
    assert task.status is oq.Status.COMPLETED, task.failure
    return task.executed_on


def states(executor):
    return {state.name: state for state in executor.endpoints.states()}


# Who is asked


async def test_the_endpoint_of_the_highest_priority_is_taken_first():
    """Whatever their order in the settings."""
    async with servers() as (a, b), virtual_queue(executor_of((a, {}), (b, {"priority": 1})), workers=4) as queue:
        assert await executed_on(queue, chat("qwen3", "hi")) == "b"


async def test_tasks_spread_over_endpoints():
    """Each takes as many as it is said to; two of concurrency 1 work on two tasks at once."""
    async with servers() as (a, b), virtual_queue(executor_of((a, {}), (b, {})), workers=4) as queue:
        gate = trio.Event()
        for server in (a, b):
            server.fail(stall(after=1, until=gate), times=None)
        tasks = [await queue.submit(chat("qwen3", str(number))) for number in range(4)]
        await a.wait_requests(1)
        await b.wait_requests(1)
        assert [(await task.refresh()).status for task in tasks] == [oq.Status.RUNNING] * 2 + [oq.Status.PENDING] * 2
        gate.set()
        assert {(await task.wait()).executed_on for task in tasks} == {"a", "b"}


async def test_a_task_goes_to_an_endpoint_that_serves_its_model():
    """By the patterns in the settings."""
    endpoints = [{"models": ("llama*",)}, {"models": ("qwen3*",)}]
    async with servers() as fakes:
        executor = executor_of(*zip(fakes, endpoints, strict=True))
        async with virtual_queue(executor, workers=4) as queue:
            assert await executed_on(queue, chat("qwen3", "hi")) == "b"
            assert await executed_on(queue, chat("llama3.2", "hi")) == "a"


async def test_a_disabled_endpoint_is_not_asked():
    """Not even whether it is there."""
    async with servers() as (a, b):
        executor = executor_of((a, {"enabled": False, "priority": 9}), (b, {}))
        async with virtual_queue(executor, workers=1) as queue:
            assert await executed_on(queue, chat("qwen3", "hi")) == "b"
    assert not a.requests


# Near and far


@asynccontextmanager
async def near_and_far(**routing):
    """A queue with a local endpoint `a` and a remote one `b`, and the two servers."""
    async with servers() as (a, b):
        executor = executor_of((a, {}), (b, FAR), routing=Routing(**routing))
        async with virtual_queue(executor, workers=4, start=False) as queue:
            yield queue, a, b


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "a"),
        ({"priority": "high"}, "a"),
        ({"priority": "critical"}, "b"),
        ({"remote_execution": True}, "b"),
        ({"remote_execution": True, "priority": "low"}, "b"),
    ],
)
async def test_a_remote_endpoint_is_for_those_who_ask_for_it_and_for_critical_tasks(fields, name):
    """Everything else stays on this machine."""
    async with near_and_far() as (queue, _, _):
        await queue.start()
        assert await executed_on(queue, chat("qwen3", "hi", **fields)) == name


async def test_a_task_that_no_remote_endpoint_could_ever_take_is_refused():
    """It asks for one, there is none, and `fallback_to_local` is false: it would wait for ever."""
    async with fake_ollama() as fake:
        registry = Registry([executor_of((fake, {}), routing=Routing(fallback_to_local=False))])
        with pytest.raises(oq.InvalidTask, match=r"payload\.remote_execution: no remote endpoint serves 'qwen3'"):
            registry.check(chat("qwen3", "hi", remote_execution=True))
        registry.check(chat("qwen3", "hi"))


async def test_a_task_of_high_priority_goes_far_while_the_backlog_is_long():
    """Longer than `max_local_queue_size`."""
    async with near_and_far(max_local_queue_size=3) as (queue, _, _):
        tasks = await queue.submit_many([chat("qwen3", str(number)) for number in range(4)])
        urgent = await queue.submit(chat("qwen3", "urgent", priority="high"))
        await queue.start()
        assert (await urgent.wait()).executed_on == "b"
        assert {(await task.wait()).executed_on for task in tasks} == {"a"}


async def test_a_usual_task_waits_for_a_local_endpoint_though_a_remote_one_is_free():
    """`local_first` saves it for urgent ones."""
    async with near_and_far() as (queue, a, b):
        await queue.start()
        gate = trio.Event()
        a.fail(stall(after=1, until=gate))
        tasks = [await queue.submit(chat("qwen3", str(number))) for number in range(2)]
        await a.wait_requests(1)
        assert (await tasks[1].refresh()).status is oq.Status.PENDING
        gate.set()
        assert [(await task.wait()).executed_on for task in tasks] == ["a", "a"]
        assert not b.requests


async def test_without_local_first_all_endpoints_are_alike():
    """A usual task goes far where that one is free."""
    async with near_and_far(local_first=False) as (queue, a, b):
        await queue.start()
        gate = trio.Event()
        for server in (a, b):
            server.fail(stall(after=1, until=gate), times=None)
        tasks = [await queue.submit(chat("qwen3", str(number))) for number in range(2)]
        await a.wait_requests(1)
        await b.wait_requests(1)
        gate.set()
        assert {(await task.wait()).executed_on for task in tasks} == {"a", "b"}


@pytest.mark.parametrize("fallback", [True, False])
async def test_a_critical_task_falls_back_to_a_local_endpoint_where_that_is_allowed(fallback):
    """When no remote one is free; else it waits for one."""
    async with near_and_far(fallback_to_local=fallback) as (queue, _, b):
        await queue.start()
        gate = trio.Event()
        b.fail(stall(after=1, until=gate))
        first = await queue.submit(chat("qwen3", "1", priority="critical"))
        await b.wait_requests(1)
        second = await queue.submit(chat("qwen3", "2", priority="critical"))
        if fallback:
            assert (await second.wait()).executed_on == "a"
        else:
            assert (await second.refresh()).status is oq.Status.PENDING
        gate.set()
        assert (await first.wait()).executed_on == "b"
        assert (await second.wait()).executed_on == ("a" if fallback else "b")


# Who takes over


@pytest.mark.parametrize(
    "fault", [cut(after=0), busy(), refused(500, "broken"), refused(401, "no"), error_line("broken", after=0)]
)
async def test_another_endpoint_takes_over_while_nothing_was_emitted(fault):
    """Within the attempt, whatever the fault was."""
    async with servers() as (a, b):
        a.fail(fault)
        async with virtual_queue(executor_of((a, {"priority": 1}), (b, {})), workers=1) as queue:
            task = await (await queue.submit(chat("qwen3", "hi"))).wait()
        assert (task.status, task.attempt, task.executed_on) == (oq.Status.COMPLETED, 1, "b")
        assert (len(a.requests), len(b.requests)) == (1, 1)


async def test_another_endpoint_takes_over_from_one_that_is_silent():
    """After the time to the first byte."""
    async with servers() as (a, b):
        a.fail(stall())
        executor = executor_of((a, {"priority": 1}), (b, {}), first_byte_timeout=0.1)
        async with virtual_queue(executor, workers=1) as queue:
            assert await executed_on(queue, chat("qwen3", "hi")) == "b"


async def test_another_endpoint_takes_over_from_one_that_does_not_have_the_model():
    """And the one that lacks it is not asked for it again."""
    async with servers() as (a, b):
        a.remove("qwen3")
        async with virtual_queue(executor_of((a, {"priority": 1}), (b, {})), workers=1) as queue:
            for _ in range(3):
                assert await executed_on(queue, chat("qwen3", "hi")) == "b"
            assert await executed_on(queue, chat("llama3.2", "hi")) == "a"
        assert [request.model for request in a.requests] == ["qwen3", "llama3.2"]


async def test_a_model_that_no_endpoint_has_is_not_retried():
    """Each was asked; the message says what to run."""
    async with servers() as (a, b):
        async with virtual_queue(executor_of((a, {}), (b, {})), workers=1) as queue:
            task = await (await queue.submit(chat("llama9", "hi"))).wait()
        assert (task.status, task.failure.type, task.attempt) == (oq.Status.FAILED, "ModelNotFound", 1)
        assert len(a.requests) == len(b.requests) == 1


async def test_nobody_takes_over_once_something_was_emitted():
    """Another model would not go on where this one stopped."""
    async with servers() as (a, b):
        a.fail(cut(after=1))
        registry = Registry([executor_of((a, {"priority": 1}), (b, {}))])
        async with registry.opened():
            with pytest.raises(RetryableError):
                await registry.execute(chat("qwen3", "hi"))
        assert not b.requests


async def test_a_request_that_is_wrong_is_not_tried_elsewhere():
    """It would be wrong there too."""
    async with servers() as (a, b):
        a.fail(refused(400, "invalid"))
        registry = Registry([executor_of((a, {"priority": 1}), (b, {}))])
        async with registry.opened():
            with pytest.raises(PermanentError):
                await registry.execute(chat("qwen3", "hi"))
        assert not b.requests


async def test_the_error_of_the_last_one_is_told_when_all_have_failed():
    """The attempt fails once, whoever was asked."""
    async with servers() as (a, b):
        a.fail(refused(500, "first"))
        b.fail(refused(500, "second"))
        registry = Registry([executor_of((a, {"priority": 1}), (b, {}))])
        async with registry.opened():
            with pytest.raises(RetryableError, match="second"):
                await registry.execute(chat("qwen3", "hi"))


# Who rests


async def test_a_refused_endpoint_rests_and_its_tasks_wait_until_it_answers():
    """One attempt is spent on it, and none while it is not there; when it is back, all complete."""
    with ExitStack() as refusal:
        url = refusal.enter_context(refused_url())
        executor = executor_of((url, {}), rest=RestPolicy(rest=0.02, longest_rest=0.05))
        retry = oq.RetryPolicy(max_attempts=2, delay=0.0)
        async with virtual_queue(executor, workers=4) as queue:
            tasks = await queue.submit_many([chat("qwen3", str(number), retry=retry) for number in range(3)])
            while states(executor)["a"].health is not Health.RESTING:
                await trio.testing.wait_all_tasks_blocked(0.01)
            assert "no Ollama answers" in states(executor)["a"].last_error
            assert (await queue.stats()).busy == 0
            refusal.close()
            async with fake_ollama(port=int(url.rpartition(":")[2])) as fake:
                finals = [await task.wait() for task in tasks]
                assert len(fake.requests) == 3
        assert {task.status for task in finals} == {oq.Status.COMPLETED}
        assert sorted(task.attempt for task in finals) == [1, 1, 2]


async def test_a_resting_endpoint_comes_back_when_it_answers():
    """It is looked at when its rest ends, then tried with one task, and trusted again."""
    async with fake_ollama() as fake:
        executor = executor_of((fake, {}), rest=RestPolicy(after_failures=1, rest=0.05, longest_rest=0.1))
        async with virtual_queue(executor, workers=4) as queue:
            fake.fail(refused(500, "broken"), cut(after=0))
            fake.fail(cut(after=0), path="/api/version", times=2)
            retry = oq.RetryPolicy(max_attempts=3, delay=0.0)
            task = await (await queue.submit(chat("qwen3", "hi", retry=retry))).wait()
            assert (task.status, task.attempt) == (oq.Status.COMPLETED, 3)
            assert states(executor)["a"].health is Health.HEALTHY
            assert states(executor)["a"].last_error == ""
        assert fake.looks["/api/version"] >= 3


async def test_no_task_is_sent_to_a_resting_endpoint():
    """They go to the other one, or wait."""
    async with servers() as (a, b):
        a.fail(refused(500, "broken"), times=None)
        executor = executor_of((a, {"priority": 1}), (b, {}), rest=RestPolicy(after_failures=2, rest=60.0))
        async with virtual_queue(executor, workers=1) as queue:
            for _ in range(6):
                assert await executed_on(queue, chat("qwen3", "hi")) == "b"
        assert len(a.requests) == 2


async def test_a_busy_endpoint_is_left_alone_for_as_long_as_it_asks():
    """`Retry-After` is the rest; it counts as no failure."""
    async with fake_ollama() as fake:
        fake.fail(busy(retry_after="30"))
        executor = executor_of((fake, {}))
        registry = Registry([executor])
        async with registry.opened():
            with pytest.raises(RetryLater):
                await registry.execute(chat("qwen3", "hi"))
            state = states(executor)["a"]
            assert state.health is Health.RESTING
            assert 29 < state.rests_for <= 30


async def test_an_endpoint_is_looked_at_beside_the_queue():
    """By GET /api/version, so that one that has gone is known before a task is sent there."""
    async with fake_ollama() as fake:
        executor = executor_of((fake, {}), health_check_interval=0.02)
        async with virtual_queue(executor, workers=1) as queue:
            await executed_on(queue, chat("qwen3", "hi"))
            await fake.until(lambda fake: fake.looks["/api/version"] >= 2)
            assert states(executor)["a"].health is Health.HEALTHY
            fake.fail(refused(502, "bad gateway"), path="/api/version", times=None)
            while states(executor)["a"].health is Health.HEALTHY:
                await trio.testing.wait_all_tasks_blocked(0.01)
            assert "502" in states(executor)["a"].last_error


async def test_a_look_that_is_not_answered_is_given_up():
    """After the time for connections."""
    async with fake_ollama() as fake:
        fake.fail(stall(), path="/api/version", times=None)
        executor = executor_of((fake, {}), health_check_interval=0.02, connect_timeout=0.05)
        async with virtual_queue(executor, workers=1) as queue:
            await executed_on(queue, chat("qwen3", "hi"))
            with trio.fail_after(10):
                while states(executor)["a"].health is Health.HEALTHY:
                    await trio.testing.wait_all_tasks_blocked(0.01)
        assert "is not answered within 0.05 s" in states(executor)["a"].last_error


async def test_an_endpoint_whose_key_is_missing_is_not_taken_for_one_that_is_not_there():
    """Its tasks fail and say which variable is not set, rather than wait for it."""
    async with fake_ollama(api_key="secret") as fake:
        executor = executor_of((fake, {"api_key_env": "NO_KEY"}), health_check_interval=0.01)
        async with virtual_queue(executor, workers=1) as queue:
            for _ in range(2):
                task = await (await queue.submit(chat("qwen3", "hi"))).wait()
                await fake.until(lambda fake: fake.looks["/api/version"] >= 2)
            task = await (await queue.submit(chat("qwen3", "hi"))).wait()
        assert (task.status, task.failure.type) == (oq.Status.FAILED, "MissingKey")


async def test_an_endpoint_that_refuses_a_wrong_request_is_well():
    """A request that is the task's own fault is an answer."""
    async with fake_ollama() as fake:
        executor = executor_of((fake, {}), rest=RestPolicy(after_failures=2))
        registry = Registry([executor])
        async with registry.opened():
            for fault in (refused(500, "broken"), refused(400, "invalid"), refused(500, "broken")):
                fake.fail(fault)
                with pytest.raises((RetryableError, PermanentError)):
                    await registry.execute(chat("qwen3", "hi"))
            assert states(executor)["a"].health is Health.HEALTHY


async def test_the_time_to_the_first_byte_is_known():
    """Of late; None before the first answer."""
    async with fake_ollama() as fake:
        executor = executor_of((fake, {}))
        registry = Registry([executor])
        async with registry.opened():
            assert states(executor)["a"].first_byte is None
            await registry.execute(chat("qwen3", "hi"))
            assert 0 < states(executor)["a"].first_byte < 10
