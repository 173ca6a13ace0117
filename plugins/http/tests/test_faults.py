"""What breaks on the way is a failure that says what to do; and whoever is not wanted any more hears so at once."""

import math
import random
import shutil
import ssl
import subprocess
from collections import Counter
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oq import PermanentError, Registry, RetryableError, Steering
from oq.codec import encode
from oq.testing import refused_url, serve_http
from oq_http import AuthSettings, HttpExecutor, request

AT_ONCE = 0.1
"""Seconds within which a server hears that nobody waits any more."""
SOON = 5
"""Seconds; what does not happen by then never does."""


async def ok(_, exchange):
    await exchange.respond(200, "fine")


async def stall(_, exchange):
    await exchange.stall()


async def fails(asking, kind, handler, **fields):
    async with asking(handler) as ask:
        with pytest.raises(kind) as caught:
            await ask(**fields)
        return caught.value


async def test_a_refused_connection_is_retried(opened):
    async with opened() as registry:
        with (
            refused_url() as url,
            pytest.raises(RetryableError, match=f"no connection to {url}: Connection refused") as caught,
        ):
            await registry.execute(request("GET", url))
    assert caught.value.type == "ConnectError"


async def test_an_answer_that_is_cut_is_retried(asking):
    async def handler(_, exchange):
        await exchange.start(200, {"Content-Length": "100"})
        await exchange.send("half")
        await exchange.cut()

    assert (await fails(asking, RetryableError, handler)).type == "Disconnected"


async def test_an_answer_that_ends_too_early_is_retried(asking):
    async def handler(_, exchange):
        await exchange.start(200)
        await exchange.send("half")
        await exchange.close()

    assert (await fails(asking, RetryableError, handler)).type == "ProtocolError"


async def test_a_connection_that_is_cut_before_the_answer_is_retried(asking):
    async def handler(_, exchange):
        await exchange.cut()

    assert (await fails(asking, RetryableError, handler)).type == "Disconnected"


async def test_no_answer_at_all_is_retried(asking):
    async def handler(_, exchange):
        await exchange.close()

    failure = await fails(asking, RetryableError, handler)
    assert (failure.type, "without sending a response" in failure.message) == ("ProtocolError", True)


async def test_what_is_no_http_is_retried(asking):
    async def handler(_, exchange):
        await exchange.send_raw(b"SSH-2.0-OpenSSH_9.2\r\n")

    assert (await fails(asking, RetryableError, handler)).type == "ProtocolError"


async def test_an_early_answer_to_a_long_request_is_an_answer(asking):
    async def handler(_, exchange):
        await exchange.respond(413, "too much")

    failure = await fails(asking, PermanentError, handler, method="POST", body="x" * 2**22)
    assert failure.details["status"] == 413


HEADS = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.1 101 Switching Protocols", b"HTTP/1.0 500", b"HTTP/1.1 302 Found"]
)
FIELDS = st.sampled_from(
    [
        b"Content-Length: 3",
        b"Content-Length: -1",
        b"Content-Length: 99999999999999999999",
        b"Transfer-Encoding: chunked",
        b"Content-Encoding: gzip",
        b"Content-Type: application/json; charset=utf-16",
        b"Content-Type: \xff; =;; charset=",
        b"Location: \xff\xfe",
        b"Location: http://[::1:80/",
        b"Location: //",
        b"Upgrade: x",
        b"Connection: upgrade",
        b"Retry-After: \xff",
        b"X: " + bytes(range(0x80, 0x100)),
        b"X" * 200_000 + b": x",
        b": x",
    ]
)


@given(HEADS, st.lists(FIELDS, max_size=4), st.one_of(st.binary(), st.just(b"3\r\nabc\r\n0\r\n\r\n"), st.just(b"abc")))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_server_says_it_is_a_result_or_a_failure_that_was_foreseen(head, fields, body):
    async def handler(_, exchange):
        await exchange.send_raw(b"\r\n".join([head, *fields, b"", body]))

    async def main():
        registry = Registry([HttpExecutor()])
        async with serve_http(handler) as server, registry.opened():
            try:
                result = await registry.execute(request("GET", server.url, redirects=2))
            except Steering as error:
                encode([error.message, error.details])
            else:
                encode(result)

    trio.run(main)


class TestTimeouts:
    async def test_silence_before_the_answer_is_a_time_out(self, asking):
        failure = await fails(asking, RetryableError, stall, read_timeout=0.05)
        assert (failure.type, failure.details) == ("Timeout", {"phase": "read"})
        assert "said nothing for 0.05 s (read_timeout)" in failure.message

    async def test_so_is_silence_in_the_middle_of_it(self, asking):
        async def handler(_, exchange):
            await exchange.start(200)
            await exchange.send("half")
            await exchange.stall()

        assert (await fails(asking, RetryableError, handler, read_timeout=0.05)).details == {"phase": "read"}

    async def test_an_answer_may_take_longer_than_that_if_it_is_not_silent(self, asking):
        async def handler(_, exchange):
            await exchange.start(200)
            for _piece in range(10):
                await trio.sleep(0.02)
                await exchange.send("x")
            await exchange.end()

        async with asking(handler) as ask:
            assert (await ask(read_timeout=0.15)).body == "x" * 10

    async def test_a_server_that_takes_nothing_of_the_request_is_a_time_out(self, opened):
        async with opened(write_timeout=0.05) as registry:
            [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            async with listener:
                url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
                with pytest.raises(RetryableError, match="write_timeout") as caught:
                    await registry.execute(request("POST", url, body="x" * 2**25))
        assert caught.value.details == {"phase": "write"}

    async def test_a_name_that_is_not_found_in_time_is_a_time_out(self, opened):
        class Slow(trio.abc.HostnameResolver):
            async def getaddrinfo(self, *_args):
                await trio.sleep_forever()

            async def getnameinfo(self, *_args):
                await trio.sleep_forever()

        trio.socket.set_custom_hostname_resolver(Slow())
        async with opened() as registry:
            with pytest.raises(RetryableError, match="connect_timeout") as caught:
                await registry.execute(request("GET", "http://slow.test/", connect_timeout=0.05))
        assert (caught.value.type, caught.value.details) == ("Timeout", {"phase": "connect"})

    async def test_the_time_for_all_of_it_is_the_tasks(self, asking):
        async with asking(stall) as ask:
            with pytest.raises(trio.TooSlowError):
                await ask(timeout=0.05)
            with trio.fail_after(SOON):
                await ask.server.requests[0].closed.wait()


class TestCancelling:
    @pytest.mark.parametrize("phase", ["head", "body"])
    async def test_the_server_hears_of_it_at_once(self, asking, phase):
        async def handler(_, exchange):
            if phase == "body":
                await exchange.start(200)
                await exchange.send("half")
            await exchange.stall()

        async with asking(handler) as ask, trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            [seen] = await ask.server.wait_requests(1)
            await trio.testing.wait_all_tasks_blocked()
            cancelled_at = trio.current_time()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True), trio.fail_after(SOON):
                await seen.closed.wait()
            assert seen.disconnected
            assert seen.closed_at - cancelled_at < AT_ONCE

    async def test_no_request_waits_for_another(self, asking):
        """What waits for a connection, and is cancelled, could block it for ever."""
        async with asking(stall) as ask, trio.open_nursery() as nursery:
            for _ in range(120):
                nursery.start_soon(ask)
            with trio.fail_after(SOON):
                await ask.server.wait_requests(120)
            nursery.cancel_scope.cancel()

    async def test_two_hundred_tasks_that_are_cancelled_at_any_moment_leave_it_healthy(self, asking):
        chance = random.Random(7)
        ended = Counter()

        async def handler(seen, exchange):
            match seen.path:
                case "/stall":
                    await exchange.stall()
                case "/cut":
                    await exchange.start(200)
                    await exchange.cut()
                case "/slow":
                    await exchange.start(200)
                    for _ in range(20):
                        await exchange.send(bytes(1000))
                    await exchange.end()
                case _:
                    await exchange.respond(200, "fine")

        async with asking(handler) as ask:

            async def one(path, patience):
                with trio.move_on_after(patience) as scope:
                    try:
                        await ask(path, "POST", body="x" * 1000)
                        ended["done"] += 1
                    except RetryableError:
                        ended["failed"] += 1
                ended["cancelled"] += scope.cancelled_caught

            for _ in range(5):
                async with trio.open_nursery() as nursery:
                    for _ in range(200):
                        path = chance.choice(["/", "/", "/slow", "/stall", "/cut"])
                        patient = path != "/stall" and chance.random() < 0.5
                        nursery.start_soon(one, path, math.inf if patient else chance.random() * 0.1)
            assert min(ended["done"], ended["failed"], ended["cancelled"]) > 50
            pool = ask.registry.get("http")._pool
            assert all(connection.is_idle() or connection.is_closed() for connection in pool.connections)
            assert not pool._requests
            with trio.fail_after(SOON):
                assert (await ask("/")).body == "fine"
        assert pool.connections == []  # it is closed by now


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for `shop.test` with its key, made on the spot."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    files = [tmp_path_factory.mktemp("tls") / name for name in ("certificate.pem", "key.pem")]
    subject = ["-subj", "/CN=shop.test", "-addext", "subjectAltName=DNS:shop.test", "-days", "2", "-nodes"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", files[0], "-keyout", files[1]]
    subprocess.run(["openssl", "req", "-x509", *key, *subject], check=True, capture_output=True)
    return files


class TestTls:
    @asynccontextmanager
    async def shop(self, handler, certificate, names, executor, **settings):
        """A server with this certificate, known by two names, and an open registry."""
        names({"shop.test": ["127.0.0.1"], "other.test": ["127.0.0.1"]})
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
        async with serve_http(handler, tls=context) as server, executor(**settings) as registry:
            yield server, registry

    async def test_a_certificate_of_the_settings_is_trusted_for_its_name(self, opened, certificate, names):
        trusting = {"ca_file": str(certificate[0])}
        async with self.shop(ok, certificate, names, opened, **trusting) as (server, registry):
            result = await registry.execute(request("GET", f"https://shop.test:{server.port}/"))
            assert result.body == "fine"

    async def test_but_for_no_other_name_though_the_address_is_the_same(self, opened, certificate, names):
        trusting = {"ca_file": str(certificate[0])}
        async with self.shop(ok, certificate, names, opened, **trusting) as (server, registry):
            with pytest.raises(PermanentError, match="ostname mismatch") as caught:
                await registry.execute(request("GET", f"https://other.test:{server.port}/"))
        assert caught.value.type == "CertificateError"

    async def test_a_certificate_that_nobody_vouches_for_is_refused_with_a_remedy(self, opened, certificate, names):
        async with self.shop(ok, certificate, names, opened) as (server, registry):
            with pytest.raises(PermanentError, match="ca_file in the table") as caught:
                await registry.execute(request("GET", f"https://shop.test:{server.port}/"))
        assert caught.value.type == "CertificateError"

    async def test_a_secret_is_not_sent_in_the_clear_after_a_redirect_from_https(self, opened, certificate, names):
        plain_url = ""

        async def away(_, exchange):
            await exchange.respond(302, headers={"Location": f"{plain_url}/1"})

        async def back(seen, exchange):
            await exchange.respond(*((302, "", {"Location": "/2"}) if seen.path == "/1" else (200,)))

        auth = {"mine": AuthSettings(hosts=("shop.test",), bearer="sesame-open")}
        trusting = {"ca_file": str(certificate[0]), "auth": auth}
        async with (
            serve_http(back) as plain,
            self.shop(away, certificate, names, opened, **trusting) as (server, registry),
        ):
            plain_url = f"http://shop.test:{plain.port}"
            await registry.execute(request("GET", f"https://shop.test:{server.port}/", auth="mine"))
            assert server.requests[0].headers["authorization"] == "Bearer sesame-open"
            assert len(plain.requests) == 2
            assert all("authorization" not in seen.headers for seen in plain.requests)

    async def test_a_server_that_speaks_no_tls_is_a_failure_to_be_retried(self, opened, names):
        async with serve_http(ok) as server, opened() as registry:
            with pytest.raises(RetryableError, match="no TLS with") as caught:
                await registry.execute(request("GET", f"https://127.0.0.1:{server.port}/"))
        assert caught.value.type == "ConnectError"

    async def test_the_server_hears_of_a_cancel_at_once(self, opened, certificate, names):
        trusting = {"ca_file": str(certificate[0])}
        async with self.shop(stall, certificate, names, opened, **trusting) as (server, registry):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(registry.execute, request("GET", f"https://shop.test:{server.port}/"))
                [seen] = await server.wait_requests(1)
                nursery.cancel_scope.cancel()
            with trio.fail_after(SOON):
                await seen.closed.wait()

    async def test_a_cancel_in_the_middle_of_the_handshake_closes_the_connection(self, opened):
        hello, closed = trio.Event(), trio.Event()

        async def accept(stream):
            while await stream.receive_some():
                hello.set()  # and no word more
            closed.set()

        async with opened() as registry, trio.open_nursery() as nursery:
            [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, accept, [listener])
            url = f"https://127.0.0.1:{listener.socket.getsockname()[1]}/"
            async with trio.open_nursery() as asking:
                asking.start_soon(registry.execute, request("GET", url))
                await hello.wait()
                asking.cancel_scope.cancel()
            with trio.fail_after(SOON):
                await closed.wait()
            nursery.cancel_scope.cancel()
