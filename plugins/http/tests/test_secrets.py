"""Secrets go where they belong, and nowhere else: not into tasks, results, failures or what people are shown."""

import base64
import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oq import NO_RETRY, InvalidTask, PermanentError, Registry, RetryableError
from oq_http import AuthSettings, HttpExecutor, HttpSettings, request
from oq_http.redaction import Scrubber, is_secret_header, redact_url

TOKEN = "sesame-open-0815"


async def echo(seen, exchange):
    """Answers with all that it was told."""
    await exchange.respond_json(
        int(seen.query.get("status", ("200",))[0]),
        dict(seen.headers),
        {"X-Echo": seen.headers.get("authorization", "")},
    )


def check(url="http://a.test/", settings=None, **fields):
    Registry([HttpExecutor(settings or HttpSettings())]).check(request("GET", url, **fields))


def everything_in(value):
    return json.dumps(attrs.asdict(value) if attrs.has(type(value)) else value, default=str)


class TestAuth:
    @pytest.mark.parametrize(
        ("table", "header", "value"),
        [
            ({"bearer": TOKEN}, "authorization", f"Bearer {TOKEN}"),
            (
                {"username": "me", "password": TOKEN},
                "authorization",
                "Basic " + base64.b64encode(f"me:{TOKEN}".encode()).decode(),
            ),
            ({"header": "X-Api-Key", "value": f"Key {TOKEN}"}, "x-api-key", f"Key {TOKEN}"),
        ],
    )
    async def test_a_secret_is_sent_by_its_name_and_kept_nowhere(self, asking, table, header, value):
        auth = {"mine": AuthSettings(hosts=("127.0.0.1",), **table)}
        async with asking(echo, auth=auth) as ask:
            result = await ask(auth="mine")
            assert ask.server.requests[0].headers[header] == value
            with pytest.raises(PermanentError) as caught:
                await ask("/?status=404", auth="mine")
        kept = everything_in(result) + caught.value.message + everything_in(caught.value.details)
        assert TOKEN not in kept
        assert value not in kept
        assert "***" in kept

    @pytest.mark.parametrize(
        "table", [{"bearer": ""}, {"username": "me", "password": ""}, {"header": "X-Api-Key", "value": ""}]
    )
    async def test_one_that_is_empty_is_told_when_it_is_needed(self, asking, table):
        """A variable may be missing where tasks are submitted, and only there."""
        async with asking(echo, auth={"mine": AuthSettings(hosts=("127.0.0.1",), **table)}) as ask:
            with pytest.raises(PermanentError, match=r"the secret of \[http\.auth\.mine\] is empty") as caught:
                await ask(auth="mine")
        assert caught.value.type == "NoSecret"

    async def test_one_that_cannot_be_sent_is_not_shown_in_the_error(self, asking):
        auth = {"mine": AuthSettings(hosts=("127.0.0.1",), bearer=f"{TOKEN}\n")}
        async with asking(echo, auth=auth) as ask:
            with pytest.raises(PermanentError, match="line break") as caught:
                await ask(auth="mine")
        assert TOKEN not in str(caught.value)

    async def test_it_wins_over_a_header_of_the_task(self, asking):
        auth = {"mine": AuthSettings(hosts=("127.0.0.1",), bearer=TOKEN)}
        async with asking(echo, auth=auth, allow_secret_headers=True) as ask:
            await ask(auth="mine", headers={"AUTHORIZATION": "Basic x"})
            assert ask.server.requests[0].headers["authorization"] == f"Bearer {TOKEN}"

    def test_a_name_that_is_not_there_is_refused_with_those_that_are(self):
        settings = HttpSettings(auth={"mine": AuthSettings(hosts=("a.test",), bearer="x")})
        with pytest.raises(
            InvalidTask, match=r"payload\.auth: there is no table \[http\.auth\.his\].*\(there are: mine\)"
        ):
            check(auth="his", settings=settings)

    def test_a_host_that_must_not_get_it_is_refused(self):
        settings = HttpSettings(auth={"mine": AuthSettings(hosts=("*.a.test",), bearer="x")})
        check("http://x.a.test/", auth="mine", settings=settings)
        with pytest.raises(InvalidTask, match=r"mine may not be sent to evil\.test; its hosts are \*\.a\.test"):
            check("http://evil.test/", auth="mine", settings=settings)

    def test_settings_do_not_show_it(self):
        settings = HttpSettings(
            auth={"mine": AuthSettings(hosts=("a.test",), bearer=TOKEN)}, proxy=f"http://me:{TOKEN}@p"
        )
        assert TOKEN not in repr(settings)

    async def test_a_failure_that_quotes_the_server_does_not_show_it(self, asking):
        async def handler(seen, exchange):
            await exchange.send_raw(f"HTTP/1.1 200 OK\r\n{seen.headers['authorization']}\r\n\r\n".encode())

        auth = {"mine": AuthSettings(hosts=("127.0.0.1",), bearer=TOKEN)}
        async with asking(handler, auth=auth) as ask:
            with pytest.raises(RetryableError, match=r"gave no proper answer: .*Bearer \*\*\*"):
                await ask(auth="mine")

    async def test_a_stream_does_not_show_it_however_it_is_cut(self, asking):
        async def handler(seen, exchange):
            await exchange.start(200, {"Content-Type": "text/plain"})
            for character in f"you said {TOKEN}{TOKEN[:5]}":
                await exchange.send(character)
            await exchange.end()

        auth = {"mine": AuthSettings(hosts=("127.0.0.1",), bearer=TOKEN)}
        async with asking(handler, auth=auth) as ask:
            spec = request("GET", ask.server.url, auth="mine", stream=True)
            async with ask.registry.stream(spec) as chunks:
                assert "".join([chunk.text async for chunk in chunks]) == f"you said ***{TOKEN[:5]}"
            assert (await ask.registry.execute(spec)).body == f"you said ***{TOKEN[:5]}"


class TestTasks:
    @pytest.mark.parametrize(
        "name", ["Authorization", "cookie", "X-API-Key", "X-Access-Token", "X-Amz-Security-Token", "X-Our"]
    )
    def test_a_header_that_is_a_secret_is_refused_with_the_remedy(self, name):
        with pytest.raises(
            InvalidTask, match=rf"payload\.headers\.{name}: is a secret.*\[http\.auth\.NAME\].*give auth"
        ):
            check(headers={name: "x"}, settings=HttpSettings(secret_headers=("x-our",)))
        check(headers={name: "x"}, settings=HttpSettings(allow_secret_headers=True))

    def test_so_is_a_password_in_the_url(self):
        with pytest.raises(InvalidTask, match=r"payload\.url: has a user and a password in it"):
            check("http://me:letmein@a.test/")

    async def test_where_it_is_allowed_it_is_sent_and_not_shown(self, asking):
        async with asking(echo, allow_secret_headers=True) as ask:
            url = ask.server.url.replace("//", "//me:letmein@")
            result = await ask.registry.execute(request("GET", url))
            assert (
                ask.server.requests[0].headers["authorization"] == "Basic " + base64.b64encode(b"me:letmein").decode()
            )
        assert "letmein" not in result.url

    def test_a_summary_shows_no_secret(self):
        settings = HttpSettings(allow_secret_headers=True)
        spec = request("post", "https://me:letmein@a.test/x?api_key=abc&page=2&X-Amz-Signature=def")
        checked = Registry([HttpExecutor(settings)]).check(spec)
        assert checked.summary == "POST https://***@a.test/x?api_key=***&page=2&X-Amz-Signature=***"


class TestRedaction:
    async def test_headers_of_an_answer_that_are_secrets_are_not_kept(self, asking):
        async def handler(seen, exchange):
            await exchange.respond(
                200,
                headers=[
                    ("Set-Cookie", "a=1"),
                    ("Set-Cookie", "b=2"),
                    ("X-Auth-Token", "t"),
                    ("X-Our", "o"),
                    ("Location", "/x?access_token=abc&a=1"),
                    ("Vary", "a"),
                    ("Vary", "b"),
                ],
            )

        async with asking(handler, secret_headers=["X-OUR"]) as ask:
            headers = (await ask()).headers
        assert {name: headers[name] for name in ("set-cookie", "x-auth-token", "x-our", "location", "vary")} == {
            "set-cookie": "***",
            "x-auth-token": "***",
            "x-our": "***",
            "location": "/x?access_token=***&a=1",
            "vary": "a, b",
        }

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("http://a.test/x?a=1", "http://a.test/x?a=1"),
            ("http://u@a.test/", "http://***@a.test/"),
            ("http://u:p@w@a.test/", "http://***@a.test/"),
            ("http://a.test/?TOKEN=x", "http://a.test/?TOKEN=***"),
            ("http://a.test/?a=b;sig=x#key=y", "http://a.test/?a=b;sig=***#key=***"),
            ("http://a.test/?api%5Fkey=x", "http://a.test/?api%5Fkey=***"),
            ("http://a.test/?client_secret=x&monkey=1", "http://a.test/?client_secret=***&monkey=1"),
            ("http://a.test/?token=", "http://a.test/?token="),
            ("http://a.test/a@b?mail=c@d", "http://a.test/a@b?mail=c@d"),
            ('<http://a.test/?token=x>; rel="next"', '<http://a.test/?token=***>; rel="next"'),
        ],
    )
    def test_a_url_is_shown_without_its_secrets(self, url, shown):
        assert redact_url(url) == shown

    @pytest.mark.parametrize("name", ["Content-Type", "Date", "ETag", "X-Request-Id", "WWW-Authenticate", "Link"])
    def test_other_headers_are_shown(self, name):
        assert not is_secret_header(name)

    @given(
        st.lists(st.binary(min_size=6, max_size=9), max_size=3), st.binary(), st.lists(st.integers(0, 40)), st.data()
    )
    def test_no_known_secret_comes_through_however_it_is_cut(self, secrets, text, cuts, data):
        """And a text without one comes through as it was."""
        whole = text
        for secret in secrets:
            place = data.draw(st.integers(0, len(whole)))
            whole = whole[:place] + secret + whole[place:]
        stream, shown, start = Scrubber(secrets).stream(), b"", 0
        for cut in [*sorted(cuts), len(whole)]:
            shown += stream.feed(whole[start : max(cut, start)])
            start = max(cut, start)
        shown += stream.end()
        if not any(secret in whole for secret in secrets):
            assert shown == whole
        elif all(b"*" not in secret for secret in secrets):
            assert not any(secret in shown for secret in secrets)

    def test_what_is_too_short_to_be_told_from_other_text_is_left(self):
        assert Scrubber([b"abc"]).text("abcdef") == "abcdef"


async def test_nothing_of_a_secret_is_in_the_store(asking, queue_with, tmp_path):
    auth = {"mine": {"hosts": ["127.0.0.1"], "bearer": TOKEN}}
    async with asking(echo) as ask, queue_with({"auth": auth}, tmp_path / "data") as queue:
        handles = [
            await queue.submit(request("GET", f"{ask.server.url}/?status={status}", auth="mine", retry=NO_RETRY))
            for status in (200, 404)
        ]
        for handle in handles:
            await handle.wait()
        assert [seen.headers["authorization"] for seen in ask.server.requests] == [f"Bearer {TOKEN}"] * 2
    for file in (tmp_path / "data").rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes()
