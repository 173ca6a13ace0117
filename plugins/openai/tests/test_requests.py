"""What is sent: the fields of a payload as the API has them, and nothing else."""

import base64

import attrs
import pytest

import oq
from oq_openai import ChatPayload, EmbedPayload, GeneratePayload, chat, embed, generate
from oq_openai.settings import OpenAIEndpoint

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode()
JPEG = base64.b64encode(b"\xff\xd8\xff" + bytes(40)).decode()
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}

SAMPLING = {
    "max_tokens": 5,
    "temperature": 0.5,
    "top_p": 0.9,
    "n": 1,
    "stop": ["a", "b"],
    "seed": 7,
    "logit_bias": {"50256": -100},
    "presence_penalty": -1.0,
    "frequency_penalty": 1.0,
    "response_format": {"type": "json_object"},
    "user": "u",
}
CHAT = {
    **SAMPLING,
    "logprobs": True,
    "top_logprobs": 2,
    "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "reasoning_effort": "low",
    "verbosity": "low",
    "modalities": ["text"],
    "audio": {"voice": "alloy", "format": "wav"},
    "prediction": {"type": "content", "content": "x"},
    "web_search_options": {},
    "metadata": {"a": "b"},
    "service_tier": "flex",
    "store": False,
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "safety_identifier": "s",
}
GENERATE = {**SAMPLING, "suffix": "s", "echo": True, "logprobs": 2}


@pytest.fixture
def sent(fake, opened):
    """What is sent for a spec."""

    async def send(spec, **settings):
        async with opened(fake, **settings) as registry:
            await registry.execute(spec)
        return fake.bodies[-1]

    return send


def task(action, **payload):
    return oq.TaskSpec(executor="openai", action=action, payload={"model": "m", **payload})


async def test_every_field_of_a_chat_is_sent_as_it_is(sent):
    body = await sent(task("chat", messages=[{"role": "user", "content": "Hello"}], **CHAT))
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        **CHAT,
    }


async def test_every_field_of_a_completion_is_sent_as_it_is(sent):
    body = await sent(task("generate", prompt="Hello", **GENERATE))
    assert body == {
        "model": "m",
        "prompt": "Hello",
        "stream": True,
        "stream_options": {"include_usage": True},
        **GENERATE,
    }


async def test_every_field_of_an_embedding_is_sent_as_it_is(sent):
    body = await sent(task("embed", input=["a"], dimensions=4, user="u"))
    assert body == {"model": "m", "input": ["a"], "dimensions": 4, "user": "u"}


def test_no_field_is_forgotten_here():
    """The three tests above know every field, but for those of oq and what they test by themselves."""
    own = {"model", "endpoint", "remote_execution", "extra", "stream_options", "messages", "prompt", "input"}
    known = {ChatPayload: {*CHAT, "max_completion_tokens"}, GeneratePayload: {*GENERATE, "best_of"}}
    known[EmbedPayload] = {"dimensions", "user"}
    for payload, fields in known.items():
        assert {field.name for field in attrs.fields(payload)} - own == fields


async def test_what_is_not_given_is_not_sent(sent):
    body = await sent(chat("m", "Hello", endpoint="default", remote_execution=True))
    assert body.keys() == {"model", "messages", "stream", "stream_options"}


async def test_zero_is_sent(sent):
    body = await sent(chat("m", "Hello", temperature=0, seed=0))
    assert (body["temperature"], body["seed"]) == (0, 0)


async def test_what_oq_does_not_know_passes_through(sent):
    body = await sent(chat("m", "Hello", temperature=0.5, extra={"min_p": 0.1, "temperature": 0.7, "deep": {"a": [1]}}))
    assert (body["min_p"], body["temperature"], body["deep"]) == (0.1, 0.7, {"a": [1]})


async def test_stream_options_add_to_the_count_of_tokens(sent):
    body = await sent(chat("m", "Hello", stream_options={"include_obfuscation": False}))
    assert body["stream_options"] == {"include_usage": True, "include_obfuscation": False}


async def test_a_server_that_does_not_know_stream_options_is_not_sent_any(fake, sent):
    fake.knows_stream_options = False
    body = await sent(chat("m", "Hello"), stream_options=False)
    assert "stream_options" not in body


async def test_tokens_may_be_given_for_text(sent):
    assert (await sent(generate("m", [1, 2])))["prompt"] == [1, 2]
    assert (await sent(embed("m", [1, 2])))["input"] == [1, 2]
    assert (await sent(embed("m", [[1], [2, 3]])))["input"] == [[1], [2, 3]]


class TestMessages:
    async def test_roles_names_and_parts_are_sent_as_they_are(self, sent):
        parts = [{"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]
        messages = [
            {"role": "system", "content": "Be brief"},
            {"role": "developer", "content": "Be kind"},
            {"role": "user", "content": parts, "name": "Ann"},
            {"role": "assistant", "content": "I see", "refusal": "no"},
        ]
        assert (await sent(chat("m", messages)))["messages"] == messages

    async def test_images_become_parts(self, sent):
        message = {"role": "user", "content": "See", "images": [PNG, JPEG, "https://x/y.png"]}
        [told] = (await sent(chat("m", [message])))["messages"]
        assert told["content"] == [
            {"type": "text", "text": "See"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
            {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{JPEG}"}},
            {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
        ]

    async def test_calls_of_tools_and_their_results_are_told_as_the_api_does(self, sent):
        call = oq.ToolCall(name="f", arguments={"x": "ü"}, id="c1")
        said = oq.Message(role="assistant", content="Let me see", thinking="Hm", tool_calls=(call,))
        result = oq.Message(role="tool", content="42", tool_name="f", tool_call_id="c1")
        messages = (await sent(chat("m", ["x" and {"role": "user", "content": "?"}, said, result])))["messages"]
        function = {"name": "f", "arguments": '{"x": "ü"}'}
        assert messages[1:] == [
            {
                "role": "assistant",
                "content": "Let me see",
                "tool_calls": [{"id": "c1", "type": "function", "function": function}],
            },
            {"role": "tool", "content": "42", "tool_call_id": "c1"},
        ]

    async def test_calls_in_the_form_of_the_api_are_sent_as_they_are(self, sent):
        calls = [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "x"}},
        ]
        said = {"role": "assistant", "content": None, "tool_calls": calls}
        [told] = (await sent(chat("m", [said])))["messages"]
        assert told == said

    async def test_calls_without_ids_get_some_and_results_find_them_by_name(self, sent):
        calls = [{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}, {"name": "f", "arguments": {}}]
        results = [{"role": "tool", "content": str(number), "tool_name": name} for number, name in enumerate("gff")]
        messages = (await sent(chat("m", [{"role": "assistant", "tool_calls": calls}, *results])))["messages"]
        first, second, third = (call["id"] for call in messages[0]["tool_calls"])
        assert len({first, second, third}) == 3
        assert [message["tool_call_id"] for message in messages[1:]] == [second, first, third]

    async def test_an_answer_can_be_given_back(self, fake, opened):
        async with opened(fake) as registry:
            spec = chat("m", "f please", tools=[TOOL])
            answer = await registry.execute(spec)
            call = answer.message.tool_calls[0]
            result = {"role": "tool", "content": "42", "tool_call_id": call.id}
            last = await registry.execute(chat("m", [*spec.payload["messages"], answer.message, result]))
        assert last.message.content == "This is a simulated answer of m to: 42"

    async def test_further_fields_of_a_message_pass_through(self, sent):
        message = {"role": "assistant", "content": "x", "extra": {"reasoning_content": "Hm"}}
        [told] = (await sent(chat("m", [message])))["messages"]
        assert told == {"role": "assistant", "content": "x", "reasoning_content": "Hm"}


class TestAddress:
    @pytest.mark.parametrize("ending", ["", "/"])
    async def test_the_path_is_added_to_the_base_url(self, fake, opened, ending):
        async with opened(OpenAIEndpoint(name="a", url=fake.url + ending)) as registry:
            await registry.execute(chat("m", "Hello"))
        assert fake.asked[0].target == "/v1/chat/completions"

    async def test_a_query_is_sent_along(self, fake, opened):
        async with opened(OpenAIEndpoint(name="a", url=f"{fake.url}?api-version=1")) as registry:
            await registry.execute(embed("m", "Hello"))
        assert fake.asked[0].target == "/v1/embeddings?api-version=1"

    async def test_headers_organization_and_project_are_sent(self, fake, opened, environment):
        environment.setenv("SECRET_THING", "hush")
        settings = {
            "headers": {"X-Own": "yes"},
            "headers_env": {"X-Secret": "SECRET_THING"},
            "organization": "org-1",
            "project": "proj-1",
        }
        async with opened(fake, **settings) as registry:
            await registry.execute(chat("m", "Hello"))
        headers = fake.asked[0].headers
        assert (headers["x-own"], headers["x-secret"]) == ("yes", "hush")
        assert (headers["openai-organization"], headers["openai-project"]) == ("org-1", "proj-1")

    async def test_this_machine_is_asked_without_a_proxy(self, fake, opened, environment):
        environment.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        async with opened(fake) as registry:
            await registry.execute(chat("m", "Hello"))

    async def test_others_are_asked_through_the_proxy_of_the_environment(self, fake, opened, environment):
        environment.setenv("HTTP_PROXY", fake.server.url)
        async with opened(OpenAIEndpoint(name="a", url="http://nowhere.invalid/v1")) as registry:
            await registry.execute(chat("m", "Hello"))
        assert fake.asked[0].target == "http://nowhere.invalid/v1/chat/completions"

    async def test_proxies_can_be_left_out(self, fake, opened, failure_of, environment):
        environment.setenv("HTTP_PROXY", fake.server.url)
        async with opened(OpenAIEndpoint(name="a", url="http://127.0.0.2:1/v1"), trust_env=False) as registry:
            assert (await failure_of(registry, chat("m", "Hello"))).type == "ConnectError"
        assert not fake.asked
