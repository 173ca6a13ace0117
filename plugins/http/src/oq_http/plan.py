"""From a payload to what is sent, and what happens to that when a server sends it on."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from urllib.parse import urlencode

import httpx
from attrs import field, frozen

from oq import InvalidTask, PermanentError
from oq_http import rules
from oq_http.auth import Auth, make_auth
from oq_http.decoding import ACCEPTED
from oq_http.payload import RequestPayload, Value
from oq_http.policy import Policy
from oq_http.redaction import Scrubber, is_secret_header, redact_url
from oq_http.settings import HttpSettings

Headers = tuple[tuple[str, str], ...]

_OF_A_BODY = ("content-type", "content-encoding", "content-language", "content-location")
_SENT_ON_AS_GET = (301, 302)
_ALWAYS_AS_GET = 303


@frozen(kw_only=True)
class Timeouts:
    """Seconds for each phase."""

    connect: float
    read: float
    write: float


@frozen(kw_only=True)
class Hop:
    """One request on the way to the answer."""

    method: str
    url: httpx.URL
    headers: Headers = field(repr=False)
    content: bytes | None = field(repr=False)
    safe: bool = True
    """Whether all of the way up to here was as safe as at its start: no step from https to http."""

    @property
    def host(self) -> str:
        return self.url.raw_host.decode("ascii")


@frozen(kw_only=True)
class Plan:
    """Everything that is needed to make a request."""

    first: Hop
    auth: Auth | None
    expect: tuple[int | str, ...]
    redirects: int
    timeouts: Timeouts
    stream: bool
    secret_headers: frozenset[str]
    scrubber: Scrubber

    def shown(self, url: httpx.URL | str) -> str:
        """A URL as it may be stored and shown."""
        return self.scrubber.text(redact_url(str(url)))

    def headers_for(self, hop: Hop) -> Headers:
        """What is sent: the secret as well, where it may go."""
        if self.auth is None or not hop.safe or not self.auth.goes_to(hop.host):
            return hop.headers
        name, value = self.auth.header, self.auth.value
        return (*_without(hop.headers, (name.lower(),)), (name, value))

    def next_hop(self, hop: Hop, status: int, location: str) -> Hop:
        """The request that a redirect asks for; raises PermanentError when it makes no sense."""
        try:
            url = hop.url.join(location).copy_with(fragment=None, userinfo=b"")
        except (httpx.InvalidURL, ValueError) as error:
            raise PermanentError(
                f"{self.shown(hop.url)} redirects to what is no URL: {error}", type="ProtocolError"
            ) from None
        if url.scheme not in ("http", "https") or not url.host:
            raise PermanentError(
                f"{self.shown(hop.url)} redirects to {self.shown(url)}, which is no HTTP", type="NotAllowed"
            )
        method, headers, content = hop.method, hop.headers, hop.content
        if (status == _ALWAYS_AS_GET and method != "HEAD") or (status in _SENT_ON_AS_GET and method == "POST"):
            method, headers, content = "GET", _without(headers, _OF_A_BODY), None
        if _origin(url) != _origin(hop.url):
            headers = tuple((name, value) for name, value in headers if not is_secret_header(name, self.secret_headers))
        return Hop(
            method=method,
            url=url,
            headers=headers,
            content=content,
            safe=hop.safe and not (hop.url.scheme == "https" and url.scheme == "http"),
        )


def make_plan(payload: RequestPayload, settings: HttpSettings, policy: Policy) -> Plan:
    """The plan for a payload whose rules are checked here once more: settings may have changed since submit.

    Raises PermanentError when a rule is broken, or a secret is not there.
    """
    try:
        rules.check(payload, settings, policy)
        url = httpx.URL(payload.url).copy_with(fragment=None)
    except InvalidTask as error:
        raise PermanentError(str(error), type="InvalidTask") from None
    except (httpx.InvalidURL, ValueError) as error:
        raise PermanentError(f"payload.url: is no URL: {error}", type="InvalidTask") from None
    auth = None if payload.auth is None else make_auth(payload.auth, settings.auth[payload.auth])
    headers = tuple(rules.headers_of(payload))
    if url.userinfo:
        basic = base64.b64encode(f"{url.username}:{url.password}".encode()).decode()
        headers = (*headers, ("Authorization", f"Basic {basic}"))
    if added := _query(payload.params.items()):
        query = url.query.decode("ascii")
        url = url.copy_with(query=f"{query}&{added}".removeprefix("&").encode("ascii"))
    content, content_type = _content(payload)
    defaults = [("Accept", "*/*"), ("Accept-Encoding", ACCEPTED), ("User-Agent", settings.user_agent)]
    if content_type:
        defaults.append(("Content-Type", content_type))
    given = {name.lower() for name, _ in headers}
    return Plan(
        first=Hop(
            method=payload.method.upper(),
            url=url.copy_with(userinfo=b""),
            headers=(*((name, value) for name, value in defaults if name.lower() not in given), *headers),
            content=content,
        ),
        auth=auth,
        expect=payload.expect,
        redirects=settings.max_redirects if payload.redirects is None else payload.redirects,
        timeouts=Timeouts(
            connect=payload.connect_timeout or settings.connect_timeout,
            read=payload.read_timeout or settings.read_timeout,
            write=payload.write_timeout or settings.write_timeout,
        ),
        stream=payload.stream,
        secret_headers=frozenset(map(str.lower, settings.secret_headers)),
        scrubber=Scrubber(() if auth is None else auth.secrets),
    )


def _content(payload: RequestPayload) -> tuple[bytes | None, str | None]:
    """The body, and its type where the kind of body tells it."""
    if payload.json is not None:
        return json.dumps(payload.json, ensure_ascii=False, separators=(",", ":")).encode(), "application/json"
    if payload.form is not None:
        return _query(payload.form.items()).encode(), "application/x-www-form-urlencoded"
    if payload.body_base64 is not None:
        return base64.b64decode(payload.body_base64), None
    return (None, None) if payload.body is None else (payload.body.encode(), None)


def _query(fields: Iterable[tuple[str, Value | tuple[Value, ...]]]) -> str:
    pairs = [
        (name, single) for name, value in fields for single in (value if isinstance(value, tuple | list) else (value,))
    ]
    return urlencode([(name, _as_text(value)) for name, value in pairs])


def _as_text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _without(headers: Headers, names: Iterable[str]) -> Headers:
    unwanted = frozenset(names)
    return tuple((name, value) for name, value in headers if name.lower() not in unwanted)


def _origin(url: httpx.URL) -> tuple[str, bytes, int | None]:
    return url.scheme, url.raw_host, url.port
