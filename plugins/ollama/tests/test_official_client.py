"""The simulated Ollama against the official Python client, unmodified: what that takes for an Ollama is one."""

import ollama
import pytest
import trio

from oq_ollama.testing import busy, error_line, fake_ollama

SAID = "This is a simulated answer of qwen3 to: hi"
MESSAGES = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
async def fake():
    async with fake_ollama(["qwen3", "nomic-embed-text"], pullable=["new"]) as fake:
        yield fake


@pytest.fixture
async def ask(fake):
    """Calls a method of the client in a thread, and gives what it returns, or all that it yields."""
    client = ollama.Client(host=fake.url)

    async def ask(method, *args, stream=False, **kwargs):
        def call():
            answer = getattr(client, method)(*args, **kwargs, **({"stream": True} if stream else {}))
            return list(answer) if stream else answer

        return await trio.to_thread.run_sync(call)

    yield ask
    client._client.close()


async def test_chat(ask):
    """Whole, with what was counted."""
    answer = await ask("chat", "qwen3", MESSAGES)
    assert answer.message.content == SAID
    assert (answer.done, answer.done_reason, answer.eval_count) == (True, "stop", 9)


async def test_chat_streamed(ask):
    """Word by word; the last piece says that it is the last."""
    pieces = await ask("chat", "qwen3", MESSAGES, stream=True)
    assert "".join(piece.message.content for piece in pieces) == SAID
    assert [piece.done for piece in pieces] == [False] * 9 + [True]


async def test_chat_that_thinks_and_calls(ask):
    """Thinking and calls are where the client expects them."""
    for stream in (False, True):
        answer = await ask("chat", "qwen3", MESSAGES, tools=[TOOL], think=True, stream=stream)
        pieces = answer if stream else [answer]
        assert "".join(piece.message.thinking or "" for piece in pieces) == "Simulated thinking."
        assert [call.function.name for piece in pieces for call in piece.message.tool_calls or ()] == ["add"]


async def test_chat_by_a_schema(ask):
    """JSON that fits it."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    assert (await ask("chat", "qwen3", MESSAGES, format=schema)).message.content == '{"n": 0}'


async def test_generate(ask):
    """Whole and streamed, with the context to go on from."""
    answer = await ask("generate", "qwen3", "hi")
    assert (answer.response, answer.context) == (SAID, list(range(1, 10)))
    pieces = await ask("generate", "qwen3", "hi", stream=True)
    assert "".join(piece.response for piece in pieces) == SAID


async def test_generate_of_nothing_loads_and_unloads(ask, fake):
    """As the client's documentation has it."""
    assert (await ask("generate", "qwen3")).done_reason == "load"
    assert fake.loaded == ("qwen3:latest",)
    assert (await ask("generate", "qwen3", keep_alive=0)).done_reason == "unload"
    assert fake.loaded == ()


async def test_embed(ask):
    """A vector of length 1 for each text, always the same."""
    answer = await ask("embed", "nomic-embed-text", ["a", "b"], dimensions=16)
    assert [len(vector) for vector in answer.embeddings] == [16, 16]
    assert sum(number**2 for number in answer.embeddings[0]) == pytest.approx(1, abs=1e-4)
    assert (await ask("embed", "nomic-embed-text", "a", dimensions=16)).embeddings[0] == answer.embeddings[0]


async def test_list(ask):
    """Every model, with its tag."""
    assert [model.model for model in (await ask("list")).models] == ["qwen3:latest", "nomic-embed-text:latest"]


async def test_ps(ask):
    """The models in memory."""
    assert (await ask("ps")).models == []
    await ask("chat", "qwen3", MESSAGES)
    (model,) = (await ask("ps")).models
    assert (model.model, model.size_vram, model.context_length) == ("qwen3:latest", 1_000_000_000, 4096)


async def test_show(ask):
    """What a model is capable of."""
    shown = await ask("show", "qwen3")
    assert "completion" in shown.capabilities
    assert shown.modelinfo["general.architecture"] == "simulated"


async def test_pull(ask, fake):
    """Whole and streamed; afterwards the model is there."""
    assert (await ask("pull", "new")).status == "success"
    pieces = await ask("pull", "new", stream=True)
    assert [piece.status for piece in pieces][-1] == "success"
    assert pieces[1].total == 1_000_000_000
    assert (await ask("chat", "new", MESSAGES)).message.content.startswith("This is a simulated answer of new")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_missing_model(ask, stream):
    """The client's error has the status and the words."""
    with pytest.raises(ollama.ResponseError, match="model 'old' not found") as failed:
        await ask("chat", "old", MESSAGES, stream=stream)
    assert failed.value.status_code == 404


async def test_a_model_that_cannot_be_pulled(ask):
    """Likewise, whole and streamed."""
    for stream in (False, True):
        with pytest.raises(ollama.ResponseError, match="file does not exist"):
            await ask("pull", "old", stream=stream)


async def test_faults_are_faults_for_the_client_too(ask, fake):
    """503, and an error in the middle of an answer."""
    fake.fail(busy(), error_line("broken"))
    with pytest.raises(ollama.ResponseError, match="server busy"):
        await ask("chat", "qwen3", MESSAGES)
    with pytest.raises(ollama.ResponseError, match="broken"):
        await ask("chat", "qwen3", MESSAGES, stream=True)


async def test_the_async_client(fake):
    """On trio as well, since it is made of httpx."""
    client = ollama.AsyncClient(host=fake.url)
    try:
        answer = await client.chat("qwen3", MESSAGES)
        pieces = [piece.message.content async for piece in await client.chat("qwen3", MESSAGES, stream=True)]
    finally:
        await client._client.aclose()
    assert (answer.message.content, "".join(pieces)) == (SAID, SAID)
