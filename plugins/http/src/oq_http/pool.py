"""The connections of an executor: where they may go, whom they trust, and that no request waits for one."""

from __future__ import annotations

import ssl
from urllib.parse import unquote

import httpcore
import httpx

from oq import InvalidSettings
from oq_http.network import CheckedNetwork
from oq_http.policy import Policy
from oq_http.settings import HttpSettings

_IDLE = 5.0
"""Seconds after which a connection that nobody uses is closed; many servers do so a little later."""


def open_pool(settings: HttpSettings, policy: Policy) -> httpcore.AsyncConnectionPool:
    """A pool without an upper limit, as the queue's own limits bound it; raises InvalidSettings.

    A request that was cancelled while it waited for a place would leave that place taken for ever.
    """
    network: httpcore.AsyncNetworkBackend = CheckedNetwork(policy)
    proxy = None
    if settings.proxy is not None:
        network = httpcore.TrioBackend()  # the proxy is where the administrator says; it finds the hosts by itself
        proxy = _proxy(settings.proxy)
    return httpcore.AsyncConnectionPool(
        ssl_context=_trust(settings.ca_file),
        proxy=proxy,
        max_connections=None,
        max_keepalive_connections=settings.keep_connections,
        keepalive_expiry=_IDLE,
        network_backend=network,
    )


def _trust(ca_file: str | None) -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror or str(error)
            raise InvalidSettings(f"{ca_file} cannot be used: {reason}", "http.ca_file") from None
    return context


def _proxy(url: str) -> httpcore.Proxy:
    parsed = httpx.URL(url)
    auth = (unquote(parsed.username), unquote(parsed.password)) if parsed.userinfo else None
    return httpcore.Proxy(
        url=httpcore.URL(
            scheme=parsed.raw_scheme,
            host=parsed.raw_host,
            port=parsed.port or (443 if parsed.scheme == "https" else 80),
            target=b"/",
        ),
        auth=auth,
    )
