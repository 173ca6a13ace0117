"""huey on SQLite: one file, one connection behind a lock, a commit for each step of a task."""

from __future__ import annotations

import os
import time

from huey import SqliteHuey
from huey.consumer import Consumer

from peers import kit


def opened(options: kit.Options) -> SqliteHuey:
    # WAL is huey's default; fsync=True is `PRAGMA synchronous=FULL`, which syncs the log at every commit.
    huey = SqliteHuey("bench", filename=str(options.place / "huey.db"), fsync=True, timeout=30)
    huey.task(name="noop")(noop)
    return huey
