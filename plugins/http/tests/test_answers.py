"""What becomes of an answer: a result that people and programs can read, or a failure that says what to do."""

import base64
import gc
import gzip
import json
import tracemalloc
import warnings
import zlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import trio

from oq import PermanentError, RetryableError, RetryLater
from oq_http import request


def answering(status=200, body=b"", headers=()):
    async def handler(request, exchange):
        await exchange.respond(status, body, headers)

    return handler


def typed(content_type):
    return {"Content-Type": content_type}


async def failure_of(asking, kind, handler, *args, **fields):
    settings = fields.pop("settings", {})
    async with asking(handler, **settings) as ask:
        with pytest.raises(kind) as caught:
            await ask(*args, **fields)
        return caught.value


class TestBodies:
    async def test_json_is_the_value(self, asking):
        async with asking(answering(200, '{"a": [1, "ż"]}', typed("application/json; charset=utf-8"))) as ask:
            result = await ask()
        assert (result.kind, result.body) == ("json", {"a": [1, "ż"]})

    async def test_kinds_of_json_are_json(self, asking):
        async with asking(answering(200, "[]", typed("application/problem+json"))) as ask:
            assert (await ask()).kind == "json"

    @pytest.mark.parametrize(
        "text",
        [
            "{",
            "",
            '{"a": 123456789012345678901234567890}',
            '"\\ud800"',
            '{"\\ud800": 1}',
            "[NaN]",
            "[" * 5_000 + "]" * 5_000,
            "[" * 300 + "]" * 300,
        ],
    )
    async def test_json_that_is_none_or_cannot_be_stored_as_a_value_is_kept_as_text(self, asking, text):
        async with asking(answering(200, text, typed("application/json"))) as ask:
            result = await ask()
        assert (result.kind, result.body) == ("text", text)

    async def test_a_long_value_is_a_value(self, asking):
        value = {str(number): [number, 0.5, None, "ż"] for number in range(20_000)}
        async with asking(answering(200, json.dumps(value), typed("application/json"))) as ask:
            assert (await ask()).body == value

    @pytest.mark.parametrize("number", [-(2**63), 2**64 - 1, 1.5, 0])
    async def test_numbers_that_can_be_stored_stay_numbers(self, asking, number):
        async with asking(answering(200, json.dumps(number), typed("application/json"))) as ask:
            assert (await ask()).body == number

    @pytest.mark.parametrize(
        ("body", "content_type", "text"),
        [
            ("zażółć".encode(), "text/plain", "zażółć"),
            ("zażółć".encode("iso-8859-2"), "text/plain; charset=iso-8859-2", "zażółć"),
            ("zażółć".encode("utf-16"), 'text/html; charset="UTF-16"', "zażółć"),
            (b"plain", "application/octet-stream", "plain"),
            (b"plain", "text/plain; charset=no-such", "plain"),
            (b"xn--a", "text/plain; charset=punycode", "xn--a"),
            (b"a\x00b", "text/plain", "a\x00b"),
        ],
    )
    async def test_text_is_text_in_its_charset(self, asking, body, content_type, text):
        async with asking(answering(200, body, typed(content_type))) as ask:
            result = await ask()
        assert (result.kind, result.body) == ("text", text)

    @pytest.mark.parametrize(
        ("body", "content_type"),
        [(b"\xff\xfe\x00", "image/png"), (b"\xff", "text/plain"), (b"a\x00b", "application/octet-stream")],
    )
    async def test_what_is_no_text_is_base64(self, asking, body, content_type):
        async with asking(answering(200, body, typed(content_type))) as ask:
            result = await ask()
        assert (result.kind, result.content) == ("base64", body)
        assert base64.b64decode(result.body) == body

    async def test_no_body_is_an_empty_text(self, asking):
        async with asking(answering(204)) as ask:
            result = await ask()
        assert (result.status, result.kind, result.body, result.content) == (204, "text", "", b"")

    async def test_an_answer_to_head_has_none_whatever_length_it_tells(self, asking):
        async with asking(answering(200, bytes(100)), max_body=10) as ask:
            result = await ask("/", "HEAD")
        assert (result.body, result.headers["content-length"]) == ("", "100")

    async def test_a_value_is_not_given_as_bytes(self, asking):
        async with asking(answering(200, "1", typed("application/json"))) as ask:
            result = await ask()
        with pytest.raises(TypeError, match="in `body` as a value"):
            _ = result.content

    async def test_a_result_says_where_it_is_from_and_how_long_it_took(self, asking):
        async with asking(answering(200, headers={"X-More": "yes"})) as ask:
            result = await ask("/a?b=c")
            assert result.url == f"{ask.server.url}/a?b=c"
        assert result.headers["x-more"] == "yes"
        assert 0 < result.duration < 60
        assert result.redirects == ()


class TestPacked:
    TEXT = b"as it was " * 50_000

    @pytest.mark.parametrize(
        ("encoding", "pack"),
        [
            ("gzip", gzip.compress),
            ("x-gzip", gzip.compress),
            ("GZIP", lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:])),
            ("deflate", zlib.compress),
            ("deflate", lambda data: zlib.compress(data, wbits=-15)),
        ],
    )
    async def test_a_packed_body_is_unpacked(self, asking, encoding, pack):
        async with asking(answering(200, pack(self.TEXT), {"Content-Encoding": encoding})) as ask:
            assert (await ask()).content == self.TEXT

    @pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
    async def test_what_follows_and_is_not_packed_means_nothing(self, asking, encoding, pack):
        async with asking(answering(200, pack(b"text") + bytes(100), {"Content-Encoding": encoding})) as ask:
            assert (await ask()).body == "text"

    async def test_it_is_unpacked_however_it_is_cut(self, asking):
        async def handler(request, exchange):
            await exchange.start(200, {"Content-Encoding": "deflate"})
            for byte in zlib.compress(b"some text"):
                await exchange.send(bytes([byte]))
            await exchange.end()

        async with asking(handler) as ask:
            assert (await ask()).body == "some text"

    async def test_what_is_packed_in_an_unknown_way_is_kept_as_it_is(self, asking):
        async with asking(answering(200, b"\xff\x00", {"Content-Encoding": "br"})) as ask:
            assert (await ask()).content == b"\xff\x00"

    @pytest.mark.parametrize("body", [b"no gzip", gzip.compress(b"cut off", mtime=0)[:-9]], ids=["none", "cut off"])
    async def test_a_body_that_cannot_be_unpacked_is_a_failure_to_be_retried(self, asking, body):
        handler = answering(200, body, {"Content-Encoding": "gzip"})
        assert (await failure_of(asking, RetryableError, handler)).type == "ProtocolError"

    async def test_a_bomb_is_counted_unpacked_and_takes_no_more_memory_than_the_cap(self, asking):
        bomb = gzip.compress(bytes(300 * 2**20), 9)
        handler = answering(200, bomb, {"Content-Encoding": "gzip"})
        tracemalloc.start()
        try:
            failure = await failure_of(asking, PermanentError, handler, settings={"max_body": 2**20})
            assert tracemalloc.get_traced_memory()[1] < len(bomb) + 8 * 2**20
        finally:
            tracemalloc.stop()
        assert failure.type == "TooLarge"


class TestTheCap:
    async def test_a_body_of_just_that_length_is_taken(self, asking):
        async with asking(answering(200, "x" * 100), max_body=100) as ask:
            assert len((await ask()).body) == 100

    async def test_a_longer_one_is_a_failure_that_names_the_setting(self, asking):
        failure = await failure_of(asking, PermanentError, answering(200, "x" * 101), settings={"max_body": 100})
        assert failure.type == "TooLarge"
        assert "more than 100 bytes (max_body in the table [http])" in failure.message

    @pytest.mark.parametrize("status", [200, 404])
    async def test_one_that_unpacks_to_nothing_for_ever_is_too_long_as_well(self, asking, status):
        nothing = gzip.compress(b"") * 1_000

        async def endless(request, exchange):
            await exchange.start(status, {"Content-Encoding": "gzip"})
            while True:
                await exchange.send(nothing)

        failure = await failure_of(asking, PermanentError, endless, settings={"max_body": 2**18})
        assert failure.type == ("TooLarge" if status == 200 else "HttpStatus")

    async def test_the_rest_of_it_is_not_read(self, asking):
        async def endless(request, exchange):
            await exchange.start(200)
            while True:
                await exchange.send(bytes(2**16))

        async with asking(endless, max_body=2**18) as ask:
            with pytest.raises(PermanentError, match="max_body"):
                await ask()
            await ask.server.requests[0].closed.wait()
            assert ask.server.requests[0].disconnected

    @pytest.mark.parametrize("status", [200, 404])
    async def test_and_nothing_of_it_is_left_for_the_garbage_collector(self, asking, status):
        async def endless(request, exchange):
            await exchange.start(status)
            while True:
                await exchange.send(bytes(2**16))

        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            await failure_of(asking, PermanentError, endless, settings={"max_body": 2**18})
            gc.collect()
        assert not [str(warning.message) for warning in told]


class TestStatuses:
    @pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
    async def test_success_is_a_result(self, asking, status):
        async with asking(answering(status)) as ask:
            assert (await ask()).status == status

    @pytest.mark.parametrize("status", [300, 304, 400, 401, 403, 404, 405, 409, 410, 422, 451])
    async def test_what_a_repetition_does_not_change_is_not_retried(self, asking, status):
        failure = await failure_of(asking, PermanentError, answering(status))
        assert (failure.type, failure.details["status"]) == ("HttpStatus", status)

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
    async def test_what_may_pass_is_retried(self, asking, status):
        failure = await failure_of(asking, RetryableError, answering(status))
        assert (failure.type, failure.details["status"]) == ("HttpStatus", status)

    async def test_a_failure_tells_status_headers_and_the_beginning_of_the_body(self, asking):
        handler = answering(404, "no such thing\n" + "x" * 10_000, {"Content-Type": "text/plain", "X-Trace": "7"})
        failure = await failure_of(
            asking, PermanentError, handler, "/thing", "DELETE", settings={"max_failure_body": 20}
        )
        assert failure.message.startswith("DELETE http://127.0.0.1:")
        assert failure.message.endswith("/thing answered 404 Not Found: no such thing")
        assert failure.details["headers"]["x-trace"] == "7"
        assert (failure.details["body"], failure.details["body_truncated"]) == ("no such thing\nxxxxxx", True)

    async def test_a_failure_is_told_even_if_its_body_breaks_off(self, asking):
        async def handler(request, exchange):
            await exchange.start(404, {"Content-Length": "100"})
            await exchange.send("the beginning")
            await exchange.cut()

        failure = await failure_of(asking, PermanentError, handler)
        assert failure.details["status"] == 404

    @pytest.mark.parametrize(
        ("expect", "status"),
        [(404, 404), ("404", 404), (["2xx", 409], 409), (["200-299", "400-404"], 404), ("5XX", 503)],
    )
    async def test_what_is_expected_is_success(self, asking, expect, status):
        async with asking(answering(status, "as expected")) as ask:
            result = await ask(expect=expect)
        assert (result.status, result.body) == (status, "as expected")

    async def test_what_is_not_expected_is_a_failure_though_it_is_a_success(self, asking):
        assert (await failure_of(asking, PermanentError, answering(200), expect=[201, 204])).details["status"] == 200


class TestRetryAfter:
    async def test_its_seconds_are_obeyed(self, asking):
        failure = await failure_of(asking, RetryLater, answering(429, headers={"Retry-After": "120"}))
        assert (failure.after, failure.type, failure.counted) == (120, "HttpStatus", True)

    async def test_so_is_a_date(self, asking):
        later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
        failure = await failure_of(asking, RetryLater, answering(503, headers={"Retry-After": later}))
        assert 90 < failure.after <= 100

    async def test_nonsense_is_not(self, asking):
        await failure_of(asking, RetryableError, answering(503, headers={"Retry-After": "soon"}))

    async def test_it_makes_nothing_retried_that_would_not_be(self, asking):
        await failure_of(asking, PermanentError, answering(400, headers={"Retry-After": "1"}))


class TestStreams:
    async def chunks(self, asking, handler, **fields):
        async with asking(handler) as ask, ask.registry.stream(request("GET", ask.server.url, **fields)) as stream:
            return [chunk async for chunk in stream]

    async def test_the_body_is_passed_on_while_it_comes(self, asking):
        heard, words = trio.Event(), []

        async def handler(_, exchange):
            await exchange.start(200, typed("text/plain"))
            await exchange.send("one ")
            await heard.wait()
            await exchange.send("two")
            await exchange.end()

        async with asking(handler) as ask, ask.registry.stream(request("GET", ask.server.url, stream=True)) as stream:
            async for chunk in stream:
                words.append(chunk.text)
                heard.set()
        assert words == ["one ", "two"]

    async def test_a_character_that_is_cut_is_passed_on_whole(self, asking):
        async def handler(request, exchange):
            await exchange.start(200, typed("text/plain"))
            for byte in "zażółć".encode():
                await exchange.send(bytes([byte]))
            await exchange.end()

        chunks = await self.chunks(asking, handler, stream=True)
        assert "".join(chunk.text for chunk in chunks) == "zażółć"
        assert all("\ufffd" not in chunk.text for chunk in chunks)

    async def test_what_is_no_text_is_passed_on_as_bytes(self, asking):
        handler = answering(200, b"\x00\xff" * 5, typed("image/png"))
        chunks = await self.chunks(asking, handler, stream=True)
        assert (b"".join(chunk.data for chunk in chunks), chunks[0].text) == (b"\x00\xff" * 5, "")

    async def test_nothing_is_passed_on_unless_asked_for(self, asking):
        assert await self.chunks(asking, answering(200, "text", typed("text/plain"))) == []

    async def test_the_result_has_the_body_all_the_same(self, asking):
        async with asking(answering(200, "text", typed("text/plain"))) as ask:
            assert (await ask(stream=True)).body == "text"
