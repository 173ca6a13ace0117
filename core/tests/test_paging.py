"""Paging yields each task that fits throughout exactly once, whatever happens between two pages."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oq.query import TaskFilter
from oq.store.base import AddMany, Cancel, Requeue, SetPriority
from oq.store.lmdb import LmdbStore
from oq.store.memory import MemoryStore
from oq.task import Priority, Status
from oq.testing import START, claim, new_task

NUMBERS = st.integers(0, 30)
changes = st.one_of(
    st.builds(lambda n: Cancel(task_id=f"t{n}", now=START), NUMBERS),
    st.builds(lambda n: Requeue(task_id=f"t{n}", now=START), NUMBERS),
    st.builds(lambda n, p: SetPriority(task_id=f"t{n}", priority=p, now=START), NUMBERS, st.sampled_from(Priority)),
    st.just("claim"),
    st.just("add"),
)
filters = st.builds(
    TaskFilter,
    status=st.none() | st.sampled_from(Status),
    tag=st.none() | st.sampled_from(["red", "blue"]),
    priority=st.none() | st.sampled_from(Priority),
    text=st.none() | st.sampled_from(["1", "t2"]),
    id_prefix=st.none() | st.just("t1"),
)


@pytest.mark.parametrize("kind", ["memory", "lmdb"])
@given(filters, st.integers(1, 7), st.lists(st.lists(changes, max_size=4), max_size=40))
@settings(max_examples=60, deadline=None)
def test_every_task_that_fits_throughout_comes_exactly_once(kind, wanted, limit, steps):
    with TemporaryDirectory() as directory:
        store = MemoryStore() if kind == "memory" else LmdbStore(Path(directory))
        try:
            check(store, wanted, limit, iter(steps))
        finally:
            store.close()


def check(store, wanted, limit, steps):
    number = 0

    def add(count):
        nonlocal number
        tags = ("red",), ("blue",), ()
        tasks = [
            new_task(f"t{n}", tags=tags[n % 3], summary=f"T{n}", priority=list(Priority)[n % 4])
            for n in range(number, number + count)
        ]
        number += count
        store.apply([AddMany(tasks=tuple(tasks), now=START)])

    def fitting():
        found = store.page(wanted, None, 1_000)
        assert found.cursor is None
        return {record.head.id for record in found.items}

    add(25)
    throughout, cursor, got = fitting(), None, []
    while True:
        page = store.page(wanted, cursor, limit)
        assert len(page.items) <= limit
        got += [record.head.id for record in page.items]
        cursor = page.cursor
        if cursor is None:
            break
        for change in next(steps, ()):
            match change:
                case "add":
                    add(1)
                case "claim":
                    store.apply([claim(limit=2)])
                case op:
                    store.apply([op])
            throughout &= fitting()
    assert len(got) == len(set(got))
    assert throughout <= set(got)
