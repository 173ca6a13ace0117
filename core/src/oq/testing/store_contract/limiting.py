"""The contract of `AddMany.room`: full is an answer, and what is stored already can always go on."""

from __future__ import annotations

import pytest

from oq.errors import QueueFull, TaskExists
from oq.store.base import AddMany, NewTask, Room
from oq.task import Phase, Status
from oq.testing.builders import START, new_task
from oq.testing.driver import StoreDriver
from oq.testing.store_contract.base import ContractFrame
from oq.testing.store_contract.situations import PLACES, Place, bring

TWO = Room(tasks=2)


def sized(task_id: str, size: int, queue: str = "default") -> NewTask:
    return new_task(task_id, payload=b"." * size, queue=queue)


class Limiting(ContractFrame):
    """Room runs out."""

    def test_the_last_room_can_be_taken(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"), room=TWO)
        driver.add(new_task("b"), room=TWO)
        assert self._refused(driver, TWO, new_task("c")).limit == 2
        driver.add(new_task("c"), room=Room(tasks=3))

    def test_tasks_that_do_not_all_fit_are_all_refused(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        self._refused(driver, TWO, new_task("b"), new_task("c"))
        assert driver.ids() == ["a"]

    def test_without_a_limit_there_is_always_room(self, driver: StoreDriver) -> None:
        driver.add(*(new_task(f"task {n}") for n in range(50)), room=Room())
        driver.add(new_task("a"))

    def test_a_limit_lower_than_what_is_pending_refuses_all(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "abc"))
        self._refused(driver, TWO, new_task("d"))

    def test_each_queue_has_its_own_room(self, driver: StoreDriver) -> None:
        room = Room(tasks_per_queue=1)
        driver.add(new_task("a"), new_task("b", queue="other"), room=room)
        self._refused(driver, room, new_task("c", queue="third"), new_task("d", queue="other"))
        driver.add(new_task("c", queue="third"), room=room)

    def test_a_full_queue_leaves_room_in_others(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "abc"))
        driver.add(new_task("d", queue="other"), room=Room(tasks_per_queue=1))

    def test_room_is_also_a_matter_of_bytes(self, driver: StoreDriver) -> None:
        room = Room(size=1_000)
        driver.add(sized("a", 600), room=room)
        assert self._refused(driver, room, sized("b", 401)).limit == 1_000
        driver.add(sized("b", 400, "other"), room=room)
        self._refused(driver, room, sized("c", 1, "third"))
        driver.add(sized("c", 0), room=room)

    def test_each_queue_has_its_own_room_in_bytes(self, driver: StoreDriver) -> None:
        room = Room(size_per_queue=1_000)
        driver.add(sized("a", 1_000), sized("b", 1_000, "other"), room=room)
        self._refused(driver, room, sized("c", 1, "other"))

    @pytest.mark.parametrize("place", PLACES)
    def test_only_pending_tasks_take_room(self, driver: StoreDriver, place: Place) -> None:
        bring(driver, "a", place)
        pending = sum(record.state.status is Status.PENDING for record in driver.records())
        driver.add(new_task("b"), room=Room(tasks=pending + 1))
        self._refused(driver, Room(tasks=pending + 1), new_task("c"))
        self._refused(driver, Room(size=(pending + 2) * len(b"payload") - 1), new_task("c"))
        driver.add(new_task("c"), room=Room(size=(pending + 2) * len(b"payload")))

    def test_a_requeued_task_takes_room_again(self, driver: StoreDriver) -> None:
        bring(driver, "a", Status.CANCELLED)
        driver.requeue("a")
        self._refused(driver, Room(tasks=1), new_task("b"))
        self._refused(driver, Room(size_per_queue=len(b"payload")), sized("b", 1))

    def test_what_is_stored_goes_on_however_full_it_is(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "abcd"))
        a, b, c, d = driver.claim().runs
        driver.add(*map(new_task, "wxyz"), room=Room(tasks=4))
        driver.release(a)
        driver.retry(b)
        driver.fail(c)
        driver.requeue("c")
        driver.succeed(d)
        driver.take_over()
        driver.advance()
        assert sum(record.state.phase is Phase.READY for record in driver.records()) == 7

    def test_a_duplicate_needs_no_room(self, driver: StoreDriver) -> None:
        driver.add(new_task("a", unique_key="k"), new_task("b"))
        assert driver.add(new_task("c", unique_key="k"), room=TWO).entries[0].duplicate

    def test_an_op_sent_again_needs_no_room(self, driver: StoreDriver) -> None:
        op = AddMany(tasks=(new_task("a"), new_task("b")), now=START, room=TWO)
        assert driver.send(op).entries == driver.send(op).entries

    def test_an_idempotency_key_seen_before_needs_no_room(self, driver: StoreDriver) -> None:
        first = driver.add(*map(new_task, "ab"), idempotency="once", room=TWO)
        assert driver.add(*map(new_task, "cd"), idempotency="once", room=TWO).entries == first.entries

    def test_an_op_that_found_no_room_does_not_use_its_idempotency_key_up(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "ab"))
        op = AddMany(tasks=(new_task("c"),), now=START, idempotency="once", digest="d", room=TWO)
        driver.refused(op, QueueFull)
        driver.add(new_task("d"), idempotency="once", digest="e")

    def test_adding_nothing_needs_no_room(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "abc"))
        assert driver.add(room=TWO).entries == ()

    def test_a_taken_id_is_the_reason_to_refuse_even_where_there_is_no_room(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"), new_task("b"))
        op = AddMany(tasks=(new_task("a", group="other"),), now=START, room=TWO)
        driver.refused(op, TaskExists)

    def test_room_within_a_batch_counts_what_came_before(self, driver: StoreDriver) -> None:
        ops = (AddMany(tasks=(new_task(name),), now=START, room=TWO) for name in "abc")
        driver.apply(*ops)
        assert driver.ids() == ["b", "a"]

    def test_room_is_taken_after_opening_again_too(self, driver: StoreDriver) -> None:
        driver.add(sized("a", 600), sized("b", 400, "other"))
        driver.start("a")
        driver.reopened(self.reopen(driver.store))
        self._refused(driver, Room(tasks=1), new_task("c"))
        self._refused(driver, Room(size=500), sized("c", 101))
        driver.add(sized("c", 100), room=Room(tasks=2, size=500))

    def _refused(self, driver: StoreDriver, room: Room, *tasks: NewTask) -> QueueFull:
        return driver.refused(AddMany(tasks=tasks, now=START, room=room), QueueFull)
