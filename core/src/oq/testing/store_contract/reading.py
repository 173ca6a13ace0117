"""The contract of reads: pages, counts, lanes, ids."""

from __future__ import annotations

from typing import Any

import pytest

from oq.query import TaskFilter
from oq.task import Phase, Priority, Status
from oq.testing.builders import PLENTY, START, at, new_task, offer, pause
from oq.testing.driver import StoreDriver, task_ids
from oq.testing.store_contract.base import ContractFrame
from oq.testing.store_contract.situations import PLACES, Place, bring

FILTERS: list[dict[str, Any]] = [
    {},
    {"status": Status.PENDING},
    {"status": Status.RUNNING},
    {"status": Status.COMPLETED},
    {"status": Status.FAILED},
    {"status": Status.CANCELLED},
    {"queue": "default"},
    {"queue": "other"},
    {"queue": "nowhere"},
    {"executor": "test"},
    {"executor": "script"},
    {"action": "chat"},
    {"tag": "red"},
    {"tag": "re"},
    {"priority": Priority.HIGH},
    {"group": "g"},
    {"status": Status.PENDING, "queue": "other"},
    {"status": Status.CANCELLED, "tag": "red", "priority": Priority.HIGH},
    {"queue": "other", "executor": "script", "action": "chat", "tag": "blue", "group": "g"},
]


class Reading(ContractFrame):
    """People look."""

    def test_an_empty_store_is_empty(self, driver: StoreDriver) -> None:
        store = driver.store
        assert (driver.records(), store.counts(), store.stops(), store.resolve("", 10)) == ([], [], [], [])
        assert (store.get("a"), store.load("a"), store.blocks(1, 1, 0, 10)) == (None, None, [])
        assert (store.value("n", "k"), store.values("n"), store.lanes()[1]) == (None, {}, frozenset())

    def test_what_is_read_does_not_change_by_itself(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        record, full, page = driver.record("a"), driver.full("a"), driver.records()
        driver.succeed(driver.start("a"), b"result")
        assert (record.state.phase, full.state.phase, full.result) == (Phase.READY, Phase.READY, None)
        assert [shown.state.phase for shown in page] == [Phase.READY]

    # Pages

    def test_a_list_is_newest_first(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "cab"), now=START)
        driver.add(new_task("d", submitted_at=at(-500)), now=at(-500))
        assert driver.ids() == ["d", "b", "a", "c"]

    def test_a_list_does_not_move_with_what_becomes_of_tasks(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "abcd"))
        driver.set_priority("a", Priority.HIGH)
        driver.fail(driver.start("b"))
        driver.requeue("b")
        assert driver.ids() == list("dcba")

    @pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 8, 100])
    def test_pages_put_together_are_the_whole_list(self, driver: StoreDriver, limit: int) -> None:
        driver.add(*map(new_task, "abcdefg"))
        assert [record.head.id for page in driver.pages(limit=limit) for record in page] == list("gfedcba")

    @pytest.mark.parametrize("fields", FILTERS, ids=str)
    def test_a_filter_gives_what_fits_each_of_its_fields(self, driver: StoreDriver, fields: dict[str, Any]) -> None:
        self._mixture(driver)
        wanted = TaskFilter(**fields)
        expected = [record for record in driver.records() if wanted.matches(record.head, record.state)]
        for limit in (1, 3, 100):
            assert [record for page in driver.pages(wanted, limit) for record in page] == expected

    def test_the_filters_of_these_tests_find_something(self, driver: StoreDriver) -> None:
        self._mixture(driver)
        empty = [fields for fields in FILTERS if not driver.ids(TaskFilter(**fields))]
        assert empty == [{"queue": "nowhere"}, {"tag": "re"}]

    @pytest.mark.parametrize("fields", [{}, {"queue": "default"}, {"tag": "t"}, {"group": "g"}], ids=str)
    def test_a_cursor_neither_skips_nor_repeats_while_tasks_come_and_change(
        self, driver: StoreDriver, fields: dict[str, Any]
    ) -> None:
        names = [f"task {n}" for n in range(12)]
        driver.add(*(new_task(name, tags=("t",), group="g") for name in names))
        seen: list[str] = []
        for turn, page in enumerate(driver.pages(TaskFilter(**fields), limit=3)):
            seen += task_ids(page)
            driver.add(new_task(f"new {turn}", tags=("t",), group="g"))
            driver.set_priority(names[2 * turn], Priority.HIGH)
            driver.fail(driver.claim(limit=1).runs[0])
            driver.cancel(names[11 - turn])
        assert seen == names[::-1]

    def test_a_cursor_by_status_neither_skips_nor_repeats_what_keeps_its_status(self, driver: StoreDriver) -> None:
        names = [f"task {n}" for n in range(12)]
        driver.add(*map(new_task, names))
        seen: list[str] = []
        cancelled = [names[9], names[0], names[8], names[5]]
        for turn, page in enumerate(driver.pages(TaskFilter(status=Status.PENDING), limit=3)):
            seen += task_ids(page)
            driver.cancel(cancelled[turn % 4])
            driver.requeue(cancelled[turn % 4])
            driver.cancel(cancelled[turn % 4])
            driver.add(new_task(f"new {turn}"))
        assert len(seen) == len(set(seen))
        assert [name for name in seen if name not in cancelled] == [n for n in names[::-1] if n not in cancelled]

    def test_a_filter_that_fits_few_of_many_finds_them_all(self, driver: StoreDriver) -> None:
        driver.add(*(new_task(f"task {n}", tags=("rare",) if n % 500 == 0 else ()) for n in range(2_001)))
        assert driver.ids(TaskFilter(tag="rare")) == [f"task {n}" for n in (2000, 1500, 1000, 500, 0)]

    # Counts

    def test_counts_tell_how_many_tasks_of_each_kind_there_are(self, driver: StoreDriver) -> None:
        self._mixture(driver)
        counts = {(c.queue, c.status, c.phase, c.priority): c.number for c in driver.store.counts() if c.number}
        assert counts == {
            ("default", Status.PENDING, Phase.SCHEDULED, Priority.NORMAL): 1,
            ("default", Status.PENDING, Phase.RETRYING, Priority.NORMAL): 1,
            ("default", Status.PENDING, Phase.BLOCKED, Priority.NORMAL): 1,
            ("default", Status.PENDING, Phase.READY, Priority.NORMAL): 2,
            ("default", Status.PENDING, Phase.READY, Priority.LOW): 1,
            ("default", Status.RUNNING, None, Priority.NORMAL): 1,
            ("default", Status.COMPLETED, None, Priority.NORMAL): 1,
            ("default", Status.FAILED, None, Priority.NORMAL): 1,
            ("default", Status.CANCELLED, None, Priority.NORMAL): 1,
            ("default", Status.CANCELLED, None, Priority.HIGH): 1,
            ("other", Status.PENDING, Phase.READY, Priority.HIGH): 2,
        }

    def test_counts_of_paused_queues_are_as_they_were(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        before = driver.store.counts()
        driver.send(pause("default"))
        assert driver.store.counts() == before

    # Lanes

    def test_a_lane_with_a_ready_task_is_listed(self, driver: StoreDriver) -> None:
        driver.add(new_task("a", lane="x"), new_task("b", lane="y", queue="q", executor="e"))
        assert driver.store.lanes()[1] >= {("default", "test", "x"), ("q", "e", "y")}

    def test_a_new_lane_has_a_new_version(self, driver: StoreDriver) -> None:
        before, _ = driver.store.lanes()
        driver.add(new_task("a"))
        after, lanes = driver.store.lanes()
        assert after != before
        assert ("default", "test", "lane") in lanes

    def test_more_tasks_of_a_lane_do_not_change_its_version(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        before = driver.store.lanes()
        driver.add(new_task("b"), new_task("c", priority=Priority.HIGH))
        assert driver.store.lanes() == before

    @pytest.mark.parametrize("place", [Phase.SCHEDULED, Phase.RETRYING, Phase.BLOCKED, Status.RUNNING])
    def test_a_lane_is_listed_once_its_task_is_ready_again(self, driver: StoreDriver, place: Place) -> None:
        bring(driver, "a", place, lane="lane")
        driver.take_over()
        driver.advance_fully(5_000)
        if place is Phase.BLOCKED:
            driver.succeed(driver.claim(offer("parents")).runs[0])
        assert driver.state("a").phase is Phase.READY
        assert ("default", "test", "lane") in driver.store.lanes()[1]

    # Ids

    def test_a_prefix_gives_the_ids_that_begin_with_it(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, ["abc", "abd", "ab", "b", "a", "abcd", "xab", "AB", "é", "éa"]))
        assert sorted(driver.store.resolve("abc", 10)) == ["abc"]
        assert sorted(driver.store.resolve("x", 10)) == ["xab"]
        assert sorted(driver.store.resolve("é", 10)) == ["é"]
        assert sorted(driver.store.resolve("ab", 10)) == ["ab"]
        assert driver.store.resolve("nothing", 10) == driver.store.resolve("abce", 10) == []

    def test_several_ids_that_fit_are_given_up_to_the_limit(self, driver: StoreDriver) -> None:
        driver.add(*(new_task(f"task-{n}") for n in range(5)), new_task("tas"), new_task("task."))
        every = {f"task-{n}" for n in range(5)}
        assert set(driver.store.resolve("task-", 10)) == every
        some = driver.store.resolve("task-", 2)
        assert len(set(some)) == 2
        assert set(some) < every

    def test_an_exact_id_comes_alone(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, ["task", "task-1", "task-2"]))
        assert driver.store.resolve("task", 2) == ["task"]

    @pytest.mark.parametrize("place", PLACES)
    def test_an_id_is_found_wherever_its_task_is(self, driver: StoreDriver, place: Place) -> None:
        bring(driver, "my task", place)
        assert driver.store.resolve("my", PLENTY) == ["my task"]
        assert driver.records()[0] == driver.store.get("my task")

    # Values

    def test_a_store_says_how_big_it_is(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        assert driver.store.size() > 0

    def _mixture(self, driver: StoreDriver) -> None:
        """A task in every place, and some that differ in other ways."""
        for place in PLACES:
            if place is not Phase.READY:
                bring(driver, f"is {place}", place)
        driver.add(
            new_task("tagged", tags=("red", "blue"), priority=Priority.HIGH),
            new_task(
                "x", queue="other", executor="script", action="chat", tags=("blue",), group="g", priority=Priority.HIGH
            ),
            new_task("y", queue="other", group="g", priority=Priority.HIGH),
            new_task("z", priority=Priority.LOW),
            new_task("n", action="chat"),
        )
        driver.cancel("tagged")
