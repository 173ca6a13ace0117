"""What went wrong, in words that say what to do, and what that means for the task and for the endpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from attrs import frozen

from oq import (
    EndpointFault,
    PermanentError,
    RetryableError,
    RetryLater,
    Stalled,
    Steering,
    Verdict,
    retry_after,
    retryable_status,
)
from oq_openai.parsing import parse_json
from oq_openai.secrets import Secrets
from oq_openai.settings import OpenAIEndpoint

LONGEST_MESSAGE = 1000
"""Characters that are repeated of what a server says."""
BUSY_REST = 1.0
"""Seconds that an endpoint is left alone when it is busy and does not say for how long."""
LONGEST_DETAIL = 200
"""Characters of each detail that it gives."""
NO_CREDIT_REST = 60.0
"""Seconds that an endpoint is left alone whose account has no credit left."""
LONGEST_REST = 3600.0
"""Seconds; an endpoint that asks for more is looked at after them all the same."""

_NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_balance")
_OTHER_MODEL = ("model_not_found", "model_not_available", "invalid_model", "unknown_model")
_MODEL_IS_MISSING = re.compile(
    r"\bmodel\b.{0,120}?(not found|not exist|no such|unknown|is not a valid model|not available|not loaded)"
    r"|(unknown|no such|invalid) model\b",
    re.IGNORECASE | re.DOTALL,
)
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
_PARTS = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

Fault = EndpointFault | Steering
"""An EndpointFault where another endpoint may do better."""


@frozen(kw_only=True)
class Told:
    """An error as a server tells it, with an HTTP status or within a stream."""

    status: int | None
    message: str
    type: str | None = None
    code: str | None = None

    @classmethod
    def of(cls, status: int | None, error: object) -> Told:
        """From the value of `error`, which is an object or, by some servers, a text."""
        if not isinstance(error, Mapping):
            return cls(status=status, message=str(error or ""))
        code = error.get("code")
        if status is None and re.fullmatch("[45][0-9]{2}", str(code)):
            status = int(str(code))
        message = error.get("message") or error.get("detail") or json.dumps(dict(error), default=str)
        return cls(
            status=status,
            message=message if isinstance(message, str) else json.dumps(message, default=str),
            type=_word(error.get("type")),
            code=_word(code),
        )

    @classmethod
    def of_body(cls, status: int, body: bytes) -> Told:
        """From an answer that is no success."""
        text = body.decode("utf-8", "replace").strip()
        try:
            value = parse_json(text)
        except ValueError:
            return cls(status=status, message="" if text.startswith("<") else text)
        if isinstance(value, list) and value:  # as Google's servers wrap it
            value = value[0]
        if not isinstance(value, Mapping):
            return cls(status=status, message=text)
        error = value.get("error")
        return cls.of(status, value if error in (None, "", True) else error)

    def is_any(self, *codes: str) -> bool:
        """Whether its code or its type is one of these."""
        return self.code in codes or self.type in codes

    @property
    def lacks_model(self) -> bool:
        """Whether it says that the server does not have the model."""
        return self.is_any(*_OTHER_MODEL) or _MODEL_IS_MISSING.search(self.message) is not None


def _word(value: object) -> str | None:
    return value if isinstance(value, str) else None


class Blame:
    """Makes faults of what goes wrong at one endpoint; keys never get into them."""

    def __init__(self, endpoint: OpenAIEndpoint, model: str, secrets: Secrets) -> None:
        self._endpoint = endpoint
        self._model = model
        self._secrets = secrets

    def unreachable(self, error: Exception) -> EndpointFault:
        """There is nobody."""
        message = f"cannot be reached at {self._url()}: {self._said(str(error)) or type(error).__name__}"
        return EndpointFault(Verdict.UNREACHABLE, self._retryable(message, "ConnectError"))

    def broken(self, what: str, said: object = "") -> EndpointFault:
        """The answer, or the connection, broke off or made no sense; `said` is what shows it."""
        message = f"{what}{_colon(self._said(str(said) or type(said).__name__) if said != '' else '')}"
        return EndpointFault(Verdict.FAILED, self._retryable(message, "BrokenAnswer"))

    def stalled(self, error: Stalled) -> EndpointFault:
        """Nothing came for too long."""
        message = f"sent nothing {'' if error.first else 'more '}for {error.seconds:g} s"
        return EndpointFault(Verdict.FAILED, self._retryable(message, "Stalled"))

    def no_key(self, error: Exception) -> EndpointFault:
        """There is no key to be sent."""
        return EndpointFault(Verdict.FAILED, PermanentError(str(error), type="NoKey"))

    def no_api(self, status: int, content_type: str) -> EndpointFault:
        """What answers is something else, such as a web page."""
        what = content_type.partition(";")[0].strip() or "nothing"
        message = f"answers with {status} and {what}, which is no API; {self._see_url()}"
        return EndpointFault(Verdict.FAILED, self._permanent(message, "NoApi", {"status": status}))

    def refused(self, told: Told, headers: Mapping[str, str], now: datetime | None = None) -> Fault:
        """What an error that the server tells means."""
        wait = wanted_rest(headers, now or datetime.now(UTC), limited=told.status == 429)
        said = self._said(told.message)
        status = "" if told.status is None else f" ({told.status})"
        details = self._details(told, headers)
        if told.is_any(*_NO_CREDIT) or told.status == 402:
            message = f"has no credit left{status}{_colon(said)}; see the account's plan and billing"
            error = self._permanent(message, "NoCredit", details)
            return EndpointFault(Verdict.BUSY, error, rest=max(NO_CREDIT_REST, wait or 0.0))
        if told.status == 429 or (told.status is None and told.is_any("rate_limit_exceeded", "rate_limit_error")):
            rest = BUSY_REST if wait is None else wait
            message = self._at(f"is asked too much{status}{_colon(said)}")
            later = RetryLater(rest, message, type="RateLimited", details=details)
            return EndpointFault(Verdict.BUSY, later, rest=min(LONGEST_REST, rest))
        if told.status == 401 or (told.status is None and told.is_any("invalid_api_key", "authentication_error")):
            message = f"does not accept {self._key()}{status}{_colon(said)}"
            return EndpointFault(Verdict.FAILED, self._permanent(message, "Unauthorized", details))
        if told.lacks_model and (told.status is None or 400 <= told.status < 500):
            message = f"does not have the model {self._model!r}{status}{_colon(said)}"
            return EndpointFault(Verdict.UNSUITED, self._permanent(message, "ModelNotFound", details))
        if told.status == 403:
            message = f"forbids this{status}{_colon(said)}; see what {self._key()} may do"
            return EndpointFault(Verdict.UNSUITED, self._permanent(message, "Forbidden", details))
        if told.status in (404, 405):
            message = f"does not know the path{status}{_colon(said)}; {self._see_url()}"
            return EndpointFault(Verdict.FAILED, self._permanent(message, "NotFound", details))
        if told.status is not None and 300 <= told.status < 400:
            message = f"has moved{status}; set its url to where it leads: {self._said(headers.get('location', ''))}"
            return EndpointFault(Verdict.FAILED, self._permanent(message, "Moved", details))
        if retryable_status(told.status or 500, (409,)) and not (
            told.status is None and told.is_any("invalid_request_error", "BadRequestError", "context_length_exceeded")
        ):
            message = self._at(f"failed{status}{_colon(said)}")
            kind = f"Http{told.status}" if told.status is not None else "ServerError"
            if wait is None:
                return EndpointFault(Verdict.FAILED, RetryableError(message, type=kind, details=details))
            later = RetryLater(wait, message, type=kind, details=details)
            busy = Verdict.BUSY if told.status == 503 else Verdict.FAILED
            return EndpointFault(busy, later, rest=min(LONGEST_REST, wait))
        message = f"refuses the request{status}{_colon(said)}"
        return self._permanent(message, "BadRequest", details)

    def _details(self, told: Told, headers: Mapping[str, str]) -> dict[str, Any]:
        found = {
            "endpoint": self._endpoint.name,
            "status": told.status,
            "type": told.type,
            "code": told.code,
            "request_id": headers.get("x-request-id"),
        }
        return {
            name: self._said(value)[:LONGEST_DETAIL] if isinstance(value, str) else value
            for name, value in found.items()
            if value is not None
        }

    def _said(self, text: str) -> str:
        """What a server or a library said, in one line without keys."""
        line = " ".join(self._secrets.redact(text).split()).rstrip(".")
        return line if len(line) <= LONGEST_MESSAGE else f"{line[:LONGEST_MESSAGE]}…"

    def _at(self, message: str) -> str:
        return f"endpoint {self._endpoint.name} {message}"

    def _retryable(self, message: str, kind: str) -> RetryableError:
        return RetryableError(self._at(message), type=kind, details={"endpoint": self._endpoint.name})

    def _permanent(self, message: str, kind: str, details: Mapping[str, Any]) -> PermanentError:
        return PermanentError(self._at(message), type=kind, details={"endpoint": self._endpoint.name, **details})

    def _key(self) -> str:
        """Which key it is, for people."""
        variable = self._endpoint.api_key_env
        if variable is None:
            return "a request without a key (set api_key_env of the endpoint)"
        if "Authorization" not in self._secrets.headers:
            return f"a request without a key (set the environment variable {variable})"
        return f"the key in the environment variable {variable}"

    def _url(self) -> str:
        return self._endpoint.url.partition("?")[0].rstrip("/")

    def _see_url(self) -> str:
        url = self._url()
        if re.search(r"/v\d", url):
            return f"see whether its url, {url}, is right"
        return f"its url, {url}, probably lacks a /v1 at the end"


def wanted_rest(headers: Mapping[str, str], now: datetime, *, limited: bool) -> float | None:
    """Seconds that a server asks to be left alone; None where it does not say.

    `Retry-After` and `retry-after-ms` say it outright. Else, where the rate is limited, what has run out is waited for
    (`x-ratelimit-reset-requests` and `-tokens`), or the nearer of the two where the headers do not tell which it is.
    """
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _NUMBER.fullmatch(milliseconds):
        return float(milliseconds) / 1000
    outright = retry_after(headers.get("retry-after"), now)
    if outright is not None or not limited:
        return outright
    resets = {what: reset_duration(headers.get(f"x-ratelimit-reset-{what}", "")) for what in ("requests", "tokens")}
    waits = {what: wait for what, wait in resets.items() if wait is not None}
    run_out = [wait for what, wait in waits.items() if headers.get(f"x-ratelimit-remaining-{what}") == "0"]
    return max(run_out) if run_out else min(waits.values(), default=None)


def reset_duration(text: str) -> float | None:
    """Seconds, from `1s`, `6m0s`, `20ms` or a number of seconds; None where it makes no sense."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    parts = _PARTS.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _colon(said: str) -> str:
    return f": {said}" if said else ""
