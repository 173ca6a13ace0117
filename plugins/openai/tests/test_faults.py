"""What can go wrong, and what that means: which failures are retried, and what they say that one can do."""

from datetime import UTC, datetime

import pytest
import trio

import oq
from oq.testing import refused_url
from oq_openai import chat, embed, generate
from oq_openai.faults import reset_duration, wanted_rest
from oq_openai.testing import Reply, faults

HELLO = chat("m", "Hello")
AT_ONCE = oq.RetryPolicy(max_attempts=3, delay=0.0)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def fails(fake, opened, failure_of):
    """What a run raises when the fake does this."""

    async def run(fault, spec=HELLO, **settings):
        fake.script(fault)
        async with opened(fake, **settings) as registry:
            return await failure_of(registry, spec)

    return run


class TestRetryable:
    @pytest.mark.parametrize(
        "fault",
        [
            faults.cut(),
            faults.cut(after=0),
            faults.cut_before_the_answer(),
            faults.quiet_end(),
            faults.quiet_end(after=0),
            faults.malformed(),
            faults.raw("data: [1]\n\n"),
            faults.raw("data: [DONE]\n\n"),
            faults.raw('data: {"choices": 7}\n\n'),
            faults.raw('data: {"choices": [7]}\n\n'),
            faults.raw('data: {"choices": [{"delta": {"tool_calls": [7]}}]}\n\n'),
            faults.raw("no event at all"),
            faults.json_answer([]),
            faults.raw("no JSON", headers={"Content-Type": "application/json"}),
            faults.json_answer({}),
        ],
    )
    @pytest.mark.parametrize("spec", [HELLO, generate("m", "Hello")], ids=["chat", "generate"])
    async def test_an_answer_that_breaks_off_or_makes_no_sense_is(self, fails, fault, spec):
        error = await fails(fault, spec)
        assert isinstance(error, oq.RetryableError)
        assert error.type == "BrokenAnswer"

    @pytest.mark.parametrize(
        "answer",
        [
            {},
            {"data": [{}]},
            {"data": [{"embedding": "no base64"}]},
            {"data": [{"embedding": ["x"]}]},
            {"data": [{"embedding": [1.0], "index": 3}]},
        ],
    )
    async def test_embeddings_that_make_no_sense_are(self, fails, answer):
        error = await fails(faults.json_answer(answer), embed("m", "Hello"))
        assert (type(error), error.type) == (oq.RetryableError, "BrokenAnswer")

    async def test_a_cut_in_the_middle_of_embeddings_is(self, fails):
        assert (await fails(faults.cut(), embed("m", "Hello"))).type == "BrokenAnswer"

    @pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 504, 520, 529])
    async def test_these_statuses_are(self, fails, status):
        error = await fails(faults.refuse(status, "Try later"))
        assert (type(error), error.type) == (oq.RetryableError, f"Http{status}")
        assert error.details["status"] == status

    async def test_an_error_within_a_stream_is(self, fails):
        error = await fails(faults.error_event("The engine is overloaded."))
        assert (type(error), error.type) == (oq.RetryableError, "ServerError")
        assert "The engine is overloaded" in error.message

    async def test_so_is_one_that_is_an_event_of_its_own_kind(self, fails):
        error = await fails(faults.raw('event: error\ndata: {"message": "The engine is overloaded."}\n\n'))
        assert "The engine is overloaded" in error.message

    async def test_so_is_one_that_is_a_text(self, fails):
        assert "gone wrong" in (await fails(faults.json_answer({"error": "gone wrong"}))).message

    async def test_nobody_there_is(self, opened, failure_of, endpoint):
        with refused_url() as url:
            async with opened(endpoint(f"{url}/v1", "a")) as registry:
                error = await failure_of(registry, HELLO)
        assert (type(error), error.type) == (oq.RetryableError, "ConnectError")
        assert f"endpoint a cannot be reached at {url}/v1" in error.message

    async def test_a_task_is_repeated_until_the_answer_is_whole(self, fake, queue_for):
        fake.script(faults.cut(), faults.quiet_end())
        async with queue_for(fake) as queue:
            task = await (await queue.submit(chat("m", "Hello", retry=AT_ONCE))).wait()
        assert (task.status, task.attempt) == (oq.Status.COMPLETED, 3)
        assert [attempt.failure.type for attempt in task.attempts[:-1]] == ["BrokenAnswer", "BrokenAnswer"]


class TestSilence:
    async def test_before_the_first_byte_it_has_a_time_limit(self, fails):
        error = await fails(faults.stall(), first_byte_timeout=0.05)
        assert (type(error), error.message) == (oq.RetryableError, "endpoint default sent nothing for 0.05 s")

    async def test_after_the_headers_nothing_has_come_yet(self, fails):
        error = await fails(faults.stall(after=0), first_byte_timeout=0.05)
        assert error.message == "endpoint default sent nothing for 0.05 s"

    async def test_between_two_pieces_it_has_another(self, fails):
        error = await fails(faults.stall(after=2), chunk_timeout=0.05)
        assert error.message == "endpoint default sent nothing more for 0.05 s"

    async def test_what_is_slow_to_begin_may_take_longer_than_between_pieces(self, fake, opened):
        fake.script(faults.slow_start(0.6))
        async with opened(fake, chunk_timeout=0.5) as registry:
            await registry.execute(HELLO)

    async def test_comments_are_no_silence(self, fake, opened):
        async def slow(exchange):
            await exchange.http.start(200, faults.EVENTS)
            for _ in range(8):
                await trio.sleep(0.1)
                await exchange.http.send(": PROCESSING\n\n")
            await exchange.http.send('data: {"choices": [{"delta": {"content": "x"}}]}\n\ndata: [DONE]\n\n')
            await exchange.http.end()

        fake.script(slow)
        async with opened(fake, chunk_timeout=0.5, first_byte_timeout=0.5) as registry:
            assert (await registry.execute(HELLO)).message.content == "x"

    async def test_after_the_reason_to_end_it_ends_the_answer(self, fake, opened):
        fake.script(faults.stall(after=11))
        async with opened(fake, chunk_timeout=0.5) as registry:
            result = await registry.execute(HELLO)
        assert (result.finish_reason, result.usage.completion_tokens) == ("stop", None)

    async def test_in_embeddings_it_has_the_same_limits(self, fails):
        error = await fails(faults.stall(after=0), embed("m", "Hello"), chunk_timeout=0.05)
        assert error.type == "Stalled"


class TestPermanent:
    @pytest.mark.parametrize("status", [400, 413, 415, 422])
    async def test_a_request_that_is_refused_is_not_sent_again(self, fails, status):
        error = await fails(faults.refuse(status, "temperature must be at most 2.", code="bad"))
        assert (type(error), error.type) == (oq.PermanentError, "BadRequest")
        assert error.message == f"endpoint default refuses the request ({status}): temperature must be at most 2"
        assert (error.details["status"], error.details["code"]) == (status, "bad")

    async def test_one_that_is_refused_within_a_stream_neither(self, fails):
        error = await fails(faults.error_event("The context is too long.", type="invalid_request_error"))
        assert (type(error), error.type) == (oq.PermanentError, "BadRequest")

    async def test_a_status_within_a_stream_counts_as_one(self, fails):
        error = await fails(faults.error_event("The context is too long.", type="BadRequestError", code=400))
        assert (type(error), error.type) == (oq.PermanentError, "BadRequest")

    async def test_a_model_that_is_missing_is_named(self, fake, fails):
        fake.models = ["other"]
        error = await fails(None)
        assert (type(error), error.type) == (oq.PermanentError, "ModelNotFound")
        assert error.message.startswith("endpoint default does not have the model 'm' (404): The model `m` does not")

    @pytest.mark.parametrize(
        "message",
        ["model 'm' not found, try pulling it first", "m is not a valid model ID: model m is unknown", "No such model"],
    )
    @pytest.mark.parametrize("status", [400, 404])
    async def test_other_servers_say_that_in_other_words(self, fails, message, status):
        assert (await fails(faults.refuse(status, message))).type == "ModelNotFound"

    async def test_a_path_that_is_missing_hints_at_the_url(self, fake, opened, failure_of, endpoint):
        async with opened(endpoint(fake.server.url, "a")) as registry:
            error = await failure_of(registry, HELLO)
        assert (type(error), error.type) == (oq.PermanentError, "NotFound")
        assert error.message.endswith(f"its url, {fake.server.url}, probably lacks a /v1 at the end")

    @pytest.mark.parametrize("status", [200, 404])
    async def test_a_web_page_is_no_api(self, fails, status):
        error = await fails(faults.web_page(status))
        assert isinstance(error, oq.PermanentError)
        assert "url" in error.message
        assert "<html>" not in error.message

    async def test_a_redirection_says_where_it_leads(self, fails):
        error = await fails(faults.refuse(308, headers={"Location": "https://elsewhere/v1"}))
        assert (type(error), error.type) == (oq.PermanentError, "Moved")
        assert "https://elsewhere/v1" in error.message

    async def test_a_key_that_is_not_accepted_is_named_by_its_variable(self, fake, fails, environment):
        fake.api_key = "the right one"
        environment.setenv("OPENAI_API_KEY", "the wrong one")
        error = await fails(None)
        assert (type(error), error.type) == (oq.PermanentError, "Unauthorized")
        assert "does not accept the key in the environment variable OPENAI_API_KEY (401)" in error.message

    async def test_a_key_that_is_wanted_says_which_variable_to_set(self, fake, fails):
        fake.api_key = "the right one"
        assert "set the environment variable OPENAI_API_KEY" in (await fails(None)).message

    async def test_what_is_forbidden_is_not_asked_for_again(self, fails):
        error = await fails(faults.refuse(403, "Your country is not supported."))
        assert (type(error), error.type) == (oq.PermanentError, "Forbidden")

    @pytest.mark.parametrize("fault", [faults.no_credit(), faults.refuse(402, "Insufficient credits")])
    async def test_an_account_without_credit_is_not_asked_again(self, fails, fault):
        error = await fails(fault)
        assert (type(error), error.type) == (oq.PermanentError, "NoCredit")
        assert "billing" in error.message

    async def test_such_a_task_fails_at_its_first_attempt(self, fake, queue_for):
        fake.script(faults.refuse(400, "No."))
        async with queue_for(fake) as queue:
            task = await (await queue.submit(chat("m", "Hello", retry=AT_ONCE))).wait()
        assert (task.status, task.attempt, task.failure.retryable) == (oq.Status.FAILED, 1, False)

    async def test_long_messages_are_cut(self, fails):
        assert len((await fails(faults.refuse(400, "x" * 100_000))).message) < 2000

    async def test_a_message_is_one_line(self, fails):
        assert "\n" not in (await fails(faults.refuse(400, "one\n\ntwo"))).message

    @pytest.mark.parametrize(
        "body", ["", "no JSON", "null", "[]", '[{"error": {"message": "x"}}]', '{"detail": [{"loc": 1}]}', "\x00"]
    )
    async def test_errors_in_any_form_will_do(self, fake, opened, failure_of, body):
        async def answer(exchange):
            await exchange.http.respond(400, body)

        fake.script(answer)
        async with opened(fake) as registry:
            assert (await failure_of(registry, HELLO)).type == "BadRequest"


class TestRateLimits:
    @pytest.mark.parametrize(
        ("fault", "seconds"),
        [
            (faults.rate_limited(7), 7.0),
            (faults.rate_limited(0.25), 0.25),
            (faults.rate_limited(20, retry_after_ms="1500"), 1.5),
            (faults.rate_limited(None, x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests="6m0s"), 360.0),
            (faults.rate_limited(None), 1.0),
        ],
    )
    async def test_the_least_wait_is_what_the_server_asks_for(self, fails, fault, seconds):
        error = await fails(fault)
        assert (type(error), error.type, error.after) == (oq.RetryLater, "RateLimited", seconds)

    async def test_it_may_be_a_moment(self, fails):
        error = await fails(faults.rate_limited("Fri, 31 Dec 2999 23:59:59 GMT"))
        assert error.after > 86400

    async def test_a_busy_server_says_it_by_503(self, fails):
        error = await fails(faults.refuse(503, "busy", headers={"Retry-After": "3"}))
        assert (type(error), error.type, error.after) == (oq.RetryLater, "Http503", 3.0)

    async def test_a_task_waits_and_goes_on(self, fake, queue_for):
        fake.script(faults.rate_limited(0.2))
        async with queue_for(fake) as queue:
            began = trio.current_time()
            task = await (await queue.submit(chat("m", "Hello", retry=AT_ONCE))).wait()
        assert (task.status, task.attempt) == (oq.Status.COMPLETED, 2)
        assert trio.current_time() - began >= 0.2

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({}, None),
            ({"retry-after": "nonsense"}, None),
            ({"retry-after-ms": "250.5", "retry-after": "9"}, 0.2505),
            ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "2m"}, 1.0),
            (
                {
                    "x-ratelimit-reset-requests": "1s",
                    "x-ratelimit-reset-tokens": "2m",
                    "x-ratelimit-remaining-tokens": "0",
                },
                120.0,
            ),
        ],
    )
    def test_what_has_run_out_is_waited_for(self, headers, seconds):
        assert wanted_rest(headers, NOW, limited=True) == seconds

    def test_limits_that_are_not_reached_are_not_waited_for(self):
        assert wanted_rest({"x-ratelimit-reset-requests": "1s"}, NOW, limited=False) is None

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("1s", 1.0), ("6m0s", 360.0), ("20ms", 0.02), ("1h2m3.5s", 3723.5), ("1d", 86400.0), ("12", 12.0)],
    )
    def test_resets_are_durations(self, text, seconds):
        assert reset_duration(text) == pytest.approx(seconds)

    @pytest.mark.parametrize("text", ["", "soon", "1 s", "-1s", "s"])
    def test_what_is_no_duration_is_none(self, text):
        assert reset_duration(text) is None


async def test_what_was_emitted_before_a_fault_is_kept_and_the_next_run_begins_anew(fake, queue_for):
    fake.script(Reply(text="one two"), faults.cut(after=3))
    async with queue_for(fake) as queue:
        await (await queue.submit(HELLO)).wait()
        handle = await queue.submit(chat("m", "Hello", retry=AT_ONCE))
        task = await handle.wait()
        async with handle.stream() as chunks:
            shown = "".join([chunk.text async for chunk in chunks if isinstance(chunk, oq.Chunk)])
    assert shown == task.result.message.content == "This is a simulated answer of m to: Hello"
