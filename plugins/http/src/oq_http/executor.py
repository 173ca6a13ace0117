"""The executor `http`: what it can do, what it refuses, and the connections it holds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Final, Self

from oq import Action, Context, Task
from oq_http import rules
from oq_http._version import __version__
from oq_http.payload import HttpResult, RequestPayload, describe
from oq_http.policy import Policy
from oq_http.settings import HttpSettings

if TYPE_CHECKING:
    import httpcore

EXECUTOR_NAME: Final = "http"
ACTION_NAME: Final = "request"


class HttpExecutor:
    """Makes HTTP requests, over connections that it keeps while it is open."""

    name = EXECUTOR_NAME
    version = __version__
    description = "HTTP requests"
    actions: Mapping[str, Action] = MappingProxyType(
        {
            ACTION_NAME: Action(
                payload=RequestPayload,
                summary="Make one HTTP request",
                streams=True,
                result=HttpResult,
                describe=describe,
            )
        }
    )

    def __init__(self, settings: HttpSettings | None = None) -> None:
        self._settings = settings or HttpSettings()
        self._policy = Policy.of(self._settings)
        self._pool: httpcore.AsyncConnectionPool | None = None

    async def __aenter__(self) -> Self:
        """Get ready to connect; raises InvalidSettings when a file that the settings name cannot be used."""
        from oq_http.pool import open_pool  # here, as it takes a while and `oq list` and the like have no use for it

        self._pool = open_pool(self._settings, self._policy)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close all connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.aclose()

    def check(self, action: str, payload: RequestPayload) -> None:  # noqa: ARG002 - the protocol has it; there is one action
        """Raise InvalidTask when the settings do not allow what the payload asks for."""
        rules.check(payload, self._settings, self._policy)

    async def execute(self, task: Task, ctx: Context) -> HttpResult:
        """Make the request.

        Raises PermanentError, RetryableError or RetryLater with what went wrong, and RuntimeError when it is not open.
        """
        from oq_http.fetching import Tools, fetch
        from oq_http.plan import make_plan

        if self._pool is None:
            raise RuntimeError("the executor http is not open; use `async with registry.opened()`, or a queue")
        plan = make_plan(task.payload, self._settings, self._policy)
        tools = Tools(pool=self._pool, policy=self._policy, settings=self._settings, now=_now)
        return await fetch(plan, tools, ctx.emit)


def _now() -> datetime:
    return datetime.now(UTC)
