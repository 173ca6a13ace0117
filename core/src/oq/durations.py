"""Durations as people write them: `90`, `1.5s`, `5m`, `2h`, `1d`, or several in a row such as `1h30m`."""

from __future__ import annotations

import math
import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")


def parse_duration(text: str) -> float:
    """Seconds; a bare number means seconds. Raises ValueError with a sentence."""
    compact = text.strip().lower()
    if _WHOLE.fullmatch(compact):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(compact))
    else:
        try:
            seconds = float(compact)
        except ValueError:
            seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{text!r} is not a duration; write 90, 1.5s, 5m, 2h or 1h30m")
    return seconds


def show_duration(seconds: float) -> str:
    """A duration in at most two units, for people."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
