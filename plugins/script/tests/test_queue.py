"""Scripts as tasks of a queue: what the queue makes of their results, failures, time-outs and cancels."""

import os
import select

import pytest
import trio

import oq
from oq_script import ScriptResult, command, script

AT_ONCE = oq.RetryPolicy(max_attempts=3, delay=0.0)


@pytest.fixture
async def queue(directory):
    """A running queue in memory, with this directory and an exit code that means "do not retry"."""
    table = {"directory": str(directory), "permanent_exit_codes": [64], "kill_grace": 0.1}
    settings = oq.Settings(sections={"script": table})
    async with oq.open_queue("memory://", settings=settings, workers=4) as queue:
        yield queue


def has_ended(pidfd):
    return bool(select.select([pidfd], [], [], 0)[0])


async def test_the_result_comes_back_as_its_class(queue):
    task = await queue.submit(command("echo hi"))
    result = await task.result()
    assert isinstance(result, ScriptResult)
    assert result.stdout == "hi\n"


async def test_a_bad_payload_is_refused_before_it_is_stored(queue):
    with pytest.raises(oq.InvalidTask, match=r"payload\.script: '\.\./x\.sh' contains '\.\.'"):
        await queue.submit(script("../x.sh"))
    assert not (await queue.list()).items


async def test_a_failing_script_is_retried_by_the_policy_and_told_its_attempt(queue, directory):
    (directory / "third.sh").write_text("echo attempt $OQ_ATTEMPT; test $OQ_ATTEMPT = 3")
    task = await (await queue.submit(script("third.sh", retry=AT_ONCE))).wait()
    assert task.status is oq.Status.COMPLETED
    assert task.result.stdout == "attempt 3\n"
    assert [attempt.failure.details["stdout"] for attempt in task.attempts[:-1]] == ["attempt 1\n", "attempt 2\n"]


async def test_an_exit_code_that_means_do_not_retry_is_not_retried(queue, directory):
    (directory / "usage.sh").write_text("echo usage >&2; exit 64")
    task = await (await queue.submit(script("usage.sh", retry=AT_ONCE))).wait()
    assert task.status is oq.Status.FAILED
    assert task.attempt == 1
    assert (task.failure.type, task.failure.details["stderr"]) == ("ExitCode", "usage\n")


async def test_a_program_that_is_not_there_is_not_retried(queue):
    task = await (await queue.submit(command("no-such-program", retry=AT_ONCE))).wait()
    assert (task.attempt, task.failure.type) == (1, "NotFound")


async def test_a_cancel_ends_the_children_of_children(queue, directory):
    (directory / "family.sh").write_text("sh -c 'sleep 1000 & echo $!; wait' & wait")
    task = await queue.submit(script("family.sh"))
    async with task.stream() as chunks:
        grandchild = os.pidfd_open(int((await anext(chunks)).text))
    try:
        await task.cancel()
        with trio.fail_after(30):
            await trio.lowlevel.wait_readable(grandchild)
    finally:
        os.close(grandchild)


async def test_a_time_out_is_a_failure_and_the_stream_keeps_what_was_written(queue, directory):
    (directory / "slow.sh").write_text("echo working; exec sleep 1000")
    task = await queue.submit(script("slow.sh", timeout=0.5, retry=oq.NO_RETRY))
    assert (await task.wait()).failure.type == "Timeout"
    async with task.stream() as chunks:
        assert "".join([chunk.text async for chunk in chunks]) == "working\n"


async def test_the_end_of_the_queue_ends_its_processes(directory):
    settings = oq.Settings(sections={"script": {"directory": str(directory)}})
    async with oq.open_queue("memory://", settings=settings) as queue:
        task = await queue.submit(command("sh -c 'echo $$; exec sleep 1000'"))
        async with task.stream() as chunks:
            process = os.pidfd_open(int((await anext(chunks)).text))
        await queue.stop(grace=0)
        assert (await task.refresh()).status is oq.Status.PENDING
    try:
        assert has_ended(process)
    finally:
        os.close(process)
