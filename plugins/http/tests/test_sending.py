"""What a server gets to see of a task."""

import pytest

from oq_http import request


async def ok(request, exchange):
    await exchange.respond(200, "fine")


async def sent(asking, *args, **fields):
    """The request that the server got."""
    settings = fields.pop("settings", {})
    async with asking(ok, **settings) as ask:
        await ask(*args, **fields)
        [seen] = ask.server.requests
        return seen


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE", "head"])
async def test_the_method_is_the_tasks(asking, method):
    assert (await sent(asking, "/", method)).method == method.upper()


async def test_path_and_query_arrive_as_they_were_given(asking):
    assert (await sent(asking, "/a%20b/c?x=1&y=%26&z")).target == "/a%20b/c?x=1&y=%26&z"


async def test_a_fragment_is_not_sent(asking):
    assert (await sent(asking, "/a#secret")).target == "/a"


async def test_params_are_added_to_the_query(asking):
    seen = await sent(asking, "/?a=1", params={"b": "x&y", "c": [1, 2.5], "d": True})
    assert seen.query == {"a": ("1",), "b": ("x&y",), "c": ("1", "2.5"), "d": ("true",)}


async def test_params_make_a_query_where_there_is_none(asking):
    assert (await sent(asking, "/", params={"a": "ż"})).target == "/?a=%C5%BC"


async def test_json_is_sent_as_json(asking):
    seen = await sent(asking, "/", "POST", json={"ż": [1, None]})
    assert (seen.headers["content-type"], seen.json()) == ("application/json", {"ż": [1, None]})


async def test_a_text_is_sent_as_utf_8_and_nothing_is_said_of_its_type(asking):
    seen = await sent(asking, "/", "PUT", body="zażółć")
    assert seen.body == "zażółć".encode()
    assert "content-type" not in seen.headers


async def test_bytes_are_sent_as_they_are(asking):
    assert (await sent(asking, "/", "PUT", body=b"\x00\xff")).body == b"\x00\xff"


async def test_a_form_is_sent_as_a_form(asking):
    seen = await sent(asking, "/", "POST", form={"a": "x y", "b": [1, 2]})
    assert seen.headers["content-type"] == "application/x-www-form-urlencoded"
    assert seen.body == b"a=x+y&b=1&b=2"


async def test_a_content_type_of_the_task_wins(asking):
    seen = await sent(asking, "/", "POST", json=[], headers={"content-type": "application/vnd.x+json"})
    assert seen.headers["content-type"] == "application/vnd.x+json"


async def test_a_post_without_a_body_says_so(asking):
    assert (await sent(asking, "/", "POST")).headers["content-length"] == "0"


async def test_a_get_without_a_body_says_nothing_of_one(asking):
    assert "content-length" not in (await sent(asking, "/")).headers


async def test_headers_arrive_several_of_one_name_too_and_in_any_language(asking):
    seen = await sent(asking, "/", headers={"X-One": "1", "X-Two": ["a", "b"], "X-Name": "ż"})
    assert (seen.headers["x-one"], seen.headers["x-two"]) == ("1", "a, b")
    assert seen.headers["x-name"].encode("latin-1").decode() == "ż"


async def test_the_server_is_told_who_asks_and_what_is_understood(asking):
    seen = await sent(asking, "/")
    assert {name: seen.headers[name] for name in ("host", "accept", "accept-encoding", "user-agent")} == {
        "host": seen.headers["host"],
        "accept": "*/*",
        "accept-encoding": "gzip, deflate",
        "user-agent": "oq-http",
    }


async def test_a_host_is_named_with_its_port(asking):
    async with asking(ok) as ask:
        await ask()
        assert ask.server.requests[0].headers["host"] == ask.server.url.removeprefix("http://")


async def test_what_oq_says_can_be_said_otherwise(asking):
    seen = await sent(asking, "/", headers={"user-agent": "me", "Accept": "text/plain"}, settings={"user_agent": "x"})
    assert (seen.headers["user-agent"], seen.headers["accept"]) == ("me", "text/plain")


async def test_cookies_are_not_kept_for_the_next_task(asking):
    async def handler(request, exchange):
        await exchange.respond(200, headers={"Set-Cookie": "session=1; Path=/"})

    async with asking(handler) as ask:
        await ask()
        await ask()
        assert all("cookie" not in seen.headers for seen in ask.server.requests)


async def test_connections_are_used_again(asking):
    async with asking(ok) as ask:
        for _ in range(3):
            await ask()
        assert ask.server.connections == 1


async def test_a_closed_executor_holds_no_connection(asking, opened):
    async with asking(ok) as ask:
        async with opened() as registry:
            await registry.execute(request("GET", ask.server.url))
            assert ask.server.open_connections == 1
        async with opened() as registry:
            await registry.execute(request("GET", ask.server.url))
        assert [seen.connection for seen in ask.server.requests] == [1, 2]


async def test_the_proxies_of_the_environment_are_not_used(asking, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert (await sent(asking, "/")).target == "/"


async def test_a_proxy_of_the_settings_is_asked_for_the_whole_url(asking, opened):
    async with asking(ok) as proxy:
        address = proxy.server.url.replace("//", "//me:let%40me@")
        async with opened(proxy=address) as registry:
            await registry.execute(request("GET", "http://shop.test/path?x=1"))
        [seen] = proxy.server.requests
    assert seen.target == "http://shop.test/path?x=1"
    assert seen.headers["host"] == "shop.test"
    assert seen.headers["proxy-authorization"] == "Basic bWU6bGV0QG1l"
