"""What a process that does nothing but run a queue may set for itself; a library must not."""

from __future__ import annotations

import gc
import sys

SWITCH_INTERVAL = 0.0005
"""Seconds; lets the committer's thread have the interpreter soon while tasks keep it busy."""

YOUNG_OBJECTS = 50_000
"""New objects between two looks of the cyclic garbage collector; Python's 700 cost a tenth of the throughput."""


def tune_process() -> None:
    """Tune the interpreter for many short tasks; to be called once everything is imported."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)
