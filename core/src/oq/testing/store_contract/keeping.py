"""The contract of batches, of small values, of the run lock, and of what is there after a store was opened again."""

from __future__ import annotations

from typing import Any

import pytest

from oq.errors import IllegalMove, LeaseLost, TaskExists, TaskNotFound, VersionConflict
from oq.events import EventKind
from oq.store.base import (
    AddMany,
    Advance,
    AppendChunks,
    Cancel,
    Finish,
    PutValue,
    Refused,
    Reply,
    Requeue,
    Retried,
    SetPriority,
    Succeeded,
    TakeOver,
    Value,
)
from oq.task import Phase, Priority, Status
from oq.testing.builders import START, at, block, claim, failure, new_task, offer, pause
from oq.testing.driver import StoreDriver, task_ids
from oq.testing.store_contract.base import ContractFrame
from oq.testing.store_contract.following import MANY
from oq.testing.store_contract.situations import PLACES, bring


def put(key: str, value: bytes | None, *, expect: int | None = None, namespace: str = "things") -> PutValue:
    return PutValue(namespace=namespace, key=key, value=value, expect=expect)


def add(*names: str, **fields: Any) -> AddMany:
    return AddMany(tasks=tuple(new_task(name, **fields) for name in names), now=START)


def refusals(replies: list[Reply]) -> list[type[Exception] | None]:
    return [type(reply.error) if isinstance(reply, Refused) else None for reply in replies]


class Keeping(ContractFrame):
    """The store keeps its word."""

    # Batches

    def test_an_empty_batch_is_fine(self, driver: StoreDriver) -> None:
        assert driver.store.apply([]) == []

    def test_a_refusal_does_not_disturb_its_neighbours(self, driver: StoreDriver) -> None:
        replies = driver.apply(
            add("a"),
            add("b", "a", group="another"),
            Cancel(task_id="nobody", now=START),
            Requeue(task_id="a", now=START),
            put("k", b"v", expect=5),
            Finish(seq=1, epoch=9, ending=Succeeded(None), now=START),
            AppendChunks(seq=99, epoch=1, block=block(0, 1)),
            add("c"),
            SetPriority(task_id="c", priority=Priority.HIGH, now=START),
        )
        assert refusals(replies) == [
            None, TaskExists, TaskNotFound, IllegalMove, VersionConflict, LeaseLost, LeaseLost, None, None
        ]  # fmt: skip
        assert driver.ids() == ["c", "a"]
        assert driver.state("c").priority == Priority.HIGH

    def test_ops_of_a_batch_see_what_those_before_them_did(self, driver: StoreDriver) -> None:
        driver.add(new_task("first"))
        seq = driver.record("first").seq
        replies = driver.apply(
            claim(limit=1),
            Finish(seq=seq, epoch=1, ending=Retried(failure(), at(1)), now=START),
            Finish(seq=seq, epoch=1, ending=Succeeded(None), now=START),
            Advance(now=at(1)),
            add("second", after=("first",)),
            claim(),
            Cancel(task_id="second", now=at(2)),
            Finish(seq=seq, epoch=2, ending=Succeeded(b"result"), now=at(3)),
            Requeue(task_id="second", now=at(4)),
            claim(),
        )
        assert refusals(replies) == [None, None, LeaseLost, *[None] * 7]
        assert [[(event.kind, event.task_id) for event in reply.events] for reply in replies] == [
            [(EventKind.STARTED, "first")],
            [(EventKind.RETRYING, "first")],
            [],
            [(EventKind.READY, "first")],
            [(EventKind.SUBMITTED, "second")],
            [(EventKind.STARTED, "first")],
            [(EventKind.CANCELLED, "second")],
            [(EventKind.COMPLETED, "first")],
            [(EventKind.REQUEUED, "second")],
            [(EventKind.STARTED, "second")],
        ]
        assert [event.epoch for reply in replies for event in reply.events] == [1, 1, 1, 0, 2, 0, 2, 0, 1]

    def test_a_unique_key_holds_within_a_batch(self, driver: StoreDriver) -> None:
        driver.apply(add("a", unique_key="k"), add("b", unique_key="k"), Cancel(task_id="a", now=START))
        driver.apply(add("c", unique_key="k"))
        assert driver.ids() == ["c", "a"]

    def test_a_pause_holds_within_a_batch(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        replies = driver.apply(pause("default"), claim(), pause("default", paused=False), claim())
        assert [task_ids(reply.events) for reply in replies] == [[], [], [], ["a"]]

    def test_priorities_of_a_batch_order_its_claims(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "abc"))
        _, first, second = driver.apply(
            SetPriority(task_id="c", priority=Priority.HIGH, now=START), claim(limit=1), claim(limit=1)
        )
        assert task_ids([*first.events, *second.events]) == ["c", "a"]

    def test_values_change_in_the_order_of_a_batch(self, driver: StoreDriver) -> None:
        driver.apply(put("k", b"1"), put("k", b"2", expect=1), put("k", b"3", expect=1))
        assert driver.store.value("things", "k") == Value(b"2", 2)

    def test_a_takeover_in_a_batch_loses_what_was_claimed_before_it(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "ab"))
        _, loss, second = driver.apply(claim(limit=1), TakeOver(now=START), claim())
        assert task_ids(loss.events) == ["a"]
        assert [(event.task_id, event.epoch) for event in second.events] == [("a", 2), ("b", 1)]

    def test_a_large_batch_is_applied_whole(self, driver: StoreDriver) -> None:
        driver.apply(*(add(f"task {n}") for n in range(300)), claim(limit=200))
        assert len(driver.ids()) == 300
        assert sum(record.state.status is Status.RUNNING for record in driver.records()) == 200

    # Values

    def test_a_value_reads_back(self, driver: StoreDriver) -> None:
        assert driver.send(put("k", b"\x00any\xff")).version == 1
        assert driver.store.value("things", "k") == Value(b"\x00any\xff", 1)

    def test_an_empty_value_is_a_value(self, driver: StoreDriver) -> None:
        driver.send(put("k", b""))
        assert driver.store.value("things", "k") == Value(b"", 1)

    def test_each_put_raises_the_version(self, driver: StoreDriver) -> None:
        versions = [driver.send(put("k", b"v")).version for _ in range(3)]
        assert versions == [1, 2, 3]

    def test_a_value_can_be_put_where_there_is_none_yet(self, driver: StoreDriver) -> None:
        driver.send(put("k", b"mine", expect=0))
        error = driver.refused(put("k", b"theirs", expect=0), VersionConflict)
        assert (error.namespace, error.key, error.found) == ("things", "k", 1)

    def test_a_value_changes_only_at_the_expected_version(self, driver: StoreDriver) -> None:
        driver.apply(put("k", b"1"), put("k", b"2"))
        assert driver.refused(put("k", b"no", expect=1), VersionConflict).found == 2
        assert driver.refused(put("k", None, expect=1), VersionConflict).found == 2
        assert driver.refused(put("other", b"no", expect=2), VersionConflict).found == 0
        assert driver.send(put("k", b"3", expect=2)).version == 3

    @pytest.mark.parametrize("expect", [None, 1])
    def test_a_deleted_value_is_gone(self, driver: StoreDriver, expect: int | None) -> None:
        driver.send(put("k", b"v"))
        assert driver.send(put("k", None, expect=expect)).version == 0
        assert driver.store.value("things", "k") is None
        assert driver.store.values("things") == {}
        driver.send(put("k", b"new", expect=0))

    @pytest.mark.parametrize("expect", [None, 0])
    def test_deleting_what_is_not_there_is_fine(self, driver: StoreDriver, expect: int | None) -> None:
        assert driver.send(put("k", None, expect=expect)).version == 0

    def test_values_of_a_namespace_are_listed_together(self, driver: StoreDriver) -> None:
        driver.apply(
            put("a", b"1"),
            put("b", b"2"),
            put("b", b"3"),
            put("a", b"other", namespace="thing"),
            put("sa", b"other", namespace="thing"),
            put("x", b"other", namespace="things2"),
        )
        assert driver.store.values("things") == {"a": Value(b"1", 1), "b": Value(b"3", 2)}
        assert driver.store.values("thing") == {"a": Value(b"other", 1), "sa": Value(b"other", 1)}
        assert driver.store.value("things", "sa") is None

    @pytest.mark.parametrize("key", ["", "with space", "*", "a/b\tc", "größe-日本", "k" * 300])
    def test_keys_of_values_are_any_text(self, driver: StoreDriver, key: str) -> None:
        driver.apply(put(key, b"v"), put("v", b"w", namespace=key or "empty"))
        assert driver.store.value("things", key) == Value(b"v", 1)
        assert driver.store.values("things") == {key: Value(b"v", 1)}
        assert driver.store.values(key or "empty") == {"v": Value(b"w", 1)}

    def test_values_have_no_events(self, driver: StoreDriver) -> None:
        assert driver.send(put("k", b"v")).events == ()

    # Run lock and changes

    def test_the_run_lock_can_be_taken_again_once_it_was_given_back(self, driver: StoreDriver) -> None:
        for _ in range(2):
            driver.store.lock_run()
            driver.store.unlock_run()

    def test_who_runs_tasks_is_told_where_only_one_can(self, driver: StoreDriver) -> None:
        assert driver.store.runner() is None
        driver.store.lock_run()
        assert bool(driver.store.runner()) == driver.store.exclusive
        driver.store.unlock_run()
        assert driver.store.runner() is None

    def test_a_store_works_with_and_without_the_run_lock(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.store.lock_run()
        driver.succeed(driver.start("a"))
        driver.store.unlock_run()
        driver.add(new_task("b"))

    def test_changes_can_be_drained_though_there_are_none(self, driver: StoreDriver) -> None:
        fileno = driver.store.changes_fileno()
        assert fileno is None or fileno >= 0
        driver.store.drain_changes()
        driver.add(new_task("a"))
        driver.store.drain_changes()

    # Opened again

    def test_everything_is_there_after_opening_again(self, driver: StoreDriver) -> None:
        for place in PLACES:
            if place is not Phase.READY:
                bring(driver, f"is {place}", place, unique_key=f"key of {place}")
        driver.add(new_task("ready", metadata={"a": [1, {"b": None}]}, tags=("x",)), now=at(3.000001))
        driver.apply(put("k", b"v"), put("k", b"w"), pause("other"))
        run = driver.record("is running")
        driver.send(AppendChunks(seq=run.seq, epoch=run.state.epoch, block=block(0, 3)))
        before = driver.snapshot()
        assert before["stops"] != []
        self._reopen(driver)
        assert driver.snapshot() == before
        assert driver.store.resolve("is r", 10) == sorted(["is retrying", "is running"])

    def test_the_order_of_claims_outlives_opening_again(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"), new_task("b", lane="other"), new_task("c", run_at=at(5)))
        driver.set_priority("b", Priority.HIGH)
        driver.lose("a")
        self._reopen(driver)
        driver.add(new_task("d"))
        driver.advance(5)
        assert task_ids(driver.claim(offer(), offer("other")).runs) == ["b", "a", "c", "d"]

    def test_runs_outlive_opening_again_until_a_takeover(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "ab"))
        a, b = driver.claim().runs
        self._reopen(driver)
        assert driver.state("a") == a.state
        driver.succeed(a)
        driver.take_over()
        driver.refused(Finish(seq=b.seq, epoch=1, ending=Succeeded(None), now=START), LeaseLost)
        assert driver.start("b").state.epoch == 2

    def test_keys_outlive_opening_again(self, driver: StoreDriver) -> None:
        first = driver.add(new_task("a", unique_key="k"), idempotency="once", digest="d")
        self._reopen(driver)
        assert driver.add(new_task("b", unique_key="k")).entries[0].task_id == "a"
        assert driver.add(new_task("c"), idempotency="once", digest="d").entries == first.entries
        assert driver.ids() == ["a"]

    def test_pauses_outlive_opening_again(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.send(pause("default"))
        self._reopen(driver)
        assert driver.claim().runs == ()

    def test_versions_of_values_outlive_opening_again(self, driver: StoreDriver) -> None:
        driver.apply(put("k", b"v"), put("k", b"w"))
        self._reopen(driver)
        assert driver.send(put("k", b"x", expect=2)).version == 3

    def test_followers_not_yet_told_are_told_after_opening_again(self, driver: StoreDriver) -> None:
        names = [f"follower {n}" for n in range(MANY)]
        driver.add(new_task("parent"), *(new_task(name, after=("parent",)) for name in names))
        told = task_ids(driver.succeed(driver.start("parent")).events)[1:]
        self._reopen(driver)
        told += task_ids(driver.advance_fully())
        assert told == names

    def test_moments_outlive_opening_again(self, driver: StoreDriver) -> None:
        driver.add(new_task("a", run_at=at(5)), new_task("b", expires_at=at(6)), new_task("c", lane="c", result_ttl=3))
        driver.succeed(driver.claim(offer("c"), limit=1).runs[0], b"result")
        self._reopen(driver)
        assert driver.advance().next_at == at(3)
        assert [(event.kind, event.task_id) for event in driver.advance_fully(9)] == [
            (EventKind.DROPPED, "c"),
            (EventKind.READY, "a"),
            (EventKind.FAILED, "b"),
        ]

    def test_an_op_can_be_sent_again_after_opening_again(self, driver: StoreDriver) -> None:
        op = add("a", "b", unique_key=None)
        first = driver.send(op)
        take = claim(limit=1)
        runs = driver.send(take).runs
        self._reopen(driver)
        assert driver.send(op).entries == first.entries
        assert driver.send(take).runs == runs
        assert driver.state("b").phase is Phase.READY

    def _reopen(self, driver: StoreDriver) -> None:
        driver.reopened(self.reopen(driver.store))
