"""Sets of HTTP statuses as people write them: `204`, `"200-299"`, `"2xx"`."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WRITTEN = re.compile(r"(?P<first>[1-5][0-9]{2})(?:-(?P<last>[1-5][0-9]{2}))?|(?P<hundred>[1-5])xx", re.IGNORECASE)


def parse_statuses(written: int | str) -> range:
    """The statuses that are meant; raises ValueError with a sentence."""
    found = _WRITTEN.fullmatch(str(written).strip())
    if found and found["hundred"]:
        return range(int(found["hundred"]) * 100, int(found["hundred"]) * 100 + 100)
    if found:
        statuses = range(int(found["first"]), int(found["last"] or found["first"]) + 1)
        if statuses:
            return statuses
    raise ValueError(f'{written!r} is no status; write 204, "200-299" or "2xx"')


def is_among(status: int, written: Iterable[int | str]) -> bool:
    """Whether one of them means this status."""
    return any(status in parse_statuses(part) for part in written)
