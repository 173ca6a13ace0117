"""A connection goes to an address that was checked, and to no other."""

from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from oq import InvalidTask, PermanentError, RetryableError
from oq.testing import serve_http
from oq_http import request


async def ok(request, exchange):
    await exchange.respond(200, "fine")


@asynccontextmanager
async def unanswered(host, port=0):
    """A port that takes no more connections, since its queue of them is full."""

    async def wait_in_line():
        with trio.socket.socket() as client:
            await client.connect(silent.getsockname())
            await trio.sleep_forever()

    with trio.socket.socket() as silent:
        await silent.bind((host, port))
        silent.listen(0)
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(wait_in_line)
            await trio.testing.wait_all_tasks_blocked(0.05)
            yield silent.getsockname()[1]
            nursery.cancel_scope.cancel()


async def test_a_name_is_connected_to_at_its_address(asking, names):
    names({"shop.test": ["127.0.0.1"]})
    async with asking(ok) as ask:
        result = await ask.registry.execute(request("GET", f"http://shop.test:{ask.server.port}/"))
        assert result.body == "fine"
        assert ask.server.requests[0].headers["host"] == f"shop.test:{ask.server.port}"


async def test_it_is_looked_up_once_so_that_it_cannot_change_after_the_check(asking, names):
    directory = names({"rebinding.test": [["127.0.0.1"], ["169.254.169.254"], ["169.254.169.254"]]})
    async with asking(ok) as ask:
        result = await ask.registry.execute(request("GET", f"http://rebinding.test:{ask.server.port}/"))
    assert (result.body, directory.asked) == ("fine", ["rebinding.test"])


async def test_a_name_that_means_a_denied_address_is_refused_and_nothing_is_connected_to(asking, names):
    names({"rebinding.test": [["127.0.0.1"]]})
    async with asking(ok, denied_networks=["127.0.0.0/8"]) as ask:
        with pytest.raises(PermanentError, match=r"127\.0\.0\.1 is denied by denied_networks") as caught:
            await ask.registry.execute(request("GET", f"http://rebinding.test:{ask.server.port}/"))
        assert ask.server.connections == 0
    assert caught.value.type == "NotAllowed"


async def test_of_several_addresses_only_those_that_passed_are_tried(asking, names):
    names({"mixed.test": ["169.254.169.254", "127.0.0.1"]})
    async with asking(ok, denied_networks=["::1"]) as ask:
        assert (await ask.registry.execute(request("GET", f"http://mixed.test:{ask.server.port}/"))).body == "fine"


async def test_an_address_in_disguise_is_refused(opened, names):
    names({"disguised.test": ["::ffff:127.0.0.1", "64:ff9b::7f00:1"]})
    async with opened(denied_networks=["127.0.0.0/8"]) as registry:
        with pytest.raises(PermanentError, match=r"::ffff:7f00:1 is denied|::ffff:127\.0\.0\.1 is denied"):
            await registry.execute(request("GET", "http://disguised.test/"))


async def test_this_machine_by_another_name_is_refused_with_it(opened):
    async with opened(denied_networks=["127.0.0.0/8"]) as registry:
        for host in ("0.0.0.0", "0", "127.1"):
            with pytest.raises((PermanentError, InvalidTask), match="denied_networks"):
                await registry.execute(request("GET", f"http://{host}:1/"))


async def test_the_next_address_is_tried_when_one_refuses(asking, names):
    async with asking(ok) as ask:
        names({"two.test": ["::1", "127.0.0.1"]})
        assert (await ask.registry.execute(request("GET", f"http://two.test:{ask.server.port}/"))).body == "fine"


async def test_the_next_address_is_tried_while_one_says_nothing(asking, names):
    async with asking(ok) as ask, unanswered("127.0.0.2", ask.server.port):
        names({"two.test": ["127.0.0.2", "127.0.0.1"]})
        result = await ask.registry.execute(request("GET", f"http://two.test:{ask.server.port}/"))
    assert result.body == "fine"


async def test_an_address_that_says_nothing_is_a_time_out(opened):
    async with unanswered("127.0.0.2") as port, opened() as registry:
        with pytest.raises(RetryableError, match=r"no connection to .* within 0\.05 s \(connect_timeout\)") as caught:
            await registry.execute(request("GET", f"http://127.0.0.2:{port}/", connect_timeout=0.05))
    assert (caught.value.type, caught.value.details) == ("Timeout", {"phase": "connect"})


async def test_a_name_that_cannot_be_one_is_no_reason_to_try_again(opened):
    async with opened() as registry:
        with pytest.raises(PermanentError, match=r"payload\.url: is no URL") as caught:
            await registry.execute(request("GET", "http://☃.test/"))
    assert caught.value.type == "InvalidTask"


async def test_a_proxy_that_refuses_is_a_failure_to_be_retried(asking, opened):
    async def handler(seen, exchange):
        await exchange.respond(403)

    async with asking(handler) as proxy, opened(proxy=proxy.server.url) as registry:
        with pytest.raises(RetryableError, match=r"the proxy did not connect to https://shop\.test/: 403") as caught:
            await registry.execute(request("GET", "https://shop.test/"))
    assert caught.value.type == "ProxyError"


async def test_a_name_that_nobody_knows_is_a_failure_to_be_retried(opened, names):
    names({})
    async with opened() as registry:
        with pytest.raises(
            RetryableError, match=r"the name nowhere\.test cannot be resolved: Name or service"
        ) as caught:
            await registry.execute(request("GET", "http://nowhere.test/"))
    assert caught.value.type == "ConnectError"


async def test_every_reason_is_told_when_no_address_answers(opened, names):
    async with serve_http(ok) as server:
        port = server.port
    names({"two.test": ["127.0.0.1", "127.0.0.3"]})
    async with opened() as registry:
        with pytest.raises(RetryableError, match="Connection refused"):
            await registry.execute(request("GET", f"http://two.test:{port}/"))
