"""The executor passes the contract of executors, with a real server behind it."""

from contextlib import asynccontextmanager

from oq.testing import ExecutorContract, ExecutorExamples, serve_http
from oq_http import AuthSettings, HttpExecutor, HttpSettings, request


async def behave(seen, exchange):
    """As the path says."""
    match seen.path:
        case "/endless":
            await exchange.start(200, {"Content-Type": "text/plain"})
            await exchange.send("and so on")
            await exchange.stall()
        case "/stream":
            await exchange.start(200, {"Content-Type": "text/plain"})
            for word in ("one ", "two ", "three"):
                await exchange.send(word)
            await exchange.end()
        case "/refuse":
            await exchange.respond(400, "this is refused")
        case _:
            await exchange.respond_json(200, {"method": seen.method})


class TestContract(ExecutorContract):
    entry_point = "http"
    url = "http://127.0.0.1:1"  # where nothing is run

    @asynccontextmanager
    async def surroundings(self, directory):
        async with serve_http(behave) as server:
            self.url = server.url
            yield

    def make_executor(self, directory):
        return HttpExecutor(HttpSettings(auth={"mine": AuthSettings(hosts=("127.0.0.1",), bearer="sesame-open")}))

    def examples(self, directory):
        url = self.url
        return ExecutorExamples(
            quick=request("GET", url),
            others=[
                request(
                    "POST", url, json={"a": [1, None]}, params={"p": [1, 2]}, headers={"X": ["a", "b"]}, auth="mine"
                ),
                request("PUT", url, body=b"\x00", expect=["2xx"], redirects=0, read_timeout=5.0),
                request("POST", url, form={"a": True}, connect_timeout=5.0, write_timeout=5.0),
            ],
            streaming=request("GET", f"{url}/stream", stream=True),
            failing=request("GET", f"{url}/refuse"),
            endless=request("GET", f"{url}/endless", stream=True),
            bad_payloads=[
                ("request", {"url": "nowhere"}, "payload.url"),
                ("request", {"url": "http://169.254.169.254/"}, "payload.url"),
                ("request", {"url": url, "headers": {"Cookie": "a=1"}}, "payload.headers.Cookie"),
                ("request", {"url": url, "auth": "his"}, "payload.auth"),
                ("request", {"url": url, "json": 1, "body": ""}, "payload.body"),
                ("request", {"url": url, "expect": [0]}, "payload.expect[0]"),
            ],
        )
