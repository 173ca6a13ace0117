"""A circuit breaker: whether an endpoint is trusted with work, given what became of the work before."""

from __future__ import annotations

from enum import StrEnum

from attrs import define, field, frozen
from attrs.validators import ge, gt


class Health(StrEnum):
    """How much an endpoint is trusted; best first."""

    HEALTHY = "healthy"
    """Takes as much as it is said to take."""
    TRIED = "tried"
    """It has rested, and takes one task, whose fate decides (half open)."""
    RESTING = "resting"
    """Takes nothing until a certain moment (open)."""


@frozen(kw_only=True)
class RestPolicy:
    """When an endpoint that fails is left alone, and for how long."""

    after_failures: int = field(default=3, validator=ge(1))
    """It rests after so many failures in a row."""
    rest: float = field(default=5.0, validator=gt(0))
    """Seconds of the first rest; each one that is followed by another failure is twice as long."""
    longest_rest: float = field(default=60.0, validator=gt(0))
    """Seconds."""


@define(kw_only=True)
class Breaker:
    """What is known of one endpoint. Moments are seconds of a clock that never goes back."""

    policy: RestPolicy = field(factory=RestPolicy)
    failures: int = 0
    """In a row."""
    rests: int = 0
    """In a row, each of them followed by a failure."""
    since: float | None = None
    """When it was left alone last."""
    until: float | None = None
    """When its rest ends or ended; None where it does not need one."""
    last_error: str = ""
    """What went wrong last, while it has not been mended."""

    def health(self, now: float) -> Health:
        """How much it is trusted at this moment."""
        if self.until is None:
            return Health.HEALTHY
        return Health.RESTING if now < self.until else Health.TRIED

    def answered(self, asked_at: float) -> None:
        """It answered what it was asked then: all is forgotten, unless it has been left alone since."""
        if self.since is not None and asked_at < self.since:
            return
        self.failures = self.rests = 0
        self.since = self.until = None
        self.last_error = ""

    def failed(self, now: float, error: str) -> None:
        """A task failed through its fault."""
        self.failures += 1
        self.last_error = error
        health = self.health(now)
        if health is Health.TRIED or (health is Health.HEALTHY and self.failures >= self.policy.after_failures):
            self.unreachable(now, error)

    def unreachable(self, now: float, error: str) -> None:
        """There is nobody: it rests at once. That it is heard of from several tasks makes the rest no longer."""
        self.last_error = error
        if self.health(now) is Health.RESTING:
            return
        self.since = now
        self.until = now + min(self.policy.longest_rest, self.policy.rest * 2.0 ** min(self.rests, 30))
        self.rests += 1

    def busy(self, now: float, rest: float, error: str) -> None:
        """It asks to be left alone for so many seconds, which is no failure."""
        self.last_error = error
        self.since = now
        self.until = max(self.until or 0.0, now + rest)

    def looks_well(self, now: float) -> None:
        """It was seen to be there, which is reason to try it, and no more: only an answer is health."""
        if self.until is not None:
            self.until = min(self.until, now)
