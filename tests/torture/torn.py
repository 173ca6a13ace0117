"""Cuts the power: builds what a disk may hold at any moment of a recorded workload, and opens each such image."""

from __future__ import annotations

import pickle
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from oq.errors import StoreFormat
from oq.store.lmdb import LmdbStore
from torture.children import in_child
from torture.scribe import INITIAL_BYTES, TRUTH, digest
from torture.trace import Mark, Step, Sync, Write, record

SUBSETS = 4
"""Chosen parts at each step, for each of the two whole images."""


@frozen
class Image:
    """What is on the disk after a power failure."""

    data: bytes
    answered: int
    """How many answers had been given."""
    how: str


@define
class TornReport:
    """What came of the images."""

    images: Counter[str] = field(factory=Counter)
    reported: int = 0
    """Images that were refused with a sentence, before anything had been answered."""
    broken: list[str] = field(factory=list)


def cut_power(
    images: int, seed: int, *, steps: int = 60, durability: str = "strict", plant: str = "nothing"
) -> TornReport:
    """Record a workload and try about so many images of it."""
    with tempfile.TemporaryDirectory(prefix="oq-torn-") as directory:
        place = Path(directory)
        trace = record(place, seed, steps, durability, plant)
        truth = pickle.loads((place / TRUTH).read_bytes())
        report = TornReport()
        for number, image in enumerate(images_of(trace, random.Random(seed), images)):
            report.images[image.how] += 1
            _try(place / f"image-{number}", image, _allowed(truth, image.answered, durability), report)
        return report


def images_of(trace: list[Step], chance: random.Random, number: int) -> Iterator[Image]:
    """About so many images; at each step the disk may hold nothing, all, or any part of what was not synced yet."""
    share = number / (len(trace) * (2 + SUBSETS))
    durable = bytearray()
    pending: list[Write] = []
    answered = 0
    for step in trace:
        match step:
            case Mark():
                answered += 1
            case Write(synced=True):
                _put(durable, step)
            case Write():
                pending.append(step)
            case Sync():
                for write in pending:
                    _put(durable, write)
                pending.clear()
        for how in range(2 + SUBSETS):
            if chance.random() > share * (1 if answered else 10):  # the store's first moments are short
                continue
            if how == 0:
                yield Image(bytes(durable), answered, "only what was synced")
            elif how == 1:
                yield Image(_with(durable, pending), answered, "all that was written")
            else:
                unit = chance.choice((512, 4096))
                parts = [part for write in pending for part in _parts(write, unit)]
                likely = chance.choice((0.1, 0.5, 0.9))
                kept = [part for part in parts if chance.random() < likely]
                yield Image(_with(durable, kept), answered, f"some {unit}-byte parts")


def _allowed(truth: list[dict[str, Any]], answered: int, durability: str) -> list[dict[str, Any]]:
    """What the store may hold: what was last told, or what was about to be; `relaxed` may also miss the last commit."""
    known = max(answered - 1, 0)
    before = [state for state in truth[:known] if state != truth[known]]
    return truth[known : known + 2] + (before[-1:] if durability == "relaxed" else [])


def _parts(write: Write, unit: int) -> Iterator[Write]:
    """The write in the pieces that a disk keeps or loses whole."""
    start = write.offset
    end = start + len(write.data)
    while start < end:
        stop = min(end, (start // unit + 1) * unit)
        yield Write(start, write.data[start - write.offset : stop - write.offset], False)
        start = stop


def _with(durable: bytearray, writes: list[Write]) -> bytes:
    disk = bytearray(durable)
    for write in writes:
        _put(disk, write)
    return bytes(disk)


def _put(disk: bytearray, write: Write) -> None:
    end = write.offset + len(write.data)
    if len(disk) < end:
        disk.extend(bytes(end - len(disk)))
    disk[write.offset : end] = write.data


def _try(place: Path, image: Image, allowed: list[dict[str, Any]], report: TornReport) -> None:
    ended = in_child(_open, place, image.data)
    name = f"{image.how}, after {image.answered} answers"
    if ended.value is None:
        report.broken.append(f"{name}: {ended.signal or ended.error}")
    elif isinstance(ended.value, str):
        report.reported += 1
        if image.answered:
            report.broken.append(f"{name}: {ended.value}")
    else:
        problems, said = ended.value
        report.broken += [f"{name}: check says: {problem}" for problem in problems]
        if said not in allowed:
            report.broken.append(f"{name}: {_difference(said, allowed[0])}")
    shutil.rmtree(place)


def _open(place: Path, data: bytes) -> Any:
    (place / "queue").mkdir(parents=True)
    (place / "queue" / "data.mdb").write_bytes(data)
    try:
        store = LmdbStore(place / "queue", initial_bytes=INITIAL_BYTES)
    except StoreFormat as error:
        return str(error)
    return store.check(), digest(store)


def _difference(said: dict[str, Any], expected: dict[str, Any]) -> str:
    lost = sorted(expected.keys() - said.keys())
    changed = sorted(key for key in expected.keys() & said.keys() if said[key] != expected[key])
    return f"lost {lost[:5]}, changed {changed[:5]}, too many {sorted(said.keys() - expected.keys())[:5]}"
