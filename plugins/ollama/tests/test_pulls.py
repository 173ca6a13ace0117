"""Models that a server does not have, with `pull_missing = true`."""

import pytest
import trio

import oq
from oq import PermanentError, Registry, RetryableError
from oq.testing import virtual_queue
from oq_ollama import OllamaEndpoint, OllamaExecutor, OllamaSettings, chat, embed
from oq_ollama.testing import cut, ends_early, error_line, fake_ollama, stall


@pytest.fixture
async def fake():
    async with fake_ollama(["qwen3"], pullable=["new"], parallel=100) as fake:
        yield fake


@pytest.fixture
async def registry(fake):
    registry = Registry([OllamaExecutor(OllamaSettings(host=fake.url, pull_missing=True))])
    async with registry.opened():
        yield registry


async def test_a_missing_model_is_pulled_and_then_asked(registry, fake):
    """In the same attempt."""
    result = await registry.execute(chat("new", "hi"))
    assert result.message.content == "This is a simulated answer of new to: hi"
    assert [request.path for request in fake.requests] == ["/api/chat", "/api/pull", "/api/chat"]


async def test_without_the_setting_nothing_is_pulled(fake, executor_with):
    """It may be many gigabytes."""
    registry = Registry([executor_with()])
    async with registry.opened():
        with pytest.raises(PermanentError, match="ollama pull new"):
            await registry.execute(chat("new", "hi"))
    assert not fake.pulls


async def test_how_far_a_pull_is_streams_as_progress(registry):
    """Before the answer, in chunks of a kind of their own."""
    async with registry.stream(chat("new", "hi")) as stream:
        chunks = [chunk async for chunk in stream]
    progress = [chunk for chunk in chunks if chunk.kind == "progress"]
    assert progress == chunks[: len(progress)]
    assert progress[0].text == "new: pulling manifest"
    assert progress[1].data["total"] == 1_000_000_000
    assert [chunk.text.rpartition(" ")[0][-2:] for chunk in progress[1:5]] == ["25", "50", "75", "00"]


async def test_an_action_that_does_not_stream_pulls_in_silence(registry, fake):
    """Embedding emits nothing, as it promises."""
    async with registry.stream(embed("new", "hi")) as stream:
        assert [chunk async for chunk in stream] == []
    assert fake.pulls == ["new"]


async def test_tasks_of_one_model_share_a_pull(registry, fake):
    """However many come while it is under way."""
    gate = trio.Event()
    fake.fail(stall(after=2, until=gate), path="/api/pull")
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(registry.execute, chat("new", "hi"))
        await fake.until(lambda fake: sum(request.path == "/api/chat" for request in fake.requests) == 5)
        await trio.testing.wait_all_tasks_blocked(0.01)
        gate.set()
    assert fake.pulls == ["new"]


async def test_a_pull_outlasts_the_task_that_began_it(registry, fake):
    """Those who joined it later do not begin again when that one is cancelled."""
    gate = trio.Event()
    fake.fail(stall(after=2, until=gate), path="/api/pull")
    async with trio.open_nursery() as nursery:
        first = trio.CancelScope()

        async def begin():
            with first:
                await registry.execute(chat("new", "first"))

        nursery.start_soon(begin)
        await fake.until(lambda fake: len(fake.requests) == 2)
        nursery.start_soon(registry.execute, chat("new", "second"))
        await fake.until(lambda fake: len(fake.requests) == 3)
        await trio.testing.wait_all_tasks_blocked(0.01)
        first.cancel()
        await trio.testing.wait_all_tasks_blocked(0.01)
        gate.set()
    assert sum(request.path == "/api/pull" for request in fake.requests) == 1


async def test_a_pull_that_nobody_waits_for_any_more_is_given_up(registry, fake):
    """The server sees it, and stops; a later task begins a new one."""
    fake.fail(stall(after=2), path="/api/pull")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(registry.execute, chat("new", "hi"))
        await fake.until(lambda fake: len(fake.requests) == 2 and fake.requests[1].frames == 2)
        nursery.cancel_scope.cancel()
    await fake.requests[1].http.closed.wait()
    assert fake.requests[1].disconnected
    await registry.execute(chat("new", "hi"))
    assert fake.pulls == ["new"]


async def test_a_model_that_cannot_be_pulled_is_not_asked_for_again(registry):
    """The server's words say why."""
    with pytest.raises(PermanentError) as failed:
        await registry.execute(chat("nowhere", "hi"))
    assert failed.value.type == "ModelNotFound"
    assert "file does not exist" in failed.value.message


@pytest.mark.parametrize("fault", [cut(after=2), ends_early(after=2), error_line("connection lost", after=2)])
async def test_a_pull_that_fails_is_worth_another_attempt(registry, fake, fault):
    """The server goes on where it stopped."""
    fake.fail(fault, path="/api/pull")
    with pytest.raises(RetryableError):
        await registry.execute(chat("new", "hi"))
    await registry.execute(chat("new", "hi"))


async def test_each_of_those_who_wait_hears_that_a_pull_has_failed(registry, fake):
    """With an error of its own."""
    fake.pace = 0.02
    fake.fail(error_line("disk full", after=5), path="/api/pull")
    errors = []

    async def run():
        with pytest.raises(RetryableError, match="disk full") as failed:
            await registry.execute(chat("new", "hi"))
        errors.append(failed.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        nursery.start_soon(run)
    assert sum(request.path == "/api/pull" for request in fake.requests) == 1
    assert errors[0] is not errors[1]


async def test_each_server_pulls_for_itself():
    """A model that one of them has is of no use to the other."""
    async with fake_ollama([], pullable=["new"]) as a, fake_ollama([], pullable=["new"]) as b:
        endpoints = tuple(OllamaEndpoint(name=name, url=fake.url) for name, fake in (("a", a), ("b", b)))
        executor = OllamaExecutor(OllamaSettings(endpoints=endpoints, pull_missing=True))
        gate = trio.Event()
        for fake in (a, b):
            fake.fail(stall(after=2, until=gate), path="/api/pull")
        async with virtual_queue(executor, workers=2) as queue:
            tasks = [await queue.submit(chat("new", str(number))) for number in range(2)]
            await a.wait_requests(2)
            await b.wait_requests(2)
            gate.set()
            assert {(await task.wait()).status for task in tasks} == {oq.Status.COMPLETED}
        assert (a.pulls, b.pulls) == (["new"], ["new"])
