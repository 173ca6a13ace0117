"""Makes a recorded failure of whatever an executor raised."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import trio

from oq.codec import decode, encode
from oq.errors import InvalidTask, PermanentError, RetryableError, RetryLater, UnknownAction
from oq.retry import LONGEST_DELAY
from oq.task import Failure

LONGEST_MESSAGE = 10_000
"""Characters that are kept of a failure's message."""
LONGEST_TRACEBACK = 4_000
"""Characters that are kept of the end of an unexpected exception's traceback."""


def is_not_its_own(error: BaseException) -> bool:
    """Whether the error, or one in its group, is about the whole program: Ctrl-C, or the event loop coming down."""
    if isinstance(error, BaseExceptionGroup):
        return any(is_not_its_own(inner) for inner in error.exceptions)
    return isinstance(error, KeyboardInterrupt | trio.Cancelled | GeneratorExit)


def unwrapped(error: BaseException) -> BaseException:
    """Out of a group, the one error in it, or the one that says most about what to do; else what was given."""
    errors = list(_singles(error))
    for kind in (PermanentError, RetryLater, RetryableError):
        for inner in errors:
            if isinstance(inner, kind):
                return inner
    return errors[0] if len(errors) == 1 else error


def _singles(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group and the groups in it; an error that is no group by itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _singles(inner)
    else:
        yield error


def failure_of(error: BaseException, most_details: int, *, retryable: bool) -> Failure:
    """The error as it is recorded, without details that take more than `most_details` bytes.

    Nothing that a plugin puts into it can do harm from here on.
    """
    match error:
        case PermanentError() | RetryableError() | RetryLater():
            name, message, details = as_text(error.type), as_text(error.message), _storable(error.details)
        case InvalidTask() | UnknownAction():
            name, message, details = type(error).__name__, as_text(error), None
        case BaseExceptionGroup():
            name = type(error).__name__
            message = "; ".join(f"{type(inner).__name__}: {as_text(inner)}" for inner in error.exceptions)
            details = {"traceback": _traceback(error)}
        case _:
            name, message, details = type(error).__name__, as_text(error), {"traceback": _traceback(error)}
    size = 0 if details is None else len(encode(details))
    if size > most_details:
        details = {"dropped": f"they took {size:,} bytes; at most {most_details:,} are kept (limits.failure)"}
    return Failure(
        type=name,
        message=message[:LONGEST_MESSAGE] or name,
        retryable=retryable,
        retry_after=_least_wait(error.after) if isinstance(error, RetryLater) else None,
        details=details,
    )


def _least_wait(after: object) -> float:
    """Seconds that an executor asked for; none where it makes no sense."""
    if not isinstance(after, int | float) or not after > 0:
        return 0.0
    return float(min(after, LONGEST_DELAY))


def _storable(details: object) -> dict[str, Any] | None:
    """The details as the store gives them back, with what cannot be stored replaced by how it prints."""
    if details is None:
        return None
    if not isinstance(details, Mapping):
        details = {"details": details}
    return {as_text(key): _kept(value) for key, value in details.items()}


def _kept(value: object) -> object:
    try:
        return decode(encode(value))
    except Exception:  # noqa: BLE001  # to look into a value may raise anything
        return as_text(value, repr)[:LONGEST_MESSAGE]


def as_text(value: object, show: Callable[[object], str] = str) -> str:
    """The value as text that can be stored, whatever it is."""
    try:
        text = show(value)
    except Exception:  # noqa: BLE001  # it may be of any class
        text = f"({type(value).__name__} that cannot be shown)"
    return text.encode("utf-8", "backslashreplace").decode()


def _traceback(error: BaseException) -> str:
    """The end of the traceback, where the cause is."""
    return as_text("".join(traceback.format_exception(error)))[-LONGEST_TRACEBACK:]
