"""What is kept where: the tables, their keys, and the form of a record.

Keys are big-endian, so that bytes sort as the tuples they stand for. Every record carries a format version and a
checksum over its key and body; LMDB has none of its own. Index entries carry none: they are derived from records, and
`check.py` compares the two.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from struct import Struct as Packing
from typing import Any, Final, Generic, TypeVar
from zlib import crc32

import msgspec
from msgspec import Struct

from oq.errors import DamagedRecord
from oq.query import Count
from oq.store.base import Entry, Value
from oq.task import Attempt, Phase, Priority, Status, TaskHead, TaskState

FORMAT: Final = 2
"""The version of this layout; a store of another version is not opened."""

TABLES: Final = (
    b"heads",  # seq -> TaskHead: written once
    b"payloads",  # seq -> the encoded payload: written once, never read by lists
    b"states",  # seq -> TaskState: small, rewritten by each transition
    b"results",  # seq -> the encoded result
    b"attempts",  # seq, epoch -> Attempt: runs that did not succeed
    b"blocks",  # seq, epoch, first -> a block of output
    b"ids",  # id -> seq
    b"status",  # status, seq: every task, for lists by status, newest first
    b"ready",  # lane, 255 - priority, seq -> b"" or ALONE: the ready tasks, in the order in which they start
    b"timers",  # moment, seq: the tasks to wake
    b"unique",  # unique key -> seq of the task that holds it
    b"followers",  # seq of a task, seq of one that waits for it
    b"references",  # seq of a task, seq of one that comes after it and is not final: the former is kept
    b"settling",  # seq of a final task with followers that have not been told
    b"lanes",  # number -> (queue, executor, lane)
    b"counts",  # queue -> how many tasks of each kind
    b"values",  # namespace, NUL, key -> Value
    b"idempotent",  # idempotency key -> (digest, entries, moment)
    b"idempotent_since",  # moment, idempotency key (or its hash) -> idempotency key: to be forgotten in this order
    b"claims",  # worker -> its last claim
    b"stops",  # seq, epoch: cancelled runs that have not stopped yet
    b"damaged",  # table, NUL, key -> a record that was set aside, as found
    b"meta",  # name -> number
)

ALONE: Final = b"\x01"
"""The value of a ready entry whose task may only run while nothing else does."""

SEQ = Packing(">Q")
SEQ_EPOCH = Packing(">QI")
PAIR = Packing(">QQ")
BLOCK_KEY = Packing(">QII")
STATUS_KEY = Packing(">BQ")
READY_KEY = Packing(">IBQ")
LANE_NUMBER = Packing(">I")
NUMBER = Packing(">Q")
LARGEST_SEQ: Final = 2**64 - 1

STATUS_CODE: Final = {status: code for code, status in enumerate(Status, start=1)}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MOMENT_OFFSET = 2**63
"""Makes moments before 1970 sort before later ones."""


def timer_key(moment: datetime, seq: int) -> bytes:
    """The key of a timer: moments first."""
    return PAIR.pack(_number_of(moment), seq)


def moment_of(key: bytes) -> datetime:
    """The moment with which a key begins."""
    return _EPOCH + timedelta(microseconds=SEQ.unpack_from(key)[0] - _MOMENT_OFFSET)


def _number_of(moment: datetime) -> int:
    """Sorts as moments do."""
    return (moment - _EPOCH) // _MICROSECOND + _MOMENT_OFFSET


def since_key(moment: datetime, key: bytes) -> bytes:
    """The key of the note since when an idempotency key is known."""
    room = LONGEST_KEY - SEQ.size
    return SEQ.pack(_number_of(moment)) + (key if len(key) <= room else b"\xff" + sha256(key).digest())


LONGEST_KEY: Final = 511
"""Bytes; LMDB's limit. An empty key is none either."""


def text_key(text: str) -> bytes:
    """A key for any text: its bytes, or their hash where there are none or too many."""
    key = text.encode()
    return key if 0 < len(key) <= LONGEST_KEY else b"\xff" + sha256(key).digest()  # \xff begins no text


_VERSION: Final = 1
_HEADER = Packing(">BI")
"""Version and checksum."""
_BODY: Final = _HEADER.size
_header = _HEADER.pack

encode = msgspec.msgpack.Encoder().encode


def seal(key: bytes, body: bytes) -> bytes:
    """A record: version, checksum, body."""
    return _header(_VERSION, crc32(body, crc32(key))) + body


def unseal(table: str, key: bytes, record: bytes) -> bytes:
    """The body of a record; raises DamagedRecord."""
    body = record[_BODY:]
    try:
        version, checksum = _HEADER.unpack_from(record)
    except struct.error:
        raise DamagedRecord(table, name_of(key), "it is too short") from None
    if version != _VERSION:
        raise DamagedRecord(table, name_of(key), f"it is of version {version}, not {_VERSION}")
    if checksum != crc32(body, crc32(key)):
        raise DamagedRecord(table, name_of(key), "its checksum is wrong")
    return body


def body_size(record: bytes) -> int:
    """Bytes of a record's body, whether it is damaged or not."""
    return max(0, len(record) - _BODY)


def name_of(key: bytes) -> str:
    """A key as people can read it."""
    return f"#{SEQ.unpack_from(key)[0]}" if len(key) in (SEQ.size, SEQ_EPOCH.size, BLOCK_KEY.size) else repr(key)


T = TypeVar("T")


class Sealed(Generic[T]):
    """Reads and writes the records of one table."""

    def __init__(self, table: str, cls: Any) -> None:
        self.table = table
        self._decode: Callable[[bytes], T] = msgspec.msgpack.Decoder(cls).decode

    def dump(self, key: bytes, value: T) -> bytes:
        return seal(key, encode(value))

    def load(self, key: bytes, record: bytes) -> T:
        """The value of a record; raises DamagedRecord."""
        return self.decode(key, unseal(self.table, key, record))

    def decode(self, key: bytes, body: bytes) -> T:
        """The value of an unsealed record; raises DamagedRecord."""
        try:
            return self._decode(body)
        except msgspec.DecodeError as error:
            raise DamagedRecord(self.table, name_of(key), str(error)) from None


class Unit(Struct, frozen=True, gc=False, array_like=True):
    """One task of a worker's last claim."""

    seq: int
    epoch: int
    units: tuple[str, ...]


class LastClaim(Struct, frozen=True, array_like=True):
    """What a worker claimed last, in case it asks again."""

    token: str
    units: tuple[Unit, ...]


class KeptBlock(Struct, frozen=True, array_like=True):
    """A block of output; its first index is in the key."""

    count: int
    data: bytes


class Idempotent(Struct, frozen=True, array_like=True):
    """What a submission under an idempotency key gave."""

    digest: str
    entries: tuple[Entry, ...]
    at: datetime


HEADS = Sealed[TaskHead]("heads", TaskHead)
STATES = Sealed[TaskState]("states", TaskState)
ATTEMPTS = Sealed[Attempt]("attempts", Attempt)
BLOCKS = Sealed[KeptBlock]("blocks", KeptBlock)
LANES = Sealed[tuple[str, str, str]]("lanes", tuple[str, str, str])
VALUES = Sealed[Value]("values", Value)
CLAIMS = Sealed[LastClaim]("claims", LastClaim)
IDEMPOTENT = Sealed[Idempotent]("idempotent", Idempotent)

KINDS: Final = tuple(
    [(Status.PENDING, phase) for phase in Phase if phase is not Phase.PAUSED]
    + [(status, None) for status in Status if status is not Status.PENDING]
)
"""The combinations of status and phase that are counted."""

_PRIORITIES: Final = tuple(Priority)
_CELLS: Final = {
    (*kind, int(priority)): row * len(_PRIORITIES) + column
    for row, kind in enumerate(KINDS)
    for column, priority in enumerate(_PRIORITIES)
}
_PENDING_CELLS: Final = len(_PRIORITIES) * sum(status is Status.PENDING for status, _ in KINDS)
_COMPLETED_CELLS: Final = tuple(cell for (status, *_), cell in _CELLS.items() if status is Status.COMPLETED)
_ROW = Packing(f">{len(_CELLS) + 1}q")


class CountRow:
    """How many tasks of one queue there are of each kind and priority, and how large the pending ones' payloads are."""

    def __init__(self, cells: list[int] | None = None) -> None:
        self.cells = cells or [0] * (len(_CELLS) + 1)

    @classmethod
    def load(cls, key: bytes, record: bytes) -> CountRow:
        """The stored row; raises DamagedRecord."""
        body = unseal("counts", key, record)
        if len(body) != _ROW.size:
            raise DamagedRecord("counts", name_of(key), f"it has {len(body)} bytes, not {_ROW.size}")
        return cls(list(_ROW.unpack(body)))

    def dump(self, key: bytes) -> bytes:
        return seal(key, _ROW.pack(*self.cells))

    def add(self, state: TaskState, number: int, size: int) -> None:
        """Count `number` more tasks that stand like this, with payloads of `size` bytes in all; negative for fewer."""
        self.cells[_CELLS[state.status, state.phase, state.priority]] += number
        if state.status is Status.PENDING:
            self.cells[-1] += size

    def move(self, before: TaskState, after: TaskState, size: int) -> None:
        """Count a task with a payload of `size` bytes as standing otherwise than before."""
        cells = self.cells
        cells[_CELLS[before.status, before.phase, before.priority]] -= 1
        cells[_CELLS[after.status, after.phase, after.priority]] += 1
        if before.status is not after.status:
            if before.status is Status.PENDING:
                cells[-1] -= size
            elif after.status is Status.PENDING:
                cells[-1] += size

    @property
    def pending(self) -> int:
        """How many tasks are pending."""
        return sum(self.cells[:_PENDING_CELLS])

    @property
    def completed(self) -> int:
        """How many tasks are completed."""
        return sum(self.cells[cell] for cell in _COMPLETED_CELLS)

    @property
    def pending_size(self) -> int:
        """Bytes of the payloads of pending tasks."""
        return self.cells[-1]

    def counts(self, queue: str) -> list[Count]:
        """What is not zero."""
        return [
            Count(queue=queue, status=status, phase=phase, priority=Priority(priority), number=self.cells[cell])
            for (status, phase, priority), cell in _CELLS.items()
            if self.cells[cell]
        ]
