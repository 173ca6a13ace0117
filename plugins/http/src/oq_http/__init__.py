"""oq-http: the executor `http`, which makes HTTP requests."""

from __future__ import annotations

from collections.abc import Sequence

from oq import CliCommand, Executor, Settings, hookimpl
from oq_http._version import __version__
from oq_http.executor import HttpExecutor
from oq_http.payload import HttpResult, RequestPayload
from oq_http.settings import AuthSettings, HttpSettings
from oq_http.specs import gopherq, request

__all__ = [
    "AuthSettings",
    "HttpExecutor",
    "HttpResult",
    "HttpSettings",
    "RequestPayload",
    "__version__",
    "gopherq",
    "request",
]


@hookimpl
def oq_executors(settings: Settings) -> Sequence[Executor]:
    """The executor, with the table `[http]`."""
    return [HttpExecutor(settings.section("http", HttpSettings))]


@hookimpl
def oq_cli_commands() -> Sequence[CliCommand]:
    """`oq submit http`."""
    return [CliCommand(path=("submit", "http"), summary="Make an HTTP request.", load="oq_http.cli:http")]
