"""The one place that reads the wall clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Gives the present moment, aware and in UTC."""


def wall_clock() -> datetime:
    """The present moment by the machine's clock, in UTC; it may step backwards."""
    return datetime.now(UTC)
