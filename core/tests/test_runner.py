"""An attempt from its start to the moment when its ending is recorded, whatever its executor does meanwhile."""

import math
from datetime import timedelta
from itertools import pairwise

import pytest
import trio
from attrs import field, frozen
from hypothesis import given
from hypothesis import strategies as st

from oq.config import SchedulerSettings, Settings
from oq.errors import IllegalMove, PermanentError, RetryableError, RetryLater, TaskFailed
from oq.executor import Action, Chunk
from oq.retry import LONGEST_DELAY, NO_RETRY, RetryPolicy
from oq.store.base import Claimed
from oq.store.memory import MemoryStore
from oq.task import Outcome, Phase, Status, TaskSpec
from oq.testing import ScriptedExecutor, SteeredStore, at, run_virtually, virtual_queue

STEADY = RetryPolicy(max_attempts=3, delay=10, factor=2, jitter=0)
"""Retries after 10 and after 20 seconds, exactly."""


@pytest.fixture
def executor():
    return ScriptedExecutor()


def raising(make_error):
    """An executor each of whose runs raises a new error."""

    async def behave(run):
        raise make_error()

    return ScriptedExecutor(behave=behave)


async def outcome_of(executor, **options):
    """The final task that comes of one without retries, unless its spec says otherwise."""
    async with virtual_queue(executor) as queue:
        return await (await queue.submit(executor.spec(**{"retry": NO_RETRY, **options}))).wait()


async def still_works(queue):
    """Whether the queue runs other people's tasks."""
    handle = await queue.submit(queue.task(name="still_works")(truth).spec())
    return await handle.result()


async def truth() -> bool:
    return True


class TestSuccess:
    async def test_the_result_is_what_the_executor_returned(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec())
            (await executor.next_run()).complete({"answer": [42, None, "x"]})
            assert await handle.result() == {"answer": [42, None, "x"]}

    async def test_no_result_is_a_result_too(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec())
            (await executor.next_run()).complete()
            task = await handle.wait()
            assert (task.status, task.result, task.state.result_size) == (Status.COMPLETED, None, None)

    async def test_the_executor_is_given_the_task_as_it_was_submitted(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec("mine", tags=("a",), metadata={"for": "whom"}, priority="high"))
            task = (await executor.next_run()).task
            assert (task.id, task.payload.label, task.tags, task.metadata) == (
                handle.id,
                "mine",
                ("a",),
                {"for": "whom"},
            )
            assert (task.status, task.priority.name, task.attempts) == (Status.RUNNING, "HIGH", ())

    async def test_the_context_tells_the_run_where_it_stands(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            await trio.sleep(5)
            await queue.submit(executor.spec(timeout=60, retry=STEADY))
            first = await executor.next_run()
            assert (first.ctx.epoch, first.ctx.attempt, first.ctx.started_at) == (1, 1, at(5))
            assert first.ctx.deadline == trio.current_time() + 60
            first.fail(RuntimeError("once more"))
            second = await executor.next_run()
            assert (second.ctx.epoch, second.ctx.attempt, second.ctx.started_at) == (2, 2, at(15))

    async def test_where_it_was_executed_is_kept(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec(retry=STEADY))
            run = await executor.next_run()
            run.ctx.executed_on = "http://a"
            run.fail(RuntimeError("gone"))
            run = await executor.next_run()
            run.ctx.executed_on = "http://b"
            run.complete()
            task = await handle.wait()
            assert task.executed_on == "http://b"
            assert [attempt.executed_on for attempt in task.attempts] == ["http://a", "http://b"]

    @pytest.mark.parametrize("nonsense", [7, object(), "\udc80", b"x"])
    async def test_nonsense_about_where_it_was_executed_is_no_harm(self, executor, nonsense, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec())
            run = await executor.next_run()
            run.ctx.executed_on = nonsense
            run.complete("fine")
            task = await handle.wait()
            assert task.result == "fine"
            assert task.executed_on is None or isinstance(task.executed_on.encode(), bytes)


class TestFailure:
    async def test_an_exception_is_a_failure_that_says_what_and_where(self, autojump_clock):
        task = await outcome_of(raising(lambda: LookupError("no such thing")))
        assert task.status is Status.FAILED
        assert (task.failure.type, task.failure.message, task.failure.retryable) == (
            "LookupError",
            "no such thing",
            True,
        )
        assert "raise make_error()" in task.failure.details["traceback"]

    async def test_result_raises_it(self, autojump_clock):
        executor = raising(lambda: LookupError("no such thing"))
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec(retry=NO_RETRY))
            with pytest.raises(TaskFailed, match="LookupError: no such thing") as caught:
                await handle.result()
            assert caught.value.task.id == handle.id

    async def test_an_exception_without_a_message_is_called_by_its_name(self, autojump_clock):
        task = await outcome_of(raising(ValueError))
        assert task.failure.message == "ValueError"

    async def test_a_group_of_one_is_unwrapped(self, autojump_clock):
        task = await outcome_of(raising(lambda: ExceptionGroup("g", [ExceptionGroup("h", [KeyError("inner")])])))
        assert task.failure.type == "KeyError"

    async def test_a_nursery_in_an_executor_does_not_hide_what_was_raised_in_it(self, autojump_clock):
        async def behave(run):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                await trio.sleep(1)
                raise PermanentError("of no use", type="BadModel")

        task = await outcome_of(ScriptedExecutor(behave=behave), retry=STEADY)
        assert (task.failure.type, task.attempt) == ("BadModel", 1)

    async def test_a_group_of_several_tells_of_them_all(self, autojump_clock):
        task = await outcome_of(raising(lambda: ExceptionGroup("g", [KeyError("a"), OSError("b")])))
        assert task.failure.type == "ExceptionGroup"
        assert task.failure.message == "KeyError: 'a'; OSError: b"

    async def test_in_a_group_the_steering_one_decides(self, autojump_clock):
        executor = raising(lambda: ExceptionGroup("g", [KeyError("a"), PermanentError("of no use")]))
        task = await outcome_of(executor, retry=STEADY)
        assert (task.failure.type, len(executor.runs)) == ("PermanentError", 1)

    @pytest.mark.parametrize("error", [SystemExit(3), trio.TooSlowError(), AssertionError(), RecursionError()])
    async def test_whatever_is_raised_fails_this_attempt_only(self, error, executor, autojump_clock):
        async with virtual_queue(executor, workers=2) as queue:
            neighbour = await queue.submit(executor.spec("neighbour"))
            neighbours_run = await executor.next_run()
            handle = await queue.submit(executor.spec("culprit", retry=NO_RETRY))
            (await executor.next_run()).fail(error)
            task = await handle.wait()
            assert (task.status, task.failure.type) == (Status.FAILED, type(error).__name__)
            neighbours_run.complete("unharmed")
            assert await neighbour.result() == "unharmed"

    async def test_an_exception_that_cannot_say_what_it_is_fails_this_attempt_only(self, executor, autojump_clock):
        class Mute(Exception):
            def __str__(self):
                raise RuntimeError("I will not say")

        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec(retry=NO_RETRY))
            (await executor.next_run()).fail(Mute())
            task = await handle.wait()
            assert (task.status, task.failure.type) == (Status.FAILED, "Mute")
            assert await still_works(queue)

    async def test_a_long_message_is_cut(self, autojump_clock):
        task = await outcome_of(raising(lambda: ValueError("x" * 1_000_000)))
        assert len(task.failure.message) == 10_000
        assert len(task.failure.details["traceback"]) <= 4_000

    async def test_a_message_that_is_no_text_can_be_told_all_the_same(self, autojump_clock):
        task = await outcome_of(raising(lambda: ValueError("\udc80 in a file's name")))
        assert task.failure.message == "\\udc80 in a file's name"

    async def test_an_error_given_for_a_message_is_told_as_text(self, autojump_clock):
        task = await outcome_of(raising(lambda: PermanentError(OSError("cause"))))
        assert (task.status, task.failure.message) == (Status.FAILED, "cause")


NESTED: list = []
for _ in range(100_000):
    NESTED = [NESTED]


class TestWhatCannotBeStored:
    @pytest.mark.parametrize(
        "result",
        [object(), {1, object()}, 2**80, "\udc80", NESTED],
        ids=["object", "set", "large", "surrogate", "nested"],
    )
    async def test_such_a_result_is_a_failure_that_no_retry_mends(self, result, autojump_clock):
        async def behave(run):
            return result

        executor = ScriptedExecutor(behave=behave)
        task = await outcome_of(executor, retry=STEADY)
        assert (task.status, task.failure.type, task.failure.retryable) == (Status.FAILED, "InvalidResult", False)
        assert type(result).__name__ in task.failure.message
        assert len(executor.runs) == 1

    async def test_of_such_details_the_rest_is_kept(self, autojump_clock):
        details = {"code": 3, "what": object(), 7: 2**80, "deep": NESTED}
        task = await outcome_of(raising(lambda: PermanentError("no", type="Odd", details=details)))
        kept = task.failure.details
        assert (task.failure.type, task.failure.message, kept["code"]) == ("Odd", "no", 3)
        assert "object object" in kept["what"]
        assert kept["7"] == str(2**80)

    @pytest.mark.parametrize("details", [[1, 2], "text", 7], ids=repr)
    async def test_details_that_are_no_mapping_are_kept_in_one(self, details, autojump_clock):
        task = await outcome_of(raising(lambda: PermanentError("no", details=details)))
        assert (task.status, task.failure.message) == (Status.FAILED, "no")
        assert str(details) in str(task.failure.details)

    async def test_a_type_that_is_no_text_is_told_all_the_same(self, autojump_clock):
        task = await outcome_of(raising(lambda: PermanentError("no", type=KeyError)))
        assert task.failure.type == str(KeyError)


class TestRetry:
    async def test_attempts_follow_each_other_exactly_as_the_policy_says(self, autojump_clock):
        executor = raising(RuntimeError)
        task = await outcome_of(executor, retry=STEADY)
        assert [run.ctx.started_at for run in executor.runs] == [at(0), at(10), at(30)]
        assert [(attempt.number, attempt.epoch, attempt.outcome) for attempt in task.attempts] == [
            (1, 1, Outcome.FAILED),
            (2, 2, Outcome.FAILED),
            (3, 3, Outcome.FAILED),
        ]
        assert task.finished_at == at(30)

    async def test_the_time_of_an_attempt_is_not_part_of_the_wait(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            await queue.submit(executor.spec(retry=STEADY))
            run = await executor.next_run()
            await trio.sleep(3)
            run.fail(RuntimeError())
            assert (await executor.next_run()).ctx.started_at == at(13)

    async def test_in_between_the_task_waits_for_its_next_attempt_and_shows_its_failure(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec(retry=STEADY))
            (await executor.next_run()).fail(RuntimeError("try again"))
            await trio.sleep(1)
            task = await handle.refresh()
            assert (task.phase, task.due_at, task.failure.message) == (Phase.RETRYING, at(10), "try again")

    async def test_a_success_after_a_failure_is_a_success(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec(retry=STEADY))
            (await executor.next_run()).fail(RuntimeError())
            (await executor.next_run()).complete("in the end")
            task = await handle.wait()
            assert (task.result, task.failure, task.attempt) == ("in the end", None, 2)

    async def test_the_queues_policy_holds_for_tasks_without_one(self, autojump_clock):
        executor = raising(RuntimeError)
        async with virtual_queue(executor, settings=Settings(retry=STEADY)) as queue:
            task = await (await queue.submit(executor.spec())).wait()
            assert (task.attempt, task.finished_at) == (3, at(30))

    async def test_a_permanent_error_is_not_retried(self, autojump_clock):
        executor = raising(lambda: PermanentError("of no use", details={"status": 404}))
        task = await outcome_of(executor, retry=STEADY)
        assert (task.failure.type, task.failure.retryable, task.failure.details) == (
            "PermanentError",
            False,
            {"status": 404},
        )
        assert len(executor.runs) == 1

    async def test_a_retryable_error_is_a_failure_with_a_name(self, autojump_clock):
        executor = raising(lambda: RetryableError("busy", type="ServerBusy", details={"status": 503}))
        task = await outcome_of(executor, retry=STEADY)
        assert (task.failure.type, task.failure.details, task.attempt) == ("ServerBusy", {"status": 503}, 3)

    async def test_retry_later_is_the_least_wait(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            await queue.submit(executor.spec(retry=STEADY))
            (await executor.next_run()).fail(RetryLater(100))
            assert (await executor.next_run()).ctx.started_at == at(100)
            executor.runs[-1].fail(RetryLater(1))
            assert (await executor.next_run()).ctx.started_at == at(120)

    async def test_a_counted_retry_later_counts(self, autojump_clock):
        executor = raising(lambda: RetryLater(1))
        task = await outcome_of(executor, retry=STEADY)
        assert (task.status, task.attempt, len(executor.runs)) == (Status.FAILED, 3, 3)

    async def test_an_uncounted_one_does_not(self, autojump_clock):
        executor = ScriptedExecutor()
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec(retry=NO_RETRY))
            for _ in range(10):
                run = await executor.next_run()
                assert run.ctx.attempt == 1
                run.fail(RetryLater(7, counted=False))
            (await executor.next_run()).complete("patience")
            task = await handle.wait()
            assert (task.result, task.attempt, task.epoch, task.started_at) == ("patience", 1, 11, at(70))

    @pytest.mark.parametrize("counted", [True, False])
    @pytest.mark.parametrize("after", [math.nan, -5, "7", None])
    async def test_a_wait_that_makes_no_sense_is_none(self, after, counted, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            await queue.submit(executor.spec(retry=RetryPolicy(delay=0)))
            (await executor.next_run()).fail(RetryLater(after, counted=counted))
            assert (await executor.next_run()).ctx.started_at == at(0)

    @pytest.mark.parametrize("counted", [True, False])
    async def test_a_wait_without_end_is_a_century(self, counted, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec(retry=STEADY))
            (await executor.next_run()).fail(RetryLater(math.inf, counted=counted))
            await trio.sleep(1)
            assert (await handle.refresh()).due_at == at(LONGEST_DELAY)

    @given(
        policy=st.builds(
            RetryPolicy,
            max_attempts=st.integers(1, 6),
            delay=st.integers(0, 100),
            factor=st.integers(1, 3),
            max_delay=st.integers(0, 500),
            jitter=st.just(0),
        ),
        took=st.integers(0, 50),
    )
    def test_the_waits_are_those_of_the_policy(self, policy, took):
        async def behave(run):
            await trio.sleep(took)
            raise RuntimeError

        executor = ScriptedExecutor(behave=behave)
        run_virtually(lambda: outcome_of(executor, retry=policy))
        starts = [run.ctx.started_at for run in executor.runs]
        assert len(starts) == policy.max_attempts
        for number, (before, after) in enumerate(pairwise(starts)):
            wait = took + min(policy.delay * policy.factor**number, policy.max_delay)
            assert after - before == timedelta(seconds=wait)


class TestTimeout:
    async def test_an_attempt_ends_when_its_time_is_up(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec(timeout=7.5, retry=NO_RETRY))
            task = await handle.wait()
            assert (task.status, task.failure.type, task.finished_at) == (Status.FAILED, "Timeout", at(7.5))
            assert task.failure.message == "it took longer than 7.5 s"
            assert executor.runs[0].cancelled

    async def test_a_time_out_may_be_retried(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec(timeout=5, retry=STEADY))
            await executor.next_run()
            second = await executor.next_run()
            assert second.ctx.started_at == at(15)
            second.complete("in time")
            assert await handle.result() == "in time"

    async def test_the_queues_time_out_holds_for_tasks_without_one(self, executor, autojump_clock):
        settings = Settings(scheduler=SchedulerSettings(timeout=20))
        async with virtual_queue(executor, settings=settings) as queue:
            default = await queue.submit(executor.spec(retry=NO_RETRY))
            endless = await queue.submit(executor.spec(retry=NO_RETRY, timeout=math.inf))
            assert (await default.wait()).finished_at == at(20)
            await trio.sleep(20_000)
            executor.runs[1].complete("late")
            assert await endless.result() == "late"

    async def test_an_executors_own_time_out_is_an_error_of_its_own(self, autojump_clock):
        async def behave(run):
            with trio.fail_after(1):
                await trio.sleep_forever()

        task = await outcome_of(ScriptedExecutor(behave=behave), timeout=5)
        assert (task.failure.type, task.finished_at) == ("TooSlowError", at(1))

    async def test_a_result_that_comes_though_the_time_was_up_is_taken(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec(timeout=5, retry=NO_RETRY))
            run = await executor.next_run()
            run.ignore_cancellation()
            await trio.sleep(8)
            run.complete("a little late")
            assert await handle.result() == "a little late"

    async def test_one_that_ignores_it_holds_its_worker_until_it_ends(self, executor, autojump_clock):
        async with virtual_queue(executor, workers=1) as queue:
            handle = await queue.submit(executor.spec(timeout=5, retry=NO_RETRY))
            await queue.submit(executor.spec("next"))
            run = await executor.next_run()
            run.ignore_cancellation()
            await trio.sleep(20)
            assert len(executor.runs) == 1
            run.heed_cancellation()
            assert (await executor.next_run()).ctx.started_at == at(20)
            assert (await handle.wait()).failure.type == "Timeout"
            executor.runs[-1].complete()


class TestCancel:
    async def test_a_running_attempt_is_stopped(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec())
            run = await executor.next_run()
            await trio.sleep(3)
            task = await handle.cancel()
            assert (task.status, task.finished_at) == (Status.CANCELLED, at(3))
            await run.wait_over()
            assert run.cancelled
            assert trio.current_time() == 3
            assert [attempt.outcome for attempt in (await handle.refresh()).attempts] == [Outcome.CANCELLED]

    async def test_its_units_are_free_again_once_it_has_ended(self, executor, autojump_clock):
        async with virtual_queue(executor, workers=1) as queue:
            handle = await queue.submit(executor.spec())
            await queue.submit(executor.spec("next"))
            run = await executor.next_run()
            run.ignore_cancellation()
            await handle.cancel()
            await trio.sleep(5)
            assert len(executor.runs) == 1
            run.heed_cancellation()
            (await executor.next_run()).complete()
            assert trio.current_time() == 5

    async def test_a_task_cancelled_in_the_moment_of_its_claim_does_not_get_anywhere(self, autojump_clock):
        got_somewhere = []

        async def behave(run):
            await trio.sleep(0.001)
            got_somewhere.append(run)

        executor = ScriptedExecutor(behave=behave)
        async with virtual_queue(executor) as queue:
            with queue.subscribe() as events:
                handle = await queue.submit(executor.spec())
                assert [event.kind for event in events.receive_nowait()] == ["submitted", "started"]
                await handle.cancel()
            await queue.wait_idle()
            assert ((await handle.refresh()).status, got_somewhere) == (Status.CANCELLED, [])

    async def test_a_result_that_comes_after_the_cancel_changes_nothing(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec())
            run = await executor.next_run()
            run.ignore_cancellation()
            await handle.cancel()
            await trio.sleep(1)
            run.complete("too late")
            await run.wait_over()
            await queue.wait_idle()
            task = await handle.refresh()
            assert (task.status, task.result, task.epoch) == (Status.CANCELLED, None, 1)

    async def test_nor_does_an_error_and_it_is_not_retried(self, executor, autojump_clock):
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec(retry=STEADY))
            run = await executor.next_run()
            run.ignore_cancellation()
            await handle.cancel()
            run.fail(RuntimeError("while cleaning up"))
            await trio.sleep(1_000)
            assert (await handle.refresh()).status is Status.CANCELLED
            assert len(executor.runs) == 1

    async def test_a_cancel_in_the_same_moment_as_the_end_finds_one_of_the_two(self, autojump_clock):
        async def behave(run):
            await trio.sleep(1)
            return "done"

        executor = ScriptedExecutor(behave=behave)
        async with virtual_queue(executor, workers=20) as queue:
            handles = await queue.submit_many([executor.spec() for _ in range(20)])
            await trio.sleep(1)
            too_late = 0
            for handle in handles:
                try:
                    await handle.cancel()
                except IllegalMove:
                    too_late += 1
            statuses = [(await handle.wait()).status for handle in handles]
            assert statuses.count(Status.COMPLETED) == too_late
            assert statuses.count(Status.CANCELLED) == 20 - too_late

    async def test_one_requeued_while_its_old_run_is_still_going_runs_anew_under_another_epoch(
        self, executor, autojump_clock
    ):
        async with virtual_queue(executor, workers=2) as queue:
            handle = await queue.submit(executor.spec())
            old = await executor.next_run()
            old.ignore_cancellation()
            await handle.cancel()
            await handle.requeue()
            new = await executor.next_run()
            old.complete("old")
            await old.wait_over()
            assert (await handle.refresh()).status is Status.RUNNING
            new.complete("new")
            task = await handle.wait()
            assert (task.result, task.epoch, task.attempt) == ("new", 2, 1)


class TestSlots:
    async def test_no_more_run_at_once_than_there_are_workers(self, autojump_clock):
        async def behave(run):
            await trio.sleep(1)

        executor = ScriptedExecutor(behave=behave)
        async with virtual_queue(executor, workers=7) as queue:
            await queue.submit_many([executor.spec() for _ in range(70)])
            await queue.wait_idle()
            assert executor.most_at_once == 7
            assert trio.current_time() == 10

    async def test_a_run_does_not_see_what_the_one_before_it_in_its_slot_left_behind(self, autojump_clock):
        async def behave(run):
            if run.label == "first":
                await trio.sleep_forever()
            await trio.sleep(100)
            return run.ctx.deadline

        executor = ScriptedExecutor(behave=behave)
        async with virtual_queue(executor, workers=1) as queue:
            first = await queue.submit(executor.spec("first", timeout=1, retry=NO_RETRY))
            second = await queue.submit(executor.spec("second", timeout=math.inf))
            assert (await first.wait()).failure.type == "Timeout"
            assert await second.result() == math.inf


def explode(instance, attribute, value):
    """A validator that raises what a validator should not, once its class has come to another view."""
    if Moody.angry:
        raise LookupError("I did not expect this")


@frozen
class Moody:
    angry = False
    value: int = field(default=1, validator=explode)


class MoodyExecutor:
    name = "moody"
    version = "1"
    description = "Changes its mind about payloads"

    def __init__(self):
        self.actions = {"run": Action(payload=Moody, summary="Run")}

    async def execute(self, task, ctx):
        return "ran"


class TestAPayloadThatNoLongerFits:
    async def test_it_fails_its_task_for_good_and_nothing_else(self, monkeypatch, autojump_clock):
        async with virtual_queue(MoodyExecutor(), start=False) as queue:
            handle = await queue.submit(TaskSpec(executor="moody", action="run"))
            monkeypatch.setattr(Moody, "angry", True)
            await queue.start()
            task = await handle.wait()
            assert (task.status, task.failure.retryable, task.attempt) == (Status.FAILED, False, 1)
            assert await still_works(queue)

    async def test_so_does_an_action_that_is_gone(self, autojump_clock):
        executor = ScriptedExecutor()
        async with virtual_queue(executor, start=False) as queue:
            handle = await queue.submit(executor.spec())
            queue.executors.unregister(executor.name)
            executor.actions = {}
            queue.executors.register(executor)
            await queue.start()
            task = await handle.wait()
            assert (task.status, task.failure.type) == (Status.FAILED, "UnknownAction")


class TestAnExecutorThatIsTakenOut:
    async def test_its_tasks_wait_until_it_is_back(self, executor, autojump_clock):
        async with virtual_queue(executor, workers=1) as queue:
            first = await queue.submit(executor.spec())
            second = await queue.submit(executor.spec())
            run = await executor.next_run()
            queue.executors.unregister(executor.name)
            run.complete("what runs goes on")
            assert await first.result() == "what runs goes on"
            await trio.sleep(1_000)
            assert (await second.refresh()).phase is Phase.READY
            queue.executors.register(executor)
            run = await executor.next_run()
            assert run.ctx.started_at == at(1_000)
            run.complete()
            assert (await second.wait()).attempt == 1

    async def test_a_task_claimed_just_before_is_given_back(self, executor, autojump_clock):
        store = SteeredStore(MemoryStore())
        apply = store.apply

        def take_out_with_the_claim(ops):
            replies = apply(ops)
            if any(isinstance(reply, Claimed) and reply.runs for reply in replies):
                queue.executors.unregister(executor.name)
            return replies

        store.apply = take_out_with_the_claim
        async with virtual_queue(executor, store=store) as queue:
            handle = await queue.submit(executor.spec())
            await trio.sleep(1)
            task = await handle.refresh()
            assert (task.phase, task.attempt, task.epoch) == (Phase.READY, 0, 1)
            assert [attempt.outcome for attempt in task.attempts] == [Outcome.RELEASED]
            store.apply = apply
            queue.executors.register(executor)
            (await executor.next_run()).complete("back")
            assert await handle.result() == "back"


class TestFloods:
    async def test_a_flood_of_output_holds_up_its_own_run_only(self, executor, autojump_clock):
        async def behave(run):
            if run.label == "quiet":
                return "quiet"
            for _ in range(5_000):
                await run.ctx.emit("x" * 1_000)
            return "flooded"

        executor = ScriptedExecutor(behave=behave)
        async with virtual_queue(executor, workers=2) as queue:
            flood = await queue.submit(executor.spec("flood"))
            quiet = [await queue.submit(executor.spec("quiet")) for _ in range(50)]
            for handle in quiet:
                assert await handle.result() == "quiet"
            assert await flood.result() == "flooded"
            async with flood.stream() as chunks:
                assert len([chunk async for chunk in chunks]) == 5_000

    @pytest.mark.parametrize(
        "chunk",
        [Chunk(data=object()), Chunk(text="\udc80"), Chunk(text=7), Chunk(data=NESTED), Chunk(kind=None), 7, None],
        ids=["data", "surrogate", "number", "nested", "kind", "int", "none"],
    )
    async def test_a_chunk_that_cannot_be_kept_is_the_emitters_error(self, chunk, executor, autojump_clock):
        async def behave(run):
            await run.ctx.emit("before")
            try:
                await run.ctx.emit(chunk)
            except (TypeError, ValueError, RecursionError):
                await run.ctx.emit("after")
                raise

        executor = ScriptedExecutor(behave=behave)
        async with virtual_queue(executor) as queue:
            handle = await queue.submit(executor.spec(retry=NO_RETRY))
            task = await handle.wait()
            assert task.status is Status.FAILED
            async with handle.stream() as chunks:
                assert [(chunk.text, chunk.index) async for chunk in chunks] == [("before", 0), ("after", 1)]
            assert await still_works(queue)
