"""Requests to Ollama servers, and their answers piece by piece."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, Final

import httpx
import msgspec
import trio

from oq import Pace, Stalled
from oq_ollama._version import __version__
from oq_ollama.faults import ErrorLine, MissingKey, Refused
from oq_ollama.settings import OllamaEndpoint
from oq_ollama.wire import Frame, MalformedAnswer

LONGEST_LINE: Final = 64 * 2**20
"""Bytes; Ollama says no more in one piece."""
LONGEST_ERROR: Final = 64 * 2**10
"""Bytes that are read of the body of an error."""
LEFTOVERS: Final = 0.25
"""Seconds to read what follows a complete answer, so that the connection can be used again."""
GOODBYE: Final = 1.0
"""Seconds to close a connection."""


class OllamaClient:
    """Speaks to any of the endpoints. Whatever goes wrong is one of `oq_ollama.faults.WHAT_HAPPENS`."""

    def __init__(self, http: httpx.AsyncClient, pace: Pace, environ: Mapping[str, str]) -> None:
        self._http = http
        self._pace = pace
        self._environ = environ

    @classmethod
    def make(cls, pace: Pace, environ: Mapping[str, str], *, connect_timeout: float, trust_env: bool) -> OllamaClient:
        """A client, to be closed."""
        http = httpx.AsyncClient(
            # No request ever waits for a connection: a cancel there would lose one for good. oq counts units instead.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=30.0),
            timeout=httpx.Timeout(None, connect=connect_timeout),  # the pace says the rest
            trust_env=trust_env,
            headers={"User-Agent": f"oq-ollama/{__version__}", "Accept": "application/json"},
        )
        return cls(http, pace, environ)

    async def close(self) -> None:
        """Close its connections."""
        with trio.move_on_after(GOODBYE, shield=True):
            await self._http.aclose()

    @asynccontextmanager
    async def frames(
        self,
        endpoint: OllamaEndpoint,
        path: str,
        body: Mapping[str, Any],
        answered: Callable[[], None],
        pace: Pace | None = None,
    ) -> AsyncIterator[AsyncIterator[Frame]]:
        """The lines of a streamed answer. `answered` is called when the first has come, and is no error."""
        async with self._asked(endpoint, path, body, pace or self._pace) as pieces, aclosing(_lines(pieces)) as lines:
            first = await anext(lines, None)
            if first is not None:
                frame = _frame(first)
                answered()

            async def frames() -> AsyncGenerator[Frame, None]:
                if first is not None:
                    yield frame
                async for line in lines:
                    yield _frame(line)

            async with aclosing(frames()) as rest:
                yield rest
            with trio.move_on_after(LEFTOVERS), suppress(httpx.HTTPError, httpx.StreamError, Stalled):
                async for _ in lines:
                    pass

    async def answer(
        self, endpoint: OllamaEndpoint, path: str, body: Mapping[str, Any], answered: Callable[[], None]
    ) -> Frame:
        """An answer that comes whole."""
        async with self._asked(endpoint, path, body, self._pace) as pieces:
            data = bytearray()
            async for piece in pieces:
                data += piece
                if len(data) > LONGEST_LINE:
                    raise MalformedAnswer(f"an answer of more than {LONGEST_LINE:,} bytes")
        frame = _frame(bytes(data))
        answered()
        return frame

    async def check(self, endpoint: OllamaEndpoint, patience: float) -> None:
        """Raise ConnectError when no Ollama is there."""
        url = f"{endpoint.base_url}/api/version"
        try:
            headers = self._headers(endpoint)
        except MissingKey:
            headers = {}  # to be turned away is an answer, too
        with trio.move_on_after(patience) as scope:
            response = await self._http.get(url, headers=headers)
            if response.status_code >= 500:
                raise httpx.ConnectError(f"GET {url} is answered with {response.status_code}")
        if scope.cancelled_caught:
            raise httpx.ConnectError(f"GET {url} is not answered within {patience:g} s")

    @asynccontextmanager
    async def _asked(
        self, endpoint: OllamaEndpoint, path: str, body: Mapping[str, Any], pace: Pace
    ) -> AsyncIterator[AsyncGenerator[bytes, None]]:
        """The body of the answer to a request; raises Refused when its status is not 200."""
        request = self._http.build_request(
            "POST",
            f"{endpoint.base_url}{path}",
            content=msgspec.json.encode(body),
            headers={"Content-Type": "application/json", **self._headers(endpoint)},
        )
        response: httpx.Response | None = None
        try:
            with pace.beginning():
                response = await self._http.send(request, stream=True)
                pieces = response.aiter_bytes()
                first = await anext(pieces, b"")
            async with aclosing(_chained(first, pace.keep(pieces))) as paced:
                if response.status_code != 200:
                    raise Refused(response.status_code, await _words(paced), dict(response.headers))
                yield paced
        finally:
            if response is not None:
                with trio.move_on_after(GOODBYE, shield=True), suppress(httpx.HTTPError, httpx.StreamError):
                    await response.aclose()
                    async for _ in pieces:  # which ends what httpx has begun to iterate over; else the collector would
                        pass

    def _headers(self, endpoint: OllamaEndpoint) -> dict[str, str]:
        headers = dict(endpoint.headers)
        for name, variable in endpoint.headers_env.items():
            headers[name] = self._value_of(variable)
        if endpoint.api_key_env is not None:
            headers["Authorization"] = f"Bearer {self._value_of(endpoint.api_key_env)}"
        return headers

    def _value_of(self, variable: str) -> str:
        value = self._environ.get(variable, "").strip()
        if not value:
            raise MissingKey(f"the environment variable {variable} is not set")
        if not (value.isascii() and value.isprintable()):
            raise MissingKey(f"the environment variable {variable} has characters that no header may have")
        return value


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    yield first
    async for piece in rest:
        yield piece


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The lines that are not empty. Only a line feed ends one, as texts have other separators within them."""
    begun = bytearray()
    async for piece in pieces:
        *whole, rest = piece.split(b"\n")
        for part in whole:
            begun += part
            if begun.strip():
                yield bytes(begun)
            begun.clear()
        begun += rest
        if len(begun) > LONGEST_LINE:
            raise MalformedAnswer(f"a line of more than {LONGEST_LINE:,} bytes")
    if begun.strip():
        yield bytes(begun)


def _frame(line: bytes) -> Frame:
    """What a line says; raises ErrorLine and MalformedAnswer."""
    try:
        frame = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise MalformedAnswer(f"{error}: {line[:100]!r}") from None
    if not isinstance(frame, dict):
        raise MalformedAnswer(f"a line that is no object: {line[:100]!r}")
    if "error" in frame:
        raise ErrorLine(_error_words(frame))
    return frame


async def _words(pieces: AsyncIterator[bytes]) -> str:
    """What the body of an error says."""
    data = bytearray()
    async for piece in pieces:
        data += piece
        if len(data) > LONGEST_ERROR:
            break
    try:
        frame = msgspec.json.decode(bytes(data))
    except msgspec.DecodeError:
        frame = None
    if isinstance(frame, dict) and "error" in frame:
        return _error_words(frame)
    return " ".join(data.decode("utf-8", "replace").split()) or "nothing"


def _error_words(frame: Frame) -> str:
    """The words of `{"error": "…"}`, or of `{"error": {"message": "…"}}` as some proxies have it."""
    error = frame["error"]
    if isinstance(error, dict):
        error = error.get("message", error)
    return str(error)
