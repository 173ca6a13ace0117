"""oq: a durable, priority-ordered task queue for trio.

Names are imported when they are used, so that a command that needs few of them is quick; `__init__.pyi` tells type
checkers what they are.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "_version": "__version__",
    "breaker": "Health RestPolicy",
    "config": "Settings load_settings",
    "endpoint_fields": "endpoint_name header_variables http_headers plain_text variable_name",
    "endpoints": "Call EndpointFault EndpointState Endpoints Verdict",
    "errors": (
        "AmbiguousId CallerError DamagedRecord DuplicateExecutor IdempotencyConflict IllegalMove InvalidExecutor "
        "InvalidQuery InvalidSettings InvalidTask LeaseLost OqError PermanentError PluginError PluginLoadError "
        "Problem QueueClosed QueueFull RetryLater RetryableError Steering StoreError StoreFormat StoreInUse "
        "StoreUnavailable TaskCancelled TaskExists TaskFailed TaskInUse TaskNotFound UniqueKeyTaken UnknownAction "
        "UnknownExecutor UnsuccessfulTask VersionConflict"
    ),
    "events": "Event EventKind",
    "executor": "Action Chunk Context Executor LanePools Urgent",
    "functions": "Functions TaskFunction",
    "handle": "TaskHandle",
    "hookspecs": "CliCommand hookimpl",
    "http_status": "retry_after retryable_status",
    "hub": "EventFilter Subscription",
    "models": "ChatResult ChunkKind EmbedResult GenerateResult Message ToolCall Usage conversation",
    "opening": "open_queue",
    "pacing": "Pace Stalled",
    "plugins": "Plugins load_plugins",
    "query": "Page TaskFilter",
    "queue": "Queue",
    "registry": "Registry",
    "retry": "NO_RETRY RetryPolicy",
    "routing": "Endpoint Lane Routing",
    "stats": "QueueStats Stats",
    "streams": "StreamRestarted",
    "task": "OMITTED Attempt Failure Outcome Phase Priority Status Task TaskSpec",
}
"""By module, the names that are to be found here."""

_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = list(_HOME_OF)  # a list all the same


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
