"""What a server is sent, and what its answer becomes."""

import base64

import pytest

import oq
from oq import ChatResult, EmbedResult, GenerateResult, Message, ToolCall
from oq_ollama import Options, chat, embed, generate
from oq_ollama.testing import FakeModel
from oq_ollama.testing.behaviour import vector_of

TOOL = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}
IMAGE = base64.b64encode(b"picture").decode()


async def sent(registry, fake, spec):
    """The body of the request for this task."""
    await registry.execute(spec)
    return fake.requests[-1].body


async def streamed(registry, spec):
    async with registry.stream(spec) as chunks:
        return [(str(chunk.kind), chunk.text, chunk.data) async for chunk in chunks]


async def test_a_chat_sends_what_is_set_and_always_asks_for_a_stream(registry, fake):
    """Without a stream the server would not notice a cancel."""
    assert await sent(registry, fake, chat("qwen3", "hi")) == {
        "model": "qwen3",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
    }


async def test_a_chat_sends_every_field_as_the_api_has_it(registry, fake):
    """Messages, calls and their results included; only the newer word `developer` is told as `system`."""
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Look.", "images": [IMAGE]},
        {"role": "assistant", "thinking": "hm", "tool_calls": [{"name": "add", "arguments": {"a": 1}, "id": "1"}]},
        {"role": "assistant", "tool_calls": [{"name": "add", "arguments": {}}]},
        {"role": "tool", "content": "2", "tool_name": "add", "tool_call_id": "1"},
    ]
    spec = chat(
        "qwen3",
        messages,
        tools=[TOOL],
        format={"type": "object"},
        options=Options(seed=0, stop=("x",)),
        think=False,
        keep_alive=0,
        truncate=False,
        shift=True,
        logprobs=True,
        top_logprobs=0,
        remote_execution=True,
    )
    assert await sent(registry, fake, spec) == {
        "model": "qwen3",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Look.", "images": [IMAGE]},
            {
                "role": "assistant",
                "content": "",
                "thinking": "hm",
                "tool_calls": [{"id": "1", "function": {"name": "add", "arguments": {"a": 1}}}],
            },
            {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": {}}}]},
            {"role": "tool", "content": "2", "tool_name": "add", "tool_call_id": "1"},
        ],
        "tools": [TOOL],
        "format": {"type": "object"},
        "options": {"seed": 0, "stop": ["x"]},
        "think": False,
        "keep_alive": 0,
        "truncate": False,
        "shift": True,
        "logprobs": True,
        "top_logprobs": 0,
        "stream": True,
    }


async def test_a_completion_sends_every_field(registry, fake):
    """Each under the name that it has in the API."""
    fields = {
        "suffix": "b",
        "system": "c",
        "template": "{{ .Prompt }}",
        "context": [1, 2],
        "raw": True,
        "format": "json",
        "images": [IMAGE],
        "options": {"num_ctx": 64},
        "think": "low",
        "keep_alive": "5m",
        "truncate": True,
        "shift": False,
        "logprobs": False,
        "top_logprobs": 1,
        "width": 1,
        "height": 2,
        "steps": 3,
    }
    body = await sent(registry, fake, generate("qwen3", "a", **fields))
    assert body == {"model": "qwen3", "prompt": "a", "stream": True, **fields}


async def test_texts_to_embed_are_sent_as_they_were_given(registry, fake):
    """One text or a list; there is no stream to ask for."""
    spec = embed("nomic-embed-text", ["a", "b"], truncate=False, dimensions=4, keep_alive=1.5, options={"num_ctx": 64})
    assert await sent(registry, fake, spec) == {
        "model": "nomic-embed-text",
        "input": ["a", "b"],
        "truncate": False,
        "dimensions": 4,
        "keep_alive": 1.5,
        "options": {"num_ctx": 64},
    }


async def test_the_words_of_a_chat_stream_as_they_come(registry):
    """One chunk for each frame, of the kind `output`."""
    chunks = await streamed(registry, chat("qwen3", "hi"))
    assert chunks[0] == ("output", "This ", None)
    assert "".join(text for _, text, _ in chunks) == "This is a simulated answer of qwen3 to: hi"


async def test_thinking_streams_as_a_kind_of_its_own(registry):
    """Before the answer, as the model thinks."""
    chunks = await streamed(registry, chat("qwen3", "hi", think=True))
    assert [chunk[:2] for chunk in chunks[:3]] == [
        ("thinking", "Simulated "),
        ("thinking", "thinking."),
        ("output", "This "),
    ]


async def test_a_tool_call_streams_as_a_mapping(registry):
    """With the name, arguments and id of `oq.ToolCall`."""
    ((kind, _, data),) = await streamed(registry, chat("qwen3", "add", tools=[TOOL]))
    assert kind == oq.ChunkKind.TOOL_CALL
    assert (data["name"], data["arguments"], data["id"]) == ("add", {"a": 0}, "call_simulated")


async def test_the_result_of_a_chat_is_the_whole_message(registry):
    """However it was streamed; with what the server counted, in seconds."""
    result = await registry.execute(chat("qwen3", "hi there", think=True))
    assert isinstance(result, ChatResult)
    assert result.model == "qwen3"
    assert result.message == Message(
        role="assistant", content="This is a simulated answer of qwen3 to: hi there", thinking="Simulated thinking."
    )
    assert result.finish_reason == "stop"
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (2, 12)
    assert (result.usage.completion_seconds, result.usage.tokens_per_second) == (0.12, 100.0)
    assert (result.usage.total_seconds, result.usage.load_seconds, result.usage.prompt_seconds) == (0.14, 0.01, 0.02)


async def test_an_answer_that_wants_something_called_says_so(registry):
    """Ollama itself says `stop`; for whoever reads results it is the same as elsewhere."""
    result = await registry.execute(chat("qwen3", "add", tools=[TOOL]))
    assert result.message.tool_calls == (ToolCall(name="add", arguments={"a": 0}, id="call_simulated"),)
    assert result.finish_reason == "tool_calls"


async def test_an_answer_that_was_cut_short_says_so(registry):
    """By `num_predict`."""
    result = await registry.execute(chat("qwen3", "hi", options={"num_predict": 2}))
    assert (result.message.content, result.finish_reason) == ("This is ", "length")


async def test_the_result_of_a_completion_has_its_text_and_context(registry):
    """The context is what goes on from there."""
    result = await registry.execute(generate("qwen3", "Once"))
    assert isinstance(result, GenerateResult)
    assert result.text == "This is a simulated answer of qwen3 to: Once"
    assert result.extra["context"] == list(range(1, 10))


async def test_log_probabilities_are_kept_with_the_result_and_the_chunks(registry):
    """In the server's own words."""
    spec = generate("qwen3", "hi", logprobs=True)
    result, chunks = await registry.execute(spec), await streamed(registry, spec)
    assert result.extra["logprobs"][0] == {"token": "This ", "logprob": -0.5}
    assert chunks[0] == ("output", "This ", {"logprobs": [{"token": "This ", "logprob": -0.5}]})


async def test_the_result_of_an_embedding_has_a_vector_for_each_text(registry):
    """In the order of the texts."""
    result = await registry.execute(embed("nomic-embed-text", ["a", "b"], dimensions=3))
    assert isinstance(result, EmbedResult)
    assert result.embeddings == (tuple(vector_of("a", 3)), tuple(vector_of("b", 3)))
    assert result.usage.prompt_tokens == 2


async def test_a_chat_without_messages_loads_the_model(registry, fake):
    """As an empty prompt does; the answer is empty."""
    result = await registry.execute(chat("qwen3", []))
    assert (result.message.content, result.finish_reason, fake.loaded) == ("", "load", ("qwen3:latest",))


async def test_a_completion_without_a_prompt_and_keep_alive_0_unloads_the_model(registry, fake):
    """The way to make room."""
    await registry.execute(chat("qwen3", []))
    result = await registry.execute(generate("qwen3", "", keep_alive=0))
    assert (result.finish_reason, fake.loaded) == ("unload", ())


async def test_line_separators_within_a_text_do_not_end_a_line(registry, fake):
    """U+0085 and U+2028 are line ends for some, but not here."""
    fake.add(FakeModel(name="odd", answer="a\x85b\u2028c\x1cd\r\ne"))
    result = await registry.execute(chat("odd", "hi"))
    assert result.message.content == "a\x85b\u2028c\x1cd\r\ne"


async def test_a_text_of_several_languages_comes_through(registry):
    """What is sent and what is answered is UTF-8."""
    result = await registry.execute(chat("qwen3", "Grüße 你好 🙂"))
    assert result.message.content.endswith("Grüße 你好 🙂")


async def test_an_answer_of_json_is_what_was_asked_for(registry):
    """`format` reaches the server as a schema."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "s": {"type": "string"}}}
    result = await registry.execute(chat("qwen3", "hi", format=schema))
    assert result.message.content == '{"n": 0, "s": "simulated"}'


async def test_the_connection_is_used_again(registry, fake):
    """One after another, tasks need but one connection besides the health check's."""
    for _ in range(5):
        await registry.execute(chat("qwen3", "hi"))
    assert len({request.http.connection for request in fake.requests}) == 1


@pytest.mark.parametrize("spec", [chat("qwen3", "hi"), generate("qwen3", "hi"), embed("qwen3", "hi")])
async def test_the_result_says_where_it_comes_from(queue, spec):
    """`executed_on` is the endpoint's name."""
    task = await (await queue.submit(spec)).wait()
    assert (task.status, task.executed_on) == (oq.Status.COMPLETED, "local")
