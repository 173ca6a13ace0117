"""The HTTP server for tests answers, fails as it is told to, and notices at once when its client goes away."""

import shutil
import signal
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager

import h11
import pytest
import trio

from oq.testing import refused_url, serve_http

AT_ONCE = 0.1
"""Seconds; far more than noticing takes, far less than any time-out."""
SOON = 5
"""Seconds; what does not happen by then never does."""


class Client:
    """The least that speaks HTTP: one connection, over which requests go one after the other."""

    def __init__(self, stream):
        self.stream = stream
        self.http = h11.Connection(h11.CLIENT)

    async def ask(self, method="GET", target="/", headers=(), body=b""):
        """Send a request; return status, headers and body of the answer."""
        await self.send(method, target, headers, body)
        return await self.answer()

    async def send(self, method="GET", target="/", headers=(), body=b""):
        if self.http.our_state is h11.DONE:
            self.http.start_next_cycle()
        head = h11.Request(
            method=method, target=target, headers=[("Host", "test"), *headers, ("Content-Length", str(len(body)))]
        )
        events = (head, h11.Data(data=body), h11.EndOfMessage())
        await self.stream.send_all(b"".join(self.http.send(event) for event in events))

    async def answer(self):
        head, body = None, b""
        while not isinstance(event := await self.event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                head = event
            else:
                body += event.data
        return head.status_code, dict(head.headers), body

    async def event(self):
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(bytes(await self.stream.receive_some()))
        return event


@asynccontextmanager
async def connected(server):
    async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
        yield Client(stream)


async def read_to_the_end(client):
    return b"".join([bytes(part) async for part in client.stream])


async def ok(request, exchange):
    await exchange.respond(200, "fine")


async def stall(request, exchange):
    await exchange.stall()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for `localhost` with its key, made on the spot."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    files = [tmp_path_factory.mktemp("tls") / name for name in ("certificate.pem", "key.pem")]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2", "-nodes"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", files[0], "-keyout", files[1]]
    subprocess.run(["openssl", "req", "-x509", *key, *subject], check=True, capture_output=True)
    return files


class TestRequests:
    async def test_a_request_is_kept_as_it_arrived(self):
        async with serve_http(ok) as server, connected(server) as client:
            await client.ask("POST", "/a%20b?x=1&y=&x=2", [("X-Tag", "a"), ("x-tag", "b")], b'{"k": [1]}')
        [request] = server.requests
        assert (request.method, request.target, request.path) == ("POST", "/a%20b?x=1&y=&x=2", "/a b")
        assert request.query == {"x": ("1", "2"), "y": ("",)}
        assert request.headers["x-tag"] == "a, b"
        assert (request.body, request.json()) == (b'{"k": [1]}', {"k": [1]})

    async def test_requests_are_waited_for_by_number(self):
        async with serve_http(ok) as server, connected(server) as client, trio.open_nursery() as nursery:
            nursery.start_soon(client.ask)
            [request] = await server.wait_requests(1)
            assert request.path == "/"

    async def test_several_come_by_one_connection(self):
        async with serve_http(ok) as server, connected(server) as client:
            for target in ("/1", "/2"):
                assert await client.ask("GET", target) == (200, {b"content-length": b"4"}, b"fine")
        assert [(request.path, request.connection) for request in server.requests] == [("/1", 1), ("/2", 1)]

    async def test_one_that_is_sent_before_the_last_answer_is_not_lost(self):
        async with serve_http(ok) as server, connected(server) as client:
            await client.stream.send_all(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
            await server.wait_requests(2)
        assert [request.path for request in server.requests] == ["/1", "/2"]

    async def test_connections_are_counted(self):
        async with serve_http(ok) as server:
            async with connected(server) as one, connected(server) as two:
                await one.ask()
                await two.ask()
                assert (server.connections, server.open_connections) == (2, 2)
            assert {request.connection for request in server.requests} == {1, 2}

    async def test_a_client_that_asks_whether_to_send_its_body_is_told_to(self):
        async with serve_http(ok) as server, connected(server) as client:
            head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
            await client.stream.send_all(head)
            assert await client.stream.receive_some() == b"HTTP/1.1 100 \r\n\r\n"
            await client.stream.send_all(b"hi")
            [request] = await server.wait_requests(1)
            assert request.body == b"hi"

    async def test_what_is_no_http_is_answered_with_400(self):
        async with serve_http(ok) as server, connected(server) as client:
            await client.stream.send_all(b"hello\r\n\r\n")
            assert (await client.stream.receive_some()).startswith(b"HTTP/1.1 400")
        assert server.requests == ()

    async def test_no_more_are_kept_than_wanted(self):
        async with serve_http(ok, remember=2) as server, connected(server) as client:
            for number in range(4):
                await client.ask("GET", f"/{number}")
            await server.wait_requests(4)
        assert [request.path for request in server.requests] == ["/2", "/3"]


class TestAnswers:
    async def test_a_json_answer_says_that_it_is_one(self):
        async def handler(request, exchange):
            await exchange.respond_json(201, {"a": 1}, {"X-More": "yes"})

        async with serve_http(handler) as server, connected(server) as client:
            status, headers, body = await client.ask()
        assert (status, body) == (201, b'{"a": 1}')
        assert headers[b"content-type"] == b"application/json"
        assert headers[b"x-more"] == b"yes"

    async def test_a_header_may_come_twice(self):
        async def handler(request, exchange):
            await exchange.respond(200, headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])

        async with serve_http(handler) as server, connected(server) as client:
            await client.send()
            head = await client.event()
        assert [value for name, value in head.headers if name == b"set-cookie"] == [b"a=1", b"b=2"]

    async def test_an_answer_in_pieces_arrives_piece_by_piece(self):
        go_on = trio.Event()

        async def handler(request, exchange):
            await exchange.start(200)
            await exchange.send("one")
            await go_on.wait()
            await exchange.send(b"two")
            await exchange.end()

        async with serve_http(handler) as server, connected(server) as client:
            await client.send()
            head, first = await client.event(), await client.event()
            assert (dict(head.headers)[b"transfer-encoding"], first.data) == (b"chunked", b"one")
            go_on.set()
            assert (await client.event()).data == b"two"
            assert isinstance(await client.event(), h11.EndOfMessage)

    @pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
    async def test_an_answer_that_has_no_body_gets_none(self, method, status):
        async def handler(request, exchange):
            await exchange.respond(status, b"no one reads this")

        async with serve_http(handler) as server, connected(server) as client:
            client.http = h11.Connection(h11.CLIENT)
            assert (await client.ask(method))[::2] == (status, b"")
            assert (await client.ask(method))[::2] == (status, b"")


class TestFaults:
    async def test_a_cut_resets_the_connection(self):
        async def handler(request, exchange):
            await exchange.start(200, {"Content-Length": "100"})
            await exchange.send("half")
            await exchange.cut()

        async with serve_http(handler) as server, connected(server) as client:
            await client.send()
            with pytest.raises(trio.BrokenResourceError):
                await read_to_the_end(client)
            assert not server.requests[0].disconnected

    async def test_a_close_ends_the_connection_in_order_but_not_the_answer(self):
        async def handler(request, exchange):
            await exchange.start(200)
            await exchange.send("half")
            await exchange.close()

        async with serve_http(handler) as server, connected(server) as client:
            await client.send()
            data = await read_to_the_end(client)
        assert data.endswith(b"\r\n4\r\nhalf\r\n")

    async def test_without_an_answer_the_connection_is_closed(self):
        async def handler(request, exchange):
            pass

        async with serve_http(handler) as server, connected(server) as client:
            await client.send()
            assert await client.stream.receive_some() == b""

    async def test_raw_bytes_arrive_as_they_are_and_then_the_connection_ends(self):
        async def handler(request, exchange):
            await exchange.send_raw(b"HTTP/9 what?\n")

        async with serve_http(handler) as server, connected(server) as client:
            await client.send()
            assert await read_to_the_end(client) == b"HTTP/9 what?\n"

    async def test_an_answer_can_be_begun_well_and_go_on_in_raw_bytes(self):
        async def handler(request, exchange):
            await exchange.start(200)
            await exchange.send_raw(b"zzz\r\n")

        async with serve_http(handler) as server, connected(server) as client:
            await client.send()
            assert (await client.event()).status_code == 200
            with pytest.raises(h11.RemoteProtocolError):
                await client.event()

    async def test_a_refused_url_refuses(self):
        with refused_url() as url, trio.socket.socket() as client, pytest.raises(ConnectionRefusedError):
            await client.connect(("127.0.0.1", int(url.rpartition(":")[2])))

    async def test_what_a_handler_raises_comes_out_of_the_block_as_it_is(self):
        async def handler(request, exchange):
            raise LookupError("a test's own mistake")

        async def ask_for_ever():
            async with serve_http(handler) as server, connected(server) as client:
                await client.send()
                await trio.sleep_forever()

        with pytest.raises(LookupError, match="a test's own mistake"):
            await ask_for_ever()

    async def test_what_the_block_raises_comes_out_as_it_is(self):
        with pytest.raises(LookupError):
            async with serve_http(ok):
                raise LookupError


class TestDisconnects:
    @pytest.mark.parametrize("how", [trio.SocketStream.aclose, trio.SocketStream.send_eof])
    async def test_a_client_that_leaves_is_noticed_at_once(self, how):
        async with serve_http(stall) as server, connected(server) as client:
            await client.send()
            [request] = await server.wait_requests(1)
            assert (request.closed_at, request.disconnected) == (None, False)
            left_at = trio.current_time()
            await how(client.stream)
            with trio.fail_after(SOON):
                await request.closed.wait()
            assert request.disconnected
            assert 0 <= request.closed_at - left_at < AT_ONCE

    async def test_its_handler_is_cancelled(self):
        cancelled = trio.Event()

        async def handler(request, exchange):
            try:
                await trio.sleep_forever()
            finally:
                cancelled.set()

        async with serve_http(handler) as server:
            async with connected(server) as client:
                await client.send()
                await server.wait_requests(1)
            with trio.fail_after(SOON):
                await cancelled.wait()

    async def test_a_handler_that_sends_to_one_who_left_is_cancelled_too(self):
        async def handler(request, exchange):
            await exchange.start(200)
            while True:
                await exchange.send(bytes(2**16))

        async with serve_http(handler) as server:
            async with connected(server) as client:
                await client.send()
                [request] = await server.wait_requests(1)
            with trio.fail_after(SOON):
                await request.closed.wait()
            assert request.disconnected

    async def test_one_that_leaves_with_its_answer_did_not_disconnect(self):
        async with serve_http(ok) as server:
            async with connected(server) as client:
                await client.ask()
            [request] = server.requests
            assert request.closed.is_set()
            assert not request.disconnected

    async def test_the_others_are_served_all_the_same(self):
        async def handler(request, exchange):
            await (stall if request.path == "/stall" else ok)(request, exchange)

        async with serve_http(handler) as server, connected(server) as other:
            async with connected(server) as client:
                await client.send("GET", "/stall")
                await server.wait_requests(1)
            assert (await other.ask())[0] == 200


class TestRunning:
    async def test_it_serves_again_at_the_port_it_had(self):
        async with serve_http(ok) as first, connected(first) as client:
            await client.ask()
        async with serve_http(ok, first.port) as second, connected(second) as client:
            assert (await client.ask())[0] == 200
        assert second.url == first.url == f"http://127.0.0.1:{first.port}"

    async def test_it_serves_over_ipv6(self):
        async with serve_http(ok, host="::1") as server, await trio.open_tcp_stream("::1", server.port) as stream:
            assert server.url == f"http://[::1]:{server.port}"
            assert (await Client(stream).ask())[0] == 200

    async def test_it_serves_over_tls(self, certificate):
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(*certificate)
        trusting = ssl.create_default_context(cafile=certificate[0])
        async with serve_http(ok, tls=tls) as server:
            assert server.url == f"https://127.0.0.1:{server.port}"
            plain = await trio.open_tcp_stream("127.0.0.1", server.port)
            async with trio.SSLStream(plain, trusting, server_hostname="localhost", https_compatible=True) as stream:
                assert (await Client(stream).ask())[0] == 200

    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
    def test_as_a_command_it_says_where_it_is_and_ends_at_a_signal(self, how):
        code = (
            "from oq.testing import run_http\n"
            "async def handler(request, exchange):\n"
            "    await exchange.respond(200, 'hi')\n"
            "run_http(handler)\n"
        )
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
            port = int(process.stdout.readline().strip().removeprefix("http://127.0.0.1:"))

            async def ask():
                async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                    return await Client(stream).ask()

            assert trio.run(ask)[2] == b"hi"
            process.send_signal(how)
            assert process.wait(10) == 0
