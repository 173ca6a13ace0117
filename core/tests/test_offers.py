"""Which lanes are offered: those of the store, and those of tasks that are just being submitted here."""

import pytest

from oq.offers import Offers
from oq.registry import Registry
from oq.store.base import AddMany
from oq.store.memory import MemoryStore
from oq.testing import START, ScriptedExecutor, new_task

LANE = ("default", "scripted", "m")


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def offers(store):
    return Offers(store, Registry([ScriptedExecutor()]), workers=4, executor_limits={})


def offered(offers):
    if offers.stale:
        offers.make()
    return {(offer.queue, offer.executor, offer.lane) for offer in offers.made}


def test_a_lane_is_offered_before_its_first_task_is_stored(offers):
    offers.note(LANE)
    assert offered(offers) == {LANE}


def test_a_lane_of_the_store_is_offered(offers, store):
    store.apply([AddMany(tasks=(new_task("a", executor="scripted", lane="m"),), now=START)])
    assert offered(offers) == {LANE}


def test_it_is_offered_no_more_once_its_tasks_were_refused(offers):
    offers.note(LANE)
    offers.forget([LANE])
    assert offered(offers) == set()


def test_it_stays_while_another_submit_of_such_tasks_is_under_way(offers):
    offers.note(LANE)
    offers.note(LANE)
    offers.forget([LANE])
    assert offered(offers) == {LANE}
    offers.forget([LANE])
    assert offered(offers) == set()


def test_one_that_was_forgotten_after_it_was_offered_is_noted_again(offers):
    """Or a task of lower rank in another lane could start first."""
    offers.note(LANE)
    assert offered(offers) == {LANE}
    offers.forget([LANE])
    offers.note(LANE)
    assert offered(offers) == {LANE}


def test_one_that_the_store_has_by_now_is_not_forgotten(offers, store):
    offers.note(LANE)
    store.apply([AddMany(tasks=(new_task("a", executor="scripted", lane="m"),), now=START)])
    offers.make()
    offers.forget([LANE])
    assert offered(offers) == {LANE}
