"""Deletion and retention where records of the LMDB store are damaged: what can go goes, and the rest is refused."""

from __future__ import annotations

import subprocess
import sys

import lmdb
import pytest

from oq.errors import DamagedRecord
from oq.store.base import Delete, Purge
from oq.store.lmdb import LmdbStore, deleting
from oq.store.lmdb.layout import PAIR, SEQ, TABLES
from oq.task import Status
from oq.testing import START, at, new_task
from oq.testing.driver import StoreDriver
from oq.testing.store_contract.situations import bring


@pytest.fixture
def place(tmp_path):
    return tmp_path / "queue"


@pytest.fixture
def driver(place):
    """Three completed tasks: #1 a, #2 b, #3 c."""
    driver = StoreDriver(store=LmdbStore(place))
    for name in "abc":
        bring(driver, name, Status.COMPLETED, result_ttl=100)
    yield driver
    driver.store.close()


def write(driver, place, table, key, value):
    """Put bytes behind the store's back, or take them away."""
    driver.store.close()
    with lmdb.open(str(place), max_dbs=len(TABLES), map_size=2**28) as env:
        db = env.open_db(table)
        with env.begin(write=True) as txn:
            found = txn.get(key, db=db)
            assert txn.put(key, value, db=db) if value is not None else txn.delete(key, db=db)
    driver.reopened(LmdbStore(place))
    return found


@pytest.mark.parametrize("table", [b"payloads", b"results"])
def test_a_task_whose_payload_or_result_is_damaged_can_be_deleted(driver, place, table):
    write(driver, place, table, SEQ.pack(2), b"nonsense")
    assert driver.store.check() != []
    driver.delete("b")
    assert driver.store.check() == []


@pytest.mark.parametrize("table", [b"heads", b"states"])
def test_a_task_of_which_it_cannot_be_told_whether_it_is_final_is_not_deleted(driver, place, table):
    write(driver, place, table, SEQ.pack(2), b"nonsense")
    (reply,) = driver.store.apply([Delete(task_id="b", now=START)])
    assert isinstance(reply.error, DamagedRecord)


@pytest.mark.parametrize("table", [b"heads", b"states"])
@pytest.mark.parametrize("limit", [100, 1])
def test_retention_passes_over_damaged_tasks(driver, place, table, limit):
    write(driver, place, table, SEQ.pack(2), b"nonsense")
    assert driver.purge(10, before=5, limit=limit) == ["a", "c"]


def test_a_task_is_not_deleted_while_it_cannot_be_told_whether_it_is_needed(driver, place):
    driver.add(new_task("d", after=("a",)))
    write(driver, place, b"states", SEQ.pack(4), b"nonsense")
    (reply,) = driver.store.apply([Delete(task_id="a", now=START)])
    assert (reply.error.task_id, reply.error.needed_by) == ("a", "d")


def test_a_step_ends_early_when_much_is_deleted(driver, monkeypatch):
    """Tasks with a lot of output would make it long."""
    monkeypatch.setattr(deleting, "MOST_WRITES", 5)
    steps = []
    cursor = None
    while cursor is not None or not steps:
        reply = driver.send(Purge(now=at(10), before=dict.fromkeys([Status.COMPLETED], at(5)), cursor=cursor))
        steps.append([event.task_id for event in reply.events])
        cursor = reply.cursor
    assert steps == [["a"], ["b"], ["c"]]


def test_an_entry_that_says_wrongly_that_a_task_is_needed_is_dropped(driver, place):
    write(driver, place, b"references", PAIR.pack(1, 2), b"")
    assert any("references" in problem for problem in driver.store.check())
    driver.store.apply([Delete(task_id="a", now=START)])
    assert driver.ids() == ["c", "b"]
    assert driver.store.check() == []


def test_a_missing_entry_of_a_needed_task_is_noticed(driver, place):
    driver.add(new_task("d", after=("a",)))
    write(driver, place, b"references", PAIR.pack(1, 4), None)
    assert any("missing in references" in problem for problem in driver.store.check())
    driver.cancel("d")
    assert driver.store.check() == []


def test_a_damaged_idempotency_record_is_forgotten_in_its_time(driver, place):
    driver.add(new_task("d"), idempotency="key", digest="d")
    write(driver, place, b"idempotent", b"key", b"nonsense")
    driver.purge(10, idempotent_before=at(5))
    assert driver.store.check() == []
    driver.add(new_task("e"), idempotency="key", digest="another")


def test_another_process_that_adds_a_follower_is_noticed(driver, place):
    """What this process remembers of its last write says that nobody needs anything."""
    code = (
        "import sys; from oq.store.lmdb import LmdbStore; from oq.testing import START, new_task\n"
        "from oq.store.base import AddMany\n"
        "LmdbStore(sys.argv[1]).apply([AddMany(tasks=(new_task('d', after=('a',)),), now=START)])\n"
    )
    subprocess.run([sys.executable, "-c", code, str(place)], check=True)
    (reply,) = driver.store.apply([Delete(task_id="a", now=START)])
    assert reply.error.needed_by == "d"
