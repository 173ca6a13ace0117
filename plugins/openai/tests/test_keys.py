"""Keys come from the environment, go to the server, and are nowhere else: in no task, failure, log, error or repr."""

import logging
import traceback

import pytest
from attrs import evolve

import oq
from oq.plugins import built_in_plugins
from oq.testing import refused_url
from oq_openai import OpenAIEndpoint, OpenAIExecutor, OpenAISettings, chat, embed
from oq_openai.secrets import MissingKey, secrets_of
from oq_openai.testing import faults

KEY = "sk-test-5ecretKey1234567890"
HEADER = "other+Secret/value=="
ENDPOINT = OpenAIEndpoint(name="a", url="http://x/v1")


@pytest.fixture(autouse=True)
def keys(environment):
    environment.setenv("OPENAI_API_KEY", f" {KEY}\n")
    environment.setenv("MY_HEADER", HEADER)


class TestSent:
    async def test_the_key_is_sent_as_a_bearer(self, fake, opened):
        fake.api_key = KEY
        async with opened(fake) as registry:
            await registry.execute(chat("m", "x"))
        assert fake.asked[0].headers["authorization"] == f"Bearer {KEY}"

    async def test_each_endpoint_gets_its_own(self, fake, endpoint, opened, environment):
        environment.setenv("B_KEY", "b's key")
        endpoints = [endpoint(fake, "a", api_key_env="OPENAI_API_KEY"), endpoint(fake, "b", api_key_env="B_KEY")]
        async with opened(*endpoints, endpoint(fake, "c")) as registry:
            for name in "abc":
                await registry.execute(chat("m", "x", endpoint=name))
        sent = [request.headers.get("authorization") for request in fake.asked]
        assert sent == [f"Bearer {KEY}", "Bearer b's key", None]

    async def test_local_servers_need_none(self, fake, opened, environment):
        environment.delenv("OPENAI_API_KEY")
        async with opened(fake) as registry:
            await registry.execute(chat("m", "x"))
        assert "authorization" not in fake.asked[0].headers

    async def test_a_new_key_is_used_at_once(self, fake, opened, environment):
        async with opened(fake) as registry:
            environment.setenv("OPENAI_API_KEY", "new")
            await registry.execute(chat("m", "x"))
        assert fake.asked[0].headers["authorization"] == "Bearer new"

    async def test_one_that_is_needed_and_not_set_is_named(self, fake, endpoint, opened, failure_of):
        async with opened(endpoint(fake, "a", api_key_env="NOT_SET")) as registry:
            error = await failure_of(registry, chat("m", "x"))
        assert (type(error), error.type) == (oq.PermanentError, "NoKey")
        assert error.message == "endpoint 'a' needs its key from the environment variable NOT_SET, which is not set"

    @pytest.mark.parametrize("value", ["ключ", "a\nb", "a\x00b"])
    def test_one_that_cannot_be_sent_is_refused_without_being_shown(self, value):
        with pytest.raises(MissingKey, match="NAME, which has characters that cannot be sent") as raised:
            secrets_of(evolve(ENDPOINT, api_key_env="NAME"), {"NAME": value})
        assert value not in str(raised.value)


async def echo(exchange):
    """Everything that was sent comes back in the error."""
    told = "; ".join(f"{name}: {value}" for name, value in exchange.request.headers.items())
    await faults.refuse(400, told, code=exchange.request.headers["authorization"], type=told)(exchange)


async def echo_in_stream(exchange):
    await faults.error_event(f"{exchange.request.headers}", type="invalid_request_error", after=1)(exchange)


async def echo_as_nonsense(exchange):
    await faults.raw(f"data: {exchange.request.headers['authorization']}\n\n")(exchange)


async def echo_as_location(exchange):
    await faults.refuse(307, headers={"Location": f"http://x/?k={KEY}", "x-request-id": KEY})(exchange)


class TestNowhereElse:
    @pytest.mark.parametrize("fault", [faults.wrong_key(), echo, echo_in_stream, echo_as_nonsense, echo_as_location])
    async def test_what_a_server_repeats_is_blotted_out(self, fake, endpoint, opened, caplog, fault):
        """In the error, its details, its traceback, what is logged, and how the endpoint is doing."""
        caplog.set_level(logging.DEBUG)
        if fault is echo_as_location:  # httpcore shows the headers of answers to those who look that deep
            caplog.set_level(logging.INFO, "httpcore")
        fake.set_model("m", fault)
        settings = {"api_key_env": "OPENAI_API_KEY", "headers_env": {"X-Own": "MY_HEADER"}}
        async with opened(endpoint(fake, "a", **settings)) as registry:
            with pytest.raises(oq.Steering) as raised:
                await registry.execute(chat("m", "x"))
            states = repr(registry.get("openai").endpoints.states())
        error = raised.value
        assert KEY in fake.asked[0].headers["authorization"]
        told = [str(error), repr(error), error.message, error.type, repr(error.details), states, caplog.text]
        told.append("".join(traceback.format_exception(error)))
        for secret in (KEY, HEADER):
            assert not [text for text in told if secret in text]

    async def test_it_is_nowhere_in_the_store(self, fake, endpoint, caplog, tmp_path):
        """Not in tasks, payloads, results, chunks, failures or past attempts; every byte on the disk is looked at."""
        caplog.set_level(logging.DEBUG)
        fake.script(echo, echo_in_stream, faults.wrong_key(), faults.refuse(500, KEY), None, None)
        settings = {"api_key_env": "OPENAI_API_KEY", "headers_env": {"X-Own": "MY_HEADER"}, "headers": {"X": HEADER}}
        executor = OpenAIExecutor(OpenAISettings(endpoints=(endpoint(fake, "a", **settings),)))
        retry = oq.RetryPolicy(max_attempts=2, delay=0.0)
        async with oq.open_queue(tmp_path, executors=[executor], plugins=built_in_plugins(), workers=1) as queue:
            for spec in (*[chat("m", "Hello", retry=retry)] * 4, embed("m", "Hello")):
                await (await queue.submit(spec)).wait()
            statuses = [task.status.value for task in (await queue.list()).items]
        assert sorted(statuses) == ["completed"] * 2 + ["failed"] * 3
        stored = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
        assert b"a simulated answer" in stored
        assert b"Incorrect API key provided: ***" in stored
        for secret in (KEY, HEADER):
            assert secret.encode() not in stored
            assert secret not in caplog.text

    def test_it_is_in_no_repr(self):
        settings = OpenAISettings(
            api_key_env="OPENAI_API_KEY", headers={"X-Api-Key": KEY}, headers_env={"X": "MY_HEADER"}
        )
        executor = OpenAIExecutor(settings)
        [server] = settings.servers({})
        secrets = secrets_of(server, {"OPENAI_API_KEY": KEY, "MY_HEADER": HEADER})
        shown = repr([settings, server, executor, executor.__dict__, secrets])
        assert KEY not in shown
        assert HEADER not in shown

    async def test_it_is_not_told_when_nobody_answers(self, endpoint, opened, failure_of):
        with refused_url() as url:
            async with opened(endpoint(f"{url}/v1", "a", api_key_env="OPENAI_API_KEY")) as registry:
                error = await failure_of(registry, chat("m", "x"))
        assert KEY not in f"{error}{error.details}{error.__context__}"

    def test_what_looks_like_a_key_is_blotted_out_too(self):
        secrets = secrets_of(ENDPOINT, {})
        assert secrets.redact("your key sk-proj-abcdef***wxyz and Bearer abc") == "your key *** and Bearer ***"

    def test_what_stands_in_for_a_key_is_a_word_like_others(self):
        secrets = secrets_of(evolve(ENDPOINT, api_key_env="NAME"), {"NAME": "none"})
        assert secrets.redact("none of it") == "none of it"
