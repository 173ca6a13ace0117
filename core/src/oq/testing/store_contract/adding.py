"""The contract of `AddMany`: all or none, ids once, unique keys, idempotency."""

from __future__ import annotations

import pytest

from oq.errors import IdempotencyConflict, InvalidTask, TaskExists
from oq.events import EventKind
from oq.retry import RetryPolicy
from oq.store.base import AddMany, Entry, NewTask
from oq.task import Phase, Priority, Status, TaskState
from oq.testing.builders import START, at, new_task
from oq.testing.driver import StoreDriver, task_ids
from oq.testing.store_contract.base import ContractFrame
from oq.testing.store_contract.situations import FINAL, LIVE, Place, bring


def adding(*tasks: NewTask, idempotency: str | None = None, digest: str = "") -> AddMany:
    return AddMany(tasks=tasks, now=START, idempotency=idempotency, digest=digest)


class Adding(ContractFrame):
    """Tasks come in."""

    def test_a_task_reads_back_as_it_was_added(self, driver: StoreDriver) -> None:
        task = new_task("a", priority=Priority.HIGH, payload=b"prompt")
        (entry,) = driver.add(task).entries
        full = driver.full("a")
        assert entry == Entry(task_id="a", seq=full.seq)
        assert (full.head, full.payload, full.result, full.attempts) == (task.head, b"prompt", None, ())
        assert full.state == TaskState(status=Status.PENDING, phase=Phase.READY, priority=Priority.HIGH)

    def test_every_field_of_the_head_is_kept(self, driver: StoreDriver) -> None:
        driver.add(new_task("first"))
        task = new_task(
            "all fields",
            submitted_at=at(0.123456),
            tags=("nightly", "größe"),
            metadata={"nested": {"list": [1, 2.5, None, True]}, "日本": "語"},
            summary="a summary",
            model="qwen3:8b",
            run_at=at(60.000001),
            timeout=2.5,
            expires_at=at(3600),
            retry=RetryPolicy(max_attempts=7, delay=0.5),
            result_ttl=86_400.0,
            unique_key="key",
            after=("first",),
            on_parent_failure="continue",
            group="night",
        )
        driver.add(task)
        assert driver.full("all fields").head == task.head

    @pytest.mark.parametrize("size", [0, 1, 5_000, 1_000_000])
    def test_a_payload_is_any_bytes(self, driver: StoreDriver, size: int) -> None:
        payload = (b"\x00\xff{}\n" * (size // 5 + 1))[:size]
        driver.add(new_task("a", payload=payload))
        assert driver.full("a").payload == payload

    @pytest.mark.parametrize("name", ["x", "with space", "a/b:c*%", "größe-日本", "a\tb", "0" * 200, "é" * 120])
    def test_names_are_any_text(self, driver: StoreDriver, name: str) -> None:
        task = new_task(name, queue=name, lane=name, executor=name, tags=(name,), unique_key=name, group=name)
        driver.add(new_task("other"), task)
        assert driver.full(name).head == task.head
        assert (name, name, name) in driver.store.lanes()[1]
        (entry,) = driver.add(new_task("again", unique_key=name)).entries
        assert entry.task_id == name

    def test_unique_keys_that_differ_only_far_along_are_different(self, driver: StoreDriver) -> None:
        keys = ["k" * 2_000 + end for end in "xy"]
        entries = driver.add(*(new_task(key[-1], unique_key=key) for key in keys)).entries
        assert [entry.duplicate for entry in entries] == [False, False]

    def test_an_empty_unique_key_is_a_key(self, driver: StoreDriver) -> None:
        entries = driver.add(new_task("a", unique_key=""), new_task("b", unique_key="")).entries
        assert [entry.duplicate for entry in entries] == [False, True]

    def test_sequence_numbers_grow_in_the_order_of_adding(self, driver: StoreDriver) -> None:
        first = driver.add(new_task("c"), new_task("b")).entries
        second = driver.add(new_task("a"), now=at(-100)).entries
        seqs = [entry.seq for entry in (*first, *second)]
        assert seqs == sorted(set(seqs))
        assert seqs == [driver.record(task_id).seq for task_id in "cba"]

    def test_adding_nothing_is_fine(self, driver: StoreDriver) -> None:
        reply = driver.add()
        assert (reply.entries, reply.events) == ((), ())

    def test_each_new_task_has_its_event_in_order(self, driver: StoreDriver) -> None:
        reply = driver.add(new_task("a"), new_task("b", run_at=at(9)), now=at(3))
        assert task_ids(reply.events) == ["a", "b"]
        assert [(event.kind, event.phase, event.at) for event in reply.events] == [
            (EventKind.SUBMITTED, Phase.READY, at(3)),
            (EventKind.SUBMITTED, Phase.SCHEDULED, at(3)),
        ]
        assert [event.wakes_at for event in reply.events] == [None, at(9)]

    # Moments

    def test_a_task_for_later_is_scheduled(self, driver: StoreDriver) -> None:
        driver.add(new_task("a", run_at=at(10)))
        state = driver.state("a")
        assert (state.phase, state.due_at) == (Phase.SCHEDULED, at(10))

    @pytest.mark.parametrize("seconds", [0, -10])
    def test_a_task_whose_moment_has_come_is_ready(self, driver: StoreDriver, seconds: int) -> None:
        driver.add(new_task("a", run_at=at(seconds)))
        state = driver.state("a")
        assert (state.phase, state.due_at) == (Phase.READY, None)

    # Ids

    def test_a_taken_id_is_refused_and_the_stored_task_is_untouched(self, driver: StoreDriver) -> None:
        driver.add(new_task("a", payload=b"mine"))
        error = driver.refused(adding(new_task("a", payload=b"theirs", submitted_at=at(1))), TaskExists)
        assert error.task_id == "a"

    def test_a_final_task_keeps_its_id(self, driver: StoreDriver) -> None:
        bring(driver, "a", Status.COMPLETED)
        driver.refused(adding(new_task("a", lane="another")), TaskExists)

    def test_one_bad_task_keeps_all_of_its_op_out(self, driver: StoreDriver) -> None:
        driver.add(new_task("b"))
        driver.refused(adding(new_task("a"), new_task("b", group="other"), new_task("c")), TaskExists)
        assert driver.ids() == ["b"]

    def test_an_id_twice_in_one_op_is_refused(self, driver: StoreDriver) -> None:
        driver.refused(adding(new_task("a"), new_task("a", group="other")), TaskExists)

    def test_the_same_op_sent_twice_adds_once(self, driver: StoreDriver) -> None:
        op = adding(new_task("a"), new_task("b", after=("a",), metadata={"n": [1]}))
        first = driver.send(op)
        before = driver.snapshot()
        again = driver.send(op)
        assert (again.entries, again.events) == (first.entries, ())
        assert driver.snapshot() == before

    @pytest.mark.parametrize("status", Status)
    def test_the_same_op_sent_late_finds_its_task_whatever_became_of_it(
        self, driver: StoreDriver, status: Status
    ) -> None:
        op = adding(new_task("a"))
        first = driver.send(op)
        bring(driver, "a", status, add=False)
        before = driver.snapshot()
        again = driver.send(op)
        assert (again.entries, again.events, driver.snapshot()) == (first.entries, (), before)

    def test_what_the_same_op_added_is_no_duplicate_of_itself(self, driver: StoreDriver) -> None:
        op = adding(new_task("a", unique_key="k"))
        assert driver.send(op).entries == driver.send(op).entries

    # Unique keys

    @pytest.mark.parametrize("situation", LIVE)
    def test_a_unique_key_gives_the_task_that_is_not_final(self, driver: StoreDriver, situation: Place) -> None:
        bring(driver, "a", situation, unique_key="k")
        before = driver.snapshot()
        reply = driver.add(new_task("b", unique_key="k"))
        assert reply.entries == (Entry(task_id="a", seq=driver.record("a").seq, duplicate=True),)
        assert reply.events == ()
        assert driver.snapshot() == before

    @pytest.mark.parametrize("status", FINAL)
    def test_a_final_task_lets_its_unique_key_go(self, driver: StoreDriver, status: Status) -> None:
        bring(driver, "a", status, unique_key="k")
        (entry,) = driver.add(new_task("b", unique_key="k")).entries
        assert (entry.task_id, entry.duplicate) == ("b", False)

    def test_an_expired_task_lets_its_unique_key_go(self, driver: StoreDriver) -> None:
        driver.add(new_task("a", unique_key="k", expires_at=at(5)))
        driver.advance(5)
        assert not driver.add(new_task("b", unique_key="k")).entries[0].duplicate

    def test_a_follower_that_fails_lets_its_unique_key_go(self, driver: StoreDriver) -> None:
        driver.add(new_task("parent"), new_task("a", unique_key="k", after=("parent",)))
        driver.cancel("parent")
        assert not driver.add(new_task("b", unique_key="k")).entries[0].duplicate

    def test_a_requeued_task_holds_its_unique_key_again(self, driver: StoreDriver) -> None:
        bring(driver, "a", Status.FAILED, unique_key="k")
        driver.requeue("a")
        assert driver.add(new_task("b", unique_key="k")).entries[0].task_id == "a"

    def test_an_old_task_does_not_take_a_unique_key_from_its_holder(self, driver: StoreDriver) -> None:
        bring(driver, "old", Status.CANCELLED, unique_key="k")
        driver.add(new_task("holder", unique_key="k"))
        bring(driver, "c", Status.COMPLETED)
        assert driver.add(new_task("b", unique_key="k")).entries[0].task_id == "holder"

    def test_a_result_that_is_dropped_takes_no_unique_key_from_its_holder(self, driver: StoreDriver) -> None:
        bring(driver, "old", Status.COMPLETED, unique_key="k", result_ttl=1)
        driver.add(new_task("holder", unique_key="k"))
        driver.advance(5)
        assert driver.add(new_task("b", unique_key="k")).entries[0].task_id == "holder"

    def test_duplicates_within_one_op_give_the_first_of_them(self, driver: StoreDriver) -> None:
        tasks = [new_task("a", unique_key="k"), new_task("b"), new_task("c", unique_key="k")]
        reply = driver.add(*tasks)
        assert [(entry.task_id, entry.duplicate) for entry in reply.entries] == [
            ("a", False),
            ("b", False),
            ("a", True),
        ]
        assert task_ids(reply.events) == ["a", "b"]
        assert driver.ids() == ["b", "a"]

    def test_duplicates_keep_their_place_among_new_tasks(self, driver: StoreDriver) -> None:
        driver.add(new_task("a", unique_key="k"))
        entries = driver.add(new_task("x"), new_task("y", unique_key="k"), new_task("z", unique_key="other")).entries
        assert task_ids(entries) == ["x", "a", "z"]

    # Idempotency

    def test_an_idempotency_key_seen_before_gives_the_same_entries(self, driver: StoreDriver) -> None:
        first = driver.add(new_task("a"), new_task("b"), idempotency="once", digest="d")
        before = driver.snapshot()
        again = driver.add(new_task("c"), new_task("d"), idempotency="once", digest="d", now=at(60))
        assert (again.entries, again.events) == (first.entries, ())
        assert driver.snapshot() == before

    def test_an_idempotency_key_is_remembered_after_its_tasks_ended(self, driver: StoreDriver) -> None:
        first = driver.add(new_task("a", unique_key="k"), idempotency="once")
        driver.succeed(driver.start("a"))
        assert driver.add(new_task("c", unique_key="k"), idempotency="once").entries == first.entries

    def test_an_idempotency_key_remembers_duplicates(self, driver: StoreDriver) -> None:
        driver.add(new_task("a", unique_key="k"))
        first = driver.add(new_task("b", unique_key="k"), new_task("c"), idempotency="once")
        driver.cancel("a")
        assert driver.add(new_task("d", unique_key="k"), new_task("e"), idempotency="once").entries == first.entries

    def test_an_idempotency_key_with_another_digest_is_a_conflict(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"), idempotency="once", digest="d")
        error = driver.refused(adding(new_task("b"), idempotency="once", digest="e"), IdempotencyConflict)
        assert error.key == "once"

    def test_a_refused_op_does_not_use_its_idempotency_key_up(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.refused(adding(new_task("a", group="other"), idempotency="once", digest="d"), TaskExists)
        assert task_ids(driver.add(new_task("b"), idempotency="once", digest="e").entries) == ["b"]

    def test_idempotency_keys_do_not_mix(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"), idempotency="one")
        driver.add(new_task("b"), idempotency="two")
        driver.add(new_task("c"))
        driver.add(new_task("d"))
        assert driver.ids() == ["d", "c", "b", "a"]

    # After

    @pytest.mark.parametrize("parent", ["nobody", "self", "later"])
    def test_an_unknown_parent_keeps_the_whole_op_out(self, driver: StoreDriver, parent: str) -> None:
        driver.add(new_task("known"))
        tasks = new_task("first"), new_task("self", after=("known", parent)), new_task("later")
        driver.refused(adding(*tasks), InvalidTask)
        assert driver.ids() == ["known"]

    def test_an_id_prefix_names_no_parent(self, driver: StoreDriver) -> None:
        driver.add(new_task("parent-1"))
        driver.refused(adding(new_task("a", after=("parent",))), InvalidTask)
