"""Endpoints that another executor serves: a task for Ollama in the words of `openai`."""

from typing import ClassVar

import attrs
import pytest
import trio
from attrs import field, frozen

import oq
from oq import Action, ChatResult, Chunk, EmbedResult, GenerateResult, Message, PermanentError, Registry, Usage
from oq.testing import virtual_queue
from oq_ollama import OllamaEndpoint, OllamaExecutor, OllamaSettings, chat, embed, generate
from oq_ollama.testing import fake_ollama, stall


@frozen(kw_only=True)
class Anything:
    """Takes what any of its actions may be given."""

    model: str
    endpoint: str
    messages: tuple[dict, ...] = ()
    prompt: str | None = None
    suffix: str | None = None
    input: str | tuple[str, ...] | None = None
    dimensions: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: tuple[str, ...] | None = None
    max_tokens: int | None = None
    response_format: dict | None = None
    tools: tuple[dict, ...] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    reasoning_effort: str | None = None
    extra: dict = field(factory=dict)


class StandIn:
    """An executor named `openai` that does as a test says, with an endpoint `cloud` of two units."""

    name = "openai"
    version = "0"
    description = "Stands in for oq-openai"
    actions: ClassVar = {
        name: Action(payload=Anything, summary=name, streams=True) for name in ("chat", "generate", "embed")
    }

    def __init__(self):
        self.asked = []
        self.error = None

    def pools(self):
        return {"openai:cloud": 2}

    def lane_pools(self, lane):
        return None

    def on_pools_change(self, tell):
        pass

    async def execute(self, task, ctx):
        self.asked.append((task.action, {name: getattr(task.payload, name) for name in told(task.payload)}))
        ctx.executed_on = "cloud"
        if self.error is not None:
            raise self.error
        await ctx.emit(Chunk(text="Hello"))
        match task.action:
            case "chat":
                message = Message(role="assistant", content="Hello", thinking="hm")
                return ChatResult(model="m", message=message, finish_reason="stop", usage=Usage(prompt_tokens=1))
            case "generate":
                return GenerateResult(model="m", text="Hello")
            case _:
                return EmbedResult(model="m", embeddings=((1.0,),))


def told(payload):
    """The names of the fields that are set."""
    return [name for name, value in attrs.asdict(payload, recurse=False).items() if value not in (None, (), {})]


def delegating(*further, **settings):
    endpoint = OllamaEndpoint(name="far", kind="openai", endpoint="cloud", priority=1)
    return OllamaExecutor(OllamaSettings(endpoints=(endpoint, *further), **settings), environ={})


@pytest.fixture
def openai():
    return StandIn()


@pytest.fixture
async def registry(openai):
    registry = Registry([openai, delegating()])
    async with registry.opened():
        yield registry


async def asked(registry, openai, spec):
    await registry.execute(spec)
    return openai.asked[-1]


async def test_a_chat_is_told_in_the_other_words(registry, openai):
    """Options that have an equivalent have its name; the others are left out."""
    spec = chat(
        "gpt",
        "hi",
        system="Be brief.",
        tools=[{"type": "function", "function": {"name": "f"}}],
        format="json",
        options={
            "temperature": 0.5,
            "top_p": 0.9,
            "seed": 1,
            "presence_penalty": 0.1,
            "frequency_penalty": 0.2,
            "stop": ["."],
            "num_predict": 10,
            "num_ctx": 4096,
            "top_k": 5,
        },
        think="high",
        logprobs=True,
        top_logprobs=2,
        keep_alive="5m",
    )
    assert await asked(registry, openai, spec) == (
        "chat",
        {
            "model": "gpt",
            "endpoint": "cloud",
            "messages": (
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "hi"},
            ),
            "tools": ({"type": "function", "function": {"name": "f"}},),
            "response_format": {"type": "json_object"},
            "temperature": 0.5,
            "top_p": 0.9,
            "seed": 1,
            "presence_penalty": 0.1,
            "frequency_penalty": 0.2,
            "stop": (".",),
            "max_tokens": 10,
            "logprobs": True,
            "top_logprobs": 2,
            "reasoning_effort": "high",
        },
    )


async def test_a_schema_becomes_a_response_format(registry, openai):
    """With the name that the API wants."""
    schema = {"type": "object"}
    _, payload = await asked(registry, openai, chat("gpt", "hi", format=schema))
    assert payload["response_format"] == {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


async def test_no_limit_of_tokens_is_not_sent(registry, openai):
    """Ollama's -1 means nothing there."""
    _, payload = await asked(registry, openai, chat("gpt", "hi", options={"num_predict": -1}))
    assert "max_tokens" not in payload


async def test_calls_and_their_results_are_matched_by_ids(registry, openai):
    """Ollama goes by names; there each call has an id, and its result refers to it."""
    messages = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "tool_calls": [{"name": "f"}, {"name": "g"}, {"name": "h", "id": "mine"}]},
        {"role": "tool", "content": "1", "tool_name": "g"},
        {"role": "tool", "content": "2", "tool_name": "f"},
        {"role": "tool", "content": "3", "tool_call_id": "mine"},
    ]
    _, payload = await asked(registry, openai, chat("gpt", messages))
    calls = {call["name"]: call["id"] for call in payload["messages"][1]["tool_calls"]}
    assert calls["h"] == "mine"
    assert [message["tool_call_id"] for message in payload["messages"][2:]] == [calls["g"], calls["f"], "mine"]


async def test_a_prompt_becomes_a_message_of_the_user(registry, openai):
    """As Ollama's template makes one of it; models that chat complete nothing else."""
    action, payload = await asked(registry, openai, generate("gpt", "Once", system="Be brief."))
    assert action == "chat"
    assert payload["messages"] == ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Once"})


@pytest.mark.parametrize("fields", [{"raw": True}, {"suffix": "end"}])
async def test_a_raw_prompt_and_one_with_a_suffix_stay_completions(registry, openai, fields):
    """There is no template around them."""
    action, payload = await asked(registry, openai, generate("gpt", "Once", **fields))
    assert (action, payload["prompt"], payload.get("suffix")) == ("generate", "Once", fields.get("suffix"))


async def test_texts_to_embed_stay_as_they_are(registry, openai):
    """With their dimensions."""
    action, payload = await asked(registry, openai, embed("e", ["a", "b"], dimensions=4))
    assert action == "embed"
    assert payload == {"model": "e", "endpoint": "cloud", "input": ("a", "b"), "dimensions": 4}


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (chat("gpt", "hi"), ChatResult),
        (generate("gpt", "hi"), GenerateResult),
        (generate("gpt", "hi", raw=True), GenerateResult),
        (embed("gpt", "hi"), EmbedResult),
    ],
)
async def test_the_result_is_of_the_class_that_ollamas_would_be(registry, spec, kind):
    """Who waits for it need not know who answered."""
    assert type(await registry.execute(spec)) is kind


async def test_a_completion_that_was_a_chat_keeps_what_the_answer_had(registry):
    """Text, thinking, why it ended, and what it cost."""
    result = await registry.execute(generate("gpt", "hi"))
    assert result == GenerateResult(
        model="m", text="Hello", thinking="hm", finish_reason="stop", usage=Usage(prompt_tokens=1)
    )


async def test_its_chunks_are_chunks_of_the_task(registry):
    """Delegation streams."""
    async with registry.stream(chat("gpt", "hi")) as stream:
        assert [chunk.text async for chunk in stream] == ["Hello"]


async def test_its_units_are_those_of_the_other_executor(registry):
    """So that both together do not ask it for more than it takes."""
    executor = registry.get("ollama")
    assert executor.pools() == {}
    assert executor.lane_pools("gpt").choices == (("openai:cloud",),)


async def test_a_queue_takes_the_units_of_the_other_executor(openai):
    """And says which of this executor's endpoints it was."""
    async with virtual_queue(openai, delegating(), workers=4) as queue:
        task = await (await queue.submit(chat("gpt", "hi"))).wait()
        assert (task.status, task.executed_on) == (oq.Status.COMPLETED, "far")
        assert task.result.message.content == "Hello"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (oq.RetryableError("x", type="X"), oq.RetryableError),
        (oq.RetryLater(7.0, "x", type="X"), oq.RetryLater),
        (PermanentError("x", type="X"), PermanentError),
    ],
)
async def test_its_failures_are_failures_of_the_task(registry, openai, error, kind):
    """With their types and their advice."""
    openai.error = error
    with pytest.raises(kind) as failed:
        await registry.execute(chat("gpt", "hi"))
    assert (failed.value.type, failed.value.message) == ("X", "x")


async def test_a_server_nearby_takes_over_from_it(openai):
    """As from any other endpoint."""
    openai.error = oq.RetryableError("down")
    async with fake_ollama(["gpt"]) as fake:
        near = OllamaEndpoint(name="near", url=fake.url)
        async with virtual_queue(openai, delegating(near), workers=1) as queue:
            task = await (await queue.submit(chat("gpt", "hi"))).wait()
    assert (task.status, task.executed_on) == (oq.Status.COMPLETED, "near")


async def test_it_takes_over_from_a_server_nearby(openai):
    """When that is down."""
    async with fake_ollama(["gpt"]) as fake:
        fake.fail(stall())
        far = OllamaEndpoint(name="far", kind="openai", endpoint="cloud")
        near = OllamaEndpoint(name="near", url=fake.url, priority=1)
        executor = OllamaExecutor(OllamaSettings(endpoints=(near, far), first_byte_timeout=0.05))
        async with virtual_queue(openai, executor, workers=1) as queue:
            task = await (await queue.submit(chat("gpt", "hi"))).wait()
    assert (task.status, task.executed_on) == (oq.Status.COMPLETED, "far")


async def test_without_that_executor_the_message_says_what_to_install():
    """No retry would mend it."""
    registry = Registry([delegating()])
    async with registry.opened():
        with pytest.raises(PermanentError, match="pip install oq-openai"):
            await registry.execute(chat("gpt", "hi"))


async def test_what_the_other_executor_refuses_is_not_tried_again(openai):
    """Such as an action that it does not have."""
    openai.actions = {"chat": StandIn.actions["chat"]}
    registry = Registry([openai, delegating()])
    async with registry.opened():
        with pytest.raises(PermanentError, match="has no action 'embed'"):
            await registry.execute(embed("gpt", "hi"))


@pytest.mark.parametrize("fields", [{"template": "x"}, {"context": [1]}, {"width": 64}])
async def test_what_has_no_equivalent_there_is_refused(registry, openai, fields):
    """Rather than answered as if it had not been said."""
    with pytest.raises(PermanentError, match=f"knows no {next(iter(fields))}"):
        await registry.execute(generate("gpt", "hi", **fields))
    assert not openai.asked


async def test_a_cancel_ends_the_other_executors_work(openai):
    """And frees its unit."""
    started = trio.Event()

    async def execute(task, ctx):
        started.set()
        await trio.sleep_forever()

    openai.execute = execute
    async with virtual_queue(openai, delegating(), workers=1) as queue:
        task = await queue.submit(chat("gpt", "hi"))
        await started.wait()
        await task.cancel()
        assert (await task.wait()).status is oq.Status.CANCELLED
        await queue.drain()
        assert (await queue.stats()).busy == 0
