"""When a failed attempt is repeated: policy + attempt number + failure -> a delay, or the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

if TYPE_CHECKING:
    from oq.task import Failure

def _positive(_self: object, attribute: object, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{getattr(attribute, 'name', 'value')} must be 0 or more, not {value!r}")


def _at_least_one(_self: object, attribute: object, value: float) -> None:
    if not value >= 1:
        raise ValueError(f"{getattr(attribute, 'name', 'value')} must be 1 or more, not {value!r}")


def _share(_self: object, attribute: object, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{getattr(attribute, 'name', 'value')} must be between 0 and 1, not {value!r}")


@frozen(kw_only=True)
class RetryPolicy:
    """Exponential backoff with jitter: attempt n is followed by `delay * factor**(n-1)` seconds, at most `max_delay`."""

    max_attempts: int = field(default=3, validator=_at_least_one)
    """How many attempts in all, the first one included; 1 means no retry."""
    delay: float = field(default=1.0, validator=_positive)
    """Seconds before the second attempt."""
    factor: float = field(default=2.0, validator=_at_least_one)
    """By how much each wait is longer than the one before."""
    max_delay: float = field(default=300.0, validator=_positive)
    """Seconds; no wait of this policy is longer."""
    jitter: float = field(default=0.1, validator=_share)
    """The share of each wait that chance may take off, so that many failures do not come back together."""


NO_RETRY = RetryPolicy(max_attempts=1)
"""One attempt only."""


def next_delay(policy: RetryPolicy, attempt: int, failure: Failure, chance: float) -> float | None:
    """Seconds until the attempt after `attempt` (counted from 1), or None when there is none.

    `chance` is a number in [0, 1) that the caller drew; the same arguments always give the same answer. A failure that
    asks for a least wait (`Failure.retry_after`) gets at least that much, whatever `max_delay` says.
    """
    if not failure.retryable or attempt >= policy.max_attempts:
        return None
    try:
        grown = policy.delay * policy.factor ** (attempt - 1)
    except OverflowError:
        grown = policy.max_delay
    wait = min(grown, policy.max_delay)
    wait -= wait * policy.jitter * chance
    return max(wait, failure.retry_after or 0.0)
