"""The contract of lanes and pools: where tasks wait, and what they wait for."""

from __future__ import annotations

from collections.abc import Iterator

from oq.executor import ChoosesLane, HasPools, LanePools
from oq.offers import EVERYTHING
from oq.task import Priority, TaskSpec
from oq.testing.executor_contract.base import ExecutorFrame, Subject, on_trio, one_line

WISH = "wished-for"
"""A lane that a spec may ask for."""
STRANGE = "a lane of no task"
"""A lane that no executor has heard of, as that of a task which another version stored."""
LONGEST_LANE = 100


class Placing(ExecutorFrame):
    """It tells which tasks need the same things."""

    @on_trio
    async def test_a_task_has_the_same_lane_each_time(self, subject: Subject) -> None:
        """The lane is a printable text, and depends on action, payload and wish only: any process gives the same."""
        another = subject.make_another()
        for spec in subject.examples.good:
            for wish in (None, WISH):
                lanes = [_lane(subject, one, spec, wish) for one in (subject.executor, subject.executor, another)]
                assert one_line(lanes[0]), f"{lanes[0]!r} is no name of a lane"
                assert lanes[0].isprintable()
                assert len(lanes[0]) <= LONGEST_LANE
                assert set(lanes) == {lanes[0]}, f"one task, but several lanes: {lanes}"

    @on_trio
    async def test_the_units_of_pools_are_whole_numbers(self, subject: Subject) -> None:
        """A pool has a name and no fewer than 0 units."""
        async with subject.registry.opened():
            for pool, units in _own_pools(subject.executor).items():
                assert one_line(pool)
                assert isinstance(units, int), f"{pool!r} has {units!r} units"
                assert units >= 0, f"{pool!r} has {units} units"

    @on_trio
    async def test_no_pool_is_named_like_those_of_oq(self, subject: Subject) -> None:
        """`all`, `queue:…` and `executor:…` are counted by oq; what an executor says of them would be ignored."""
        async with subject.registry.opened():
            for pool in _own_pools(subject.executor):
                assert pool != EVERYTHING
                assert not pool.startswith(("queue:", "executor:")), f"{pool!r} is named like a pool of oq"

    @on_trio
    async def test_the_lanes_of_the_examples_can_be_served(self, subject: Subject) -> None:
        """In its surroundings the executor offers the lane of each example, so that its tasks start."""
        if isinstance(subject.executor, HasPools):
            async with subject.registry.opened():
                for spec in subject.examples.good:
                    lane = subject.registry.check(spec).lane
                    assert offered(subject.executor, lane), f"lane {lane!r} cannot be served"

    @on_trio
    async def test_lanes_need_only_pools_that_there_are(self, subject: Subject) -> None:
        """Each pool that a lane needs, or may choose, is one whose units somebody tells; else its tasks never start."""
        async with subject.registry.opened():
            known = {pool for one in subject.registry.executors() for pool in _own_pools(one)}
            for spec in subject.examples.good:
                lane = subject.registry.check(spec).lane
                unknown = {pool for pools in offered(subject.executor, lane) for pool in _pools_of(pools)} - known
                assert not unknown, f"lane {lane!r} needs {', '.join(sorted(unknown))}, which nobody has"

    @on_trio
    async def test_a_strange_lane_is_no_error(self, subject: Subject) -> None:
        """Asked about a lane that it does not know, the executor says what it needs, or that it cannot be served."""
        async with subject.registry.opened():
            assert all(isinstance(pools, LanePools) for pools in offered(subject.executor, STRANGE))

    @on_trio
    async def test_asking_changes_nothing(self, subject: Subject) -> None:
        """Pools and lanes are the same when they are asked for again at once."""
        async with subject.registry.opened():
            lanes = [subject.registry.check(spec).lane for spec in subject.examples.good]
            answers = [
                (_own_pools(subject.executor), [offered(subject.executor, lane) for lane in lanes]) for _ in range(2)
            ]
            assert answers[0] == answers[1]


def offered(executor: object, lane: str) -> list[LanePools]:
    """What a task of this lane needs, in one way or several; empty when it cannot be served at present."""
    if not isinstance(executor, HasPools):
        return [LanePools()]
    answer = executor.lane_pools(lane)
    return [] if answer is None else [answer]


def _own_pools(executor: object) -> dict[str, int]:
    return dict(executor.pools()) if isinstance(executor, HasPools) else {}


def _lane(subject: Subject, executor: object, spec: TaskSpec, wish: str | None) -> str:
    if isinstance(executor, ChoosesLane):
        return executor.lane(spec.action, subject.registry.check(spec).value, wish)
    return wish or spec.executor


def _pools_of(pools: LanePools) -> Iterator[str]:
    """Every pool that a task of any priority may need."""
    yield from pools.needs
    for group in pools.choices:
        yield from group
    for rule in pools.urgent:
        assert isinstance(rule.priority, Priority)
        for group in rule.choices:
            yield from group
