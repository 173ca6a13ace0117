"""What becomes of answers: chunks as they come, and one result, however a server tells them."""

import pytest

import oq
from oq_openai import chat, embed, generate
from oq_openai.testing import Reply, faults

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"properties": {"city": {"type": "string"}}}}}
HELLO = "This is a simulated answer of m to: Hello"


def events(*choices, **more):
    """The events of a stream, one for each choice, and `[DONE]`."""
    import json

    told = [{"id": "1", "model": "m-2", "choices": [choice], **more} for choice in choices]
    return [f"data: {json.dumps(event)}\n\n" for event in told] + ["data: [DONE]\n\n"]


async def test_a_chat_streams_word_by_word_and_gives_the_whole(fake, opened, chunks_of):
    async with opened(fake) as registry:
        chunks = await chunks_of(registry, chat("m", "Hello"))
        result = await registry.execute(chat("m", "Hello"))
    assert chunks == [("output", word) for word in [*(f"{word} " for word in HELLO.split()[:-1]), "Hello"]]
    assert result.message == oq.Message(role="assistant", content=HELLO)
    assert (result.model, result.finish_reason) == ("m", "stop")


async def test_a_completion_streams_and_gives_the_whole(fake, opened, chunks_of):
    async with opened(fake) as registry:
        chunks = await chunks_of(registry, generate("m", "Hello", suffix=" Bye"))
        result = await registry.execute(generate("m", "Hello", suffix=" Bye"))
    assert "".join(text for _, text in chunks) == result.text == f"{HELLO} Bye"
    assert result.finish_reason == "stop"


async def test_embeddings_come_in_the_order_of_their_texts(fake, opened):
    async with opened(fake) as registry:
        both = await registry.execute(embed("m", ["one", "two"]))
        fake.script(faults.json_answer({"data": [{"index": 1, "embedding": [1]}, {"index": 0, "embedding": [0.5]}]}))
        turned = await registry.execute(embed("m", ["one", "two"]))
        one = await registry.execute(embed("m", "one"))
    assert len(both.embeddings) == 2
    assert one.embeddings == both.embeddings[:1]
    assert turned.embeddings == ((0.5,), (1.0,))


async def test_embeddings_may_come_as_base64(fake, opened):
    async with opened(fake) as registry:
        plain = await registry.execute(embed("m", "one"))
        coded = await registry.execute(embed("m", "one", extra={"encoding_format": "base64"}))
    assert fake.bodies[1]["encoding_format"] == "base64"
    assert coded.embeddings == plain.embeddings


async def test_the_tokens_are_counted(fake, opened):
    async with opened(fake) as registry:
        chatted = await registry.execute(chat("m", "Hello there", reasoning_effort="low"))
        embedded = await registry.execute(embed("m", ["one two", "three"]))
    assert (chatted.usage.prompt_tokens, chatted.usage.completion_tokens) == (2, 14)
    assert chatted.usage.details == {"completion_tokens_details": {"reasoning_tokens": 4}}
    assert chatted.usage.total_seconds > 0
    assert chatted.usage.tokens_per_second > 0
    assert embedded.usage.prompt_tokens == 3


async def test_the_server_s_own_times_are_kept(fake, opened):
    timings = {"prompt_ms": 20.0, "predicted_ms": 500.0, "predicted_per_second": 4.0}
    fake.script(faults.raw(*events({"delta": {"content": "x"}, "finish_reason": "stop"}, timings=timings)))
    async with opened(fake) as registry:
        usage = (await registry.execute(chat("m", "Hello"))).usage
    assert (usage.prompt_seconds, usage.completion_seconds, usage.tokens_per_second) == (0.02, 0.5, 4.0)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_thoughts_are_chunks_of_their_own(fake, opened, chunks_of, field):
    stream = events({"delta": {field: "Hm. "}}, {"delta": {"content": "Yes"}}, {"delta": {}, "finish_reason": "stop"})
    fake.script(faults.raw(*stream), faults.raw(*stream))
    async with opened(fake) as registry:
        chunks = await chunks_of(registry, chat("m", "Well?"))
        message = (await registry.execute(chat("m", "Well?"))).message
    assert chunks == [("thinking", "Hm. "), ("output", "Yes")]
    assert (message.thinking, message.content) == ("Hm. ", "Yes")


async def test_a_call_of_a_tool_is_passed_on_whole(fake, opened, chunks_of):
    fake.set_model("m", Reply(text="Let me see", tool_calls=[("weather", {"city": "Ulm"}), ("time", {})]))
    async with opened(fake) as registry:
        chunks = await chunks_of(registry, chat("m", "Well?", tools=[TOOL]))
        result = await registry.execute(chat("m", "Well?", tools=[TOOL]))
    calls = [data for kind, data in chunks if kind == "tool_call"]
    assert [(call["name"], call["arguments"]) for call in calls] == [("weather", {"city": "Ulm"}), ("time", {})]
    assert [(call.name, call.id) for call in result.message.tool_calls] == [
        ("weather", "call_simulated_0"),
        ("time", "call_simulated_1"),
    ]
    assert result.finish_reason == "tool_calls"


async def test_arguments_that_are_no_json_are_kept_as_they_are(fake, opened):
    fake.script(Reply(tool_calls=[("weather", '{"city": "Ul')], finish_reason="length"))
    async with opened(fake) as registry:
        result = await registry.execute(chat("m", "Well?", tools=[TOOL]))
    assert result.message.tool_calls == (oq.ToolCall(name="weather", id="call_simulated_0", raw='{"city": "Ul'),)


async def test_calls_without_numbers_are_told_apart(fake, opened):
    calls = [{"id": f"c{name}", "function": {"name": name, "arguments": {"x": name}}} for name in "ab"]
    stream = events(
        {"delta": {"tool_calls": calls[:1]}}, {"delta": {"tool_calls": calls[1:]}, "finish_reason": "tool_calls"}
    )
    fake.script(faults.raw(*stream))
    async with opened(fake) as registry:
        result = await registry.execute(chat("m", "Well?"))
    assert [(call.id, call.name, call.arguments) for call in result.message.tool_calls] == [
        ("ca", "a", {"x": "a"}),
        ("cb", "b", {"x": "b"}),
    ]


async def test_a_name_that_is_repeated_with_each_piece_is_one_name(fake, opened):
    pieces = [{"index": 0, "id": "c", "function": {"name": "f", "arguments": part}} for part in ('{"x"', ": 1}")]
    stream = events(*({"delta": {"tool_calls": [piece]}} for piece in pieces), {"finish_reason": "tool_calls"})
    fake.script(faults.raw(*stream))
    async with opened(fake) as registry:
        result = await registry.execute(chat("m", "Well?"))
    assert result.message.tool_calls == (oq.ToolCall(name="f", arguments={"x": 1}, id="c"),)


async def test_a_function_call_of_former_times_is_a_call_of_a_tool(fake, opened):
    stream = events(
        {"delta": {"function_call": {"name": "weather", "arguments": '{"city":'}}},
        {"delta": {"function_call": {"arguments": ' "Ulm"}'}}, "finish_reason": "function_call"},
    )
    fake.script(faults.raw(*stream))
    async with opened(fake) as registry:
        result = await registry.execute(chat("m", "Well?"))
    assert result.message.tool_calls == (oq.ToolCall(name="weather", arguments={"city": "Ulm"}),)


async def test_what_else_the_server_says_is_kept(fake, opened):
    async with opened(fake) as registry:
        chatted = await registry.execute(chat("m", "Hello", logprobs=True, max_tokens=2))
        completed = await registry.execute(generate("m", "Hello", logprobs=1, max_tokens=2))
    assert chatted.finish_reason == "length"
    assert chatted.extra["system_fingerprint"] == "fp_simulated"
    assert [row["token"] for row in chatted.extra["logprobs"]] == ["This ", "is "]
    assert completed.extra["logprobs"] == [{"token": word, "logprob": -0.5} for word in ("This ", "is ")]


async def test_a_refusal_is_kept(fake, opened):
    stream = events({"delta": {"refusal": "I'd "}}, {"delta": {"refusal": "rather not"}, "finish_reason": "stop"})
    fake.script(faults.raw(*stream))
    async with opened(fake) as registry:
        result = await registry.execute(chat("m", "Do harm"))
    assert result.extra["refusal"] == "I'd rather not"


async def test_the_model_is_the_one_that_answered(fake, opened):
    fake.script(faults.raw(*events({"delta": {"content": "x"}, "finish_reason": "stop"})))
    async with opened(fake) as registry:
        assert (await registry.execute(chat("m", "Hello"))).model == "m-2"


async def test_only_the_first_of_several_answers_counts(fake, opened):
    async with opened(fake) as registry:
        result = await registry.execute(chat("m", "Hello", extra={"stream_options": {}}))
        stream = events(
            *({"index": index, "delta": {"content": text}} for index, text in ((0, "a"), (1, "b"), (0, "c"))),
            {"index": 0, "delta": {}, "finish_reason": "stop"},
        )
        fake.script(faults.raw(*stream))
        first = await registry.execute(chat("m", "Hello"))
    assert result.message.content == HELLO
    assert first.message.content == "ac"


async def test_an_answer_in_one_piece_will_do(fake, opened, chunks_of):
    fake.script(faults.whole(), faults.whole())
    async with opened(fake) as registry:
        chunks = await chunks_of(registry, chat("m", "Hello"))
        result = await registry.execute(chat("m", "Hello"))
    assert chunks == [("output", HELLO)]
    assert (result.message.content, result.finish_reason, result.usage.completion_tokens) == (HELLO, "stop", 9)


async def test_the_best_of_several_comes_in_one_piece(fake, opened, chunks_of):
    async with opened(fake) as registry:
        assert await chunks_of(registry, generate("m", "Hello", best_of=3)) == [("output", HELLO)]
    assert (fake.bodies[0]["best_of"], fake.bodies[0]["stream"]) == (3, False)


class TestStreams:
    async def test_comments_are_no_part_of_the_answer(self, fake, opened):
        fake.script(faults.keep_alive())
        async with opened(fake) as registry:
            assert (await registry.execute(chat("m", "Hello"))).message.content == HELLO

    async def test_events_without_data_are_no_part_of_it_either(self, fake, opened):
        fake.script(faults.raw("event: ping\n\n", *events({"delta": {"content": "x"}})))
        async with opened(fake) as registry:
            assert (await registry.execute(chat("m", "Hello"))).message.content == "x"

    async def test_a_stream_without_done_is_whole_if_it_has_a_reason_to_end(self, fake, opened):
        fake.script(faults.no_done())
        async with opened(fake) as registry:
            assert (await registry.execute(chat("m", "Hello"))).finish_reason == "stop"

    async def test_a_stream_without_a_reason_is_whole_if_it_is_done(self, fake, opened):
        fake.script(faults.raw(*events({"delta": {"content": "x"}})))
        async with opened(fake) as registry:
            assert (await registry.execute(chat("m", "Hello"))).message.content == "x"

    @pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
    async def test_lines_may_end_in_any_way(self, fake, opened, newline):
        fake.script(faults.raw(*(event.replace("\n", newline) for event in events({"delta": {"content": "x"}}))))
        async with opened(fake) as registry:
            assert (await registry.execute(chat("m", "Hello"))).message.content == "x"

    async def test_the_data_of_an_event_may_have_several_lines(self, fake, opened):
        fake.script(
            faults.raw('data: {"choices":\ndata: [{"delta":\ndata: {"content": "x"}}]}\n\n', "data: [DONE]\n\n")
        )
        async with opened(fake) as registry:
            assert (await registry.execute(chat("m", "Hello"))).message.content == "x"

    async def test_pieces_may_end_within_a_letter(self, fake, opened):
        data = 'data: {"choices": [{"delta": {"content": "Grüße 🙂\u2028"}}]}\n\ndata: [DONE]\n\n'.encode()
        fake.script(faults.raw(*(data[place : place + 1] for place in range(len(data)))))
        async with opened(fake) as registry:
            assert (await registry.execute(chat("m", "Hello"))).message.content == "Grüße 🙂\u2028"

    async def test_a_connection_is_used_again(self, fake, opened):
        async with opened(fake) as registry:
            for _ in range(3):
                await registry.execute(chat("m", "Hello"))
                await registry.execute(embed("m", "Hello"))
        assert fake.server.connections == 1


class TestShown:
    """What a person is shown of a result."""

    @pytest.mark.parametrize(
        ("spec", "shown"),
        [
            (chat("m", "Hello"), HELLO),
            (chat("m", "the weather", tools=[TOOL]), 'weather({"city": "simulated"})'),
            (generate("m", "Hello"), HELLO),
            (embed("m", ["a", "b"], dimensions=3), "2 vectors of 3 dimensions"),
            (embed("m", "a"), "1 vector of 8 dimensions"),
        ],
    )
    async def test_it_is_the_answer(self, fake, opened, spec, shown):
        async with opened(fake) as registry:
            result = await registry.execute(spec)
        assert registry.action("openai", spec.action).show(result) == shown

    @pytest.mark.parametrize(
        ("spec", "line"),
        [
            (chat("m", "Hello", system="Be brief"), "m: Hello"),
            (chat("m", [{"role": "user", "content": [{"type": "text", "text": "See"}]}]), "m: See"),
            (generate("m", "Hello"), "m: Hello"),
            (generate("m", [1, 2]), "m: 2 tokens"),
            (embed("m", "Hello"), "m: Hello"),
            (embed("m", ["Hello"]), "m: Hello"),
            (embed("m", ["a", "b"]), "m: 2 texts"),
        ],
    )
    async def test_a_task_is_described_by_what_is_asked(self, fake, executor_for, spec, line):
        assert oq.Registry([executor_for(fake)]).check(spec).summary == line
