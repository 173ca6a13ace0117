"""What can go wrong at a server: each fault, over a real socket, becomes the right kind of failure."""

import gc
import warnings

import pytest
import trio

import oq
from oq import PermanentError, Registry, RetryableError, RetryLater
from oq.testing import refused_url, serve_http, virtual_queue
from oq_ollama import OllamaEndpoint, OllamaExecutor, OllamaSettings, chat, embed, generate
from oq_ollama.testing import FakeModel, bad_line, busy, cut, ends_early, error_line, fake_ollama, refused, stall

CHAT = chat("qwen3", "hi")
SPECS = [CHAT, generate("qwen3", "hi"), embed("qwen3", "hi")]
STREAMED = SPECS[:2]


async def error_of(registry, spec=CHAT, kind=RetryableError):
    with pytest.raises(kind) as failed:
        await registry.execute(spec)
    assert type(failed.value) is kind
    return failed.value


async def error_at(executor, spec=CHAT, kind=RetryableError):
    registry = Registry([executor])
    async with registry.opened():
        return await error_of(registry, spec, kind)


def asking(url, **settings):
    return OllamaExecutor(OllamaSettings(host=url, **settings), environ={})


async def answering(handler, spec=CHAT, kind=RetryableError, **settings):
    """The error of a task at a server that answers so; to other paths it says that it is there."""

    async def handle(request, exchange):
        if request.path == "/api/version":
            await exchange.respond_json(200, {"version": "test"})
        else:
            await handler(exchange)

    async with serve_http(handle) as server:
        return await error_at(asking(server.url, **settings), spec, kind)


# The answer breaks off


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("after", [0, 2])
async def test_a_connection_that_is_reset_is_worth_another_attempt(registry, fake, spec, after):
    """Before the answer or in the middle of it."""
    fake.fail(cut(after=after))
    error = await error_of(registry, spec)
    assert error.type == "ConnectionLost"
    assert error.message.startswith(f"the connection to {fake.url} was lost: ")


@pytest.mark.parametrize("spec", STREAMED)
@pytest.mark.parametrize("after", [0, 3])
async def test_an_answer_without_its_final_frame_is_no_success(registry, fake, spec, after):
    """Though it ended in good order, nobody knows what is missing."""
    fake.fail(ends_early(after=after))
    error = await error_of(registry, spec)
    assert (error.type, error.message) == (
        "IncompleteAnswer",
        f"the answer of {fake.url} ended before it was complete",
    )


async def test_an_answer_that_is_cut_between_chunks_of_http_is_no_success():
    """The server went away in good order, but without the end that it owed."""

    async def handler(exchange):
        await exchange.start(200)
        await exchange.send('{"message": {"role": "assistant", "content": "Hello"}, "done": false}\n')
        await exchange.close()

    assert (await answering(handler)).type == "ConnectionLost"


async def test_what_was_answered_until_then_is_kept_with_the_failure(registry, fake):
    """How much it was, and its end; all of it is in the stream."""
    fake.fail(cut(after=3))
    error = await error_of(registry)
    assert error.details["partial_tail"] == "This is a "
    assert error.details["partial_length"] == 10
    assert (error.details["endpoint"], error.details["url"]) == ("local", fake.url)


async def test_little_of_a_long_answer_is_kept_with_the_failure(registry, fake):
    """A failure is part of what every list of tasks reads."""
    said = "".join(f"{number:05}" for number in range(2000))
    fake.add(FakeModel(name="talker", answer=said))
    fake.fail(cut(after=1))
    details = (await error_of(registry, chat("talker", "hi"))).details
    assert (details["partial_length"], details["partial_tail"]) == (10_000, said[-2_000:])


@pytest.mark.parametrize(
    "fault",
    [cut(after=2), ends_early(after=2), error_line(after=2), bad_line(after=2), refused(500, "x"), stall(after=2)],
)
async def test_nothing_of_a_failed_request_is_left_to_the_garbage_collector(executor_with, fake, fault):
    """What httpx has begun to iterate over is ended with the request."""
    fake.fail(fault)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        await error_at(executor_with(chunk_timeout=0.05))
        gc.collect()
    assert not [str(warning.message) for warning in told if "garbage" in str(warning.message)]


# The server says that something is wrong


@pytest.mark.parametrize("spec", STREAMED)
@pytest.mark.parametrize("after", [0, 2])
async def test_an_error_in_the_answer_is_worth_another_attempt(registry, fake, spec, after):
    """The status was 200, but a line of the answer says otherwise."""
    fake.fail(error_line("llama runner process has terminated", after=after))
    error = await error_of(registry, spec)
    assert (error.type, error.message) == ("ServerError", f"{fake.url} gave up: llama runner process has terminated")


@pytest.mark.parametrize(
    "words", ["the input length exceeds the context length", 'invalid option "x"', "model does not support tools"]
)
async def test_an_error_in_the_answer_that_is_the_requests_fault_is_permanent(registry, fake, words):
    """The same request would fail again."""
    fake.fail(error_line(words, after=0))
    error = await error_of(registry, kind=PermanentError)
    assert (error.type, error.message) == ("Refused", f"{fake.url} gave up: {words}")


@pytest.mark.parametrize("spec", SPECS)
async def test_a_refused_request_is_not_repeated_and_the_server_says_why(registry, fake, spec):
    """400 means that the request is wrong."""
    fake.fail(refused(400, "invalid format"))
    error = await error_of(registry, spec, PermanentError)
    assert (error.type, error.message) == ("Refused", f"{fake.url} refused the request: invalid format")
    assert error.details["status"] == 400


@pytest.mark.parametrize("status", [401, 403])
async def test_a_server_that_wants_a_key_is_not_asked_again(registry, fake, status):
    """The message says where keys are named."""
    fake.fail(refused(status, "unauthorized"))
    error = await error_of(registry, kind=PermanentError)
    assert error.type == "Unauthorized"
    assert "api_key_env" in error.message


@pytest.mark.parametrize("status", [408, 500, 502, 504, 507])
async def test_a_failure_of_the_server_is_worth_another_attempt(registry, fake, status):
    """Its words are passed on."""
    fake.fail(refused(status, "cudaMalloc failed: out of memory"))
    error = await error_of(registry)
    assert (error.type, error.details["status"]) == ("ServerError", status)
    assert "cudaMalloc failed: out of memory" in error.message


async def test_a_busy_server_is_asked_later_and_the_attempt_does_not_count(registry, fake):
    """Its queue is full, which is nobody's failure."""
    fake.fail(busy())
    error = await error_of(registry, kind=RetryLater)
    assert (error.type, error.after, error.counted) == ("Busy", 1.0, False)


@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_server_says_when_to_come_back(registry, fake, status):
    """By `Retry-After`."""
    fake.fail(busy(retry_after="7", status=status))
    error = await error_of(registry, kind=RetryLater)
    assert (error.after, error.counted) == (7.0, False)


async def test_a_busy_server_is_not_asked_again_at_once(registry, fake):
    """Whatever it says, since such attempts do not count and would go on and on."""
    fake.fail(busy(retry_after="0"))
    assert (await error_of(registry, kind=RetryLater)).after == 0.1


async def test_a_server_that_is_down_behind_a_proxy_counts(registry, fake):
    """503 without a word of being busy may go on for ever."""
    fake.fail(refused(503, "upstream connect error"))
    assert (await error_of(registry, kind=RetryLater)).counted


async def test_a_missing_model_is_not_asked_for_again_and_the_message_says_what_to_run(registry, fake):
    """Unless the settings have it pulled."""
    error = await error_of(registry, chat("llama9:1b", "hi"), PermanentError)
    assert error.type == "ModelNotFound"
    assert "run `ollama pull llama9:1b`" in error.message
    assert fake.url in error.message


@pytest.mark.parametrize("status", [301, 404, 405])
async def test_a_server_that_is_no_ollama_is_told_apart(registry, fake, status):
    """The address is wrong; asking again is no use."""
    fake.fail(refused(status, "404 page not found"))
    error = await error_of(registry, kind=PermanentError)
    assert error.type == "NotOllama"
    assert "is the address right?" in error.message


async def test_the_body_of_an_error_may_be_anything():
    """A proxy answers with a page of its own."""

    async def handler(exchange):
        await exchange.respond(502, "<html>\n<b>Bad</b> Gateway</html>")

    error = await answering(handler)
    assert error.message.endswith("failed (502): <html> <b>Bad</b> Gateway</html>")


async def test_an_endless_body_of_an_error_is_not_read_to_its_end():
    """Nor would anybody read the message."""

    async def handler(exchange):
        await exchange.start(500)
        while True:
            await exchange.send("x" * 10_000)

    assert len((await answering(handler)).message) < 1_000


async def test_an_error_may_be_an_object():
    """As OpenAI-compatible proxies have it."""

    async def handler(exchange):
        await exchange.respond_json(500, {"error": {"message": "no luck", "type": "server_error"}})

    assert (await answering(handler)).message.endswith("failed (500): no luck")


# The server is silent


@pytest.mark.parametrize("spec", SPECS)
async def test_a_server_that_does_not_begin_to_answer_is_given_up(executor_with, fake, spec):
    """After `first_byte_timeout` seconds; a health check would not have noticed."""
    fake.fail(stall())
    error = await error_at(executor_with(first_byte_timeout=0.05), spec)
    assert (error.type, error.message) == (
        "Stalled",
        f"nothing came for 0.05 s from {fake.url}; a large model may need a longer first_byte_timeout",
    )


async def test_a_status_is_not_yet_an_answer():
    """Nor are headers: the first line of the answer must come in time."""

    async def handler(exchange):
        await exchange.start(200)
        await exchange.stall()

    assert (await answering(handler, first_byte_timeout=0.05)).type == "Stalled"


@pytest.mark.parametrize("spec", STREAMED)
async def test_a_server_that_falls_silent_is_given_up(executor_with, fake, spec):
    """After `chunk_timeout` seconds; what had come by then is kept."""
    fake.fail(stall(after=2))
    error = await error_at(executor_with(chunk_timeout=0.05), spec)
    assert (error.type, error.message) == ("Stalled", f"nothing more came for 0.05 s from {fake.url}")
    assert error.details["partial_tail"] == "This is "


async def test_the_wait_between_chunks_begins_anew_with_each(executor_with, fake):
    """An answer may take longer than any of its pauses may."""
    fake.pace = 0.025
    registry = Registry([executor_with(chunk_timeout=0.3, first_byte_timeout=0.3)])
    fake.add(FakeModel(name="talker", answer="a b c d e f g h i j k l m n o p"))
    async with registry.opened():
        began = trio.current_time()
        await registry.execute(chat("talker", "hi"))
        assert trio.current_time() - began > 0.3


# Nobody is there


@pytest.mark.parametrize("spec", SPECS)
async def test_a_refused_connection_says_how_to_start_the_server(spec):
    """The most frequent of all faults."""
    with refused_url() as url:
        error = await error_at(asking(url), spec)
    assert error.type == "Unreachable"
    assert error.message.startswith(f"no Ollama answers at {url} (")
    assert "start it with `ollama serve`" in error.message


async def test_a_name_that_nobody_knows_is_as_good_as_nobody():
    """The resolver's words are in the message."""
    error = await error_at(asking("no-such-host.invalid"))
    assert (error.type, "no-such-host.invalid" in error.message) == ("Unreachable", True)


async def test_a_server_without_tls_where_https_is_asked_is_unreachable(fake):
    """The scheme in the settings is wrong; the message says what TLS says."""
    error = await error_at(asking(fake.url.replace("http://", "https://")))
    assert error.type == "Unreachable"


# The server does not speak the protocol


@pytest.mark.parametrize("spec", SPECS)
async def test_a_malformed_line_is_worth_another_attempt(registry, fake, spec):
    """Something on the way has mangled it."""
    fake.fail(bad_line())
    assert (await error_of(registry, spec)).type == "MalformedAnswer"


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        '"text"',
        "\\xff",
        '{"message": 7}',
        '{"message": {"content": 7}}',
        '{"message": {"thinking": []}}',
        '{"message": {"tool_calls": [{}]}}',
        '{"message": {"tool_calls": [{"function": {"name": 7}}]}}',
        '{"message": {"tool_calls": [{"function": {"name": "f", "arguments": "x"}}]}}',
        '{"message": {"content": "\\ud800"}}',
        '{"message": {"tool_calls": 7}}',
    ],
)
async def test_a_line_that_is_not_of_the_protocol_is_worth_another_attempt(line):
    """Whatever it is, it is told in a sentence."""

    async def handler(exchange):
        await exchange.start(200)
        await exchange.send(f"{line}\n")
        await exchange.end()

    error = await answering(handler)
    assert error.type == "MalformedAnswer"
    assert "does not speak as Ollama does" in error.message


@pytest.mark.parametrize("body", ["{}", '{"embeddings": 7}', '{"embeddings": [7]}', '{"embeddings": [["x"]]}', ""])
async def test_an_answer_without_vectors_is_worth_another_attempt(body):
    """An embedding without embeddings is none."""

    async def handler(exchange):
        await exchange.respond(200, body)

    assert (await answering(handler, embed("qwen3", "hi"))).type == "MalformedAnswer"


async def test_what_is_no_http_is_worth_another_attempt():
    """Another program may have the port."""

    async def handler(exchange):
        await exchange.send_raw(b"SSH-2.0-OpenSSH_9.2\r\n")

    assert (await answering(handler)).type == "ConnectionLost"


async def test_what_follows_the_final_frame_does_no_harm(fake):
    """The answer is complete; a server that does not end its stream is left alone."""

    async def handle(request, exchange):
        await exchange.start(200)
        await exchange.send('{"message": {"role": "assistant", "content": "Hello"}, "done": true}\n{"more')
        await exchange.stall()

    async with serve_http(handle) as server:
        registry = Registry([asking(server.url)])
        async with registry.opened():
            assert (await registry.execute(CHAT)).message.content == "Hello"


@pytest.mark.parametrize("spec", SPECS)
async def test_an_answer_without_end_is_given_up(monkeypatch, spec):
    """A server that sends and sends does not fill the memory."""
    monkeypatch.setattr("oq_ollama.client.LONGEST_LINE", 100_000)

    async def handler(exchange):
        await exchange.start(200)
        while True:
            await exchange.send("x" * 10_000)

    error = await answering(handler, spec)
    assert error.type == "MalformedAnswer"
    assert "of more than 100,000 bytes" in error.message


async def test_how_far_an_image_is_streams_as_progress():
    """Models that make images say so in between; the image comes with the last frame."""

    async def handle(request, exchange):
        await exchange.start(200)
        await exchange.send('{"model": "i", "completed": 1, "total": 4, "done": false}\n')
        await exchange.send('{"model": "i", "image": "aGk=", "done": true}\n')
        await exchange.end()

    async with serve_http(handle) as server:
        registry = Registry([asking(server.url)])
        async with registry.opened():
            async with registry.stream(generate("i", "a cat", width=64)) as stream:
                (chunk,) = [chunk async for chunk in stream]
            assert (chunk.kind, chunk.data) == ("progress", {"completed": 1, "total": 4})
            assert (await registry.execute(generate("i", "a cat"))).extra == {"image": "aGk="}


# Keys


def with_key(fake, environ, **fields):
    endpoint = OllamaEndpoint(name="local", url=fake.url, **fields)
    return OllamaExecutor(OllamaSettings(endpoints=(endpoint,)), environ=environ)


async def test_a_key_is_sent_that_the_environment_has():
    """As `Authorization: Bearer …`; the settings name its variable."""
    async with fake_ollama(api_key="secret") as fake:
        registry = Registry([with_key(fake, {"MY_KEY": "secret"}, api_key_env="MY_KEY")])
        async with registry.opened():
            await registry.execute(CHAT)


async def test_headers_are_sent_that_the_settings_and_the_environment_have(fake):
    """Fixed ones, and ones with secrets."""
    executor = with_key(fake, {"B": "from outside"}, headers={"X-A": "fixed"}, headers_env={"X-B": "B"})
    registry = Registry([executor])
    async with registry.opened():
        await registry.execute(CHAT)
    headers = fake.requests[0].http.headers
    assert (headers["x-a"], headers["x-b"]) == ("fixed", "from outside")


@pytest.mark.parametrize("value", ["", "ä", "a\nb"])
async def test_a_key_that_is_not_there_or_cannot_be_sent_is_told_by_its_variable(fake, value):
    """The value itself is not repeated."""
    error = await error_at(with_key(fake, {"MY_KEY": value}, api_key_env="MY_KEY"), kind=PermanentError)
    assert error.type == "MissingKey"
    assert "the environment variable MY_KEY" in error.message
    assert not fake.requests


# In a queue


async def test_the_output_of_a_failed_attempt_is_kept_and_the_next_one_announced(fake, executor_with):
    """Whoever reads the stream sees both attempts; the task completes."""
    fake.fail(cut(after=2))
    retry = oq.RetryPolicy(max_attempts=2, delay=0.0)
    async with virtual_queue(executor_with(), workers=1) as queue:
        task = await queue.submit(chat("qwen3", "hi", retry=retry))
        final = await task.wait()
        assert final.status is oq.Status.COMPLETED
        (failed, _) = final.attempts
        assert (failed.failure.type, failed.failure.details["partial_tail"]) == ("ConnectionLost", "This is ")


async def test_a_permanent_failure_ends_the_task_at_once(queue, fake):
    """Whatever its policy says."""
    fake.fail(refused(400, "invalid"), times=None)
    task = await (await queue.submit(CHAT)).wait()
    assert (task.status, task.attempt, task.failure.retryable) == (oq.Status.FAILED, 1, False)
