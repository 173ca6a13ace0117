"""Flips bits: in records, through LMDB itself, and in the bytes of the data file; then asks the store everything."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import lmdb
from attrs import define, field, frozen

from oq.choose import Offer
from oq.errors import DamagedRecord, OqError
from oq.query import TaskFilter
from oq.store.base import Claim, Claimed, Finish, Refused, Succeeded
from oq.store.lmdb import LmdbStore
from oq.store.lmdb.layout import NUMBER, TABLES
from torture.children import in_child
from torture.scribe import Scribe

RECORDS = (b"heads", b"payloads", b"states", b"results", b"attempts", b"blocks", b"values", b"idempotent", b"claims")
"""Tables whose records carry a checksum and belong to one thing each."""


@frozen
class Truth:
    """What a sound store says."""

    tasks: dict[str, tuple[Any, ...]]
    by_seq: dict[int, str]
    values: dict[str, bytes]


def populate(path: Path, seed: int, steps: int = 80) -> Truth:
    """Fill a store with tasks of all kinds, and say what is in it."""
    store = LmdbStore(path, initial_bytes=2**20)
    scribe = Scribe(random.Random(seed))
    for _ in range(steps):
        scribe.heard(store.apply(scribe.ops()))
    tasks, by_seq = {}, {}
    for record in store.page(TaskFilter(), None, 10_000).items:
        full = store.load(record.head.id)
        tasks[record.head.id] = (full, store.blocks(full.seq, full.state.epoch, 0, 1_000))
        by_seq[full.seq] = record.head.id
    values = {key: value.data for key, value in store.values("torture").items()}
    assert store.check() == []
    store.close()
    return Truth(tasks, by_seq, values)


def flip_record(path: Path, table: bytes, chance: random.Random) -> bytes | None:
    """Flip a bit of one record's value; gives its key, or None where the table has no bits."""
    with lmdb.open(str(path), max_dbs=len(TABLES), map_size=2**24) as env:
        place = env.open_db(table)
        with env.begin(write=True) as txn:
            items = [(key, value) for key, value in txn.cursor(db=place) if value]
            if not items:
                return None
            key, value = chance.choice(items)
            txn.put(key, _flipped(value, chance), db=place)
            return key


def set_number(path: Path, name: bytes, number: int) -> None:
    """Overwrite one of the numbers that carry no checksum."""
    with lmdb.open(str(path), max_dbs=len(TABLES), map_size=2**24) as env:
        place = env.open_db(b"meta")
        with env.begin(write=True) as txn:
            txn.put(name, NUMBER.pack(number), db=place)


def _flipped(data: bytes, chance: random.Random) -> bytes:
    flipped = bytearray(data)
    flipped[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(flipped)


def wrong_answers(store: LmdbStore, truth: Truth, added: Collection[str] = ()) -> Iterator[str]:
    """What the store serves that is not so; to refuse with DamagedRecord is right. Tasks `added` since are passed."""
    for task_id, (full, blocks) in truth.tasks.items():
        yield from _unless_damaged(f"load {task_id}", full, lambda task_id=task_id: store.load(task_id))
        found = _answer(lambda task_id=task_id: store.get(task_id))
        if found is not None and (found.head, found.state) != (full.head, full.state):
            yield f"get {task_id}: {found}"
        yield from _unless_damaged(
            f"blocks {task_id}", blocks, lambda full=full: store.blocks(full.seq, full.state.epoch, 0, 1_000)
        )
    for record in store.page(TaskFilter(), None, 10_000).items:
        if record.head.id in added:
            continue
        full = truth.tasks[truth.by_seq[record.seq]][0]
        if (record.head, record.state) != (full.head, full.state):
            yield f"page: {record}"
    for key, data in truth.values.items():
        found = _answer(lambda key=key: store.value("torture", key))
        if found is not None and found.data != data:
            yield f"value {key}: {found}"


def wrong_runs(store: LmdbStore, truth: Truth) -> Iterator[str]:
    """Claim and finish all that can run; what was claimed must be what was handed in."""
    offer = Offer(queue="q", executor="x", lane="x", needs=("all",), choices=())
    now = max(full.state.started_at or full.head.submitted_at for full, _ in truth.tasks.values())
    for number in range(1_000):
        claim = Claim(
            token=f"again-{number}", worker="v", offers=(offer,), free={"all": 5}, limit=5, idle=True, now=now
        )
        (claimed,) = store.apply([claim])
        if isinstance(claimed, Refused):
            yield f"the claim is refused: {claimed.error}"
            return
        assert isinstance(claimed, Claimed)
        if not claimed.runs and not claimed.set_aside:
            return
        for run in claimed.runs:
            full = truth.tasks[truth.by_seq[run.seq]][0]
            if (run.head, run.payload) != (full.head, full.payload):
                yield f"claimed {run}, which is not {full}"
        store.apply(
            [Finish(seq=run.seq, epoch=run.state.epoch, ending=Succeeded(b"1"), now=now) for run in claimed.runs]
        )
    yield "claims never end"


def _unless_damaged(what: str, expected: Any, ask: Any) -> Iterator[str]:
    found = _answer(ask, expected)
    if found is not None and found != expected:
        yield f"{what}: {_different(found, expected)}"


def is_only_less(answer: str) -> bool:
    """Whether an entry of a list is not found because its key is damaged, which `check` tells and no reader can."""
    return ": attempts (" in answer or (answer.startswith("blocks") and ": []" in answer)


def _different(found: Any, expected: Any) -> str:
    """The fields that differ."""
    if type(found) is not type(expected) or not hasattr(found, "__struct_fields__"):
        return f"{found!r:.300}, not {expected!r:.300}"
    pairs = [(name, getattr(found, name), getattr(expected, name)) for name in found.__struct_fields__]
    return "; ".join(f"{name} {left!r:.200}, not {right!r:.200}" for name, left, right in pairs if left != right)


def _answer(ask: Any, instead: Any = None) -> Any:
    try:
        return ask()
    except DamagedRecord:
        return instead


@define
class FlipReport:
    """What came of flipped bytes."""

    ends: Counter[str] = field(factory=Counter)
    broken: list[str] = field(factory=list)


def flip_file_bytes(number: int, seed: int) -> FlipReport:
    """Flip a few bits of the data file, and read all of it in a child that may die; so many times."""
    chance = random.Random(seed)
    report = FlipReport()
    with tempfile.TemporaryDirectory(prefix="oq-flips-") as directory:
        sound = Path(directory) / "sound"
        truth = in_child(populate, sound, seed).value
        for _ in range(number):
            damaged = Path(directory) / "damaged"
            shutil.copytree(sound, damaged, ignore=shutil.ignore_patterns("bells", "lock.mdb"))
            data = bytearray((damaged / "data.mdb").read_bytes())
            for _ in range(chance.choice((1, 1, 10))):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            (damaged / "data.mdb").write_bytes(data)
            _judge(in_child(_look_at, damaged, truth), report)
            shutil.rmtree(damaged)
    return report


def _judge(ended: Any, report: FlipReport) -> None:
    if ended.error:
        report.broken.append(ended.error)
    elif ended.signal:
        report.ends[f"the reader was killed ({ended.signal})"] += 1
    else:
        kind, wrong = ended.value
        report.ends[kind] += 1
        report.broken += wrong


def _look_at(path: Path, truth: Truth) -> tuple[str, list[str]]:
    try:
        store = LmdbStore(path, initial_bytes=2**20)
    except OqError:
        return "it was not opened", []
    try:
        problems = store.check()
        wrong = list(wrong_answers(store, truth)) + list(wrong_runs(store, truth))
    except OqError as error:
        return f"{type(error).__name__} was raised", []
    if not problems:
        return "nothing was noticed", [f"{answer} (and check is silent)" for answer in wrong]
    return "check named it", [answer for answer in wrong if not is_only_less(answer)]
