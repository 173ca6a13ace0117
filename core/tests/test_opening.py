"""A queue is opened for the length of a block, and whatever ends the block, its end is in order."""

from contextlib import suppress

import pytest
import trio

from oq.config import QueueSettings, SchedulerSettings, Settings
from oq.errors import DuplicateExecutor, InvalidSettings, InvalidTask, QueueClosed, StoreInUse, StoreUnavailable
from oq.opening import open_queue, open_store
from oq.plugins import built_in_plugins
from oq.retry import NO_RETRY
from oq.store.lmdb import LmdbStore
from oq.store.memory import MemoryStore
from oq.task import Outcome, Phase, Status
from oq.testing import ScriptedExecutor, SteeredStore, at, virtual_queue


@pytest.fixture
def executor():
    return ScriptedExecutor()


@pytest.fixture
def store():
    return MemoryStore()


def with_grace(seconds):
    return Settings(scheduler=SchedulerSettings(grace=seconds))


async def fail_while_running(executor, store, error):
    """Raise the error in a block in which the task `a` runs."""
    async with virtual_queue(executor, store=store, settings=with_grace(1_000)) as queue:
        await queue.submit(executor.spec(id="a"))
        await executor.next_run()
        raise error


class TestOpening:
    async def test_a_directory_is_an_lmdb_store_and_is_closed_at_the_end(self, tmp_path):
        async with open_queue(tmp_path / "data", plugins=built_in_plugins()) as queue:
            assert queue.run_by() is not None
        LmdbStore(tmp_path / "data").close()  # it would say that it is open already

    async def test_without_a_location_the_settings_say_where(self, tmp_path):
        settings = Settings(queue=QueueSettings(path=str(tmp_path / "there")))
        async with open_queue(plugins=built_in_plugins(), settings=settings):
            assert (tmp_path / "there").is_dir()

    def test_a_scheme_that_nobody_knows_is_told_with_those_that_are_known(self):
        with pytest.raises(InvalidSettings, match=r"no installed package opens redis:// .*lmdb://, memory://"):
            open_store("redis://here", Settings(), built_in_plugins())

    async def test_a_store_that_is_given_stays_open(self, store, autojump_clock):
        closed = []
        store.close = lambda: closed.append(True)
        async with virtual_queue(store=store):
            pass
        assert closed == []

    async def test_it_runs_one_queue_at_a_time(self, store, autojump_clock):
        async with virtual_queue(store=store):
            with pytest.raises(StoreInUse):
                async with virtual_queue(store=store):
                    pass
        async with virtual_queue(store=store) as queue:
            assert queue.is_running

    async def test_who_may_as_well_watch_is_let_in_without_workers(self, store, executor, autojump_clock):
        async with (
            virtual_queue(executor, store=store) as runs,
            virtual_queue(executor, store=store, if_run_elsewhere="watch") as watches,
        ):
            assert (runs.is_running, watches.is_running) == (True, False)
            assert (await watches.stats()).workers == 0
            await watches.submit(executor.spec())
            with pytest.raises(InvalidTask, match="without workers"):
                await watches.start()

    async def test_one_without_workers_needs_no_lock(self, store, executor, autojump_clock):
        async with virtual_queue(store=store, workers=0) as first, virtual_queue(store=store, workers=0) as second:
            assert first.run_by() is second.run_by() is None

    async def test_the_lock_is_free_again_after_an_opening_that_failed(self, store, autojump_clock):
        with pytest.raises(DuplicateExecutor):
            async with virtual_queue(ScriptedExecutor("python"), store=store):
                pass
        async with virtual_queue(store=store):
            pass

    async def test_a_store_that_refuses_from_the_start_is_told_as_it_is(self, store, autojump_clock):
        face = SteeredStore(store)
        face.refuse()
        with pytest.raises(StoreUnavailable):
            async with virtual_queue(store=face):
                pass
        assert store.runner() is None

    async def test_in_a_scope_that_is_cancelled_already_it_ends_at_once(self, store, autojump_clock):
        with trio.CancelScope() as scope:
            scope.cancel()
            async with virtual_queue(store=store):
                await trio.sleep_forever()
        assert (scope.cancelled_caught, trio.current_time()) == (True, 0)
        assert store.runner() is None

    async def test_the_resources_of_executors_are_held_for_the_length_of_the_block(self, autojump_clock):
        steps = []

        class Holds(ScriptedExecutor):
            async def __aenter__(self):
                steps.append("enter")

            async def __aexit__(self, *error):
                steps.append("exit")

        async def behave(run):
            steps.append("run")

        executor = Holds(behave=behave)
        async with virtual_queue(executor) as queue:
            await (await queue.submit(executor.spec())).wait()
        assert steps == ["enter", "run", "exit"]


class TestStarting:
    async def test_what_was_submitted_before_the_start_waits_for_it(self, executor, autojump_clock):
        async with virtual_queue(executor, start=False) as queue:
            handle = await queue.submit(executor.spec())
            await trio.sleep(100)
            assert (queue.is_running, (await handle.refresh()).phase) == (False, Phase.READY)
            await queue.start()
            assert queue.is_running
            run = await executor.next_run()
            assert run.ctx.started_at == at(100)
            run.complete()

    async def test_without_workers_nothing_starts(self, executor, autojump_clock):
        async with virtual_queue(executor, workers=0) as queue:
            handle = await queue.submit(executor.spec())
            await trio.sleep(100)
            assert (await handle.refresh()).phase is Phase.READY
            await handle.cancel()
            assert (await handle.wait()).status is Status.CANCELLED

    async def test_what_a_former_process_left_ready_starts_at_once(self, store, executor, autojump_clock):
        async with virtual_queue(executor, store=store, start=False) as queue:
            handle = await queue.submit(executor.spec("left"))
        async with virtual_queue(executor, store=store) as queue:
            run = await executor.next_run()
            assert run.label == "left"
            run.complete("done")
            assert (await queue.wait(handle.id)).result == "done"


class TestLeaving:
    async def test_what_runs_gets_its_time_to_finish(self, store, executor, autojump_clock):
        async def behave(run):
            await trio.sleep(8)
            return "in time"

        executor = ScriptedExecutor(behave=behave)
        async with virtual_queue(executor, store=store, workers=1, settings=with_grace(10)) as queue:
            await queue.submit(executor.spec(id="running"))
            await queue.submit(executor.spec(id="waiting"))
        assert trio.current_time() == 8
        assert store.get("running").state.status is Status.COMPLETED
        assert store.get("waiting").state.phase is Phase.READY

    async def test_what_does_not_finish_in_time_is_given_back_uncounted(self, store, executor, autojump_clock):
        async with virtual_queue(executor, store=store, settings=with_grace(10)) as queue:
            await queue.submit(executor.spec(id="a", retry=NO_RETRY))
            run = await executor.next_run()
        assert trio.current_time() == 10
        assert run.cancelled
        record = store.load("a")
        assert (record.state.phase, record.state.attempt, record.state.epoch) == (Phase.READY, 0, 1)
        assert [attempt.outcome for attempt in record.attempts] == [Outcome.RELEASED]
        async with virtual_queue(executor, store=store) as queue:
            run = await executor.next_run()
            assert (run.ctx.attempt, run.ctx.epoch) == (1, 2)
            run.complete("the second time")
            assert (await queue.wait("a")).result == "the second time"

    async def test_a_result_in_the_last_moment_counts(self, store, executor, autojump_clock):
        async with virtual_queue(executor, store=store, settings=with_grace(0)) as queue:
            await queue.submit(executor.spec(id="a"))
            run = await executor.next_run()
            run.ignore_cancellation()
            run.complete("finished while being stopped")
        assert store.get("a").state.status is Status.COMPLETED

    async def test_an_error_in_the_block_comes_out_as_it_is_and_ends_it_at_once(self, store, executor, autojump_clock):
        with pytest.raises(KeyError, match="mine"):
            await fail_while_running(executor, store, KeyError("mine"))
        assert (executor.runs[0].cancelled, trio.current_time()) == (True, 0)
        assert store.get("a").state.phase is Phase.READY

    async def test_so_does_a_group_of_them(self, autojump_clock):
        with pytest.RaisesGroup(KeyError, OSError):
            async with virtual_queue():
                raise ExceptionGroup("mine", [KeyError(), OSError()])

    async def test_so_does_one_that_is_about_the_whole_program(self, store, executor, autojump_clock):
        with pytest.raises(KeyboardInterrupt):
            await fail_while_running(executor, store, KeyboardInterrupt())
        assert store.get("a").state.phase is Phase.READY
        assert store.runner() is None

    async def test_a_cancelled_block_gives_back_at_once(self, store, executor, autojump_clock):
        with trio.move_on_after(5) as scope:
            async with virtual_queue(executor, store=store, settings=with_grace(1_000)) as queue:
                await queue.submit(executor.spec(id="a"))
                await executor.next_run()
                await trio.sleep_forever()
        assert (scope.cancelled_caught, trio.current_time()) == (True, 5)
        assert store.get("a").state.phase is Phase.READY
        assert executor.runs[0].cancelled

    async def test_a_block_cancelled_in_its_grace_gives_back_at_once(self, store, executor, autojump_clock):
        with trio.move_on_after(5):
            async with virtual_queue(executor, store=store, settings=with_grace(1_000)) as queue:
                await queue.submit(executor.spec(id="a"))
                await executor.next_run()
        assert trio.current_time() == 5
        assert store.get("a").state.phase is Phase.READY

    async def test_an_attempt_that_cleans_up_slowly_is_waited_for(self, store, autojump_clock):
        async def behave(run):
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(3)

        executor = ScriptedExecutor(behave=behave)
        async with virtual_queue(executor, store=store, settings=with_grace(0)) as queue:
            await queue.submit(executor.spec(id="a"))
            await executor.next_run()
        assert trio.current_time() == 3
        assert store.get("a").state.phase is Phase.READY

    async def test_one_that_breaks_while_it_is_given_back_has_not_failed(self, store, autojump_clock):
        async def behave(run):
            try:
                await trio.sleep_forever()
            finally:
                raise RuntimeError("while cleaning up")

        executor = ScriptedExecutor(behave=behave)
        async with virtual_queue(executor, store=store, settings=with_grace(0)) as queue:
            await queue.submit(executor.spec(id="a", retry=NO_RETRY))
            await executor.next_run()
        record = store.load("a")
        assert (record.state.phase, record.state.attempt, record.state.failure) == (Phase.READY, 0, None)
        assert [attempt.outcome for attempt in record.attempts] == [Outcome.RELEASED]

    async def test_one_that_does_not_end_is_told_of_and_runs_again_later(self, store, caplog, autojump_clock):
        async def behave(run):
            with trio.CancelScope(shield=True):
                await trio.sleep(60)

        executor = ScriptedExecutor(behave=behave)
        async with virtual_queue(executor, store=store, settings=with_grace(0)) as queue:
            await queue.submit(executor.spec(id="a"))
            await executor.next_run()
        assert "1 attempts do not end though they were cancelled" in caplog.text
        assert store.get("a").state.status is Status.RUNNING
        async with virtual_queue(executor, store=store) as queue:
            assert (await queue.wait("a")).epoch == 2

    async def test_with_a_store_that_takes_nothing_it_ends_all_the_same(self, store, executor, caplog, autojump_clock):
        face = SteeredStore(store)
        async with virtual_queue(executor, store=face, settings=with_grace(0)) as queue:
            await queue.submit(executor.spec(id="a"))
            await executor.next_run()
            face.refuse()
        assert trio.current_time() <= 10
        assert "the store takes no commits" in caplog.text
        assert store.get("a").state.status is Status.RUNNING

    async def test_a_queue_that_was_left_takes_nothing_more(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec())
            (await executor.next_run()).complete()
            await handle.wait()
        for call in (
            lambda: queue.submit(executor.spec()),
            lambda: queue.submit_many([executor.spec()]),
            lambda: queue.get(handle.id),
            queue.list,
            queue.stats,
            queue.start,
            queue.pause,
            queue.wait_idle,
            handle.wait,
            handle.cancel,
            handle.requeue,
            lambda: handle.set_priority("high"),
            lambda: queue.resolve(handle.id),
        ):
            with pytest.raises(QueueClosed):
                await call()
        with pytest.raises(QueueClosed):
            queue.subscribe()

    async def test_whoever_waits_is_told_that_it_closes(self, executor, autojump_clock):
        told = []

        async def wait(handle):
            with pytest.raises(QueueClosed):
                await handle.wait()
            told.append(handle.id)

        async with trio.open_nursery() as nursery, virtual_queue(executor, settings=with_grace(0)) as queue:
            handle = await queue.submit(executor.spec(id="a"))
            await executor.next_run()
            nursery.start_soon(wait, handle)
            await trio.sleep(1)
        assert told == ["a"]

    async def test_subscribers_get_what_happened_and_then_the_end(self, executor, autojump_clock):
        kinds = []

        async def listen(events, *, task_status):
            task_status.started()
            async for event in events:
                kinds.append(event.kind)  # noqa: PERF401  # what comes before a failure is kept too

        async with trio.open_nursery() as nursery, virtual_queue(executor, settings=with_grace(0)) as queue:
            with queue.subscribe() as events:
                await nursery.start(lambda task_status: listen(events, task_status=task_status))
                await queue.submit(executor.spec())
                await executor.next_run()
                await queue.stop()
        assert kinds == ["submitted", "started", "released"]


class TestCrashes:
    async def test_an_interruption_in_the_midst_of_a_run_comes_out_too(self, store, executor, autojump_clock):
        told = []

        async def wait_for_quiet(queue):
            with suppress(QueueClosed):
                await queue.wait_idle()
            told.append("quiet")

        async def wait_for_task(handle):
            with pytest.raises(QueueClosed):
                await handle.wait()
            told.append("closed")

        async with trio.open_nursery() as nursery:
            with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
                async with virtual_queue(executor, store=store) as queue:
                    await queue.submit_many([executor.spec() for _ in range(3)])
                    run = await executor.next_run()
                    nursery.start_soon(wait_for_quiet, queue)
                    nursery.start_soon(wait_for_task, queue.handle(run.task.id))
                    await trio.sleep(1)
                    run.fail(KeyboardInterrupt())
                    await trio.sleep_forever()
        assert sorted(told) == ["closed", "quiet"]
        assert store.runner() is None

    async def test_a_defect_of_the_store_comes_out_and_nobody_is_left_waiting(self, store, executor, autojump_clock):
        face = SteeredStore(store)
        with pytest.RaisesGroup(pytest.RaisesExc(ZeroDivisionError, match="defect"), flatten_subgroups=True):
            async with virtual_queue(executor, store=face) as queue:
                await queue.submit(executor.spec())
                await executor.next_run()
                face.failure = ZeroDivisionError("defect")
                await queue.submit(executor.spec())
        assert store.runner() is None
        assert trio.current_time() < 20
