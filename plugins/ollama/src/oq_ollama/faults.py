"""What can go wrong at a server, what it means for the task, and what a person is told to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import httpx
from attrs import frozen

from oq import EndpointFault, PermanentError, RetryableError, RetryLater, Stalled, Steering, Verdict, retry_after
from oq_ollama.settings import OllamaEndpoint
from oq_ollama.wire import Answer, MalformedAnswer

LONGEST_TAIL: Final = 2_000
"""Characters of an unfinished answer that the failure keeps; all of it is in the task's output."""
LONGEST_WORDS: Final = 500
"""Characters that are repeated of what a server says."""
BUSY_REST: Final = 1.0
"""Seconds for which a busy server is left alone when it does not say for how long."""
LEAST_REST: Final = 0.1
"""Seconds for which it is left alone even if it says that it need not be: attempts that do not count must not race."""

_REQUESTS_FAULT: Final = (
    *("does not support", "invalid ", "unsupported", "is required", "must be", "failed to parse", "unmarshal"),
    *("input length exceeds", "context length", "exceeds maximum", "too long", "illegal base64", "unknown image"),
)
"""What an error says when the same request would fail again."""


class Refused(Exception):
    """The server answered with another status than 200."""

    def __init__(self, status: int, words: str, headers: Mapping[str, str]) -> None:
        self.status = status
        self.words = words
        self.headers = headers
        super().__init__(f"{status}: {words}")


class ErrorLine(Exception):
    """The server said in the middle of its answer that something went wrong."""


class BrokenOff(Exception):
    """The answer ended, in good order, before it was complete."""


class MissingKey(Exception):
    """An environment variable that the settings name is not set."""


WHAT_HAPPENS: Final = (
    Refused,
    ErrorLine,
    BrokenOff,
    MissingKey,
    MalformedAnswer,
    Stalled,
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.StreamError,
)
"""Whatever goes wrong at a server is one of these."""


@frozen(kw_only=True)
class Asked:
    """What was asked, and what had been answered when it went wrong."""

    endpoint: OllamaEndpoint
    model: str
    answer: Answer | None = None

    def details(self, **more: Any) -> dict[str, Any]:
        """What is kept with the failure."""
        details = {"endpoint": self.endpoint.name, "url": self.endpoint.base_url, **more}
        text = "" if self.answer is None else "".join(self.answer.text)
        if text:
            details |= {"partial_length": len(text), "partial_tail": text[-LONGEST_TAIL:]}
        return details


@contextmanager
def told_apart(asked: Asked) -> Iterator[None]:
    """Within the block, what goes wrong at the server becomes what it means for the task."""
    try:
        yield
    except WHAT_HAPPENS as error:
        raise meaning(error, asked) from error


def meaning(error: Exception, asked: Asked) -> Exception:
    """The steering error, in an EndpointFault where another endpoint may do better."""
    url = asked.endpoint.base_url
    match error:
        case Refused():
            return _refusal(error, asked)
        case ErrorLine():
            words = f"{url} gave up: {_short(str(error))}"
            if _is_requests_fault(str(error)):
                return PermanentError(words, type="Refused", details=asked.details())
            return _failed(words, "ServerError", asked)
        case BrokenOff():
            return _failed(f"the answer of {url} ended before it was complete", "IncompleteAnswer", asked)
        case MalformedAnswer():
            return _failed(f"{url} does not speak as Ollama does: {_short(str(error))}", "MalformedAnswer", asked)
        case Stalled():
            hint = "; a large model may need a longer first_byte_timeout" if error.first else ""
            return _failed(f"{error} from {url}{hint}", "Stalled", asked)
        case MissingKey():
            gone = PermanentError(f"endpoint {asked.endpoint.name!r}: {error}", type="MissingKey")
            return EndpointFault(Verdict.FAILED, gone)
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return EndpointFault(Verdict.UNREACHABLE, unreachable(url, error, asked.details()))
        case _:
            return _failed(f"the connection to {url} was lost: {_said(error)}", "ConnectionLost", asked)


def unreachable(url: str, error: Exception, details: Mapping[str, Any] | None = None) -> RetryableError:
    """What a task fails with when nobody is there."""
    return RetryableError(
        f"no Ollama answers at {url} ({_said(error)}); start it with `ollama serve`, or set the host",
        type="Unreachable",
        details=details,
    )


def is_missing_model(error: Exception) -> bool:
    """Whether the server said that it does not have the model."""
    return isinstance(error, Refused) and error.status == 404 and "not found" in error.words and "model" in error.words


def _refusal(error: Refused, asked: Asked) -> Exception:
    url, words, details = asked.endpoint.base_url, _short(error.words), asked.details(status=error.status)
    steering: Steering
    match error.status:
        case 404 if is_missing_model(error):
            advice = f"run `ollama pull {asked.model}` there, or set pull_missing = true in [ollama]"
            message = f"{url} does not have the model {asked.model!r}; {advice}"
            steering = PermanentError(message, type="ModelNotFound", details=details)
            return EndpointFault(Verdict.UNSUITED, steering)
        case 401 | 403:
            message = f"{url} lets nobody in without the right key ({error.status}: {words}); see api_key_env"
            steering = PermanentError(message, type="Unauthorized", details=details)
            return EndpointFault(Verdict.FAILED, steering)
        case 429 | 503:
            return _busy(error, asked)
        case 408 | 425:
            return _failed(f"{url} answered {error.status}: {words}", "ServerError", asked, error.status)
        case status if 400 <= status < 500 and status not in (404, 405):
            return PermanentError(f"{url} refused the request: {words}", type="Refused", details=details)
        case status if status >= 500:
            return _failed(f"{url} failed ({status}): {words}", "ServerError", asked, status)
        case status:
            message = f"{url} answered {status} where Ollama would answer; is the address right? It says: {words}"
            steering = PermanentError(message, type="NotOllama", details=details)
            return EndpointFault(Verdict.FAILED, steering)


def _busy(error: Refused, asked: Asked) -> EndpointFault:
    """The server has too much to do. Where it says so itself, the attempt does not count."""
    asked_for = retry_after(error.headers.get("retry-after"), datetime.now(UTC))
    rest = BUSY_REST if asked_for is None else max(asked_for, LEAST_REST)
    says_so = asked_for is not None or "busy" in error.words.lower()
    message = f"{asked.endpoint.base_url} is busy ({error.status}): {_short(error.words)}"
    steering = RetryLater(rest, message, counted=not says_so, type="Busy", details=asked.details(status=error.status))
    return EndpointFault(Verdict.BUSY, steering, rest=rest)


def _failed(message: str, kind: str, asked: Asked, status: int | None = None) -> EndpointFault:
    details = asked.details() if status is None else asked.details(status=status)
    return EndpointFault(Verdict.FAILED, RetryableError(message, type=kind, details=details))


def _is_requests_fault(words: str) -> bool:
    return any(sign in words.lower() for sign in _REQUESTS_FAULT)


def _said(error: Exception) -> str:
    """What a library's error says, in a line; some say nothing."""
    return _short(str(error)) or type(error).__name__


def _short(words: str) -> str:
    line = " ".join(words.split())
    return line if len(line) <= LONGEST_WORDS else f"{line[: LONGEST_WORDS - 1]}…"
