"""Speaks HTTP with the endpoints: one client for all of them, answers whole or as events, errors told apart.

Imported when the first request is made, as httpx takes a while to load.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from typing import Any

import httpx
import trio
from httpx_sse import EventSource, ServerSentEvent

from oq import EndpointFault, Pace, Stalled, Steering
from oq_openai._version import __version__
from oq_openai.faults import Blame, Told
from oq_openai.parsing import parse_json
from oq_openai.secrets import Secrets
from oq_openai.settings import OpenAIEndpoint, parse_url

LONGEST_ERROR = 2**16
"""Bytes that are read of an answer that is no success."""
LAST_WORDS = 0.25
"""Seconds that a server gets to end an answer that is complete, so that its connection can be used again."""

_THIS_MACHINE = ("all://localhost", "all://*.localhost", "all://127.0.0.1", "all://[::1]")


def make_client(connect_timeout: float, *, trust_env: bool) -> httpx.AsyncClient:
    """A client that never lets a request wait for a connection: a cancel there would leave the slot taken for ever."""
    return httpx.AsyncClient(
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=15.0),
        timeout=httpx.Timeout(None, connect=connect_timeout),
        headers={"User-Agent": f"oq-openai/{__version__}"},
        trust_env=trust_env,
        mounts=dict.fromkeys(_THIS_MACHINE),  # no proxy
    )


def url_of(endpoint: OpenAIEndpoint, path: str) -> str:
    """The address of `/chat/completions` and the like."""
    url = parse_url(endpoint.url)
    return url._replace(path=f"{url.path.rstrip('/')}{path}").geturl()


class Answer:
    """An answer that has begun well: whole, or as events."""

    def __init__(self, response: httpx.Response, pieces: AsyncIterator[bytes], blame: Blame) -> None:
        self._response = response
        self._pieces = pieces
        self._blame = blame

    @property
    def is_whole(self) -> bool:
        """Whether it comes in one piece, though events were asked for."""
        return _content_type(self._response) == "application/json"

    async def whole(self) -> Mapping[str, Any]:
        """The answer in one piece."""
        data = b"".join([piece async for piece in self._pieces])
        try:
            value = parse_json(data)
        except ValueError as error:
            raise self._blame.broken("sent an answer that is no JSON", error) from None
        if not isinstance(value, Mapping):
            raise self._blame.broken("sent an answer that is no JSON object")
        self._look_for_error(value)
        return value

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[Mapping[str, Any] | None]]:
        """The events one by one, and None for `[DONE]`; raises the fault that an event tells of."""
        response = httpx.Response(
            200,
            headers={"Content-Type": "text/event-stream; charset=utf-8"},  # which not every server says
            stream=_Pieces(self._pieces),
        )
        source = EventSource(response).aiter_sse()
        try:
            async with aclosing(self._events(source)) as events:
                yield events
        finally:
            await _close(self._response, source)

    async def _events(
        self, source: AsyncGenerator[ServerSentEvent, None]
    ) -> AsyncGenerator[Mapping[str, Any] | None, None]:
        async for event in source:
            if event.data == "":
                continue
            if event.data.strip() == "[DONE]":
                with trio.move_on_after(LAST_WORDS):
                    async for _ in source:
                        pass
                yield None
                return
            try:
                value = parse_json(event.data)
            except ValueError:
                raise self._blame.broken("sent an event that is no JSON", event.data) from None
            if not isinstance(value, Mapping):
                raise self._blame.broken("sent an event that is no JSON object", event.data)
            self._look_for_error({"error": value} if event.event == "error" and "error" not in value else value)
            yield value

    def _look_for_error(self, value: Mapping[str, Any]) -> None:
        """Raise the fault where the value tells of an error, as some do under the status 200."""
        error = value.get("error")
        if error:
            raise self._blame.refused(Told.of(None, error), {})


class _Pieces(httpx.AsyncByteStream):
    """The pieces of an answer as httpx wants them."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces


@asynccontextmanager
async def ask(
    client: httpx.AsyncClient,
    endpoint: OpenAIEndpoint,
    path: str,
    body: Mapping[str, Any],
    *,
    secrets: Secrets,
    pace: Pace,
    blame: Blame,
) -> AsyncIterator[Answer]:
    """Send a request; within the block, its answer. Every way in which it can fail is a fault."""
    data = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json", **secrets.headers}
    response: httpx.Response | None = None
    try:
        with _faults(blame), pace.beginning():
            request = client.build_request("POST", url_of(endpoint, path), content=data, headers=headers)
            response = await client.send(request, stream=True)
            await _refuse(response, blame)
            pieces = response.aiter_bytes()
            first = await anext(pieces, b"")
        all_pieces = _paced(first, pieces, pace, blame)
        try:
            yield Answer(response, all_pieces, blame)
        finally:
            await _close(response, all_pieces)
    finally:
        if response is not None:
            await response.aclose()


async def look(
    client: httpx.AsyncClient, endpoint: OpenAIEndpoint, headers: Mapping[str, str], patience: float
) -> None:
    """Return when the endpoint answers that it is there; raises httpx.HTTPError or TooSlowError when it does not."""
    with trio.fail_after(patience):
        response = await client.get(url_of(endpoint, "/models"), headers=dict(headers))
    if response.status_code >= 500:  # anything else, 401 and 404 included, is an answer of a server that works
        response.raise_for_status()


async def _refuse(response: httpx.Response, blame: Blame) -> None:
    """Raise the fault that the status tells of."""
    if response.is_success:
        if _content_type(response) in ("text/html", "application/xhtml+xml"):
            raise blame.no_api(response.status_code, response.headers["content-type"])
        return
    body = b""
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) >= LONGEST_ERROR:
            break
    raise blame.refused(Told.of_body(response.status_code, body[:LONGEST_ERROR]), response.headers)


async def _paced(first: bytes, pieces: AsyncIterator[bytes], pace: Pace, blame: Blame) -> AsyncGenerator[bytes, None]:
    """All pieces, of which the first is there; raises the fault when another one takes too long, or none can come."""
    if first:
        yield first
    with _faults(blame):
        async for piece in pace.keep(pieces):
            yield piece


@contextmanager
def _faults(blame: Blame) -> Iterator[None]:
    """Make faults of what httpx raises, and of silence."""
    try:
        yield
    except Stalled as error:
        raise blame.stalled(error) from None
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        raise blame.unreachable(error) from None
    except (httpx.HTTPError, httpx.StreamError) as error:
        raise blame.broken("broke off", error) from None


async def _close(response: httpx.Response, readers: AsyncIterator[object]) -> None:
    """Close an answer, read or not, and end whoever reads it: generators in the middle are not to be left behind."""
    await response.aclose()
    with suppress(EndpointFault, Steering):
        async for _ in readers:
            pass


def _content_type(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()
