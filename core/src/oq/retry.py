"""When a failed attempt is repeated: policy + attempt number + failure -> a delay, or the end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attrs import field, frozen

if TYPE_CHECKING:
    from oq.task import Failure


LONGEST_DELAY = 100 * 365 * 86400.0
"""Seconds; no wait is longer, so that the moment at its end can be told."""


def _positive(_self: object, attribute: object, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{getattr(attribute, 'name', 'value')!r} must be 0 or more, and finite, not {value!r}")


def _at_least_one(_self: object, attribute: object, value: float) -> None:
    if not 1 <= value < math.inf:
        raise ValueError(f"{getattr(attribute, 'name', 'value')!r} must be 1 or more, and finite, not {value!r}")


def _whole(_self: object, attribute: object, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{getattr(attribute, 'name', 'value')!r} must be a whole number, not {value!r}")


def _share(_self: object, attribute: object, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{getattr(attribute, 'name', 'value')!r} must be between 0 and 1, not {value!r}")


@frozen(kw_only=True)
class RetryPolicy:
    """Exponential backoff with jitter: after attempt n come `delay * factor**(n-1)` seconds, at most `max_delay`."""

    max_attempts: int = field(default=3, validator=[_whole, _at_least_one])
    """How many attempts in all, the first one included; 1 means no retry."""
    delay: float = field(default=1.0, validator=_positive)
    """Seconds before the second attempt."""
    factor: float = field(default=2.0, validator=_at_least_one, metadata={"duration": False})
    """By how much each wait is longer than the one before."""
    max_delay: float = field(default=300.0, validator=_positive)
    """Seconds; no wait of this policy is longer."""
    jitter: float = field(default=0.1, validator=_share, metadata={"duration": False})
    """The share of each wait that chance may take off, so that many failures do not come back together."""


NO_RETRY = RetryPolicy(max_attempts=1)
"""One attempt only."""


def next_delay(policy: RetryPolicy, attempt: int, failure: Failure, chance: float) -> float | None:
    """Seconds until the attempt after `attempt` (counted from 1), or None when there is none.

    `chance` is a number in [0, 1) that the caller drew; the same arguments always give the same answer. A failure that
    asks for a least wait (`Failure.retry_after`) gets at least that much, whatever `max_delay` says, up to
    `LONGEST_DELAY`.
    """
    if not failure.retryable or attempt >= policy.max_attempts:
        return None
    try:
        grown = policy.delay * float(policy.factor) ** (attempt - 1)
    except OverflowError:
        grown = policy.max_delay if policy.delay else 0.0
    wait = min(grown, policy.max_delay, LONGEST_DELAY)
    wait -= wait * policy.jitter * chance
    return min(max(wait, failure.retry_after or 0.0), LONGEST_DELAY)
