"""The contract of `Finish`, `AppendChunks` and `Renew`: endings, attempts, output, and the fence of the epoch."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from oq.errors import LeaseLost
from oq.events import EventKind
from oq.store.base import AppendChunks, Ending, Failed, Finish, Released, Renew, Retried, Run, Succeeded
from oq.task import Attempt, Outcome, Phase, Priority, Status
from oq.testing.builders import START, at, block, failure, new_task
from oq.testing.driver import StoreDriver
from oq.testing.store_contract.base import ContractFrame

ENDINGS: dict[str, Ending] = {
    "succeeded": Succeeded(b"late"),
    "failed": Failed(failure("late")),
    "retried": Retried(failure("late"), at(60)),
    "released": Released(),
}

WAYS_TO_END: dict[str, Callable[[StoreDriver, Run], object]] = {
    "completed": lambda driver, run: driver.succeed(run, b"first"),
    "failed": lambda driver, run: driver.fail(run),
    "retrying": lambda driver, run: driver.retry(run, due_at=at(500)),
    "released": lambda driver, run: driver.release(run),
    "lost": lambda driver, _: driver.take_over(),
    "lease over": lambda driver, _: driver.advance(100),
    "cancelled": lambda driver, run: driver.cancel(run.head.id),
    "failed, requeued": lambda driver, run: (driver.fail(run), driver.requeue(run.head.id)),
    "cancelled, requeued": lambda driver, run: (driver.cancel(run.head.id), driver.requeue(run.head.id)),
    "released, running again": lambda driver, run: (driver.release(run), driver.start(run.head.id)),
    "lost, running again": lambda driver, run: (driver.take_over(), driver.start(run.head.id)),
    "requeued, running again": lambda driver, run: (
        driver.cancel(run.head.id),
        driver.requeue(run.head.id),
        driver.start(run.head.id),
    ),
}
"""How the epoch of a run (in the default lane, with a lease until `at(100)`) may be over."""

over = pytest.mark.parametrize("way", WAYS_TO_END)


class Running(ContractFrame):
    """Runs end, once each."""

    # Endings

    def test_a_success_completes_the_task(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        run = driver.start("a", now=at(1), lease_until=at(100))
        op = Finish(seq=run.seq, epoch=1, ending=Succeeded(b"result"), now=at(5), executed_on="gpu-1")
        reply = driver.send(op)
        full = driver.full("a")
        assert (full.state.status, full.state.phase, full.result) == (Status.COMPLETED, None, b"result")
        assert (full.state.started_at, full.state.finished_at, full.state.executed_on) == (at(1), at(5), "gpu-1")
        assert (full.state.failure, full.state.result_size, full.state.lease_until) == (None, 6, None)
        assert [(event.kind, event.epoch, event.at) for event in reply.events] == [(EventKind.COMPLETED, 1, at(5))]
        assert reply.unsettled is False

    @pytest.mark.parametrize("result", [None, b"", b"\x00" * 300_000], ids=["none", "empty", "large"])
    def test_a_result_is_any_bytes_or_none(self, driver: StoreDriver, result: bytes | None) -> None:
        driver.add(new_task("a"))
        driver.succeed(driver.start("a"), result)
        full = driver.full("a")
        assert full.result == result
        assert full.state.result_size == (None if result is None else len(result))

    def test_a_failure_fails_the_task(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        why = failure("no", retryable=False, retry_after=1.5, details={"code": 7, "lines": ["x"]})
        reply = driver.finish(driver.start("a"), Failed(why), now=at(5))
        full = driver.full("a")
        assert (full.state.status, full.state.phase, full.state.finished_at) == (Status.FAILED, None, at(5))
        assert (full.state.failure, full.result) == (why, None)
        assert [(event.kind, event.failure) for event in reply.events] == [(EventKind.FAILED, why)]

    def test_a_retry_waits_for_its_moment(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        reply = driver.retry(driver.start("a"), due_at=at(30), now=at(5))
        state = driver.state("a")
        assert (state.status, state.phase, state.due_at) == (Status.PENDING, Phase.RETRYING, at(30))
        assert (state.failure, state.finished_at) == (failure(), None)
        assert [(event.kind, event.status, event.due_at, event.failure) for event in reply.events] == [
            (EventKind.RETRYING, Status.PENDING, at(30), failure())
        ]

    def test_a_retry_that_is_due_at_once_is_ready_after_the_next_advance(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.retry(driver.start("a"), due_at=at(-5))
        driver.advance()
        assert driver.state("a").phase is Phase.READY

    def test_a_release_leaves_the_task_as_if_it_had_not_run(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        reply = driver.release(driver.start("a", lease_until=at(100)))
        state = driver.state("a")
        assert (state.status, state.phase, state.attempt, state.losses) == (Status.PENDING, Phase.READY, 0, 0)
        assert (state.failure, state.finished_at, state.lease_until) == (None, None, None)
        assert [(event.kind, event.status) for event in reply.events] == [(EventKind.RELEASED, Status.PENDING)]

    def test_a_success_forgets_the_failures_before_it(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.retry(driver.start("a"))
        driver.advance()
        driver.succeed(driver.start("a"))
        assert driver.state("a").failure is None

    def test_the_reason_of_the_last_failure_stays_while_the_next_attempt_runs(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.retry(driver.start("a"))
        driver.advance()
        assert driver.start("a").state.failure == failure()

    @pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
    def test_other_runs_are_left_alone(self, driver: StoreDriver, ending: Ending) -> None:
        driver.add(new_task("a"), new_task("b"))
        a, b = driver.claim().runs
        driver.finish(a, ending)
        assert driver.state("b") == b.state
        driver.succeed(b)

    # Attempts

    def test_attempts_are_counted_from_one(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        numbers = []
        for _ in range(3):
            run = driver.start("a")
            numbers.append(run.state.attempt)
            driver.retry(run)
            driver.advance()
        assert numbers == [1, 2, 3]

    @pytest.mark.parametrize("way", ["released", "lost", "lease over", "uncounted"])
    def test_what_is_not_the_task_s_fault_is_not_counted(self, driver: StoreDriver, way: str) -> None:
        driver.add(new_task("a"))
        driver.retry(driver.start("a"))
        driver.advance()
        run = driver.start("a", lease_until=at(100))
        assert run.state.attempt == 2
        if way == "uncounted":
            driver.retry(run, counted=False)
        else:
            WAYS_TO_END[way](driver, run)
        assert driver.state("a").attempt == 1
        driver.advance_fully(200)
        assert driver.start("a").state.attempt == 2

    def test_every_run_without_success_is_on_record(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        first = driver.start("a", worker="v", now=at(1))
        driver.send(
            Finish(seq=first.seq, epoch=1, ending=Retried(failure("one"), at(3)), now=at(2), executed_on="gpu-1")
        )
        driver.advance(3)
        driver.release(driver.start("a", worker="w", now=at(4)), now=at(5))
        driver.start("a", now=at(6))
        driver.take_over(now=at(7))
        driver.start("a", now=at(8))
        driver.cancel("a", now=at(9))
        driver.requeue("a")
        driver.finish(driver.start("a", now=at(10)), Failed(failure("two")), now=at(11))
        driver.requeue("a")
        driver.succeed(driver.start("a", now=at(12)), now=at(13))

        def attempt(epoch: int, number: int, outcome: Outcome, worker: str = "worker", **fields: object) -> Attempt:
            begun = {1: 1, 2: 4, 3: 6, 4: 8, 5: 10}[epoch]
            moments = {"started_at": at(begun), "ended_at": at(begun + 1)}
            return Attempt(epoch=epoch, number=number, outcome=outcome, worker=worker, **moments, **fields)  # type: ignore[arg-type]

        assert driver.full("a").attempts == (
            attempt(1, 1, Outcome.FAILED, "v", executed_on="gpu-1", failure=failure("one")),
            attempt(2, 2, Outcome.RELEASED, "w"),
            attempt(3, 2, Outcome.LOST),
            attempt(4, 2, Outcome.CANCELLED),
            attempt(5, 1, Outcome.FAILED, failure=failure("two")),
        )

    def test_a_run_is_not_said_to_be_executed_where_the_one_before_it_was(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        run = driver.start("a")
        driver.send(Finish(seq=run.seq, epoch=1, ending=Retried(failure(), START), now=START, executed_on="gpu-1"))
        driver.advance()
        assert driver.start("a").state.executed_on is None
        driver.take_over()
        assert [attempt.executed_on for attempt in driver.full("a").attempts] == ["gpu-1", None]

    # Late

    @over
    @pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
    def test_a_late_finish_changes_nothing_and_is_told_so(self, driver: StoreDriver, way: str, ending: Ending) -> None:
        run = self._ended(driver, way)
        op = Finish(seq=run.seq, epoch=run.state.epoch, ending=ending, now=at(200), block=block(1, 1, b"late"))
        error = driver.refused(op, LeaseLost, stop=(run.seq, run.state.epoch))
        assert (error.seq, error.epoch) == (run.seq, run.state.epoch)

    @over
    def test_a_late_chunk_changes_nothing_and_is_told_so(self, driver: StoreDriver, way: str) -> None:
        run = self._ended(driver, way)
        error = driver.refused(AppendChunks(seq=run.seq, epoch=run.state.epoch, block=block(1, 1, b"late")), LeaseLost)
        assert (error.seq, error.epoch) == (run.seq, run.state.epoch)

    @over
    def test_a_late_renewal_changes_nothing_and_is_told_so(self, driver: StoreDriver, way: str) -> None:
        run = self._ended(driver, way)
        before = driver.snapshot()
        reply = driver.send(Renew(runs=((run.seq, run.state.epoch),), until=at(900)))
        assert reply.lost == ((run.seq, run.state.epoch),)
        assert driver.snapshot() == before

    @pytest.mark.parametrize("other", [(0, 1), (0, -1), (1, 0), (-1, 0), (1_000, 0)], ids=str)
    def test_a_run_that_never_was_has_no_say(self, driver: StoreDriver, other: tuple[int, int]) -> None:
        driver.add(new_task("a"), new_task("b"))
        run = driver.claim(limit=1).runs[0]
        seq, epoch = run.seq + other[0], run.state.epoch + other[1]
        driver.refused(Finish(seq=seq, epoch=epoch, ending=Succeeded(None), now=START), LeaseLost)
        driver.refused(AppendChunks(seq=seq, epoch=epoch, block=block(0, 1)), LeaseLost)
        assert driver.send(Renew(runs=((seq, epoch),), until=at(9))).lost == ((seq, epoch),)

    def test_a_late_finish_does_not_end_the_run_that_came_after(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        driver.release(late := driver.start("a"))
        present = driver.start("a")
        driver.refused(Finish(seq=late.seq, epoch=1, ending=Succeeded(b"late"), now=START), LeaseLost)
        driver.succeed(present, b"present")
        assert driver.full("a").result == b"present"

    def _ended(self, driver: StoreDriver, way: str) -> Run:
        driver.add(new_task("a"))
        run = driver.start("a", lease_until=at(100))
        driver.send(AppendChunks(seq=run.seq, epoch=1, block=block(0, 1)))
        WAYS_TO_END[way](driver, run)
        return run

    # Renewals

    def test_a_renewal_extends_the_lease(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        run = driver.start("a", lease_until=at(10))
        reply = driver.send(Renew(runs=((run.seq, 1),), until=at(20)))
        assert (reply.lost, reply.events) == ((), ())
        assert driver.state("a").lease_until == at(20)
        assert driver.advance(10).events == ()
        assert driver.state("a").status is Status.RUNNING

    def test_a_renewal_says_which_leases_are_gone_and_extends_the_others(self, driver: StoreDriver) -> None:
        driver.add(*map(new_task, "abcd"))
        runs = driver.claim(lease_until=at(10)).runs
        driver.succeed(runs[0])
        driver.cancel("c")
        reply = driver.send(Renew(runs=tuple((run.seq, 1) for run in reversed(runs)), until=at(20)))
        assert reply.lost == ((runs[2].seq, 1), (runs[0].seq, 1))
        assert [driver.state(task_id).lease_until for task_id in "bd"] == [at(20), at(20)]

    def test_a_renewal_of_nothing_is_fine(self, driver: StoreDriver) -> None:
        assert driver.send(Renew(runs=(), until=at(20))).lost == ()

    def test_a_lease_can_be_renewed_until_its_end_is_noticed(self, driver: StoreDriver) -> None:
        driver.add(new_task("a"))
        run = driver.start("a", lease_until=at(10))
        assert driver.send(Renew(runs=((run.seq, 1),), until=at(90))).lost == ()
        assert driver.advance(60).events == ()

    # Output

    def test_output_reads_back_in_order(self, driver: StoreDriver) -> None:
        run = self._with_blocks(driver, block(0, 3), block(3, 1), block(4, 300))
        assert driver.store.blocks(run.seq, 1, 0, 10) == [block(0, 3), block(3, 1), block(4, 300)]

    @pytest.mark.parametrize(("first", "starts"), [(0, 0), (1, 0), (2, 0), (3, 3), (4, 4), (303, 4), (304, None)])
    def test_output_is_read_from_the_block_that_holds_the_chunk(
        self, driver: StoreDriver, first: int, starts: int | None
    ) -> None:
        run = self._with_blocks(driver, block(0, 3), block(3, 1), block(4, 300))
        blocks = driver.store.blocks(run.seq, 1, first, 10)
        assert [b.first for b in blocks] == [f for f in (0, 3, 4) if starts is not None and f >= starts]

    def test_output_is_read_by_the_portion(self, driver: StoreDriver) -> None:
        run = self._with_blocks(driver, *(block(n, 1) for n in range(300)))
        assert driver.store.blocks(run.seq, 1, 0, 2) == [block(0, 1), block(1, 1)]
        assert driver.store.blocks(run.seq, 1, 254, 3) == [block(254, 1), block(255, 1), block(256, 1)]

    def test_output_is_any_bytes(self, driver: StoreDriver) -> None:
        big = block(0, 9, b"\x00\xff" * 100_000)
        run = self._with_blocks(driver, big, block(9, 1, b""))
        assert driver.store.blocks(run.seq, 1, 0, 10) == [big, block(9, 1, b"")]

    def test_a_block_sent_twice_is_kept_once(self, driver: StoreDriver) -> None:
        run = self._with_blocks(driver, block(0, 2), block(0, 2), block(2, 1))
        assert driver.store.blocks(run.seq, 1, 0, 10) == [block(0, 2), block(2, 1)]

    @pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
    def test_the_last_block_comes_with_the_finish(self, driver: StoreDriver, ending: Ending) -> None:
        run = self._with_blocks(driver, block(0, 2))
        driver.finish(run, ending, block=block(2, 5))
        assert driver.store.blocks(run.seq, 1, 0, 10) == [block(0, 2), block(2, 5)]

    def test_each_run_has_its_own_output(self, driver: StoreDriver) -> None:
        run = self._with_blocks(driver, block(0, 2, b"first"))
        driver.release(run)
        second = driver.start("a")
        driver.send(AppendChunks(seq=second.seq, epoch=2, block=block(0, 1, b"second")))
        assert driver.store.blocks(run.seq, 1, 0, 10) == [block(0, 2, b"first")]
        assert driver.store.blocks(run.seq, 2, 0, 10) == [block(0, 1, b"second")]

    def test_each_task_has_its_own_output(self, driver: StoreDriver) -> None:
        run = self._with_blocks(driver, block(0, 2))
        driver.add(new_task("b"))
        other = driver.start("b")
        assert driver.store.blocks(other.seq, 1, 0, 10) == []
        assert driver.store.blocks(run.seq, 2, 0, 10) == driver.store.blocks(run.seq + 7, 1, 0, 10) == []

    def test_output_stays_when_its_run_is_cancelled_or_lost(self, driver: StoreDriver) -> None:
        run = self._with_blocks(driver, block(0, 2))
        driver.take_over()
        driver.send(AppendChunks(seq=run.seq, epoch=driver.start("a").state.epoch, block=block(0, 1)))
        driver.cancel("a")
        driver.requeue("a")
        assert driver.store.blocks(run.seq, 1, 0, 10) == [block(0, 2)]
        assert driver.store.blocks(run.seq, 2, 0, 10) == [block(0, 1)]

    def test_output_has_no_event(self, driver: StoreDriver) -> None:
        driver.add(new_task("a", priority=Priority.LOW))
        run = driver.start("a")
        assert driver.send(AppendChunks(seq=run.seq, epoch=1, block=block(0, 1))).events == ()

    def _with_blocks(self, driver: StoreDriver, *blocks: object) -> Run:
        driver.add(new_task("a"))
        run = driver.start("a")
        for kept in blocks:
            driver.send(AppendChunks(seq=run.seq, epoch=1, block=kept))  # type: ignore[arg-type]
        return run
