"""Submits while strace makes some writes fail: `python -m torture.refusing PLACE`."""

# ruff: noqa: T201  # a program for terminals

from __future__ import annotations

import json
import logging
import random
import sys
from pathlib import Path

from oq.errors import StoreUnavailable
from oq.query import TaskFilter
from oq.store.base import AddMany
from oq.store.lmdb import LmdbStore
from torture.scribe import BEGAN, Scribe

TRIES = 20


def main(place: Path) -> None:
    logging.disable()
    store = LmdbStore(place / "queue", initial_bytes=2**20)
    scribe = Scribe(random.Random(1))
    refused = unread = 0
    expected: list[str] = []
    for _ in range(30):
        op = AddMany(tasks=(scribe.new_task(),), now=BEGAN)
        for _ in range(TRIES):
            try:
                store.apply([op])
            except StoreUnavailable:
                refused += 1
                unread += _is_wrong(store, expected)
            else:
                expected.append(op.tasks[0].head.id)
                break
    print(
        json.dumps(
            {
                "refused": refused,
                "wrong after a refusal": unread,
                "wrong at the end": _is_wrong(store, expected),
                "problems": store.check(),
            }
        )
    )


def _is_wrong(store: LmdbStore, expected: list[str]) -> bool:
    found = [record.head.id for record in store.page(TaskFilter(), None, 1_000).items]
    return sorted(found) != sorted(expected)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
