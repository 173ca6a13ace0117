"""Writes a random workload into a store, under the eyes of strace: `python -m torture.scribe PLACE SEED STEPS …`.

Each durable answer is marked in the trace by a line on a file of its own; what the store held at that mark is kept in a
pickle.
"""

from __future__ import annotations

import os
import pickle
import random
import sys
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from oq.choose import Offer
from oq.query import TaskFilter
from oq.store.base import (
    AddMany,
    Advance,
    AppendChunks,
    Block,
    Cancel,
    Claim,
    Delete,
    Failed,
    Finish,
    NewTask,
    Op,
    Purge,
    PutValue,
    Reply,
    Requeue,
    Retried,
    Run,
    Succeeded,
    TakeOver,
)
from oq.store.lmdb import LmdbStore
from oq.task import Failure, Priority, Status, TaskHead
from torture.plants import PLANTS

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
MARKS = "marks"
TRUTH = "truth.pickle"
INITIAL_BYTES = 2**17


def main(place: Path, seed: int, steps: int, durability: Any, plant: str) -> None:
    marks = os.open(place / MARKS, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    store = PLANTS[plant](place / "queue", durability=durability, initial_bytes=INITIAL_BYTES)
    scribe = Scribe(random.Random(seed))
    truth = [digest(store)]
    os.write(marks, b"MARK\n")
    for _ in range(steps):
        scribe.heard(store.apply(scribe.ops()))
        truth.append(digest(store))
        os.write(marks, b"MARK\n")
    store.close()
    (place / TRUTH).write_bytes(pickle.dumps(truth))


def digest(store: LmdbStore) -> dict[str, Any]:
    """All that the store says."""
    said: dict[str, Any] = {"values": {key: value.data for key, value in store.values("torture").items()}}
    said["counts"] = sorted(map(repr, store.counts()))
    for record in store.page(TaskFilter(), None, 10_000).items:
        full = store.load(record.head.id)
        blocks = store.blocks(full.seq, full.state.epoch, 0, 1_000)
        said[record.head.id] = zlib.crc32(repr((full, blocks)).encode())
    return said


class Scribe:
    """Makes batches of random ops that fit what happened before."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._now = BEGAN
        self._ids: list[str] = []
        self._runs: list[Run] = []
        self._claims = 0

    def ops(self) -> list[Op[Reply]]:
        self._now += timedelta(seconds=self._chance.random())
        return [self._op() for _ in range(self._chance.choice((1, 1, 2, 4)))]

    def heard(self, replies: list[Reply]) -> None:
        for reply in replies:
            self._runs += getattr(reply, "runs", ())

    def _op(self) -> Op[Reply]:
        chance, now = self._chance, self._now
        match chance.randrange(12):
            case 0 | 1 | 2 | 3:
                return AddMany(tasks=tuple(self.new_task() for _ in range(chance.randrange(1, 4))), now=now)
            case 4 | 5:
                self._claims += 1
                offer = Offer(queue="q", executor="x", lane="x", needs=("all",), choices=())
                return Claim(
                    token=f"{self._claims}", worker="w", offers=(offer,), free={"all": 3}, limit=3, idle=False, now=now
                )
            case 6 | 7 | 8 if self._runs:
                run = self._runs.pop(chance.randrange(len(self._runs)))
                return Finish(seq=run.seq, epoch=run.state.epoch, ending=self._ending(), now=now)
            case 9 if self._runs:
                run, first = chance.choice(self._runs), chance.randrange(1_000)
                block = Block(first=first, count=1, data=chance.randbytes(chance.randrange(9_000)))
                return AppendChunks(seq=run.seq, epoch=run.state.epoch, block=block)
            case 10 if self._ids:
                kind = chance.choice((Cancel, Cancel, Requeue, Requeue, Delete))
                return kind(task_id=chance.choice(self._ids), now=now)
            case 11 if chance.random() < 0.1:
                self._runs.clear()
                return TakeOver(now=now)
            case 11 if chance.random() < 0.2:
                before = dict.fromkeys((Status.COMPLETED, Status.CANCELLED), now - timedelta(seconds=15))
                return Purge(now=now, before=before, most_completed=20, limit=10)
            case 11:
                return PutValue(namespace="torture", key=f"{chance.randrange(9)}", value=chance.randbytes(50))
            case _:
                return Advance(now=now)

    def new_task(self, task_id: str | None = None) -> NewTask:
        chance = self._chance
        task_id = task_id or f"task-{len(self._ids)}"
        after = (chance.choice(self._ids),) if self._ids and chance.random() < 0.2 else ()
        self._ids.append(task_id)
        head = TaskHead(
            id=task_id,
            executor="x",
            action="a",
            queue="q",
            lane="x",
            submitted_at=self._now,
            run_at=self._now + timedelta(seconds=2) if chance.random() < 0.2 else None,
            result_ttl=1.0 if chance.random() < 0.3 else None,
            unique_key=task_id if chance.random() < 0.2 else None,
            after=after,
            on_parent_failure="continue",
        )
        return NewTask(head=head, priority=Priority.NORMAL, payload=chance.randbytes(chance.choice((10, 300, 6_000))))

    def _ending(self) -> Any:
        failure = Failure(type="Boom", message="boom")
        match self._chance.randrange(4):
            case 0:
                return Failed(failure)
            case 1:
                return Retried(failure, self._now + timedelta(seconds=1))
            case _:
                return Succeeded(self._chance.randbytes(self._chance.choice((5, 5_000))))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5])
