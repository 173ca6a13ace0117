"""The fake OpenAI is like the real one: OpenAI's own client talks to it unmodified, and tells its errors as its own."""

import json
import signal
import subprocess
import sys

import httpx
import openai
import pytest
import trio

from oq_openai.testing import RateLimit, Reply, fake_openai, faults

HELLO = [{"role": "user", "content": "Hello"}]
SAID = "This is a simulated answer of simulated to: Hello"
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}


@pytest.fixture
async def fake():
    async with fake_openai(api_key="the key") as fake:
        yield fake


@pytest.fixture
def official(fake):
    """OpenAI's client, which runs a function of it in a thread."""

    async def run(use, **options):
        options = {"base_url": fake.url, "api_key": "the key", "max_retries": 0, "timeout": 20.0, **options}

        def work():
            with openai.OpenAI(**options) as client:
                return use(client)

        return await trio.to_thread.run_sync(work)

    return run


class TestOfficialClient:
    async def test_it_chats(self, official):
        done = await official(lambda client: client.chat.completions.create(model="simulated", messages=HELLO))
        assert done.choices[0].message.content == SAID
        assert done.choices[0].finish_reason == "stop"
        assert (done.usage.prompt_tokens, done.usage.total_tokens) == (1, 10)

    async def test_it_chats_by_a_stream(self, official):
        def use(client):
            return list(
                client.chat.completions.create(
                    model="simulated", messages=HELLO, stream=True, stream_options={"include_usage": True}
                )
            )

        *chunks, last = await official(use)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == SAID
        assert chunks[0].choices[0].delta.role == "assistant"
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert (last.choices, last.usage.total_tokens) == ([], 10)

    async def test_it_has_tools_called(self, official):
        options = {"model": "simulated", "messages": HELLO, "tools": [TOOL], "tool_choice": "required"}
        done = await official(lambda client: client.chat.completions.create(**options))
        [call] = done.choices[0].message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == (
            "weather",
            {"city": "simulated", "days": 0},
        )
        assert done.choices[0].finish_reason == "tool_calls"

    async def test_it_puts_the_calls_of_a_stream_together(self, official):
        def use(client):
            with client.chat.completions.stream(
                model="simulated", messages=[{"role": "user", "content": "the weather"}], tools=[TOOL]
            ) as stream:
                return stream.get_final_completion()

        [call] = (await official(use)).choices[0].message.tool_calls
        assert json.loads(call.function.arguments) == {"city": "simulated", "days": 0}

    async def test_it_gets_several_choices(self, official):
        done = await official(lambda client: client.chat.completions.create(model="simulated", messages=HELLO, n=3))
        assert [(choice.index, choice.message.content) for choice in done.choices] == [(n, SAID) for n in range(3)]

    async def test_it_gets_logprobs(self, official):
        done = await official(
            lambda client: client.chat.completions.create(model="simulated", messages=HELLO, logprobs=True)
        )
        assert "".join(entry.token for entry in done.choices[0].logprobs.content) == SAID

    async def test_it_gets_the_form_that_it_wants(self, official):
        schema = {"name": "x", "schema": {"type": "object", "properties": {"ok": {"type": "boolean"}}}}
        wanted = {"type": "json_schema", "json_schema": schema}
        done = await official(
            lambda client: client.chat.completions.create(model="simulated", messages=HELLO, response_format=wanted)
        )
        assert json.loads(done.choices[0].message.content) == {"ok": True}

    async def test_it_sees_limits_and_stops(self, official):
        def use(client):
            few = client.chat.completions.create(model="simulated", messages=HELLO, max_tokens=2)
            stopped = client.chat.completions.create(model="simulated", messages=HELLO, stop="simulated")
            return few.choices[0], stopped.choices[0]

        few, stopped = await official(use)
        assert (few.message.content, few.finish_reason) == ("This is ", "length")
        assert (stopped.message.content, stopped.finish_reason) == ("This is a ", "stop")

    @pytest.mark.parametrize("stream", [False, True])
    async def test_it_completes_texts(self, official, stream):
        def use(client):
            done = client.completions.create(model="simulated", prompt="Hello", stream=stream, logprobs=1)
            return list(done) if stream else [done]

        chunks = await official(use)
        assert "".join(chunk.choices[0].text for chunk in chunks) == SAID
        assert chunks[0].choices[0].logprobs.token_logprobs[0] == -0.5

    @pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}, {"dimensions": 3}])
    async def test_it_gets_embeddings(self, official, options):
        done = await official(
            lambda client: client.embeddings.create(model="simulated", input=["one", "two", "one"], **options)
        )
        first, second, third = (item.embedding for item in done.data)
        assert first == third != second
        assert len(first) == options.get("dimensions", 8)
        assert sum(number * number for number in first) == pytest.approx(1.0)

    async def test_it_lists_models(self, official):
        def use(client):
            return [model.id for model in client.models.list()], client.models.retrieve("simulated").owned_by

        assert await official(use) == (["simulated"], "simulated")

    @pytest.mark.parametrize(
        ("fault", "error", "code"),
        [
            (faults.refuse(400, "No.", code="bad"), openai.BadRequestError, "bad"),
            (faults.wrong_key(), openai.AuthenticationError, "invalid_api_key"),
            (faults.refuse(403), openai.PermissionDeniedError, None),
            (faults.refuse(404, code="model_not_found"), openai.NotFoundError, "model_not_found"),
            (faults.refuse(409), openai.ConflictError, None),
            (faults.refuse(422), openai.UnprocessableEntityError, None),
            (faults.rate_limited(1.5), openai.RateLimitError, "rate_limit_exceeded"),
            (faults.no_credit(), openai.RateLimitError, "insufficient_quota"),
            (faults.refuse(503), openai.InternalServerError, None),
            (faults.cut_before_the_answer(), openai.APIConnectionError, None),
        ],
    )
    async def test_it_tells_errors_as_its_own(self, fake, official, fault, error, code):
        fake.script(fault)
        with pytest.raises(error) as raised:
            await official(lambda client: client.chat.completions.create(model="simulated", messages=HELLO))
        assert raised.value.code == code

    async def test_it_tells_an_error_within_a_stream(self, fake, official):
        fake.script(faults.error_event("It broke."))
        with pytest.raises(openai.APIError, match="It broke"):
            await official(
                lambda client: list(client.chat.completions.create(model="simulated", messages=HELLO, stream=True))
            )

    async def test_it_obeys_the_rate_limit(self, fake, official):
        fake.rate_limit = RateLimit(requests=1, seconds=0.5)

        def use(client):
            return [client.embeddings.create(model="simulated", input="x").model for _ in range(2)]

        assert await official(use, max_retries=5) == ["simulated", "simulated"]
        times = [request.arrived_at for request in fake.asked]
        assert len(times) > 2
        assert times[-1] - times[0] >= 0.5

    @pytest.mark.parametrize(
        ("model", "key", "error"),
        [("simulated", "another", openai.AuthenticationError), ("unknown", "the key", openai.NotFoundError)],
    )
    async def test_it_is_told_what_is_wrong(self, official, model, key, error):
        with pytest.raises(error):
            await official(lambda client: client.chat.completions.create(model=model, messages=HELLO), api_key=key)


class TestFake:
    async def test_it_answers_the_same_each_time(self, fake, official):
        def use(client):
            return client.chat.completions.create(model="simulated", messages=HELLO).model_dump()

        assert await official(use) == await official(use)

    async def test_it_says_what_it_is_told_to(self, fake, official):
        fake.script(Reply(text="Guten Tag", finish_reason="length"))
        done = await official(lambda client: client.chat.completions.create(model="simulated", messages=HELLO))
        assert (done.choices[0].message.content, done.choices[0].finish_reason) == ("Guten Tag", "length")

    async def test_faults_of_a_model_stay_until_they_are_mended(self, fake, official):
        def use(client):
            return client.embeddings.create(model="simulated", input="x").model

        fake.set_model("simulated", faults.refuse(500))
        for _ in range(2):
            with pytest.raises(openai.InternalServerError):
                await official(use)
        fake.set_model("simulated", None)
        assert await official(use) == "simulated"

    async def test_it_keeps_what_it_was_asked_and_when_a_client_left(self, fake):
        fake.script(faults.stall(after=1))
        with trio.move_on_after(20) as patience:
            async with httpx.AsyncClient(trust_env=False) as client, trio.open_nursery() as nursery:
                body = {"model": "simulated", "messages": HELLO, "stream": True}
                headers = {"Authorization": "Bearer the key"}
                nursery.start_soon(
                    lambda: client.post(f"{fake.url}/chat/completions", json=body, headers=headers, timeout=None)
                )
                [request] = await fake.wait_asked(1)
                nursery.cancel_scope.cancel()
            await request.closed.wait()
        assert not patience.cancelled_caught
        assert (fake.bodies, request.disconnected) == ([body], True)
        assert request.closed_at >= request.arrived_at

    async def test_paths_that_there_are_not_are_told_so(self, fake, official):
        with pytest.raises(openai.NotFoundError, match="Invalid URL"):
            await official(lambda client: client.files.list())

    @pytest.mark.parametrize(
        "body", [b"no JSON", b"[]", b"{}", b'{"model": "simulated"}', b'{"model": "simulated", "messages": []}']
    )
    async def test_requests_that_make_no_sense_are_refused(self, fake, body):
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(
                f"{fake.url}/chat/completions", content=body, headers={"Authorization": "Bearer the key"}
            )
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_it_runs_as_a_command_and_says_what_it_is():
    command = [sys.executable, "-m", "oq_openai.testing", "--model", "x", "--pace", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip()
            with openai.OpenAI(base_url=f"{url}/v1", api_key="any") as client:
                done = client.completions.create(model="x", prompt="Hello")
        finally:
            process.send_signal(signal.SIGTERM)
        said = process.stderr.read()
    assert process.returncode == 0
    assert "simulated" in said
    assert done.choices[0].text == "This is a simulated answer of x to: Hello"


def test_its_help_says_what_it_is():
    command = [sys.executable, "-m", "oq_openai.testing", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "simulated" in done.stdout
