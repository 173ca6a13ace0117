"""What a simulated Ollama can do wrong when a test wants it to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import trio
from attrs import field, frozen


@frozen(kw_only=True)
class Fault:
    """One way to fail; made by the functions below."""

    kind: Literal["cut", "end", "error", "stall", "bad line", "refuse"]
    after: int = 0
    """How many frames are sent before it."""
    status: int = 0
    """Of a refusal."""
    message: str = ""
    """What the server says."""
    headers: Mapping[str, str] = field(factory=dict)
    """Of a refusal."""
    until: trio.Event | None = None
    """When a stall ends; never when None."""


def cut(after: int = 1) -> Fault:
    """The connection is reset after so many frames; before the answer has begun, with 0."""
    return Fault(kind="cut", after=after)


def ends_early(after: int = 1) -> Fault:
    """The answer ends in good order, but without its final frame."""
    return Fault(kind="end", after=after)


def error_line(message: str = "an error was encountered while running the model", after: int = 1) -> Fault:
    """In the middle of an answer of status 200 comes a line with an error; the answer ends with it."""
    return Fault(kind="error", after=after, message=message)


def stall(after: int = 0, until: trio.Event | None = None) -> Fault:
    """Nothing more comes after so many frames; not even the status, with 0. All goes on when `until` is set."""
    return Fault(kind="stall", after=after, until=until)


def bad_line(after: int = 1) -> Fault:
    """A line that is no JSON."""
    return Fault(kind="bad line", after=after)


def refused(status: int, message: str, headers: Mapping[str, str] | None = None) -> Fault:
    """The request is answered with this status and `{"error": message}`."""
    return Fault(kind="refuse", status=status, message=message, headers=headers or {})


def busy(retry_after: str | None = None, status: int = 503) -> Fault:
    """The server has too much to do; `retry_after` is the header, where there is to be one."""
    words = "server busy, please try again.  maximum pending requests exceeded"
    return refused(status, words, {} if retry_after is None else {"Retry-After": retry_after})


def missing(model: str) -> Fault:
    """The server does not have the model."""
    return refused(404, f"model '{model}' not found")
