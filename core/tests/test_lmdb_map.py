"""The map of an LMDB store grows by itself; where it cannot, that is an answer and no end."""

import resource
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from oq.errors import StoreUnavailable
from oq.store.base import AddMany
from oq.store.lmdb import LmdbStore
from oq.testing import START, new_task

sys.path.insert(0, str(Path(__file__).parent))

from trouble.writes import MAP_FULL, FailingWrites

MAP = 2**27

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="there is no /proc to read sizes from")


@pytest.fixture
def store(tmp_path):
    store = LmdbStore(tmp_path / "data", durability="relaxed", initial_bytes=MAP)
    yield store
    assert store.check() == []
    store.close()


@contextmanager
def address_space_left(size):
    """Let this process have only so many bytes of address space more than it has now."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def add(store, task_id):
    store.apply([AddMany(tasks=(new_task(task_id),), now=START)])


def add_when_the_map_is_full(store, task_id):
    FailingWrites(store).plan(MAP_FULL, 3)
    add(store, task_id)


def test_it_grows_by_itself(store):
    add_when_the_map_is_full(store, "a")
    assert store.get("a") is not None
    assert store._environment._map_size == 2 * MAP


def test_without_address_space_for_more_the_batch_is_refused(store):
    with address_space_left(MAP // 2), pytest.raises(StoreUnavailable, match="Cannot allocate memory"):
        add_when_the_map_is_full(store, "a")


def test_what_was_refused_without_address_space_can_be_sent_again_and_nothing_is_lost(store):
    add(store, "before")
    with address_space_left(MAP // 2):
        with pytest.raises(StoreUnavailable):
            add_when_the_map_is_full(store, "a")
        assert store.get("before") is not None
        assert store.get("a") is None
        add(store, "a")
    assert store.get("a") is not None
