"""The contract of runs that end by themselves: their results, their output, and their failures."""

from __future__ import annotations

from typing import Any

import attrs
import msgspec
import pytest

from oq.codec import decode, decode_as, encode
from oq.errors import PermanentError, RetryableError, RetryLater
from oq.executor import Chunk
from oq.failures import unwrapped
from oq.retry import NO_RETRY
from oq.streams import StreamRestarted
from oq.task import Failure, Status, TaskSpec
from oq.testing.executor_contract.base import ExecutorFrame, Subject, on_trio, one_line
from oq.testing.executor_contract.watching import Said, WatchedRun, said


class Running(ExecutorFrame):
    """It does what it is asked to."""

    @on_trio
    async def test_each_example_completes_without_a_queue(self, subject: Subject) -> None:
        """`Registry.execute` is enough to run a task here and now."""
        async with subject.registry.opened():
            for spec in subject.examples.completing:
                await subject.result_of(spec)

    @on_trio
    async def test_each_example_completes_in_a_queue(self, subject: Subject) -> None:
        """Submitted to a queue it completes, at the first attempt."""
        async with subject.queue(workers=1) as queue:
            for spec in subject.examples.completing:
                async with subject.soon(f"{spec.action!r} does not complete"):
                    task = await (await queue.submit(attrs.evolve(spec, retry=NO_RETRY))).wait()
                assert (task.status, task.attempt) == (Status.COMPLETED, 1), task.failure

    @on_trio
    async def test_a_result_can_be_stored_and_comes_back_as_its_type(self, subject: Subject) -> None:
        """What a run returns is stored, and read again it is of the type that the action names, and equal."""
        async with subject.registry.opened():
            for spec in subject.examples.completing:
                result, kind = await subject.result_of(spec), subject.action_of(spec).result
                try:
                    back = decode_as(encode(result), kind)
                except (TypeError, OverflowError) as error:
                    raise AssertionError(f"the result {result!r:.100} cannot be stored: {error}") from None
                except msgspec.DecodeError as error:
                    raise AssertionError(f"the result {result!r:.100} is no {kind}: {error}") from None
                assert kind is Any or back == result

    @on_trio
    async def test_a_queue_gives_the_result_as_its_type(self, subject: Subject) -> None:
        """Who waits for a task of a queue gets what who runs it directly gets, of the same type."""
        spec = subject.examples.quick
        async with subject.registry.opened():
            direct = decode_as(encode(await subject.result_of(spec)), subject.action_of(spec).result)
        async with subject.queue(workers=1) as queue, subject.soon("the quick example does not complete"):
            assert type(await (await queue.submit(spec)).result()) is type(direct)

    @on_trio
    async def test_a_result_can_be_shown_to_people(self, subject: Subject) -> None:
        """Where an action says how its results look, it makes a text of each, as it comes back from the store."""
        async with subject.registry.opened():
            for spec in subject.examples.completing:
                action = subject.action_of(spec)
                if action.show is not None:
                    result = decode_as(encode(await subject.result_of(spec)), action.result)
                    assert isinstance(action.show(result), str)

    @on_trio
    async def test_the_output_is_the_same_with_a_queue_and_without(self, subject: Subject) -> None:
        """The streaming example says the same by `Registry.stream` and by a queue, which numbers its chunks from 0."""
        spec = subject.streaming()
        async with subject.registry.opened():
            directly = await _streamed(subject, spec)
        async with subject.queue(workers=1) as queue, subject.soon("the streaming example does not complete"):
            handle = await queue.submit(spec)
            async with handle.stream() as stream:
                chunks = [chunk async for chunk in stream]
            assert (await handle.wait()).status is Status.COMPLETED
        assert directly, "the streaming example emits nothing"
        assert not [chunk for chunk in chunks if isinstance(chunk, StreamRestarted)]
        assert said(chunks) == directly, "the queue has other output than a direct run"
        assert [chunk.index for chunk in chunks if isinstance(chunk, Chunk)] == list(range(len(chunks)))

    @on_trio
    async def test_an_action_that_does_not_stream_emits_nothing(self, subject: Subject) -> None:
        """`streams=False` is a promise: whoever asks for such a task's output would wait for it in vain."""
        async with subject.registry.opened():
            for spec in subject.examples.completing:
                if not subject.action_of(spec).streams:
                    emitted = await _streamed(subject, spec)
                    assert not emitted, f"{spec.action!r} does not stream, but it emits {emitted[0]}"

    @on_trio
    async def test_the_same_task_can_be_run_again(self, subject: Subject) -> None:
        """A run leaves nothing behind that the next one would stumble over, as runs are at-least-once."""
        async with subject.registry.opened():
            for spec in subject.examples.completing:
                assert await _streamed(subject, spec) == await _streamed(subject, spec)

    @on_trio
    async def test_runs_at_the_same_time_do_not_disturb_each_other(self, subject: Subject) -> None:
        """Each of several runs at once completes, with just the output that it has alone."""
        specs = subject.examples.completing * 3
        async with subject.opened() as begin:
            alone: list[WatchedRun] = []
            for spec in specs:
                alone.append(begin(spec))
                await subject.until_over(alone[-1])
            together = [begin(spec) for spec in specs]
            for run, same in zip(together, alone, strict=True):
                await subject.until_over(run)
                assert run.returned, f"beside others, {run.task!r} {run.ending}"
                assert said(run.chunks) == said(same.chunks), f"beside others, {run.task!r} emits something else"

    @on_trio
    async def test_a_failure_says_what_happened_in_a_line(self, subject: Subject) -> None:
        """The failing example fails, with a type and with a message of one line, in words that a person can act on."""
        failure = await _failure(subject)
        assert failure.type.isprintable(), f"{failure.type!r} is no type of a failure"
        assert " " not in failure.type, f"{failure.type!r} is no type of a failure"
        assert one_line(failure.message), f"the message is not one line: {failure.message!r}"
        assert len(failure.message.split()) > 1, f"{failure.message!r} tells a person nothing"

    @on_trio
    async def test_a_failure_is_the_same_with_a_queue_and_without(self, subject: Subject) -> None:
        """What a direct run raises is what a queue records: type, message, and whether a retry may mend it."""
        failure, error = await _failure(subject), await _error(subject)
        steering = isinstance(error, PermanentError | RetryableError | RetryLater)
        assert failure.type == (getattr(error, "type", None) if steering else type(error).__name__)
        assert failure.retryable is not isinstance(error, PermanentError)

    @on_trio
    async def test_the_details_of_a_failure_can_be_stored(self, subject: Subject) -> None:
        """Details are builtins under texts, and small enough to be kept."""
        error, failure = await _error(subject), await _failure(subject)
        details = error.details if isinstance(error, PermanentError | RetryableError | RetryLater) else None
        if details is None:
            pytest.skip("the failing example has no details")
        assert all(isinstance(key, str) for key in details)
        try:
            stored = decode(encode(details))
        except (TypeError, OverflowError) as problem:
            raise AssertionError(f"the details cannot be stored: {problem}") from None
        assert failure.details is not None
        assert sorted(failure.details) == sorted(stored), "the details were too large to be kept"


async def _streamed(subject: Subject, spec: TaskSpec) -> Said:
    """What the run of a task emits; it must complete."""
    chunks: list[Chunk] = []
    async with subject.soon(f"{spec.action!r} does not complete"), subject.registry.stream(spec) as stream:
        chunks += [chunk async for chunk in stream]
    return said(chunks)


async def _failure(subject: Subject) -> Failure:
    """What a queue records of the failing example."""
    async with subject.queue(workers=1) as queue, subject.soon("the failing example does not fail"):
        task = await (await queue.submit(subject.failing())).wait()
    assert task.status is Status.FAILED, f"the failing example {task.status}"
    assert task.failure is not None
    return task.failure


async def _error(subject: Subject) -> BaseException:
    """What the failing example raises."""
    async with subject.registry.opened(), subject.soon("the failing example does not fail"):
        try:
            result = await subject.registry.execute(subject.failing())
        except Exception as error:  # noqa: BLE001  # an executor may raise anything
            return unwrapped(error)
    raise AssertionError(f"the failing example returned {result!r:.100}")
