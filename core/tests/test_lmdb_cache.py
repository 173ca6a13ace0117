"""What an LMDB store remembers from its last transaction is believed only as long as nobody else has written."""

import sys
from pathlib import Path

import pytest

from oq.store.base import AddMany, PutValue
from oq.store.lmdb import LmdbStore
from oq.testing import START, new_task

sys.path.insert(0, str(Path(__file__).parent))

from trouble.neighbour import NeighbourProcess


@pytest.fixture
def store(tmp_path):
    store = LmdbStore(tmp_path / "data", durability="relaxed")
    yield store
    assert store.check() == []
    store.close()


@pytest.fixture
def neighbour(store):
    process = NeighbourProcess()
    yield process.beside(store)
    process.close()
    process.end()


def add(store, task_id):
    """The sequence number of a new task."""
    (reply,) = store.apply([AddMany(tasks=(new_task(task_id),), now=START)])
    return reply.entries[0].seq


def test_two_processes_that_add_in_turn_give_each_task_a_number_of_its_own(store, neighbour):
    assert [add(store, "a"), add(neighbour, "b"), add(store, "c"), add(neighbour, "d")] == [1, 2, 3, 4]


def test_a_process_whose_last_transaction_deleted_nothing_hears_of_others(store, neighbour):
    add(store, "a")
    store.apply([PutValue(namespace="things", key="there is none", value=None)])
    assert [add(neighbour, "b"), add(store, "c")] == [2, 3]
