"""Hypothesis strategies for what a store is sent: few names and small numbers, so that tasks meet."""

from __future__ import annotations

from hypothesis import strategies as st

from oq.choose import Offer
from oq.query import TaskFilter
from oq.store.base import ANY_NUMBER, EVERY_QUEUE, Ending, Failed, NewTask, PutValue, Released, Retried, Room, Succeeded
from oq.task import Priority, Status
from oq.testing.builders import POOL, at, failure, new_task, offer, pause

QUEUE_NAMES = ("default", "other")
LANES = tuple((queue, lane) for queue in QUEUE_NAMES for lane in ("x", "y"))
NEEDS = ((POOL,), (POOL, "gpu"), ())
CHOICES = ((), (("one", "two"), ("spare",)))
BANDS = (((0, 255),), ((0, 255),), ((0, 255),), ((6, 255),), ((0, 9),), ((0, 5), (6, 255)))
"""The priorities of the offers of one lane."""
POOLS = (POOL, "gpu", "one", "two", "spare")
NOBODY = "nobody"
"""An id that no task has."""

sometimes = st.sampled_from([False, False, True, False, False])
seldom = st.sampled_from([False] * 11 + [True] + [False] * 8)
seconds = st.integers(-5, 30)
priorities = st.sampled_from(Priority)

free = st.fixed_dictionaries({POOL: st.integers(0, 5)}, optional={pool: st.integers(0, 2) for pool in POOLS[1:]})
EVERY_LANE = tuple(offer(lane, queue=queue) for queue, lane in LANES)
values = st.builds(pause, st.sampled_from([*QUEUE_NAMES, EVERY_QUEUE]), paused=sometimes) | st.builds(
    PutValue,
    namespace=st.just("things"),
    key=st.sampled_from("kl"),
    value=st.sampled_from([None, b"", b"value"]),
    expect=st.none() | st.integers(0, 2),
)
rooms = st.sampled_from([ANY_NUMBER] * 6) | st.builds(
    Room,
    tasks=st.none() | st.integers(1, 12),
    tasks_per_queue=st.none() | st.integers(1, 8),
    size=st.none() | st.integers(0, 100),
    size_per_queue=st.none() | st.integers(0, 60),
)
purges = st.fixed_dictionaries(
    {
        "ages": st.dictionaries(st.sampled_from([status for status in Status if status.final]), st.integers(0, 40)),
        "most_completed": st.none() | st.integers(0, 6),
        "idempotent_age": st.none() | st.integers(0, 40),
        "limit": st.sampled_from([100, 100, 1, 2, 3]),
        "steps": st.sampled_from([1, 1, 20]),
    }
)
"""What a purge is to delete, with ages in seconds."""
filters = st.builds(
    TaskFilter,
    status=st.none() | st.sampled_from(Status),
    queue=st.none() | st.sampled_from(QUEUE_NAMES),
    tag=st.none() | st.sampled_from(["red", "blue"]),
    group=st.none() | st.just("g"),
    priority=st.none() | priorities,
)


@st.composite
def offers(draw: st.DrawFn) -> list[Offer]:
    """Offers of some lanes; of a lane, one for all priorities or for some, or two that share them."""
    lanes = draw(st.lists(st.sampled_from(LANES), min_size=1, unique=True))
    return [
        offer(
            lane,
            queue=queue,
            needs=draw(st.sampled_from(NEEDS)),
            choices=draw(st.sampled_from(CHOICES)),
            lowest=lowest,
            highest=highest,
        )
        for queue, lane in lanes
        for lowest, highest in draw(st.sampled_from(BANDS))
    ]


@st.composite
def new_tasks(draw: st.DrawFn, known: list[str], fresh: str, clock: int) -> NewTask:
    """A task with the id `fresh`, seldom another one, that may come after known ones, seldom after nobody."""
    orphan, taken = draw(seldom), draw(seldom)
    parents = [*known, NOBODY] if orphan else known
    task_id = draw(st.sampled_from(known)) if known and taken else fresh
    queue, lane = draw(st.sampled_from(LANES))
    ttl, run_at, expires_at = (draw(st.sampled_from([None] * 30 + list(range(-5, 15)))) for _ in range(3))
    return new_task(
        task_id,
        priority=draw(priorities),
        queue=queue,
        lane=lane,
        submitted_at=at(clock),
        payload=draw(st.sampled_from([b"payload", b"", b"a longer payload"])),
        tags=tuple(draw(st.lists(st.sampled_from(["red", "blue"]), max_size=2, unique=True))),
        group=draw(st.sampled_from([None, "g"])),
        unique_key=draw(st.sampled_from([None, None, None, None, "k", "k", "l"])),
        after=tuple(draw(st.lists(st.sampled_from(parents), max_size=2))) if parents else (),
        on_parent_failure=draw(st.sampled_from(["fail", "continue"])),
        run_at=None if run_at is None else at(clock + run_at),
        expires_at=None if expires_at is None else at(clock + expires_at),
        result_ttl=None if ttl is None else float(max(ttl, 0)),
    )


def endings(clock: int) -> st.SearchStrategy[Ending]:
    """Any way in which a run may end."""
    return st.one_of(
        st.builds(Succeeded, st.sampled_from([None, b"", b"result"])),
        st.just(Failed(failure())),
        st.builds(lambda due, counted: Retried(failure("again"), at(clock + due), counted), seconds, st.booleans()),
        st.just(Released()),
    )
