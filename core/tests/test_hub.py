"""Who listens hears everything it asked for and has room for, and never holds anybody up."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from oq.events import Event, EventKind
from oq.hub import EVERYTHING, EventFilter, Hub
from oq.task import Status
from oq.testing import START, run_virtually


def event(task_id="a", kind=EventKind.SUBMITTED, **fields):
    final = kind in (EventKind.COMPLETED, EventKind.FAILED, EventKind.CANCELLED)
    return Event(
        kind=kind,
        at=START,
        task_id=task_id,
        seq=1,
        executor=fields.pop("executor", "test"),
        action="run",
        queue=fields.pop("queue", "default"),
        lane="lane",
        priority=5,
        status=Status(kind.value) if final else Status.PENDING,
        phase=None,
        epoch=0,
        attempt=0,
    )


@pytest.fixture
def hub():
    return Hub()


class TestSubscriptions:
    async def test_a_subscriber_gets_what_happens_from_then_on_in_order(self, hub, autojump_clock):
        hub.publish([event("before")])
        with hub.subscribe() as events:
            hub.publish([event("a"), event("b")])
            hub.publish([event("c")])
            assert [(await anext(events)).task_id for _ in range(3)] == ["a", "b", "c"]

    async def test_it_waits_while_nothing_happens(self, hub, autojump_clock):
        async def happen():
            await trio.sleep(5)
            hub.publish([event("late")])

        with hub.subscribe() as events:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(happen)
                assert (await anext(events)).task_id == "late"
                assert trio.current_time() == 5

    async def test_everybody_gets_everything(self, hub, autojump_clock):
        with hub.subscribe() as first, hub.subscribe() as second:
            hub.publish([event("a"), event("b")])
            for events in (first, second):
                assert [each.task_id for each in events.receive_nowait()] == ["a", "b"]

    async def test_a_slow_one_is_told_how_much_it_missed_and_the_others_miss_nothing(self, hub, autojump_clock):
        with hub.subscribe(capacity=3) as slow, hub.subscribe() as quick:
            hub.publish([event(str(number)) for number in range(10)])
            assert [each.task_id for each in slow.receive_nowait()] == ["0", "1", "2"]
            assert slow.missed == 7
            assert len(quick.receive_nowait()) == 10
            assert quick.missed == 0
            hub.publish([event("10")])
            assert [each.task_id for each in slow.receive_nowait()] == ["10"]
            assert slow.missed == 7

    async def test_what_is_not_wanted_is_not_missed(self, hub, autojump_clock):
        with hub.subscribe(EventFilter(task_id="a"), capacity=1) as events:
            hub.publish([event("b"), event("a"), event("b")])
            assert (events.missed, [each.task_id for each in events.receive_nowait()]) == (0, ["a"])

    async def test_after_the_block_nothing_comes_any_more(self, hub, autojump_clock):
        with hub.subscribe() as events:
            hub.publish([event("a")])
        hub.publish([event("b")])
        assert [each.task_id async for each in events] == ["a"]

    async def test_a_closed_hub_ends_the_iteration_once_the_events_at_hand_are_taken(self, hub, autojump_clock):
        with hub.subscribe() as events:
            hub.publish([event("a"), event("b")])
            hub.close()
            assert [each.task_id async for each in events] == ["a", "b"]

    async def test_a_closed_hub_wakes_whoever_waits_for_an_event(self, hub, autojump_clock):
        ended = []

        async def listen():
            with hub.subscribe() as events:
                async for _ in events:
                    pass
                ended.append(True)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(listen)
            await trio.sleep(1)
            hub.close()
        assert ended == [True] * 3

    async def test_two_tasks_may_share_one_subscription(self, hub, autojump_clock):
        taken = []

        async def take(events):
            async for each in events:
                taken.append(each.task_id)  # noqa: PERF401  # the others' as well

        with hub.subscribe() as events:
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(take, events)
                await trio.sleep(1)
                for number in range(200):
                    hub.publish([event(str(number))])
                    if number % 7 == 0:
                        await trio.sleep(1)
                hub.close()
        assert sorted(taken, key=int) == [str(number) for number in range(200)]

    async def test_one_that_is_never_out_of_events_lets_others_run(self, hub, autojump_clock):
        turns = []

        async def other():
            while True:
                turns.append(1)
                await trio.lowlevel.checkpoint()

        with hub.subscribe() as events:
            hub.publish([event()] * 1_000)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(other)
                for _ in range(1_000):
                    await anext(events)
                nursery.cancel_scope.cancel()
        assert len(turns) > 5

    async def test_one_that_is_cancelled_loses_no_event(self, hub, autojump_clock):
        with hub.subscribe() as events:
            hub.publish([event(str(number)) for number in range(100)])
            taken = []
            with trio.CancelScope() as scope:
                async for each in events:
                    taken.append(each.task_id)
                    if len(taken) == 63:
                        scope.cancel()
            taken += [each.task_id for each in events.receive_nowait()]
            assert taken == [str(number) for number in range(100)]

    @given(
        capacity=st.integers(1, 5),
        steps=st.lists(st.one_of(st.integers(1, 8), st.just("take")), max_size=30),
    )
    def test_it_gets_the_first_that_have_room_and_a_count_of_the_others(self, capacity, steps):
        async def main():
            hub, waiting, taken, published = Hub(), 0, 0, 0
            with hub.subscribe(capacity=capacity) as events:
                for step in steps:
                    if step == "take":
                        taken += len(events.receive_nowait())
                        waiting = 0
                    else:
                        hub.publish([event()] * step)
                        published += step
                        waiting = min(capacity, waiting + step)
                    assert published == taken + waiting + events.missed

        run_virtually(main)


class TestFilters:
    @pytest.mark.parametrize(
        "wanted",
        [
            EventFilter(kinds=frozenset({EventKind.COMPLETED})),
            EventFilter(task_id="a"),
            EventFilter(queue="images"),
            EventFilter(executor="script"),
        ],
        ids=["kinds", "task_id", "queue", "executor"],
    )
    def test_each_field_must_fit(self, wanted):
        fits = event("a", EventKind.COMPLETED, queue="images", executor="script")
        assert wanted.matches(fits)
        assert not wanted.matches(event("b", EventKind.FAILED, queue="texts", executor="http"))

    def test_all_of_them_must(self):
        wanted = EventFilter(task_id="a", queue="images")
        assert not wanted.matches(event("a", queue="texts"))
        assert not wanted.matches(event("b", queue="images"))

    def test_without_any_everything_fits(self):
        assert EVERYTHING.matches(event())
        assert EventFilter().matches(event())


class TestWatches:
    async def test_a_watch_is_told_of_its_own_task_only(self, hub, autojump_clock):
        with hub.watch("a") as watch:
            hub.publish([event("b")])
            assert watch.version == 0
            hub.publish([event("a")])
            hub.touch("a")
            assert watch.version == 2

    async def test_a_change_between_looking_and_waiting_is_not_overlooked(self, hub, autojump_clock):
        with hub.watch("a") as watch:
            seen = watch.version
            hub.touch("a")
            with trio.fail_after(1):
                await watch.changed(seen)

    async def test_all_can_be_told_at_once(self, hub, autojump_clock):
        with hub.watch("a") as first, hub.watch("b") as second:
            hub.touch_all()
            assert (first.version, second.version) == (1, 1)

    async def test_those_of_one_task_share_a_watch_until_the_last_one_leaves(self, hub, autojump_clock):
        with hub.watch("a") as first:
            with hub.watch("a") as second:
                assert first is second
            hub.touch("a")
            assert first.version == 1
        assert not hub._watches


class TestCallbacks:
    def test_one_is_called_once_at_the_end_and_not_before(self, hub):
        calls = []
        hub.call_at_final("a", lambda: calls.append("a"))
        hub.publish([event("a", EventKind.STARTED), event("a", EventKind.RETRYING), event("b", EventKind.COMPLETED)])
        assert calls == []
        hub.publish([event("a", EventKind.FAILED)])
        hub.publish([event("a", EventKind.REQUEUED), event("a", EventKind.COMPLETED)])
        assert calls == ["a"]

    def test_several_are_called_in_the_order_of_their_asking(self, hub):
        calls = []
        for number in range(3):
            hub.call_at_final("a", lambda number=number: calls.append(number))
        assert hub.awaited() == ["a"]
        hub.became_final("a")
        assert calls == [0, 1, 2]
        assert hub.awaited() == []
