"""What a request must fulfil under the present settings; asked at submit, and again when it is made.

Whether a host exists, and which addresses its name stands for, is no rule: it is found out when the request is made.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from oq import InvalidTask, Problem
from oq_http.payload import RequestPayload
from oq_http.policy import Policy, host_matches
from oq_http.redaction import is_secret_header
from oq_http.settings import LONGEST_TIMEOUT, HttpSettings
from oq_http.statuses import parse_statuses

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_IN_URLS = re.compile(r"[\x00-\x20\x7f]")

_LONGEST_URL = 60_000
"""Characters; httpx takes a few more."""

_OUR_METHODS = frozenset({"CONNECT", "TRACE"})
_OUR_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "te", "trailer", "expect"}
    | {"proxy-connection", "proxy-authorization"}
)
"""What the connection needs, so that it must not be what a task says."""


def check(payload: RequestPayload, settings: HttpSettings, policy: Policy) -> None:
    """Raise InvalidTask with everything that is wrong."""
    problems = [problem.under("payload") for rule in _RULES for problem in rule(payload, settings, policy)]
    if problems:
        raise InvalidTask(problems)


def headers_of(payload: RequestPayload) -> Iterator[tuple[str, str]]:
    """Every header that the task gives, one by one."""
    for headers in (payload.headers, payload.header or {}):
        for name, value in headers.items():
            for single in (value,) if isinstance(value, str) else value:
                yield name, single


def _method(payload: RequestPayload, _settings: HttpSettings, _policy: Policy) -> Iterator[Problem]:
    if not _TOKEN.fullmatch(payload.method) or payload.method.upper() in _OUR_METHODS:
        yield Problem("method", f"{payload.method!r} is no method; use GET, POST, PUT, PATCH, DELETE, HEAD or the like")


def _url(payload: RequestPayload, settings: HttpSettings, policy: Policy) -> Iterator[Problem]:
    try:
        url = urlsplit(payload.url)
        host = url.hostname
        _ = url.port  # it is read, and may be wrong, at this moment only
    except ValueError as error:
        yield Problem("url", f"is no URL: {error}")
        return
    if url.scheme.lower() not in ("http", "https") or not host or _NOT_IN_URLS.search(payload.url):
        yield Problem("url", 'must be a whole URL such as "https://example.com/path"')
        return
    if len(payload.url) > _LONGEST_URL:
        yield Problem("url", f"is longer than {_LONGEST_URL:,} characters; send what is long in the body")
    if (url.username is not None or url.password is not None) and not settings.allow_secret_headers:
        yield Problem(
            "url",
            "has a user and a password in it, which would be stored with the task; put them into a table "
            "[http.auth.NAME] of the settings and give auth",
        )
    if objection := policy.host_objection(host):
        yield Problem("url", f"requests do not go there: {objection}")


def _headers(payload: RequestPayload, settings: HttpSettings, _policy: Policy) -> Iterator[Problem]:
    if payload.headers and payload.header:
        yield Problem("header", "is another name of headers; give one of them")
        return
    place = "header" if payload.header else "headers"
    secrets = frozenset(map(str.lower, settings.secret_headers))
    for name, value in headers_of(payload):
        path = f"{place}.{name}"
        if not _TOKEN.fullmatch(name):
            yield Problem(place, f"{name!r} is no name of a header")
        elif name.lower() in _OUR_HEADERS:
            yield Problem(path, "is set by oq; leave it out")
        elif _CONTROL.search(value):
            yield Problem(path, "must not contain line breaks or other control characters")
        elif is_secret_header(name, secrets) and not settings.allow_secret_headers:
            yield Problem(
                path,
                "is a secret, and would be stored with the task; put it into a table [http.auth.NAME] of the settings "
                "and give auth, or set allow_secret_headers = true in the table [http]",
            )


def _one_body(payload: RequestPayload, _settings: HttpSettings, _policy: Policy) -> Iterator[Problem]:
    given = [name for name in ("json", "body", "body_base64", "form") if getattr(payload, name) is not None]
    if len(given) > 1:
        yield Problem(given[1], f"cannot be given together with {given[0]}")
    if payload.body_base64 is not None:
        try:
            base64.b64decode(payload.body_base64, validate=True)
        except ValueError as error:
            yield Problem("body_base64", f"is no base64: {error}")


def _auth(payload: RequestPayload, settings: HttpSettings, _policy: Policy) -> Iterator[Problem]:
    if payload.auth is None:
        return
    if (auth := settings.auth.get(payload.auth)) is None:
        known = ", ".join(sorted(settings.auth)) or "none"
        yield Problem("auth", f"there is no table [http.auth.{payload.auth}] in the settings (there are: {known})")
        return
    try:
        host = urlsplit(payload.url).hostname or ""
    except ValueError:
        return  # told already
    if not host_matches(host, auth.hosts):
        yield Problem("auth", f"{payload.auth} may not be sent to {host}; its hosts are {', '.join(auth.hosts)}")


def _expected(payload: RequestPayload, _settings: HttpSettings, _policy: Policy) -> Iterator[Problem]:
    if not payload.expect:
        yield Problem("expect", "must name a status")
    for index, written in enumerate(payload.expect):
        try:
            parse_statuses(written)
        except ValueError as error:
            yield Problem(f"expect[{index}]", str(error))


def _numbers(payload: RequestPayload, settings: HttpSettings, _policy: Policy) -> Iterator[Problem]:
    if payload.redirects is not None and not 0 <= payload.redirects <= settings.max_redirects:
        yield Problem("redirects", f"must be 0 to {settings.max_redirects} (max_redirects in the table [http])")
    for name in ("connect_timeout", "read_timeout", "write_timeout"):
        seconds = getattr(payload, name)
        if seconds is not None and not 0 < seconds <= LONGEST_TIMEOUT:
            yield Problem(name, f"must be seconds, more than 0 and at most {LONGEST_TIMEOUT:g}")


_RULES: tuple[Callable[[RequestPayload, HttpSettings, Policy], Iterator[Problem]], ...] = (
    _method,
    _url,
    _headers,
    _one_body,
    _auth,
    _expected,
    _numbers,
)
