"""What starts next, and when: by rank alone, at the very moment, and never behind what cannot start."""

import socket
from contextlib import suppress
from datetime import timedelta

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from oq.config import SchedulerSettings, Settings
from oq.errors import DamagedRecord, InvalidTask
from oq.events import EventKind
from oq.executor import LanePools, Urgent
from oq.hub import EventFilter
from oq.query import TaskFilter
from oq.retry import NO_RETRY, RetryPolicy
from oq.scheduler import LEASE, LONGEST_SLEEP
from oq.store.base import Advance, Claimed, Refused
from oq.store.memory import MemoryStore
from oq.task import Outcome, Phase, Priority, Status
from oq.testing import ScriptedExecutor, SteeredStore, VirtualClock, at, run_virtually, virtual_queue

HOUR = 3600.0


@pytest.fixture
def executor():
    return ScriptedExecutor()


def quick(seconds=1.0, **options):
    """An executor whose runs take so long, each."""

    async def behave(run):
        await trio.sleep(seconds)

    return ScriptedExecutor(behave=behave, **options)


def starts(executor):
    """When each task started, by its label, in that order."""
    return {run.label: (run.ctx.started_at - at(0)).total_seconds() for run in executor.runs}


async def until(seconds):
    """Sleep until so many seconds after the beginning, and let everybody do what is due then."""
    await trio.sleep(seconds - trio.current_time())
    await wait_all_tasks_blocked()


class TestOrder:
    async def test_the_highest_priority_is_first_and_then_the_first_submitted(self, autojump_clock):
        executor = quick()
        async with virtual_queue(executor, workers=1, start=False) as queue:
            for number, priority in enumerate(["low", "high", "normal", "critical", "high", "low", "normal"]):
                await queue.submit(executor.spec(f"{priority} {number}", priority=priority))
            await queue.start()
            await queue.wait_idle()
        assert executor.labels == ["critical 3", "high 1", "high 4", "normal 2", "normal 6", "low 0", "low 5"]

    async def test_a_clock_that_goes_backwards_changes_nothing_in_it(self, autojump_clock):
        executor, clock = quick(), VirtualClock()
        async with virtual_queue(executor, workers=1, clock=clock, start=False) as queue:
            for number in range(5):
                await queue.submit(executor.spec(str(number)))
                clock.step(-HOUR)
            await queue.start()
            await queue.wait_idle()
        assert executor.labels == ["0", "1", "2", "3", "4"]

    async def test_what_comes_while_all_workers_are_busy_is_ranked_with_what_waits(self, autojump_clock):
        executor = quick(10)
        async with virtual_queue(executor, workers=1) as queue:
            for label, priority in [("running", "low"), ("a", "normal"), ("b", "high"), ("c", "critical")]:
                await queue.submit(executor.spec(label, priority=priority))
                await trio.sleep(1)
            await queue.wait_idle()
        assert starts(executor) == {"running": 0, "c": 10, "b": 20, "a": 30}

    async def test_a_retried_task_is_where_it_was(self, executor, autojump_clock):
        async with virtual_queue(executor, workers=1) as queue:
            retry = RetryPolicy(delay=5, jitter=0)
            for label in "abc":
                await queue.submit(executor.spec(label, retry=retry))
            (await executor.next_run()).fail(RuntimeError())
            b = await executor.next_run()
            await trio.sleep(6)
            b.complete()
            for label in "ac":
                run = await executor.next_run()
                assert run.label == label
                run.complete()
            await queue.wait_idle()

    async def test_so_is_a_requeued_one(self, executor, autojump_clock):
        async with virtual_queue(executor, workers=1) as queue:
            handles = [await queue.submit(executor.spec(label)) for label in "abc"]
            await handles[0].cancel()
            b = await executor.next_run()
            if b.label == "a":
                b = await executor.next_run()
            await handles[0].requeue()
            b.complete()
            for label in "ac":
                run = await executor.next_run()
                assert run.label == label
                run.complete()
            await queue.wait_idle()

    async def test_so_is_a_scheduled_one_once_its_moment_has_come(self, autojump_clock):
        executor = quick(10)
        async with virtual_queue(executor, workers=1) as queue:
            await queue.submit(executor.spec("scheduled", delay=5))
            for label in "abc":
                await queue.submit(executor.spec(label))
            await queue.wait_idle()
        assert starts(executor) == {"a": 0, "scheduled": 10, "b": 20, "c": 30}

    async def test_a_new_priority_counts_at_once_and_keeps_the_place_among_equals(self, autojump_clock):
        executor = quick(10)
        async with virtual_queue(executor, workers=1) as queue:
            handles = [await queue.submit(executor.spec(label)) for label in "abcd"]
            await handles[3].set_priority("high")
            await handles[2].set_priority("high")
            await handles[1].set_priority("low")
            await queue.wait_idle()
        assert executor.labels == ["a", "c", "d", "b"]

    async def test_rank_holds_across_queues_executors_and_lanes(self, autojump_clock):
        first, second = quick(name="first"), quick(name="second")
        async with virtual_queue(first, second, workers=1, start=False) as queue:
            await queue.submit(first.spec("1", queue="x"))
            await queue.submit(second.spec("2", lane="y"))
            await queue.submit(first.spec("3", lane="z", priority="high"))
            await queue.submit(second.spec("4"))
            await queue.submit(first.spec("5"))
            await queue.start()
            await queue.wait_idle()
        assert starts(first) | starts(second) == {"3": 0, "1": 1, "2": 2, "4": 3, "5": 4}

    @given(
        submissions=st.lists(
            st.tuples(
                st.sampled_from(Priority),
                st.sampled_from(["a", "b"]),
                st.sampled_from([0, 0, 1, -HOUR, HOUR]),
            ),
            max_size=25,
        )
    )
    def test_one_worker_starts_everything_by_priority_and_number(self, submissions):
        async def main():
            executor, clock = quick(), VirtualClock()
            async with virtual_queue(executor, workers=1, clock=clock, start=False) as queue:
                tasks = []
                for priority, lane, step in submissions:
                    clock.step(step)
                    tasks.append(await (await queue.submit(executor.spec(priority=priority, lane=lane))).refresh())
                await queue.start()
                await queue.wait_idle()
            ranked = sorted(tasks, key=lambda task: (-task.priority, task.seq))
            assert [run.task.id for run in executor.runs] == [task.id for task in ranked]

        run_virtually(main)

    @given(
        plan=st.lists(
            st.tuples(st.integers(0, 12), st.sampled_from(Priority), st.integers(1, 4)), min_size=1, max_size=20
        )
    )
    def test_whenever_a_worker_is_free_the_best_of_those_that_wait_starts_at_once(self, plan):
        async def main():
            async def behave(run):
                await trio.sleep(run.task.payload.value)

            executor = ScriptedExecutor(behave=behave)
            waiting, free_at = [], 0.0
            async with virtual_queue(executor, workers=1) as queue:
                for number, (whole, priority, whole_takes) in enumerate(sorted(plan, key=lambda each: each[0])):
                    moment, takes = whole + number, whole_takes + 1 / 64  # so that none comes when a run ends
                    await until(moment)
                    handle = await queue.submit(executor.spec(value=takes, priority=priority))
                    waiting.append((moment, await handle.refresh(), takes))
                await queue.wait_idle()
            for run in executor.runs:
                started = (run.ctx.started_at - at(0)).total_seconds()
                candidates = [each for each in waiting if each[0] <= started]
                best = min(candidates, key=lambda each: (-each[1].priority, each[1].seq))
                assert run.task.id == best[1].id
                assert started == max(free_at, best[0])
                free_at = started + best[2]
                waiting.remove(best)
            assert waiting == []

        run_virtually(main)


class TestNoTicks:
    async def test_a_submitted_task_starts_at_the_very_moment(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            for moment in [0.0, 0.001953125, 7.5, 1000.25]:
                await until(moment)
                handle = await queue.submit(executor.spec())
                run = await executor.next_run()
                assert run.ctx.started_at == at(moment)
                run.complete()
                assert (await handle.wait()).finished_at == at(moment)

    async def test_the_next_one_starts_in_the_moment_the_last_one_ends(self, autojump_clock):
        executor = quick(0.125)
        async with virtual_queue(executor, workers=1) as queue:
            await queue.submit_many([executor.spec(str(number)) for number in range(50)])
            await queue.wait_idle()
        assert list(starts(executor).values()) == [number / 8 for number in range(50)]

    async def test_a_scheduled_task_starts_exactly_at_its_time(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            await queue.submit(executor.spec("by delay", delay=12.5))
            await queue.submit(executor.spec("by moment", run_at=at(100_000)))
            await queue.submit(executor.spec("past", run_at=at(-5)))
            for _ in range(3):
                (await executor.next_run()).complete()
        assert starts(executor) == {"past": 0, "by delay": 12.5, "by moment": 100_000}

    async def test_an_earlier_moment_that_comes_later_is_not_overslept(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            await queue.submit(executor.spec("late", delay=25))
            await trio.sleep(1)
            await queue.submit(executor.spec("early", delay=4))
            for _ in range(2):
                (await executor.next_run()).complete()
        assert starts(executor) == {"early": 5, "late": 25}

    async def test_a_thousand_tasks_of_one_moment_all_start_then(self, autojump_clock):
        executor = quick()
        async with virtual_queue(executor, workers=2_000) as queue:
            await queue.submit_many([executor.spec(delay=60) for _ in range(1_200)])
            await until(60)
            assert len(executor.running) == 1_200

    async def test_an_idle_queue_does_not_touch_a_store_that_tells_of_changes(self, executor, autojump_clock):
        store = SteeredStore(MemoryStore())
        bell, _ = sockets = socket.socketpair()
        store.changes_fileno = bell.fileno
        async with virtual_queue(executor, store=store) as queue:
            await queue.submit(executor.spec(delay=50 * HOUR))
            await trio.sleep(1)
            store.batches.clear()
            await trio.sleep(10 * HOUR)
            assert store.batches == []
        for each in sockets:
            each.close()

    async def test_timers_that_the_store_refuses_to_look_at_are_tried_again_each_second(self, autojump_clock):
        store, tries = SteeredStore(MemoryStore()), []
        apply = store.apply

        def refuse_timers(ops):
            tries.extend(trio.current_time() for op in ops if isinstance(op, Advance))
            damaged = Refused(error=DamagedRecord("states", "#1", "its checksum is wrong"))
            replies = apply([op for op in ops if not isinstance(op, Advance)])
            return [damaged if isinstance(op, Advance) else replies.pop(0) for op in ops]

        executor = quick()
        async with virtual_queue(executor, store=store) as queue:
            await queue.submit(executor.spec(delay=10))
            await trio.sleep(5)
            store.apply = refuse_timers
            await trio.sleep(20)
            assert tries == [pytest.approx(moment) for moment in range(10, 25)]
            store.apply = apply
            await until(26)
            assert list(starts(executor).values()) == [25]

    @given(delays=st.lists(st.integers(0, 200), min_size=1, max_size=15))
    def test_each_of_many_timers_is_kept(self, delays):
        async def main():
            executor = quick()
            async with virtual_queue(executor, workers=20) as queue:
                for number, delay in enumerate(delays):
                    await queue.submit(executor.spec(str(number), delay=float(delay)))
                await until(300)
            assert starts(executor) == {str(number): delay for number, delay in enumerate(delays)}

        run_virtually(main)


class TestTheWallClock:
    @pytest.fixture
    def clock(self):
        return VirtualClock()

    async def test_a_step_forwards_is_noticed_within_half_a_minute(self, executor, clock, autojump_clock):
        async with virtual_queue(executor, clock=clock) as queue:
            await queue.submit(executor.spec(delay=HOUR))
            await trio.sleep(100)
            clock.step(HOUR)
            await executor.next_run()
            assert trio.current_time() <= 100 + LONGEST_SLEEP
            executor.runs[0].complete()

    async def test_after_a_step_backwards_a_scheduled_task_waits_for_its_moment(self, executor, clock, autojump_clock):
        async with virtual_queue(executor, clock=clock) as queue:
            await queue.submit(executor.spec(delay=60))
            await trio.sleep(10)
            clock.step(-HOUR)
            run = await executor.next_run()
            assert (trio.current_time(), run.ctx.started_at) == (60 + HOUR, at(60))
            run.complete()

    @pytest.mark.parametrize("step", [HOUR, -HOUR])
    async def test_a_step_holds_up_nothing_that_is_ready(self, step, executor, clock, autojump_clock):
        async with virtual_queue(executor, clock=clock, workers=1) as queue:
            handles = [await queue.submit(executor.spec()) for _ in range(3)]
            for handle in handles:
                run = await executor.next_run()
                clock.step(step)
                run.complete()
                task = await handle.wait()
                assert task.duration == max(0, step)
            assert trio.current_time() == 0

    async def test_durations_are_those_of_the_wall_clock(self, clock, autojump_clock):
        executor = quick(2.5)
        async with virtual_queue(executor, clock=clock) as queue:
            task = await (await queue.submit(executor.spec())).wait()
            assert task.duration == 2.5
            assert task.finished_at - task.submitted_at == timedelta(seconds=2.5)

    async def test_a_time_out_goes_by_the_time_that_passes(self, executor, clock, autojump_clock):
        async with virtual_queue(executor, clock=clock) as queue:
            handle = await queue.submit(executor.spec(timeout=100, retry=NO_RETRY))
            await trio.sleep(10)
            clock.step(HOUR)
            await trio.sleep(80)
            clock.step(-3 * HOUR)
            await handle.wait()
            assert trio.current_time() == 100


class TestOtherUsersOfTheStore:
    """What others do to the store is heard when the store tells of it, and otherwise within half a minute."""

    @pytest.fixture
    def bell(self):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours, theirs:
            yield ours, theirs

    @pytest.fixture(params=["bell", "no bell"])
    def told(self, request, bell):
        """The store as the runner and as others see it, what it takes to tell the runner, and how late it may hear."""
        theirs = MemoryStore()
        store = SteeredStore(theirs)
        if request.param == "no bell":
            return store, theirs, lambda: None, LONGEST_SLEEP
        store.changes_fileno = bell[0].fileno
        store.drain_changes = lambda: bell[0].recv(16)
        return store, theirs, lambda: bell[1].send(b"!"), 0

    async def test_a_task_they_submit_starts(self, told, executor, autojump_clock):
        store, theirs, ring, late = told
        other = ScriptedExecutor()
        async with virtual_queue(executor, store=store), virtual_queue(other, store=theirs, workers=0) as office:
            await trio.sleep(5)
            await office.submit(other.spec("theirs"))
            ring()
            with trio.fail_after(late + 1):
                run = await executor.next_run()
            assert run.label == "theirs"
            run.complete()

    async def test_a_run_they_cancel_stops_and_who_waits_for_it_hears(self, told, executor, autojump_clock):
        store, theirs, ring, late = told
        finals = []
        async with virtual_queue(executor, store=store) as queue, virtual_queue(store=theirs, workers=0) as office:
            handle = await queue.submit(executor.spec(), on_final=finals.append)
            run = await executor.next_run()
            await office.cancel(handle.id)
            ring()
            with trio.fail_after(late + 1):
                assert (await handle.wait()).status is Status.CANCELLED
                await run.wait_over()
            await trio.sleep(1)
            assert run.cancelled
            assert [task.status for task in finals] == [Status.CANCELLED]

    async def test_a_pause_of_theirs_holds_and_a_resume_too(self, told, executor, autojump_clock):
        store, theirs, ring, late = told
        async with virtual_queue(executor, store=store) as queue, virtual_queue(store=theirs, workers=0) as office:
            await office.pause()
            await queue.submit(executor.spec())
            await until(100)
            assert executor.runs == []
            await office.resume()
            ring()
            with trio.fail_after(late + 1):
                (await executor.next_run()).complete()

    async def test_a_timer_of_theirs_is_kept(self, told, executor, autojump_clock):
        store, theirs, ring, late = told
        other = ScriptedExecutor()
        async with virtual_queue(executor, store=store), virtual_queue(other, store=theirs, workers=0) as office:
            await office.submit(other.spec(delay=100))
            ring()
            run = await executor.next_run()
            assert at(100) <= run.ctx.started_at <= at(100 + late)
            run.complete()


class TestLanesAndPools:
    async def test_a_full_lane_holds_nobody_up(self, autojump_clock):
        executor = quick(10, pools={"gpu": 1}, lanes={"full": LanePools(needs=("gpu",))})
        async with virtual_queue(executor, workers=8) as queue:
            await queue.submit_many([executor.spec("full", lane="full", priority="critical") for _ in range(500)])
            await trio.sleep(1)
            await queue.submit(executor.spec("other", priority="low"))
            await until(2)
            assert starts(executor) == {"full": 0, "other": 1}
            await until(45)
            assert executor.labels.count("full") == 5

    async def test_nothing_that_is_claimed_waits_inside_its_attempt(self, autojump_clock):
        executor = quick(pools={"gpu": 2}, lanes={"m": LanePools(needs=("gpu",))})
        async with virtual_queue(executor, workers=8) as queue:
            await queue.submit_many([executor.spec(lane="m") for _ in range(9)])
            for moment in [0.5, 1.5, 2.5, 3.5]:
                await until(moment)
                assert (await queue.stats()).tasks.by_status[Status.RUNNING] == len(executor.running) == 2
            await queue.wait_idle()
        assert executor.most_at_once == 2

    async def test_a_run_is_told_which_units_it_holds(self, autojump_clock):
        executor = ScriptedExecutor(
            pools={"a": 1, "b": 1, "c": 1}, lanes={"m": LanePools(needs=("a",), choices=(("c", "b"),))}
        )
        async with virtual_queue(executor) as queue:
            await queue.submit(executor.spec(lane="m"))
            run = await executor.next_run()
            assert run.ctx.units == ("all", "queue:default", "executor:scripted", "a", "c")
            run.complete()

    async def test_of_several_endpoints_the_preferred_one_is_taken_while_it_has_room(self, autojump_clock):
        executor = ScriptedExecutor(pools={"near": 2, "far": 5}, lanes={"m": LanePools(choices=(("near",), ("far",)))})
        async with virtual_queue(executor, workers=4) as queue:
            taken = []
            for _ in range(4):
                await queue.submit(executor.spec(lane="m"))
                run = await executor.next_run()
                taken.append(run.ctx.units[-1])
            assert taken == ["near", "near", "far", "far"]
            executor.runs[0].complete()
            await wait_all_tasks_blocked()
            await queue.submit(executor.spec(lane="m"))
            assert (await executor.next_run()).ctx.units[-1] == "near"
            for run in executor.running:
                run.complete()

    async def test_urgent_tasks_may_have_other_choices(self, autojump_clock):
        urgent = Urgent(priority=Priority.CRITICAL, choices=(("far",), ("near",)))
        lane = LanePools(choices=(("near",),), urgent=(urgent,))
        executor = ScriptedExecutor(pools={"near": 1, "far": 1}, lanes={"m": lane})
        async with virtual_queue(executor, workers=8) as queue:
            for priority in ("high", "normal", "critical", "critical", "low"):
                await queue.submit(executor.spec(priority, lane="m", priority=priority))
            await wait_all_tasks_blocked()
            assert [(run.label, run.ctx.units[-1]) for run in executor.runs] == [("high", "near"), ("critical", "far")]
            executor.runs[0].complete()
            await wait_all_tasks_blocked()
            assert [(run.label, run.ctx.units[-1]) for run in executor.running] == [
                ("critical", "far"),
                ("critical", "near"),
            ]
            for run in executor.running:
                run.complete()
            for _ in range(2):
                await wait_all_tasks_blocked()
                [run] = executor.running
                assert run.ctx.units[-1] == "near"
                run.complete()

    async def test_choices_that_depend_on_the_backlog_come_and_go_with_it(self, autojump_clock):
        urgent = Urgent(priority=Priority.HIGH, choices=(("near",), ("far",)), backlog=3)
        lane = LanePools(choices=(("near",),), urgent=(urgent,))
        executor = ScriptedExecutor(pools={"near": 1, "far": 1}, lanes={"m": lane})
        async with virtual_queue(executor, workers=8) as queue:
            for label in ("first", "second"):
                await queue.submit(executor.spec(label, lane="m", priority="high"))
            await queue.submit(executor.spec("third", lane="m"))
            await wait_all_tasks_blocked()
            assert [run.label for run in executor.running] == ["first"]
            await queue.submit(executor.spec("fourth", lane="m"))
            await wait_all_tasks_blocked()
            assert [(run.label, run.ctx.units[-1]) for run in executor.running] == [
                ("first", "near"),
                ("second", "far"),
            ]
            executor.runs[1].complete()
            await queue.submit(executor.spec("fifth", lane="m", priority="high"))
            await queue.cancel((await queue.list(TaskFilter(status=Status.PENDING))).items[-1].id)
            await wait_all_tasks_blocked()
            assert executor.labels[:3] == ["first", "second", "fifth"]
            for _ in range(4):
                for run in executor.running:
                    run.complete()
                await wait_all_tasks_blocked()

    async def test_a_choice_of_no_pools_is_nobody(self, autojump_clock):
        lane = LanePools(choices=((),), urgent=(Urgent(priority=Priority.HIGH, choices=(("far",),)),))
        executor = quick(pools={"far": 1}, lanes={"m": lane})
        async with virtual_queue(executor, workers=8) as queue:
            await queue.submit_many([executor.spec(p, lane="m", priority=p) for p in ("normal", "high", "low")])
            await until(10)
            assert executor.labels == ["high"]

    async def test_a_run_can_exchange_the_unit_that_it_holds(self, autojump_clock):
        executor = ScriptedExecutor(pools={"a": 1, "b": 1, "c": 1}, lanes={"m": LanePools(choices=(("a",), ("b",)))})
        async with virtual_queue(executor) as queue:
            await queue.submit_many([executor.spec(label, lane="m") for label in ("first", "second", "third")])
            await wait_all_tasks_blocked()
            first, second = sorted(executor.running, key=lambda run: run.ctx.units)
            assert await first.ctx.exchange("a", ["b"]) is None
            assert await first.ctx.exchange("nosuch", ["c"]) is None
            assert first.ctx.units[-1] == "a"
            assert await first.ctx.exchange("a", ["b", "nosuch", "c"]) == "c"
            assert first.ctx.units[-1] == "c"
            await wait_all_tasks_blocked()
            [third] = [run for run in executor.running if run.label == "third"]
            assert third.ctx.units[-1] == "a"
            assert await second.ctx.exchange("b", ["c"]) is None
            first.complete()
            await wait_all_tasks_blocked()
            assert await second.ctx.exchange("b", ["c"]) == "c"
            for run in executor.running:
                run.complete()

    async def test_an_exchange_waits_for_a_claim_that_is_on_its_way(self, autojump_clock):
        """What is free then has been promised to the claim, which may take it or not."""
        executor = ScriptedExecutor(pools={"a": 1, "b": 1}, lanes={"m": LanePools(choices=(("a",),))})
        async with virtual_queue(executor) as queue:
            await queue.submit(executor.spec(lane="m"))
            run = await executor.next_run()
            await wait_all_tasks_blocked()  # until no claim of its own is on its way
            scheduler = queue._scheduler
            back = Claimed(runs=(), more=False, lanes_version=scheduler.offers.lanes_version)
            got = []

            async def exchange():
                got.append(await run.ctx.exchange("a", ["b"]))

            async with trio.open_nursery() as nursery:
                for taken in (1, 0):
                    scheduler._claim_in_flight = True
                    nursery.start_soon(exchange)
                    await wait_all_tasks_blocked()
                    assert len(got) == 1 - taken
                    scheduler._pools["b"].used = taken
                    scheduler._claimed(back)
                    await wait_all_tasks_blocked()
            assert got == [None, "b"]
            assert run.ctx.units[-1] == "b"
            run.complete()

    async def test_a_run_that_has_ended_has_no_unit_to_exchange(self, autojump_clock):
        """An executor may keep its context for longer than it should."""
        executor = ScriptedExecutor(pools={"a": 1, "b": 1}, lanes={"m": LanePools(choices=(("a",), ("b",)))})
        async with virtual_queue(executor) as queue:
            await queue.submit(executor.spec(lane="m"))
            run = await executor.next_run()
            run.complete()
            await queue.wait_idle()
            assert await run.ctx.exchange("a", ["b"]) is None
            await queue.submit_many([executor.spec(lane="m") for _ in range(3)])
            await wait_all_tasks_blocked()
            assert len(executor.running) == 2
            for _ in range(2):
                for other in executor.running:
                    other.complete()
                await wait_all_tasks_blocked()

    async def test_an_executor_may_offer_the_pools_of_another(self, autojump_clock):
        owner = ScriptedExecutor(name="owner", pools={"gpu": 1}, lanes={"m": LanePools(needs=("gpu",))})
        guest = ScriptedExecutor(name="guest", lanes={"m": LanePools(needs=("gpu",))})
        async with virtual_queue(guest, owner) as queue:
            await queue.submit(guest.spec(lane="m"))
            run = await guest.next_run()
            await queue.submit(owner.spec(lane="m"))
            await wait_all_tasks_blocked()
            assert owner.runs == []
            run.complete()
            (await owner.next_run()).complete()

    async def test_units_that_are_added_are_used_at_once(self, autojump_clock):
        executor = quick(10, pools={"gpu": 1}, lanes={"m": LanePools(needs=("gpu",))})
        async with virtual_queue(executor, workers=8) as queue:
            await queue.submit_many([executor.spec(lane="m") for _ in range(5)])
            await until(3)
            assert len(executor.running) == 1
            executor.set_pool("gpu", 3)
            await until(4)
            assert [run.ctx.started_at for run in executor.runs] == [at(0), at(3), at(3)]

    async def test_units_that_are_taken_away_stop_nobody_and_start_nobody(self, autojump_clock):
        executor = quick(10, pools={"gpu": 3}, lanes={"m": LanePools(needs=("gpu",))})
        async with virtual_queue(executor, workers=8) as queue:
            await queue.submit_many([executor.spec(lane="m") for _ in range(6)])
            await until(1)
            executor.set_pool("gpu", 1)
            await until(11)
            assert (len(executor.runs), len(executor.running)) == (4, 1)
            await queue.wait_idle()
            assert trio.current_time() == 40

    async def test_a_lane_that_cannot_be_served_waits_until_it_can(self, autojump_clock):
        executor = quick()
        executor.serve("m", None)
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec("m", lane="m"))
            await queue.submit(executor.spec("other"))
            await until(100)
            assert executor.labels == ["other"]
            assert (await handle.refresh()).phase is Phase.READY
            executor.serve("m", LanePools())
            await handle.wait()
        assert starts(executor) == {"other": 0, "m": 100}

    async def test_a_pool_that_nobody_knows_has_no_units(self, autojump_clock):
        executor = quick(lanes={"m": LanePools(needs=("nowhere",))})
        async with virtual_queue(executor) as queue:
            await queue.submit(executor.spec("m", lane="m"))
            await queue.submit(executor.spec("other"))
            await queue.wait_idle()
        assert executor.labels == ["other"]

    async def test_an_executor_cannot_change_the_pools_that_are_oqs_own(self, autojump_clock):
        first = quick(10, name="first")
        greedy = quick(10, name="greedy", pools={"all": 99, "queue:default": 99, "executor:first": 99})
        settings = Settings(scheduler=SchedulerSettings(limits={"first": 1}))
        async with virtual_queue(first, greedy, workers=6, settings=settings) as queue:
            await queue.set_limit("default", 4)
            await queue.submit_many([first.spec() for _ in range(9)])
            await queue.submit_many([greedy.spec() for _ in range(9)])
            await queue.submit_many([greedy.spec(queue="other") for _ in range(9)])
            await until(1)
            running = [run.task for run in first.running + greedy.running]
            assert len(running) == 6
            assert [task.queue for task in running].count("default") == 4
            assert len(first.running) == 1

    @pytest.mark.parametrize("wrong", ["pools", "lane_pools"])
    @pytest.mark.parametrize("answer", ["raise", "nonsense"])
    async def test_one_that_cannot_say_what_it_needs_holds_up_its_own_tasks_only(
        self, wrong, answer, monkeypatch, autojump_clock
    ):
        def fault(*_):
            if answer == "raise":
                raise ZeroDivisionError
            return {"gpu": "many"}

        faulty, fine = quick(name="faulty"), quick(name="fine")
        async with virtual_queue(faulty, fine) as queue:
            with monkeypatch.context() as patch:
                patch.setattr(faulty, wrong, fault)
                first = await queue.submit(faulty.spec())
                second = await queue.submit(fine.spec())
                assert (await second.wait()).status is Status.COMPLETED
                assert (await first.refresh()).phase is Phase.READY
            faulty.set_pool("gpu", 1)
            assert (await first.wait()).status is Status.COMPLETED

    @given(
        units=st.fixed_dictionaries({"a": st.integers(0, 3), "b": st.integers(0, 3)}),
        workers=st.integers(1, 4),
        plan=st.lists(
            st.tuples(
                st.sampled_from(["a", "b", "ab", "either", "free"]), st.sampled_from(Priority), st.integers(1, 3)
            ),
            max_size=20,
        ),
    )
    def test_pools_are_never_overdrawn_and_no_unit_is_idle_while_it_is_wanted(self, units, workers, plan):
        lanes = {
            "a": LanePools(needs=("a",)),
            "b": LanePools(needs=("b",)),
            "ab": LanePools(needs=("a", "b")),
            "either": LanePools(choices=(("a", "b"),)),
            "free": LanePools(),
        }

        async def main():
            async def behave(run):
                await trio.sleep(run.task.payload.value)

            executor = ScriptedExecutor(behave=behave, pools=units, lanes=lanes)
            async with virtual_queue(executor, workers=workers) as queue:
                handles = [
                    await queue.submit(executor.spec(lane, value=takes, lane=lane, priority=priority))
                    for lane, priority, takes in plan
                ]
                for moment in range(sum(takes for _, _, takes in plan) + 1):
                    await until(moment + 0.5)
                    used = [unit for run in executor.running for unit in run.ctx.units]
                    free = {pool: limit - used.count(pool) for pool, limit in (units | {"all": workers}).items()}
                    assert min(free.values()) >= 0
                    for handle in handles:
                        task = await handle.refresh()
                        if task.phase is Phase.READY and free["all"]:
                            wanted = lanes[task.lane]
                            missing = any(not free[pool] for pool in wanted.needs)
                            missing |= bool(wanted.choices) and not (free["a"] or free["b"])
                            assert missing, f"{task.lane} waits for no reason at {moment}"

        run_virtually(main)


class TestLimits:
    async def test_a_queues_limit_holds_across_its_lanes(self, autojump_clock):
        executor = quick(10)
        async with virtual_queue(executor, workers=8) as queue:
            await queue.set_limit("images", 2)
            await queue.submit_many([executor.spec(queue="images", lane=str(number % 3)) for number in range(6)])
            await queue.submit_many([executor.spec(queue="texts") for _ in range(3)])
            await until(1)
            assert sorted(run.task.queue for run in executor.running) == ["images"] * 2 + ["texts"] * 3

    async def test_it_can_be_changed_and_taken_off_at_any_time(self, autojump_clock):
        executor = quick(100)
        async with virtual_queue(executor, workers=8) as queue:
            await queue.set_limit("default", 1)
            await queue.submit_many([executor.spec() for _ in range(8)])
            for limit, running in [(3, 3), (2, 3), (5, 5), (None, 8)]:
                await queue.set_limit("default", limit)
                await wait_all_tasks_blocked()
                assert len(executor.running) == running

    async def test_it_is_stored(self, autojump_clock):
        store, executor = MemoryStore(), quick(10)
        async with virtual_queue(store=store) as queue:
            await queue.set_limit("default", 2)
        async with virtual_queue(executor, store=store, workers=8) as queue:
            await queue.submit_many([executor.spec() for _ in range(5)])
            await until(trio.current_time() + 1)
            assert len(executor.running) == 2

    async def test_of_changes_at_the_same_time_none_is_lost(self, executor, autojump_clock):
        async with virtual_queue(executor, workers=8) as queue:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(queue.set_limit, "default", 2)
                nursery.start_soon(queue.pause, "default")
                for number in range(5):
                    nursery.start_soon(queue.pause, f"queue {number}")
            assert len((await queue.stats()).paused) == 6
            await queue.submit_many([executor.spec() for _ in range(4)])
            await queue.resume("default")
            await wait_all_tasks_blocked()
            assert len(executor.running) == 2
            for run in executor.running:
                run.complete()

    @pytest.mark.parametrize("limit", [0, -1, 2.5, True, "3"])
    async def test_what_is_no_limit_is_refused(self, limit, autojump_clock):
        async with virtual_queue() as queue:
            with pytest.raises(InvalidTask, match="limit"):
                await queue.set_limit("default", limit)

    async def test_all_queues_together_have_the_workers_for_a_limit(self, autojump_clock):
        async with virtual_queue() as queue:
            with pytest.raises(InvalidTask, match="workers"):
                await queue.set_limit("*", 3)

    async def test_an_executors_limit_is_in_the_settings(self, autojump_clock):
        limited, other = quick(10, name="limited"), quick(10, name="other")
        settings = Settings(scheduler=SchedulerSettings(limits={"limited": 1}))
        async with virtual_queue(limited, other, workers=8, settings=settings) as queue:
            await queue.submit_many([limited.spec(lane=str(number), queue=str(number)) for number in range(4)])
            await queue.submit_many([other.spec() for _ in range(4)])
            await until(1)
            assert (len(limited.running), len(other.running)) == (1, 4)


class TestPausing:
    async def test_of_a_paused_queue_nothing_starts_until_it_is_resumed(self, autojump_clock):
        executor = quick(10)
        async with virtual_queue(executor, workers=4) as queue:
            await queue.submit(executor.spec("running", queue="images"))
            await queue.pause("images")
            waiting = await queue.submit(executor.spec("waiting", queue="images", priority="critical"))
            await queue.submit(executor.spec("other"))
            await until(50)
            assert starts(executor) == {"running": 0, "other": 0}
            assert (await waiting.refresh()).phase is Phase.PAUSED
            await queue.resume("images")
            await until(51)
            assert starts(executor)["waiting"] == 50

    async def test_all_can_be_paused_at_once(self, autojump_clock):
        executor = quick()
        async with virtual_queue(executor) as queue:
            await queue.pause()
            await queue.pause("images")
            await queue.submit(executor.spec("a"))
            await queue.submit(executor.spec("b", queue="images"))
            await until(5)
            await queue.resume()
            await until(10)
            assert starts(executor) == {"a": 5}
            await queue.resume("images")
            await until(20)
            assert starts(executor) == {"a": 5, "b": 10}

    async def test_a_pause_is_stored(self, autojump_clock):
        store, executor = MemoryStore(), quick()
        async with virtual_queue(executor, store=store) as queue:
            await queue.pause()
        async with virtual_queue(executor, store=store) as queue:
            await queue.submit(executor.spec())
            await queue.wait_idle()
            assert executor.runs == []
            assert (await queue.stats()).paused == ("*",)

    async def test_a_moment_that_comes_meanwhile_is_not_lost(self, autojump_clock):
        executor = quick()
        async with virtual_queue(executor) as queue:
            await queue.submit(executor.spec("scheduled", delay=10))
            await queue.pause()
            await until(60)
            assert executor.runs == []
            await queue.resume()
            await until(61)
            assert starts(executor) == {"scheduled": 60}


class TestExpiry:
    async def test_a_task_that_has_not_started_by_its_moment_fails(self, executor, autojump_clock):
        async with virtual_queue(executor, workers=1) as queue:
            await queue.submit(executor.spec("running", expires_at=at(30)))
            handle = await queue.submit(executor.spec("waiting", expires_at=at(20)))
            run = await executor.next_run()
            task = await handle.wait()
            assert (task.status, task.failure.type, task.finished_at) == (Status.FAILED, "Expired", at(20))
            assert task.attempts == ()
            await until(100)
            assert not run.over
            run.complete()

    async def test_one_that_failed_before_may_still_retry_after_it(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            spec = executor.spec(expires_at=at(5), retry=RetryPolicy(delay=10, jitter=0))
            handle = await queue.submit(spec)
            (await executor.next_run()).fail(RuntimeError())
            (await executor.next_run()).complete("late")
            assert await handle.result() == "late"

    async def test_results_are_dropped_after_their_time(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec(result_ttl=60))
            kept = await queue.submit(executor.spec())
            for _ in range(2):
                run = await executor.next_run()
                await run.emit("output")
                run.complete("result")
            with queue.subscribe(EventFilter(kinds=frozenset({EventKind.DROPPED}))) as events:
                assert await handle.result() == "result"
                await until(59)
                assert (await handle.refresh()).result == "result"
                await until(60)
                assert [event.at for event in events.receive_nowait()] == [at(60)]
            assert (await handle.refresh()).result is None
            assert (await kept.refresh()).result == "result"


class TestFollowers:
    async def test_a_task_starts_in_the_moment_the_last_one_before_it_is_done(self, executor, autojump_clock):
        executor = quick(10)
        async with virtual_queue(executor, workers=4) as queue:
            a = await queue.submit(executor.spec("a"))
            await trio.sleep(3)
            b = await queue.submit(executor.spec("b"))
            c = await queue.submit(executor.spec("c", after=(a.id, b.id)))
            assert (await c.refresh()).phase is Phase.BLOCKED
            await c.wait()
        assert starts(executor) == {"a": 0, "b": 3, "c": 13}

    async def test_a_thousand_followers_all_hear_of_it_at_the_same_time(self, executor, autojump_clock):
        executor = quick()
        async with virtual_queue(executor, workers=2_000) as queue:
            first = await queue.submit(executor.spec("first"))
            await queue.submit_many([executor.spec("follower", after=(first.id,)) for _ in range(1_000)])
            await until(1.5)
            assert len(executor.running) == 1_000
            assert starts(executor)["follower"] == 1

    async def test_when_one_before_it_fails_so_does_it_unless_told_otherwise(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            first = await queue.submit(executor.spec("first", retry=NO_RETRY))
            second = await queue.submit(executor.spec("second", after=(first.id,)))
            third = await queue.submit(executor.spec("third", after=(second.id,), on_parent_failure="continue"))
            (await executor.next_run()).fail(RuntimeError())
            task = await second.wait()
            assert (task.status, task.failure.type) == (Status.FAILED, "ParentFailed")
            run = await executor.next_run()
            assert run.label == "third"
            run.complete()
            assert (await third.wait()).status is Status.COMPLETED


class TestUnknownFunctions:
    async def test_a_task_of_a_function_that_is_not_known_here_waits_until_it_is(self, autojump_clock):
        store = MemoryStore()

        async def double(number: int) -> int:
            return 2 * number

        async with virtual_queue(store=store, start=False) as queue:
            handle = await queue.submit(queue.task(name="double")(double).spec(21))
        async with virtual_queue(store=store) as queue:
            other = queue.task(name="other")(double)
            assert await (await queue.submit(other.spec(1))).result() == 2
            await until(100)
            task = await queue.get(handle.id)
            assert (task.phase, task.payload) == (Phase.READY, {"number": 21})
            queue.task(name="double")(double)
            task = await queue.wait(handle.id)
            assert (task.result, task.started_at) == (42, at(100))

    async def test_a_task_of_an_executor_that_is_not_installed_waits_until_it_is(self, executor, autojump_clock):
        store = MemoryStore()
        async with virtual_queue(executor, store=store, start=False) as queue:
            handle = await queue.submit(executor.spec("mine"))
        async with virtual_queue(store=store) as queue:
            await queue.wait_idle()
            task = await queue.get(handle.id)
            assert (task.status, task.payload["label"]) == (Status.PENDING, "mine")
            queue.executors.register(executor)
            (await executor.next_run()).complete("at last")
            assert (await queue.wait(handle.id)).result == "at last"


class Killed(Exception):
    """The process is gone, and could not tell the store."""


async def be_killed_while_running(executor, store, *, count=1, submit=()):
    """Open the queue, and die without a word when `count` runs are in progress."""
    face = SteeredStore(store)
    with suppress(Killed):
        async with virtual_queue(executor, store=face) as queue:
            for spec in submit:
                await queue.submit(spec)
            for _ in range(count):
                await executor.next_run()
            face.refuse()
            raise Killed


class TestLosses:
    async def test_a_task_whose_process_died_runs_again_and_its_attempt_does_not_count(self, executor, autojump_clock):
        store = MemoryStore()
        await be_killed_while_running(executor, store, submit=[executor.spec(id="a", retry=NO_RETRY)])
        assert store.get("a").state.status is Status.RUNNING
        async with virtual_queue(executor, store=store) as queue:
            run = await executor.next_run()
            assert (run.ctx.epoch, run.ctx.attempt) == (2, 1)
            run.complete()
            task = await queue.wait("a")
            assert [(attempt.epoch, attempt.outcome) for attempt in task.attempts] == [
                (1, Outcome.LOST),
                (2, Outcome.COMPLETED),
            ]

    async def test_a_task_lost_twice_runs_alone(self, executor, autojump_clock):
        store = MemoryStore()
        await be_killed_while_running(executor, store, submit=[executor.spec("suspect", id="a")])
        await be_killed_while_running(executor, store)
        async with virtual_queue(executor, store=store, workers=4, start=False) as queue:
            await queue.submit(executor.spec("urgent", priority="high"))
            await queue.submit_many([executor.spec("other") for _ in range(3)])
            await queue.start()
            urgent = await executor.next_run()
            await queue.submit(executor.spec("other", priority="low"))
            await until(trio.current_time() + 10)
            assert [run.label for run in executor.running] == ["urgent"]  # the suspect is next, and waits for quiet
            urgent.complete()
            suspect = await executor.next_run()
            await queue.submit(executor.spec("urgent", priority="high"))
            await until(trio.current_time() + 10)
            assert [run.label for run in executor.running] == ["suspect"]
            suspect.complete()
            await wait_all_tasks_blocked()
            assert sorted(run.label for run in executor.running) == ["other", "other", "other", "urgent"]
            for run in executor.running:
                run.complete()
            await wait_all_tasks_blocked()
            for run in executor.running:
                run.complete()
            assert (await queue.wait("a")).status is Status.COMPLETED

    async def test_lost_once_more_while_alone_it_fails_as_poisoned(self, executor, autojump_clock):
        store = MemoryStore()
        await be_killed_while_running(executor, store, submit=[executor.spec(id="a")])
        await be_killed_while_running(executor, store)
        await be_killed_while_running(executor, store)
        async with virtual_queue(executor, store=store) as queue:
            task = await queue.wait("a")
            assert (task.status, task.failure.type) == (Status.FAILED, "Poisoned")
            assert [attempt.outcome for attempt in task.attempts] == [Outcome.LOST] * 3

    async def test_its_neighbours_are_not_condemned_with_it(self, executor, autojump_clock):
        store = MemoryStore()
        specs = [executor.spec("killer", id="killer"), executor.spec("victim", id="victim")]
        await be_killed_while_running(executor, store, count=2, submit=specs)
        await be_killed_while_running(executor, store, count=2)
        await be_killed_while_running(executor, store)  # now each runs alone, the killer first
        async with virtual_queue(executor, store=store) as queue:
            (await executor.next_run()).complete()
            assert (await queue.wait("killer")).failure.type == "Poisoned"
            assert (await queue.wait("victim")).status is Status.COMPLETED


class TestSharedStores:
    """Several queues over one store: each runs what it claimed, by leases."""

    @pytest.fixture
    def store(self):
        return MemoryStore(exclusive=False)

    async def test_no_task_runs_twice_and_none_is_left(self, store, autojump_clock):
        first, second = quick(), quick()
        async with (
            virtual_queue(first, store=store, workers=2) as one,
            virtual_queue(second, store=store, workers=2) as other,
        ):
            handles = await one.submit_many([first.spec() for _ in range(100)])
            for handle in handles:
                assert (await one.wait(handle.id)).epoch == 1
            assert len(first.runs) + len(second.runs) == 100
            assert len(second.runs) > 0
            assert (await other.stats()).tasks.by_status[Status.COMPLETED] == 100

    async def test_a_long_run_keeps_its_lease(self, store, autojump_clock):
        first, second = quick(20 * LEASE), quick()
        async with virtual_queue(first, store=store) as one:
            handle = await one.submit(first.spec())
            async with virtual_queue(second, store=store):
                assert (await handle.wait()).epoch == 1
        assert second.runs == []

    async def test_what_a_dead_one_ran_is_taken_over_once_its_lease_is_out(self, store, autojump_clock):
        first, second = ScriptedExecutor(), ScriptedExecutor()
        face = SteeredStore(store)
        async with virtual_queue(first, store=face) as one, virtual_queue(second, store=store) as other:
            handle = await one.submit(first.spec(retry=NO_RETRY))
            await first.next_run()
            face.refuse()
            run = await second.next_run()
            assert (run.ctx.epoch, run.ctx.attempt, run.ctx.started_at) == (2, 1, at(LEASE))
            run.complete("by the other")
            assert (await other.wait(handle.id)).result == "by the other"
            face.recover()

    async def test_one_that_comes_back_is_told_that_its_run_is_lost(self, store, autojump_clock):
        first, second = ScriptedExecutor(), ScriptedExecutor()
        face = SteeredStore(store)
        async with virtual_queue(first, store=face) as one, virtual_queue(second, store=store) as other:
            handle = await one.submit(first.spec())
            late = await first.next_run()
            stopped = await one.submit(first.spec())
            running = await first.next_run()
            face.refuse()
            runs = [await second.next_run(), await second.next_run()]
            late.complete("too late")
            await trio.sleep(1)
            face.recover()
            await running.wait_over()
            assert running.cancelled
            assert (await handle.refresh()).status is Status.RUNNING
            for run in runs:
                run.complete("by the other")
            for each in (handle, stopped):
                task = await other.wait(each.id)
                assert (task.result, task.epoch) == ("by the other", 2)
            assert trio.current_time() < 2 * LEASE

    async def test_work_handed_in_at_one_is_found_by_the_other_though_nobody_tells_it(self, store, autojump_clock):
        executor = quick()
        async with (
            virtual_queue(executor, store=store),
            virtual_queue(ScriptedExecutor(), store=store, workers=0) as office,
        ):
            await trio.sleep(5)
            handle = await office.submit(executor.spec())
            assert (await handle.wait()).status is Status.COMPLETED
            assert trio.current_time() <= 5 + 3 * LONGEST_SLEEP

    async def test_a_lane_that_is_new_there_is_seen_with_the_next_claim(self, store, autojump_clock):
        executor = quick()
        async with (
            virtual_queue(executor, store=store) as one,
            virtual_queue(ScriptedExecutor(), store=store, workers=0) as office,
        ):
            await one.submit(executor.spec("mine"))
            await trio.sleep(5)
            await office.submit(executor.spec("theirs", lane="new"))
            await trio.sleep(1)
            await one.submit(executor.spec("mine"))
            await until(7)
            assert executor.labels.count("theirs") == 1

    async def test_a_cancel_at_one_stops_a_run_at_the_other(self, store, autojump_clock):
        executor = ScriptedExecutor()
        async with virtual_queue(executor, store=store) as one, virtual_queue(store=store, workers=0) as office:
            handle = await one.submit(executor.spec())
            run = await executor.next_run()
            await office.cancel(handle.id)
            await run.wait_over()
            assert run.cancelled
            assert trio.current_time() <= LONGEST_SLEEP
