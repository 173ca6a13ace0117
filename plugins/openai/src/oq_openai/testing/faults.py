"""What can go wrong with the fake OpenAI: each function here makes a fault, which answers a request in place of it.

A fault is an async function of an `Exchange`, so tests may write their own.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio
from attrs import frozen

from oq.testing import HttpExchange, HttpRequest
from oq_openai.testing.simulation import Simulated

EVENTS = {"Content-Type": "text/event-stream; charset=utf-8"}


@frozen(kw_only=True)
class Exchange:
    """A request to be answered, and the answer that it would get if all were well."""

    request: HttpRequest
    http: HttpExchange
    """The means to answer it."""
    answer: Simulated
    pace: float = 0.0
    """Seconds before each event."""

    async def answer_well(self) -> None:
        """Answer as if there were no fault."""
        if not self.answer.events:
            await trio.sleep(self.pace)
            await self.http.respond_json(200, self.answer.whole)
            return
        await self.send_events(len(self.answer.events))
        await self.http.send("data: [DONE]\n\n")
        await self.http.end()

    async def send_events(self, number: int) -> None:
        """Begin the stream and send so many of its events."""
        await self.http.start(200, EVENTS)
        for event in self.answer.events[:number]:
            await trio.sleep(self.pace)
            await self.http.send(f"data: {json.dumps(event)}\n\n")

    async def begin(self, after: int) -> None:
        """Send so many events of a stream, or half of an answer that is none."""
        if self.answer.events:
            await self.send_events(after)
            return
        data = json.dumps(self.answer.whole).encode()
        await self.http.start(200, {"Content-Type": "application/json", "Content-Length": str(len(data))})
        await self.http.send(data[: len(data) // 2])


Fault = Callable[[Exchange], Awaitable[None]]


def cut(after: int = 2) -> Fault:
    """The connection is reset after so many events of a stream, or in the middle of another answer."""

    async def fault(exchange: Exchange) -> None:
        await exchange.begin(after)
        await exchange.http.cut()

    return fault


def cut_before_the_answer() -> Fault:
    """The connection is reset before anything is answered."""

    async def fault(exchange: Exchange) -> None:
        await exchange.http.cut()

    return fault


def quiet_end(after: int = 2) -> Fault:
    """The stream ends in good order after so many events, without a finish_reason or `[DONE]`."""

    async def fault(exchange: Exchange) -> None:
        await exchange.send_events(after)
        await exchange.http.end()

    return fault


def no_done() -> Fault:
    """All events come, and then the stream ends without `[DONE]`, as that of some servers does."""

    async def fault(exchange: Exchange) -> None:
        await exchange.send_events(len(exchange.answer.events))
        await exchange.http.end()

    return fault


def error_event(
    message: str = "The server had an error while processing your request.",
    *,
    after: int = 2,
    type: str | None = "server_error",
    code: str | int | None = None,
    named: bool = False,
) -> Fault:
    """An event that tells of an error, under the status 200; `named` sends it as `event: error`."""

    async def fault(exchange: Exchange) -> None:
        await exchange.send_events(after)
        error = {"message": message, "type": type, "param": None, "code": code}
        await exchange.http.send(("event: error\n" if named else "") + f"data: {json.dumps({'error': error})}\n\n")
        await exchange.http.end()

    return fault


def stall(after: int | None = None) -> Fault:
    """Silence: before anything is answered, or after so many events; until the client has had enough."""

    async def fault(exchange: Exchange) -> None:
        if after is not None:
            await exchange.begin(after)
        await exchange.http.stall()

    return fault


def slow_start(seconds: float) -> Fault:
    """All is well, but begins only after so many seconds."""

    async def fault(exchange: Exchange) -> None:
        await trio.sleep(seconds)
        await exchange.answer_well()

    return fault


def keep_alive(comments: int = 3) -> Fault:
    """All is well, but comments come before each event."""

    async def fault(exchange: Exchange) -> None:
        await exchange.http.start(200, EVENTS)
        for event in [*map(json.dumps, exchange.answer.events), "[DONE]"]:
            for _ in range(comments):
                await exchange.http.send(": PROCESSING\n\n")
            await exchange.http.send(f"data: {event}\n\n")
        await exchange.http.end()

    return fault


def raw(*pieces: str | bytes, headers: Mapping[str, str] | None = None) -> Fault:
    """The stream consists of just these pieces."""

    async def fault(exchange: Exchange) -> None:
        await exchange.http.start(200, EVENTS if headers is None else headers)
        for piece in pieces:
            await exchange.http.send(piece)
        await exchange.http.end()

    return fault


def malformed(after: int = 2) -> Fault:
    """After so many events comes one that is no JSON."""

    async def fault(exchange: Exchange) -> None:
        await exchange.send_events(after)
        await exchange.http.send('data: {"choices": [{"delta"\n\n')
        await exchange.http.end()

    return fault


def refuse(
    status: int,
    message: str = "",
    *,
    type: str | None = "invalid_request_error",
    code: str | None = None,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Fault:
    """An answer with this status and an error in the form of the API."""
    error = {"message": message or f"This error is simulated ({status}).", "type": type, "param": param, "code": code}

    async def fault(exchange: Exchange) -> None:
        await exchange.http.respond_json(status, {"error": error}, headers or {})

    return fault


def rate_limited(retry_after: float | str | None = 1.0, **headers: str) -> Fault:
    """429, with `Retry-After` unless that is None; further headers have `_` for `-`."""
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    if retry_after is not None:
        told["Retry-After"] = str(retry_after)
    return refuse(429, "Rate limit reached.", type="requests", code="rate_limit_exceeded", headers=told)


def no_credit() -> Fault:
    """429 that no waiting mends: the account has no credit left."""
    message = "You exceeded your current quota, please check your plan and billing details."
    return refuse(429, message, type="insufficient_quota", code="insufficient_quota")


def wrong_key() -> Fault:
    """401 that repeats the key, as servers do."""

    async def fault(exchange: Exchange) -> None:
        key = exchange.request.headers.get("authorization", "").removeprefix("Bearer ")
        message = f"Incorrect API key provided: {key}. You can find your API key in the settings of your account."
        await refuse(401, message, code="invalid_api_key")(exchange)

    return fault


def web_page(status: int = 200) -> Fault:
    """A page for people, as a server gives where the URL is not that of its API."""

    async def fault(exchange: Exchange) -> None:
        await exchange.http.respond(status, "<html><body>Welcome</body></html>", {"Content-Type": "text/html"})

    return fault


def whole() -> Fault:
    """All is well, but the answer comes in one piece though a stream was asked for."""

    async def fault(exchange: Exchange) -> None:
        await exchange.http.respond_json(200, exchange.answer.whole)

    return fault


def json_answer(value: Any) -> Fault:
    """Status 200 and just this value, whatever was asked for."""

    async def fault(exchange: Exchange) -> None:
        await exchange.http.respond_json(200, value)

    return fault
