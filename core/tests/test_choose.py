"""Which ready tasks start, held against the plainest way to say it: sort them all, walk, take what fits."""

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oq.choose import Choice, Offer, Ready, choose

POOLS = ["a", "b", "c", "d"]


class Lanes:
    """Ready tasks by lane, which note how many of them were looked at."""

    def __init__(self, lanes: list[tuple[Offer, list[Ready]]]) -> None:
        self.lanes = [(offer, sorted(tasks)) for offer, tasks in lanes]
        self.pulled: Counter[str] = Counter()

    @property
    def offers(self) -> list[Offer]:
        return [offer for offer, _ in self.lanes]

    @property
    def ranked(self) -> list[tuple[Ready, Offer]]:
        return sorted(((task, offer) for offer, tasks in self.lanes for task in tasks), key=lambda pair: pair[0])

    def heads(self, offer: Offer) -> Iterator[Ready]:
        for task in next(tasks for at, tasks in self.lanes if at is offer):
            self.pulled[offer.lane] += 1
            yield task

    def choose(self, free, limit=100, *, idle=True):
        return choose(self.offers, self.heads, free, limit, idle=idle)


def could_start(offer: Offer, left: Counter[str]) -> tuple[str, ...] | None:
    """The units that a task of the lane would get."""
    after = Counter(left)
    after.subtract(offer.needs)
    if any(after[pool] < 0 for pool in offer.needs):
        return None
    if not offer.choices:
        return offer.needs
    for group in offer.choices:
        most = max((after[pool] for pool in group), default=0)
        if most > 0:
            return (*offer.needs, next(pool for pool in group if after[pool] == most))
    return None


def slow_choose(lanes: Lanes, free: dict[str, int], limit: int, *, idle: bool) -> tuple[list[Choice], bool]:
    left = Counter(free)
    chosen: list[Choice] = []
    for task, offer in lanes.ranked:
        units = could_start(offer, left)
        if len(chosen) == limit:
            break
        if units is None:
            continue
        if task.alone and (chosen or not idle):
            break
        chosen.append(Choice(offer, task, units))
        left.subtract(units)
        if task.alone:
            break
    return chosen, len(chosen) < len(lanes.ranked)


@st.composite
def some_lanes(draw) -> Lanes:
    count = draw(st.integers(0, 5))
    pools = st.lists(st.sampled_from(POOLS), max_size=3).map(tuple)
    offers = [
        Offer(
            queue="default",
            executor="test",
            lane=f"lane-{index}",
            needs=draw(pools),
            choices=tuple(draw(st.lists(pools, max_size=2))),
        )
        for index in range(count)
    ]
    tasks = draw(
        st.lists(
            st.tuples(st.integers(0, max(count - 1, 0)), st.sampled_from([1, 5, 10, 15]), st.integers(0, 9).map(bool)),
            max_size=20 if count else 0,
        )
    )
    numbers = draw(st.permutations(range(len(tasks))))
    lanes: list[tuple[Offer, list[Ready]]] = [(offer, []) for offer in offers]
    for (lane, priority, ordinary), seq in zip(tasks, numbers, strict=True):
        lanes[lane][1].append(Ready(-priority, seq, alone=not ordinary))
    return Lanes(lanes)


frees = st.dictionaries(st.sampled_from(POOLS), st.integers(-1, 6))
limits = st.integers(0, 20)


def lane(name="lane", needs=(), choices=(), tasks=()):
    return Offer(queue="default", executor="test", lane=name, needs=needs, choices=choices), list(tasks)


@given(some_lanes(), frees, limits, st.booleans())
def test_the_same_tasks_start_as_by_sorting_and_walking(lanes, free, limit, idle):
    chosen, more = slow_choose(lanes, free, limit, idle=idle)
    got = lanes.choose(free, limit, idle=idle)
    assert got.choices == chosen
    assert got.more == more


@given(some_lanes(), frees, limits, st.booleans())
def test_no_pool_gives_more_units_than_it_has(lanes, free, limit, idle):
    taken = Counter(unit for choice in lanes.choose(free, limit, idle=idle).choices for unit in choice.units)
    assert all(free.get(pool, 0) >= count for pool, count in taken.items())


@given(some_lanes(), frees, limits, st.booleans())
def test_nothing_that_could_start_waits_behind_something_of_lower_rank(lanes, free, limit, idle):
    left = Counter(free)
    waiting = dict(lanes.ranked)
    for choice in lanes.choose(free, limit, idle=idle).choices:
        del waiting[choice.ready]
        better = [offer for task, offer in waiting.items() if task < choice.ready]
        assert not any(could_start(offer, left) is not None for offer in better)
        left.subtract(choice.units)


@given(some_lanes(), frees, st.booleans())
def test_nothing_that_could_start_is_left_unless_a_task_must_run_alone(lanes, free, idle):
    chosen = lanes.choose(free, 1000, idle=idle).choices
    left = Counter(free)
    left.subtract(unit for choice in chosen for unit in choice.units)
    waiting = [(task, offer) for task, offer in lanes.ranked if task not in {choice.ready for choice in chosen}]
    if not any(task.alone for task, _ in lanes.ranked):
        assert not any(could_start(offer, left) is not None for _, offer in waiting)


@given(some_lanes(), frees, limits, st.booleans())
def test_at_most_one_task_a_lane_is_looked_at_besides_those_chosen(lanes, free, limit, idle):
    """So a backlog of ten million costs what a backlog of one costs."""
    chosen = Counter(choice.offer.lane for choice in lanes.choose(free, limit, idle=idle).choices)
    assert all(count <= chosen[name] + 1 for name, count in lanes.pulled.items())


@given(some_lanes(), frees, limits, st.booleans())
def test_a_task_that_must_run_alone_starts_alone_and_only_while_nothing_runs(lanes, free, limit, idle):
    chosen = lanes.choose(free, limit, idle=idle).choices
    if any(choice.ready.alone for choice in chosen):
        assert len(chosen) == 1
        assert idle


@given(some_lanes(), frees, limits)
def test_while_a_task_that_must_run_alone_could_start_nothing_of_lower_rank_does(lanes, free, limit):
    """Or it would wait for ever."""
    left = Counter(free)
    for choice in lanes.choose(free, limit, idle=False).choices:
        assert not any(
            task.alone and task < choice.ready and could_start(offer, left) is not None for task, offer in lanes.ranked
        )
        left.subtract(choice.units)


@given(some_lanes(), frees, limits, st.booleans())
def test_the_free_units_are_only_read(lanes, free, limit, idle):
    before = dict(free)
    lanes.choose(free, limit, idle=idle)
    assert free == before


@given(st.lists(st.tuples(st.sampled_from([1, 5, 10, 15]), st.integers(0, 50)), unique_by=lambda task: task[1]))
@example([(5, 2), (5, 1), (15, 3), (1, 0)])
def test_the_highest_priority_comes_first_and_then_the_lowest_sequence_number(tasks):
    lanes = Lanes([lane(tasks=[Ready(-priority, seq) for priority, seq in tasks])])
    started = [(-choice.ready.minus_priority, choice.ready.seq) for choice in lanes.choose({}).choices]
    assert started == sorted(tasks, key=lambda task: (-task[0], task[1]))


def test_a_full_lane_does_not_hold_up_the_others():
    lanes = Lanes([lane("full", ("a",), tasks=[Ready(-15, 1)]), lane("free", ("b",), tasks=[Ready(-1, 2)])])
    got = lanes.choose({"a": 0, "b": 1})
    assert [choice.offer.lane for choice in got.choices] == ["free"]
    assert got.more


def test_a_pool_that_nobody_knows_has_no_units():
    assert Lanes([lane(needs=("unheard of",), tasks=[Ready(-5, 1)])]).choose({"a": 1}) == ([], True)


def test_a_lane_may_need_two_units_of_one_pool():
    lanes = Lanes([lane(needs=("a", "a"), tasks=[Ready(-5, 1), Ready(-5, 2)])])
    assert [choice.ready.seq for choice in lanes.choose({"a": 3}).choices] == [1]


@pytest.mark.parametrize(
    ("free", "endpoint"),
    [
        ({"near-1": 1, "near-2": 3, "far": 9}, "near-2"),
        ({"near-1": 2, "near-2": 2, "far": 9}, "near-1"),
        ({"near-1": 0, "near-2": 0, "far": 9}, "far"),
        ({"far": 1}, "far"),
    ],
)
def test_the_endpoint_is_the_freest_one_of_the_first_group_that_has_any(free, endpoint):
    lanes = Lanes([lane(needs=("all",), choices=(("near-1", "near-2"), ("far",)), tasks=[Ready(-5, 1)])])
    (choice,) = lanes.choose({"all": 1, **free}).choices
    assert choice.units == ("all", endpoint)


def test_tasks_of_one_lane_spread_over_its_endpoints():
    lanes = Lanes([lane(choices=(("x", "y"),), tasks=[Ready(-5, seq) for seq in range(5)])])
    assert [choice.units for choice in lanes.choose({"x": 2, "y": 2}).choices] == [("x",), ("y",), ("x",), ("y",)]


def test_a_pool_that_is_needed_can_be_the_endpoint_too_if_it_has_a_second_unit():
    lanes = Lanes([lane(needs=("x",), choices=(("x",),), tasks=[Ready(-5, 1)])])
    assert lanes.choose({"x": 1}).choices == []
    assert [choice.units for choice in lanes.choose({"x": 2}).choices] == [("x", "x")]
    greedy = Lanes([lane(needs=("x", "x"), choices=(("x",),), tasks=[Ready(-5, 1)])])
    assert greedy.choose({"x": 2}).choices == []
    assert [choice.units for choice in greedy.choose({"x": 3}).choices] == [("x", "x", "x")]


def test_a_lane_whose_endpoints_are_all_gone_waits():
    assert Lanes([lane(choices=((),), tasks=[Ready(-5, 1)])]).choose({"a": 1}) == ([], True)


def test_there_is_no_more_when_everything_was_taken():
    assert not Lanes([lane(tasks=[Ready(-5, 1)]), lane("empty")]).choose({}).more


def test_there_is_more_when_the_limit_was_reached_before_the_end():
    lanes = Lanes([lane(tasks=[Ready(-5, 1), Ready(-5, 2)])])
    assert lanes.choose({}, 1).more
    assert not lanes.choose({}, 2).more
    assert lanes.choose({}, 0).more


def test_a_task_that_must_run_alone_waits_for_those_before_it():
    lanes = Lanes([lane(tasks=[Ready(-10, 1), Ready(-5, 2, alone=True), Ready(-1, 3)])])
    first = lanes.choose({}, idle=True)
    assert [choice.ready.seq for choice in first.choices] == [1]
    assert first.more


@pytest.mark.parametrize(("idle", "started"), [(True, [1]), (False, [])])
def test_a_task_that_must_run_alone_holds_back_the_others_until_nothing_runs(idle, started):
    alone = Ready(-5, 1, alone=True)
    for others in ([lane(tasks=[alone, Ready(-5, 2)])], [lane(tasks=[alone]), lane("other", tasks=[Ready(-5, 2)])]):
        got = Lanes(others).choose({}, idle=idle)
        assert [choice.ready.seq for choice in got.choices] == started
        assert got.more


def test_there_is_no_more_when_the_task_that_runs_alone_was_the_last():
    assert not Lanes([lane(tasks=[Ready(-5, 1, alone=True)])]).choose({}).more


def test_a_task_that_must_run_alone_holds_nobody_back_while_its_own_pools_are_full():
    lanes = Lanes([lane("killer", ("a",), tasks=[Ready(-5, 1, alone=True)]), lane("other", tasks=[Ready(-5, 2)])])
    assert [choice.ready.seq for choice in lanes.choose({"a": 0}, idle=False).choices] == [2]
