"""Redirects are followed as far as the task and the policy allow, and take no secrets where they do not belong."""

import pytest
import trio

from oq import PermanentError
from oq.testing import serve_http
from oq_http import AuthSettings, request


def redirecting(location, status=302, to="/end"):
    """Sends every path but the last one on."""

    async def handler(request, exchange):
        if request.path == to:
            await exchange.respond(200, "arrived")
        else:
            await exchange.respond(status, "elsewhere", {"Location": location})

    return handler


async def counting_down(request, exchange):
    number = int(request.path.removeprefix("/"))
    if number:
        await exchange.respond(302, headers={"Location": f"/{number - 1}"})
    else:
        await exchange.respond(200, "arrived")


@pytest.mark.parametrize(
    "location", ["/end", "end", "../end", "?/../end", "//{host}/end", "http://{host}/end", "/end#x"]
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_it_is_followed_wherever_it_leads(asking, location, status):
    async def handler(request, exchange):
        if request.path == "/end" or request.query:
            await exchange.respond(200, "arrived")
        else:
            await exchange.respond(status, headers={"Location": location.format(host=request.headers["host"])})

    async with asking(handler) as ask:
        result = await ask("/start")
        assert result.body == "arrived"
        assert result.redirects == (f"{ask.server.url}/start",)
        assert result.url != result.redirects[0]
        assert ask.server.connections == 1


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "POST", "GET"),
        (303, "PUT", "GET"),
        (301, "PUT", "PUT"),
        (302, "DELETE", "DELETE"),
        (307, "POST", "POST"),
        (308, "POST", "POST"),
        (303, "HEAD", "HEAD"),
        (302, "HEAD", "HEAD"),
    ],
)
async def test_the_method_and_the_body_change_as_http_says(asking, status, method, then):
    async with asking(redirecting("/end", status)) as ask:
        await ask("/start", method, json=None if method == "HEAD" else {"a": 1})
        first, second = ask.server.requests
    assert (first.method, second.method) == (method, then)
    if then == "GET":
        assert second.body == b""
        assert not {"content-type", "content-length"} & set(second.headers)
    else:
        assert second.body == first.body
        assert second.headers.get("content-type") == first.headers.get("content-type")


async def test_as_many_as_are_allowed_are_followed_and_no_more(asking):
    async with asking(counting_down, max_redirects=3) as ask:
        assert len((await ask("/3")).redirects) == 3
        with pytest.raises(PermanentError, match="redirects more than 3 times") as caught:
            await ask("/4")
        assert caught.value.type == "TooManyRedirects"
        with pytest.raises(PermanentError, match="redirects more than 1 times"):
            await ask("/2", redirects=1)


async def test_a_circle_ends(asking):
    async with asking(redirecting("/start")) as ask:
        with pytest.raises(PermanentError, match="max_redirects"):
            await ask("/start")
        assert len(ask.server.requests) == 6


async def test_a_redirect_that_is_not_to_be_followed_is_an_answer(asking):
    async with asking(redirecting("/end")) as ask:
        with pytest.raises(PermanentError, match="answered 302 Found") as caught:
            await ask("/start", redirects=0)
        assert caught.value.details["headers"]["location"] == "/end"
        assert (await ask("/start", redirects=0, expect="3xx")).headers["location"] == "/end"


async def test_a_redirect_that_is_expected_is_not_followed(asking):
    async with asking(redirecting("/end")) as ask:
        assert (await ask("/start", expect=302)).status == 302


@pytest.mark.parametrize(
    ("location", "type"),
    [("ftp://example.com/x", "NotAllowed"), ("file:///etc/passwd", "NotAllowed"), ("http://a:b/", "ProtocolError")],
)
async def test_a_redirect_to_what_is_no_http_is_refused(asking, location, type):
    async with asking(redirecting(location)) as ask:
        with pytest.raises(PermanentError) as caught:
            await ask("/start")
    assert caught.value.type == type


@pytest.mark.parametrize(
    "location", ["http://169.254.169.254/latest/meta-data", "http://[::ffff:a9fe:a9fe]/", "http://metadata/"]
)
async def test_a_redirect_to_a_denied_address_is_refused(asking, location):
    async with asking(redirecting(location)) as ask:
        with pytest.raises(PermanentError, match="redirects to, are not allowed") as caught:
            await ask("/start")
        assert len(ask.server.requests) == 1
    assert caught.value.type == "NotAllowed"


async def test_so_is_one_to_a_name_that_stands_for_a_denied_address(asking, names):
    names({"harmless.test": ["169.254.169.254"]})
    async with asking(redirecting("http://harmless.test/")) as ask:
        with pytest.raises(PermanentError, match=r"requests to harmless\.test are not allowed: 169\.254\.169\.254 is"):
            await ask("/start")


async def test_so_is_one_to_a_host_that_is_not_allowed(asking):
    async with asking(redirecting("http://localhost:1/"), allowed_hosts=["127.0.0.1"]) as ask:
        with pytest.raises(PermanentError, match="localhost is not among the allowed_hosts"):
            await ask("/start")


@pytest.mark.parametrize("location", ["/start", "ftp://example.com/"])
async def test_an_answer_that_is_not_followed_is_not_read_to_its_end(asking, location):
    async def endless(_, exchange):
        await exchange.start(302, {"Location": location})
        while True:
            await exchange.send(bytes(2**16))

    async with asking(endless) as ask:
        with pytest.raises(PermanentError):
            await ask("/start", redirects=1)
        with trio.fail_after(5):
            for seen in ask.server.requests:
                await seen.closed.wait()


class TestSecrets:
    async def test_headers_that_are_secrets_stay_with_their_server(self, asking, opened):
        """And they stay away when the second server sends the request back to the first."""
        secret = {"Authorization": "Basic x", "X-Api-Key": "k", "Cookie": "c", "X-Our": "o", "X-Open": "shown"}
        home = ""

        async def second(request, exchange):
            await exchange.respond(307, headers={"Location": f"{home}/end"})

        async with serve_http(second) as other, asking(redirecting(f"{other.url}/")) as ask:
            home = ask.server.url
            async with opened(allow_secret_headers=True, secret_headers=["x-our"]) as registry:
                await registry.execute(request("GET", f"{home}/start", headers=secret))
            start, away, back = ask.server.requests[0], other.requests[0], ask.server.requests[1]
        wanted = {name.lower() for name in secret}
        assert wanted & set(start.headers) == wanted
        assert wanted & set(away.headers) == {"x-open"}
        assert wanted & set(back.headers) == {"x-open"}

    async def test_they_go_with_a_redirect_on_the_same_server(self, asking):
        async with asking(redirecting("/end"), allow_secret_headers=True) as ask:
            await ask("/start", headers={"Authorization": "Basic x"})
            assert [seen.headers["authorization"] for seen in ask.server.requests] == ["Basic x"] * 2

    async def test_a_secret_of_the_settings_goes_to_its_hosts_only(self, asking, names):
        names({"a.test": ["127.0.0.1"], "b.test": ["127.0.0.1"]})
        auth = {"mine": AuthSettings(hosts=("a.test",), bearer="sesame-open")}

        async def handler(request, exchange):
            step, port = request.path, request.headers["host"].rpartition(":")[2]
            following = {"/1": f"http://b.test:{port}/2", "/2": f"http://a.test:{port}/3"}
            if step in following:
                await exchange.respond(302, headers={"Location": following[step]})
            else:
                await exchange.respond(200)

        async with asking(handler, auth=auth) as ask:
            await ask.registry.execute(request("GET", f"http://a.test:{ask.server.port}/1", auth="mine"))
            sent = [seen.headers.get("authorization") for seen in ask.server.requests]
        assert sent == ["Bearer sesame-open", None, "Bearer sesame-open"]

    async def test_a_password_in_a_redirect_is_not_sent_nor_shown(self, asking):
        async def handler(request, exchange):
            if request.path == "/end":
                await exchange.respond(404)
            else:
                host = request.headers["host"]
                await exchange.respond(302, headers={"Location": f"http://me:letmein@{host}/end?token=abc"})

        async with asking(handler) as ask:
            with pytest.raises(PermanentError) as caught:
                await ask("/start")
            assert "authorization" not in ask.server.requests[1].headers
        assert "letmein" not in str(caught.value.details) + caught.value.message
        assert "/end?token=***" in caught.value.message
        assert "@" not in caught.value.message
        assert caught.value.details["redirects"] == [f"{ask.server.url}/start"]
