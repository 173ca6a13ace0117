"""oq-ollama and oq-openai together: a remote endpoint of the one that is an endpoint of the other."""

import pytest
from trio.testing import wait_all_tasks_blocked

import oq
from oq.testing import virtual_queue
from oq_ollama import OllamaEndpoint, OllamaExecutor, OllamaSettings, chat, embed, generate
from oq_ollama.testing import fake_ollama
from oq_openai import OpenAIExecutor, OpenAISettings
from oq_openai.settings import OpenAIEndpoint
from oq_openai.testing import fake_openai, faults

TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
async def near():
    async with fake_ollama(["m"]) as fake:
        yield fake


@pytest.fixture
async def far():
    async with fake_openai(models=["m"], api_key="secret") as fake:
        yield fake


@pytest.fixture
def executors(near, far):
    """`ollama` with a server here and one far away, and `openai` with that one."""
    cloud = OpenAIEndpoint(name="gateway", url=far.url, api_key_env="KEY", concurrency=2)
    endpoints = (
        OllamaEndpoint(name="here", url=near.url),
        OllamaEndpoint(name="cloud", kind="openai", endpoint="gateway", remote=True),
    )
    return [
        OpenAIExecutor(OpenAISettings(endpoints=(cloud,)), environ={"KEY": "secret"}),
        OllamaExecutor(OllamaSettings(endpoints=endpoints), environ={}),
    ]


@pytest.fixture
async def queue(executors):
    async with virtual_queue(*executors, workers=4) as queue:
        yield queue


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (chat("m", "hi", remote_execution=True), oq.ChatResult),
        (generate("m", "hi", remote_execution=True), oq.GenerateResult),
        (generate("m", "hi", raw=True, remote_execution=True), oq.GenerateResult),
        (embed("m", ["a", "b"], remote_execution=True), oq.EmbedResult),
    ],
)
async def test_a_task_that_asks_for_it_is_answered_far_away(queue, near, far, spec, kind):
    """With a result of the class that it would have here, and the name of ollama's own endpoint."""
    task = await (await queue.submit(spec)).wait()
    assert task.status is oq.Status.COMPLETED, task.failure
    assert type(task.result) is kind
    assert task.executed_on == "cloud"
    assert (len(near.requests), len(far.asked)) == (0, 1)


async def test_a_usual_task_stays_here(queue, far):
    """The cloud costs money."""
    task = await (await queue.submit(chat("m", "hi"))).wait()
    assert (task.status, task.executed_on) == (oq.Status.COMPLETED, "here")
    assert not far.asked


async def test_a_critical_task_goes_far_away(queue):
    """At once, however long the queue is here."""
    task = await (await queue.submit(chat("m", "hi", priority="critical"))).wait()
    assert (task.status, task.executed_on) == (oq.Status.COMPLETED, "cloud")


async def test_every_field_that_has_an_equivalent_arrives(queue, far):
    """The other executor takes the whole payload."""
    messages = [
        {"role": "user", "content": "add", "images": ["aGk="]},
        {"role": "assistant", "thinking": "hm", "tool_calls": [{"name": "add", "arguments": {"a": 1}}]},
        {"role": "tool", "content": "2", "tool_name": "add"},
    ]
    spec = chat(
        "m",
        messages,
        system="Be brief.",
        tools=[TOOL],
        format={"type": "object"},
        options={"temperature": 0.5, "top_p": 0.5, "seed": 7, "stop": ["."], "num_predict": 50, "num_ctx": 64},
        logprobs=True,
        top_logprobs=1,
        think="low",
        remote_execution=True,
    )
    task = await (await queue.submit(spec)).wait()
    assert task.status is oq.Status.COMPLETED, task.failure
    (body,) = far.bodies
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "tool"]
    assert body["messages"][3]["tool_call_id"] == body["messages"][2]["tool_calls"][0]["id"]
    assert (body["temperature"], body["top_p"], body["seed"], body["stop"]) == (0.5, 0.5, 7, ["."])
    assert (body["max_tokens"], body["reasoning_effort"], body["logprobs"]) == (50, "low", True)
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert body["tools"] == [TOOL]
    assert "num_ctx" not in body


async def test_the_answer_streams(queue):
    """Chunk by chunk, as from an Ollama."""
    handle = await queue.submit(chat("m", "hi", remote_execution=True))
    async with handle.stream() as stream:
        chunks = [chunk async for chunk in stream]
    assert len(chunks) > 1
    assert "".join(chunk.text for chunk in chunks) == (await handle.wait()).result.message.content


async def test_the_server_here_takes_over_from_one_far_away(queue, far):
    """Within the attempt, while nothing was emitted."""
    far.script(faults.cut_before_the_answer())
    task = await (await queue.submit(chat("m", "hi", remote_execution=True))).wait()
    assert (task.status, task.executed_on, task.attempt) == (oq.Status.COMPLETED, "here", 1)


async def test_a_cancel_closes_the_connection_far_away(queue, far):
    """And frees the unit of the other executor's endpoint."""
    far.script(faults.stall(after=1))
    handle = await queue.submit(chat("m", "hi", remote_execution=True))
    await far.wait_asked(1)
    await handle.cancel()
    await far.asked[0].closed.wait()
    assert far.asked[0].disconnected
    assert (await (await queue.submit(chat("m", "hi", remote_execution=True))).wait()).executed_on == "cloud"


async def test_both_executors_share_the_units_of_the_endpoint(executors, far):
    """It takes two at once, whoever asks: a third task waits, though four may run."""
    far.script(*[faults.stall(after=1)] * 2)
    async with virtual_queue(*executors, workers=4) as queue:
        tasks = [await queue.submit(chat("m", "hi", remote_execution=True, lane="far")) for _ in range(2)]
        await far.wait_asked(2)
        payload = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        third = await queue.submit(oq.TaskSpec(executor="openai", action="chat", payload=payload))
        await wait_all_tasks_blocked(0.01)
        assert (await third.refresh()).status is oq.Status.PENDING
        for task in tasks:
            await task.cancel()
        assert (await third.wait()).status is oq.Status.COMPLETED


async def test_a_wrong_key_far_away_is_told(executors):
    """With the words of the other executor."""
    openai = OpenAIExecutor(executors[0]._settings, environ={"KEY": "wrong"})
    routing = oq.Routing(fallback_to_local=False)
    endpoints = (OllamaEndpoint(name="cloud", kind="openai", endpoint="gateway"),)
    ollama = OllamaExecutor(OllamaSettings(endpoints=endpoints, routing=routing), environ={})
    async with virtual_queue(openai, ollama, workers=1) as queue:
        task = await (await queue.submit(chat("m", "hi"))).wait()
    assert task.status is oq.Status.FAILED
    assert not task.failure.retryable
