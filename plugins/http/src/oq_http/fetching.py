"""Makes a request: sends it, follows where it is sent on to, and reads the answer as far as it may."""

from __future__ import annotations

import codecs
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from datetime import datetime
from http import HTTPStatus
from typing import Any

import attrs
import httpcore
import trio
from attrs import frozen

from oq import Chunk, PermanentError, RetryableError, RetryLater, retry_after, retryable_status
from oq_http.answer import BROKEN, DRAINED, Answer, TooLong, answer_to
from oq_http.body import ContentType, Kind, readable
from oq_http.decoding import BrokenBody
from oq_http.faults import steering
from oq_http.payload import HttpResult
from oq_http.plan import Hop, Plan
from oq_http.policy import Policy
from oq_http.redaction import redact_headers
from oq_http.settings import HttpSettings
from oq_http.statuses import is_among

Emit = Callable[[Chunk], Awaitable[None]]
Now = Callable[[], datetime]

_LONG = 2**16
"""Bytes of a body that take a while to be read as JSON."""

_LAST_WORDS = 200
"""Characters of the body that a failure's message repeats."""

_LONGEST_HEADERS = 2**13
"""Characters of all headers that a failure keeps."""


@frozen(kw_only=True)
class Tools:
    """What requests are made with."""

    pool: httpcore.AsyncConnectionPool
    policy: Policy
    settings: HttpSettings
    now: Now


async def fetch(plan: Plan, tools: Tools, emit: Emit) -> HttpResult:
    """Make the request and return the answer.

    Raises RetryableError or RetryLater when another attempt may help, and PermanentError when not.
    """
    started = trio.current_time()
    passed: list[str] = []
    hop = plan.first
    while True:
        place = plan.shown(hop.url)
        if objection := tools.policy.host_objection(hop.host):
            way = f", where {passed[-1]} redirects to," if passed else ""
            raise PermanentError(f"requests to {place}{way} are not allowed: {objection}", type="NotAllowed")
        try:
            async with answer_to(hop, plan, tools.pool) as answer:
                outcome = await _outcome(answer, plan, tools, emit, passed)
        except Exception as error:
            if (failure := steering(error, place, plan.timeouts, plan.scrubber)) is None:
                raise
            raise failure from error
        if isinstance(outcome, HttpResult):
            return attrs.evolve(outcome, duration=trio.current_time() - started)
        passed.append(place)
        hop = outcome


async def _outcome(answer: Answer, plan: Plan, tools: Tools, emit: Emit, passed: Sequence[str]) -> HttpResult | Hop:
    """What the answer comes to: the result (whose duration is not known here), or the next request."""
    if is_among(answer.status, plan.expect):
        content = await _read(answer, plan, tools.settings.max_body, emit)
        body, kind = await _readable(content, answer.content_type)
        return HttpResult(
            status=answer.status,
            headers=_shown_headers(answer, plan),
            body=body,
            kind=kind,
            url=answer.place,
            redirects=tuple(passed),
            duration=0.0,
        )
    if answer.location is None or not plan.redirects:
        raise await _unexpected(answer, plan, tools, passed)
    if len(passed) == plan.redirects:
        raise PermanentError(
            f"{passed[0]} redirects more than {plan.redirects} times (max_redirects in the table [http])",
            type="TooManyRedirects",
            details={"redirects": [*passed, answer.place]},
        )
    following = plan.next_hop(answer.hop, answer.status, answer.location)
    await _beginning(answer, plan, DRAINED)
    return following


async def _read(answer: Answer, plan: Plan, limit: int, emit: Emit) -> bytes:
    """The whole body; raises PermanentError when it is longer than the limit."""
    content = bytearray()
    scrubbed = plan.scrubber.stream()
    output = _Output(answer.content_type) if plan.stream else None
    try:
        async with aclosing(answer.pieces(limit)) as pieces:
            async for piece in pieces:
                known = scrubbed.feed(piece)
                content += known
                for chunk in output.feed(known) if output else ():
                    await emit(chunk)
    except TooLong:
        raise PermanentError(
            f"{answer.place} sent more than {limit:,} bytes (max_body in the table [http])", type="TooLarge"
        ) from None
    known = scrubbed.end()
    content += known
    for chunk in output.end(known) if output else ():
        await emit(chunk)
    return bytes(content)


async def _readable(content: bytes, content_type: ContentType) -> tuple[Any, Kind]:
    """See `readable`; on a thread where it takes long enough for other tasks to notice."""
    if len(content) < _LONG:
        return readable(content, content_type)
    return await trio.to_thread.run_sync(readable, content, content_type, abandon_on_cancel=True)


async def _beginning(answer: Answer, plan: Plan, limit: int) -> tuple[bytes, bool]:
    """The first bytes of the body, as far as they can be had, and whether there is more."""
    content, truncated = bytearray(), False
    scrubbed = plan.scrubber.stream()
    try:
        async with aclosing(answer.pieces(limit)) as pieces:
            async for piece in pieces:
                content += scrubbed.feed(piece)
    except TooLong:
        truncated = True
    except (*BROKEN, BrokenBody):
        pass  # what has come is worth more than the reason why there is no more
    content += scrubbed.end()
    return bytes(content), truncated


async def _unexpected(
    answer: Answer, plan: Plan, tools: Tools, passed: Sequence[str]
) -> PermanentError | RetryableError | RetryLater:
    """The failure that an unexpected status means."""
    content, truncated = await _beginning(answer, plan, tools.settings.max_failure_body)
    text = content.decode(answer.content_type.charset, "replace")
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    said = f": {first[:_LAST_WORDS]}" if answer.content_type.is_text and first else ""
    message = f"{answer.hop.method} {answer.place} answered {_titled(answer.status)}{said}"
    details: dict[str, Any] = {
        "status": answer.status,
        "url": answer.place,
        "headers": _some(_shown_headers(answer, plan)),
        "body": text,
        "body_truncated": truncated,
    }
    if passed:
        details["redirects"] = [*passed]
    if not retryable_status(answer.status):
        return PermanentError(message, type="HttpStatus", details=details)
    if (after := retry_after(answer.header("retry-after"), tools.now())) is not None:
        return RetryLater(after, message, type="HttpStatus", details=details)
    return RetryableError(message, type="HttpStatus", details=details)


class _Output:
    """Makes chunks of a body while it comes: text where it is text, and bytes where not."""

    def __init__(self, content_type: ContentType) -> None:
        self._decoder = None
        if content_type.is_text:
            self._decoder = codecs.getincrementaldecoder(content_type.charset)("replace")

    def feed(self, data: bytes) -> Iterator[Chunk]:
        yield from self._chunks(data, final=False)

    def end(self, data: bytes) -> Iterator[Chunk]:
        yield from self._chunks(data, final=True)

    def _chunks(self, data: bytes, *, final: bool) -> Iterator[Chunk]:
        if self._decoder is None:
            if data:
                yield Chunk(data=data)
        elif text := self._decoder.decode(data, final):
            yield Chunk(text=text)


def _shown_headers(answer: Answer, plan: Plan) -> dict[str, str]:
    return redact_headers(answer.headers, plan.scrubber, plan.secret_headers)


def _some(headers: dict[str, str]) -> dict[str, str]:
    """As many of the headers as a failure has room for."""
    room = _LONGEST_HEADERS
    kept = {}
    for name, value in headers.items():
        room -= len(name) + len(value)
        if room < 0:
            break
        kept[name] = value
    return kept


def _titled(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
