"""Looks at the whole store and says, in a sentence each, what does not fit together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from oq.errors import DamagedRecord
from oq.store import transitions
from oq.store.lmdb import layout
from oq.store.lmdb.bindings import Txn
from oq.store.lmdb.environment import Environment
from oq.store.lmdb.layout import (
    ALONE,
    ATTEMPTS,
    BLOCKS,
    CLAIMS,
    HEADS,
    IDEMPOTENT,
    LANE_NUMBER,
    LANES,
    NUMBER,
    PAIR,
    READY_KEY,
    SEQ,
    STATES,
    STATUS_CODE,
    STATUS_KEY,
    VALUES,
    CountRow,
    since_key,
    text_key,
    timer_key,
)
from oq.task import Phase, TaskHead, TaskState

Entries = dict[bytes, bytes]


def check(environment: Environment, txn: Txn) -> list[str]:
    """A sentence for each broken invariant; an empty list for a sound store."""
    return list(_Check(environment, txn).run())


class _Check:
    """Derives every index and counter anew from the records and compares."""

    def __init__(self, environment: Environment, txn: Txn) -> None:
        self._environment = environment
        self._txn = txn
        self._expected: dict[bytes, Entries] = {
            name: {} for name in (b"ids", b"status", b"ready", b"timers", b"unique", b"references", b"idempotent_since")
        }
        self._unread: set[bytes] = set()
        """Keys of tasks that are damaged or set aside; whether they still need others cannot be told."""
        self._counts: dict[str, CountRow] = {}
        self._lanes: dict[tuple[str, str, str], int] = {}
        self._states: dict[int, TaskState] = {}

    def run(self) -> Iterator[str]:
        yield from self._records()
        yield from self._tasks()
        yield from self._indexes()
        yield from self._counters()
        yield from self._followers()
        yield from self._numbers()
        for key, _ in self._items(b"damaged"):
            table, _, place = key.partition(b"\0")
            yield f"the {table.decode()} record of {layout.name_of(place)} was found damaged and set aside"

    def _items(self, table: bytes) -> Iterator[tuple[bytes, bytes]]:
        yield from self._txn.cursor(db=self._environment.tables[table])

    def _records(self) -> Iterator[str]:
        """Every record can be read."""
        for table, sealed in (
            (b"attempts", ATTEMPTS),
            (b"blocks", BLOCKS),
            (b"values", VALUES),
            (b"claims", CLAIMS),
        ):
            for key, record in self._items(table):
                try:
                    sealed.load(key, record)
                except DamagedRecord as error:
                    yield str(error)
        for key, record in self._items(b"idempotent"):
            try:
                self._expect(b"idempotent_since", since_key(IDEMPOTENT.load(key, record).at, key), key)
            except DamagedRecord as error:
                yield str(error)
        for table in (b"payloads", b"results"):
            for key, record in self._items(table):
                try:
                    layout.unseal(table.decode(), key, record)
                except DamagedRecord as error:
                    yield str(error)
        for key, record in self._items(b"lanes"):
            try:
                self._lanes[LANES.load(key, record)] = LANE_NUMBER.unpack(key)[0]
            except DamagedRecord as error:
                yield str(error)

    def _tasks(self) -> Iterator[str]:
        """Every task has its records, and its state makes sense."""
        set_aside = {key.partition(b"\0")[2] for key, _ in self._items(b"damaged")}
        heads = 0
        for key, record in self._items(b"heads"):
            heads += 1
            if key in set_aside:
                self._unread.add(key)
                continue
            try:
                head = HEADS.load(key, record)
                found = self._txn.get(key, db=self._environment.tables[b"states"])
                if found is None:
                    yield f"task {head.id} ({layout.name_of(key)}) has no state"
                    continue
                state = STATES.load(key, found)
            except DamagedRecord as error:
                self._unread.add(key)
                yield str(error)
                continue
            yield from self._task(key, head, state)
        for table in (b"states", b"payloads", b"ids"):
            number = self._txn.stat(self._environment.tables[table])["entries"]
            if number != heads:
                yield f"there are {heads} tasks, but {number} entries in {table.decode()}"

    def _task(self, key: bytes, head: TaskHead, state: TaskState) -> Iterator[str]:
        seq = SEQ.unpack(key)[0]
        self._states[seq] = state
        name = f"task {head.id} (#{seq})"
        if (state.phase is not None) != (state.status == "pending"):
            yield f"{name} is {state.status}, but its phase is {state.phase}"
        result = self._txn.get(key, db=self._environment.tables[b"results"])
        if (result is not None) != (state.result_size is not None):
            yield f"{name} says that its result has {state.result_size} bytes, and it has {result and len(result)}"
        self._expect(b"ids", text_key(head.id), key)
        self._expect(b"status", STATUS_KEY.pack(STATUS_CODE[state.status], seq), b"")
        if state.phase is Phase.READY:
            lane = (head.queue, head.executor, head.lane)
            if lane not in self._lanes:
                yield f"{name} is ready, but its lane {lane} is not known"
            else:
                alone = ALONE if transitions.runs_alone(state) else b""
                self._expect(b"ready", READY_KEY.pack(self._lanes[lane], 255 - state.priority, seq), alone)
        if state.wakes_at is not None:
            self._expect(b"timers", timer_key(state.wakes_at, seq), b"")
        if head.unique_key is not None and not state.status.final:
            self._expect(b"unique", text_key(head.unique_key), key)
        for name in () if state.status.final else head.after:
            parent = self._txn.get(text_key(name), db=self._environment.tables[b"ids"])
            if parent is not None and parent < key:
                self._expect(b"references", parent + key, b"")
        self._counts.setdefault(head.queue, CountRow()).add(state, 1, head.size)

    def _expect(self, table: bytes, key: bytes, value: bytes) -> None:
        self._expected[table][key] = value

    def _indexes(self) -> Iterator[str]:
        """Every index has just the entries that follow from the records."""
        for table, expected in self._expected.items():
            found = dict(self._items(table))
            for key in expected.keys() - found.keys():
                yield f"an entry is missing in {table.decode()}: {key!r}"
            for key in found.keys() - expected.keys():
                if table == b"references" and key[SEQ.size :] in self._unread:
                    continue
                yield f"there is an entry too many in {table.decode()}: {key!r}"
            for key in found.keys() & expected.keys():
                if found[key] != expected[key]:
                    yield f"an entry in {table.decode()} is wrong: {key!r} is {found[key]!r}, not {expected[key]!r}"

    def _counters(self) -> Iterator[str]:
        """Every counter is what counting gives."""
        stored: dict[str, CountRow] = {}
        for key, record in self._items(b"counts"):
            try:
                stored[key.decode()] = CountRow.load(key, record)
            except DamagedRecord as error:
                yield str(error)
        for queue in stored.keys() | self._counts.keys():
            said = stored.get(queue, CountRow())
            true = self._counts.get(queue, CountRow())
            if said.cells != true.cells:
                yield (
                    f"the counters of queue {queue!r} say {said.counts(queue)} and {said.pending_size} bytes, "
                    f"counting says {true.counts(queue)} and {true.pending_size} bytes"
                )

    def _numbers(self) -> Iterator[str]:
        """Numbers that are given out next are larger than those that are in use."""
        for name, used in (
            (b"next_seq", max(self._states, default=0)),
            (b"next_lane", max(self._lanes.values(), default=0)),
        ):
            found = self._txn.get(name, db=self._environment.tables[b"meta"])
            number = NUMBER.unpack(found)[0] if found and len(found) == NUMBER.size else 1
            if number <= used:
                yield f"{name.decode()} is {number}, but {used} is in use"

    def _followers(self) -> Iterator[str]:
        """A blocked task waits for as many tasks as it is listed under, and these are open or being settled."""
        listed: Counter[int] = Counter()
        settling = {SEQ.unpack(key)[0] for key, _ in self._items(b"settling")}
        for key, _ in self._items(b"followers"):
            parent, child = PAIR.unpack(key)
            listed[child] += 1
            if child not in self._states and SEQ.pack(child) not in self._unread:
                yield f"task #{parent} is to tell #{child}, which is not there"
            state = self._states.get(parent)
            if state is None or (state.status.final and parent not in settling):
                yield f"task #{child} waits for #{parent}, which will not tell it"
        for seq, state in self._states.items():
            if state.phase is Phase.BLOCKED and state.waiting_on != listed[seq]:
                yield f"task #{seq} says that it waits for {state.waiting_on} tasks, but is listed under {listed[seq]}"
