"""Several servers as pools: who is offered, who takes over within an attempt, who rests, and how one comes back."""

from typing import ClassVar

import pytest
import trio
from attrs import frozen
from trio.testing import wait_all_tasks_blocked

import oq
from oq.breaker import Health, RestPolicy
from oq.endpoints import EndpointFault, Endpoints, Verdict
from oq.routing import Lane, Routing
from oq.testing import virtual_queue


@frozen(kw_only=True)
class Server:
    name: str
    priority: int = 0
    remote: bool = False
    enabled: bool = True
    concurrency: int = 1
    models: tuple[str, ...] = ()


@frozen(kw_only=True)
class Question:
    model: str = "m"
    remote: bool = False


@frozen
class Down:
    verdict: Verdict = Verdict.UNREACHABLE
    permanent: bool = False
    chunks: int = 0
    rest: float = 1.0


class Asker:
    """An executor whose servers behave as `faults` says: by name, what goes wrong there."""

    name, version, description = "asker", "1", "asks servers"
    actions: ClassVar = {"ask": oq.Action(payload=Question, summary="Ask", streams=True)}

    def __init__(self, *servers, seconds=1.0, **options):
        self.endpoints = Endpoints("asker", servers, **options)
        self.faults = {}
        self.asked = []
        self.checked = []
        self.seconds = seconds
        self.pools = self.endpoints.pools
        self.lane_pools = self.endpoints.lane_pools
        self.on_pools_change = self.endpoints.on_pools_change

    async def __aenter__(self):
        self._watched = self.endpoints.watched(self._check, every=30)
        await self._watched.__aenter__()

    async def __aexit__(self, *error):
        await self._watched.__aexit__(*error)

    def lane(self, action, payload, wanted):
        return str(Lane(payload.model, payload.remote, wanted))

    async def execute(self, task, ctx):
        return await self.endpoints.call(task, ctx, lambda call: self._ask(call, ctx))

    async def _ask(self, call, ctx):
        self.asked.append(call.endpoint.name)
        await trio.sleep(self.seconds)
        fault = self.faults.get(call.endpoint.name)
        if fault is None:
            call.answered()
            await trio.sleep(self.seconds)
            return call.endpoint.name
        for _ in range(fault.chunks):
            await ctx.emit("begun")
        kind = oq.PermanentError if fault.permanent else oq.RetryableError
        raise EndpointFault(fault.verdict, kind(f"{call.endpoint.name} is {fault.verdict.value}"), rest=fault.rest)

    async def _check(self, server):
        self.checked.append((server.name, trio.current_time()))
        if self.faults.get(server.name) is not None:
            raise OSError("nobody there")

    def spec(self, **fields):
        payload = Question(**{name: fields.pop(name) for name in ("model", "remote") if name in fields})
        return oq.TaskSpec(executor="asker", action="ask", payload=payload, retry=oq.NO_RETRY, **fields)

    def health(self, name):
        return next(state.health for state in self.endpoints.states() if state.name == name)


async def test_two_endpoints_of_one_name_are_refused():
    with pytest.raises(oq.InvalidSettings, match=r"asker\.endpoints: two endpoints are named 'a'"):
        Endpoints("asker", [Server(name="a"), Server(name="a")])


async def test_a_task_is_claimed_only_when_an_endpoint_has_room(autojump_clock):
    asker = Asker(Server(name="a"), Server(name="b", concurrency=2))
    async with virtual_queue(asker, workers=10) as queue:
        await queue.submit_many([asker.spec() for _ in range(7)])
        await trio.sleep(0.5)
        assert sorted(asker.asked) == ["a", "b", "b"]
        stats = await queue.stats()
        assert stats.busy == 3


async def test_the_endpoint_that_answered_is_told(autojump_clock):
    asker = Asker(Server(name="a"), Server(name="b", priority=1))
    async with virtual_queue(asker) as queue:
        done = await (await queue.submit(asker.spec())).wait()
        assert (done.result, done.executed_on) == ("b", "b")


async def test_another_one_takes_over_while_nothing_was_emitted(autojump_clock):
    asker = Asker(Server(name="a", priority=1), Server(name="b"))
    asker.faults["a"] = Down()
    async with virtual_queue(asker) as queue:
        done = await (await queue.submit(asker.spec())).wait()
        assert (done.result, done.executed_on, done.attempt, asker.asked) == ("b", "b", 1, ["a", "b"])
        assert asker.health("a") is Health.RESTING


async def test_once_something_was_emitted_nobody_takes_over(autojump_clock):
    asker = Asker(Server(name="a", priority=1), Server(name="b"))
    asker.faults["a"] = Down(Verdict.FAILED, chunks=1)
    async with virtual_queue(asker) as queue:
        done = await (await queue.submit(asker.spec())).wait()
        assert (done.status, done.failure.message, asker.asked) == (oq.Status.FAILED, "a is failed", ["a"])


async def test_nobody_takes_over_without_a_free_unit(autojump_clock):
    """Failover reserves again: a run never waits for a unit inside its attempt, nor runs without one."""
    asker = Asker(Server(name="a", priority=1), Server(name="b"), seconds=2)
    async with virtual_queue(asker, workers=3) as queue:
        first = await queue.submit(asker.spec())
        second = await queue.submit(asker.spec())
        asker.faults["a"] = Down()
        assert (await first.wait()).failure.message == "a is unreachable"
        assert (await second.wait()).result == "b"


async def test_the_unit_of_the_one_that_failed_is_free_for_others(autojump_clock):
    asker = Asker(Server(name="a", priority=1), Server(name="b"), seconds=4)
    asker.faults["a"] = Down(Verdict.FAILED)
    async with virtual_queue(asker) as queue:
        await queue.submit(asker.spec())
        await trio.sleep(5)
        assert asker.asked == ["a", "b"]
        asker.faults.clear()
        second = await queue.submit(asker.spec())
        await trio.sleep(1)
        assert asker.asked == ["a", "b", "a"]
        assert (await second.wait()).executed_on == "a"


async def test_one_that_rests_is_not_offered_and_its_tasks_wait(autojump_clock):
    asker = Asker(Server(name="a"), rest=RestPolicy(rest=5))
    asker.faults["a"] = Down()
    async with virtual_queue(asker) as queue:
        first = await (await queue.submit(asker.spec())).wait()
        assert first.failure.message == "a is unreachable"
        second = await queue.submit(asker.spec())
        await trio.sleep(100)
        assert asker.asked == ["a"], "no attempt is wasted on one that is not there"
        asker.faults.clear()
        assert (await second.wait()).result == "a"
        assert asker.health("a") is Health.HEALTHY


async def test_before_it_is_tried_again_somebody_looks_whether_it_is_there(autojump_clock):
    asker = Asker(Server(name="a"), rest=RestPolicy(rest=5, longest_rest=20))
    asker.faults["a"] = Down()
    async with virtual_queue(asker) as queue:
        await (await queue.submit(asker.spec())).wait()
        await trio.sleep(60)
        times = [moment for _, moment in asker.checked]
        assert [round(later - sooner) for sooner, later in zip([1, *times], times, strict=False)] == [5, 10, 20, 20]


async def test_one_that_was_down_is_tried_with_a_single_task(autojump_clock):
    asker = Asker(Server(name="a", concurrency=5), rest=RestPolicy(rest=5))
    asker.faults["a"] = Down()
    async with virtual_queue(asker, workers=10) as queue:
        await (await queue.submit(asker.spec())).wait()
        await queue.submit_many([asker.spec() for _ in range(9)])
        asker.faults.clear()
        asker.asked.clear()
        await trio.sleep(5.5)
        assert asker.asked == ["a"]
        await trio.sleep(1)
        assert len(asker.asked) == 5


async def test_one_that_is_not_there_is_noticed_before_any_task_is(autojump_clock):
    asker = Asker(Server(name="a", priority=1), Server(name="b"))
    async with virtual_queue(asker) as queue:
        await (await queue.submit(asker.spec())).wait()
        asker.faults["a"] = Down()
        asker.asked.clear()
        await trio.sleep(31)
        assert asker.health("a") is Health.RESTING
        assert (await (await queue.submit(asker.spec())).wait()).result == "b"
        assert asker.asked == ["b"]


async def test_one_that_no_task_has_asked_for_is_let_alone(autojump_clock):
    asker = Asker(Server(name="a"), Server(name="other", models=("other",)))
    async with virtual_queue(asker) as queue:
        await (await queue.submit(asker.spec())).wait()
        await trio.sleep(100)
        assert {name for name, _ in asker.checked} == {"a"}


async def test_one_that_failed_comes_back_though_another_one_has_room(autojump_clock):
    asker = Asker(Server(name="a", priority=1), Server(name="b"))
    asker.faults["a"] = Down()
    async with virtual_queue(asker) as queue:
        assert (await (await queue.submit(asker.spec())).wait()).result == "b"
        asker.faults.clear()
        await trio.sleep(60)
        assert (await (await queue.submit(asker.spec())).wait()).result == "a"


async def test_the_queue_is_not_idle_while_tasks_wait_for_a_rest_to_end(autojump_clock):
    asker = Asker(Server(name="a"))
    asker.faults["a"] = Down()
    async with virtual_queue(asker) as queue:
        await (await queue.submit(asker.spec())).wait()
        second = await queue.submit(asker.spec())
        asker.faults.clear()
        await queue.wait_idle()
        assert (await second.refresh()).result == "a"


async def test_a_model_that_all_lack_is_no_reason_to_wait_for_those_that_are_busy(autojump_clock):
    """A task whose model nobody has fails, rather than ask again and again."""
    asker = Asker(Server(name="a"), Server(name="b"), seconds=3)
    async with virtual_queue(asker) as queue:
        asker.faults |= {name: Down(Verdict.UNSUITED, permanent=True) for name in "ab"}
        tasks = await queue.submit_many([asker.spec() for _ in range(6)])
        for task in tasks:
            assert (await task.wait()).status is oq.Status.FAILED
        assert trio.current_time() < 60


async def test_one_that_never_begins_to_answer_rests_though_tasks_time_out_before(autojump_clock):
    asker = Asker(Server(name="a", priority=1), Server(name="b"), seconds=50, rest=RestPolicy(after_failures=2))
    async with virtual_queue(asker) as queue:
        for _ in range(2):
            done = await (await queue.submit(asker.spec(timeout=10))).wait()
            assert done.failure.type == "Timeout"
        assert asker.health("a") is Health.RESTING


async def test_a_task_that_went_far_for_the_backlog_may_be_taken_over_far(autojump_clock):
    servers = Server(name="near"), Server(name="far 1", remote=True, priority=1), Server(name="far 2", remote=True)
    asker = Asker(*servers, routing=Routing(max_local_queue_size=0, fallback_to_local=False))
    asker.faults["far 1"] = Down()
    async with virtual_queue(asker) as queue:
        task = await queue.submit(asker.spec(priority="high"))
        assert (await task.wait()).result in ("near", "far 2")
        await queue.submit_many([asker.spec() for _ in range(9)])
        task = await queue.submit(asker.spec(priority="high"))
        assert (await task.wait()).result == "far 2"


class Outer:
    """An executor that lets another one do the work."""

    name, version, description = "outer", "1", "delegates"
    actions: ClassVar = {"ask": oq.Action(payload=Question, summary="Ask")}

    async def execute(self, task, ctx):
        return await ctx.delegate("asker", "ask", {"model": task.payload.model})


async def test_another_executor_may_delegate_to_one_with_endpoints(autojump_clock):
    asker = Asker(Server(name="a", priority=1, models=("m",)), Server(name="b", models=("m",)))
    asker.faults["a"] = Down()
    async with virtual_queue(asker, Outer()) as queue:
        spec = oq.TaskSpec(executor="outer", action="ask", payload=Question())
        done = await (await queue.submit(spec)).wait()
        assert (done.result, done.executed_on) == ("b", "b")


async def test_without_a_queue_near_and_far_are_as_with_one(autojump_clock):
    asker = Asker(Server(name="far", remote=True, priority=9), Server(name="near"))
    registry = oq.Registry([asker])
    async with registry.opened():
        assert await registry.execute(asker.spec()) == "near"
        assert await registry.execute(asker.spec(remote=True)) == "far"
        assert await registry.execute(asker.spec(priority="critical")) == "far"


async def test_what_the_backlog_opens_costs_nothing_while_it_does_not_turn(autojump_clock):
    asker = Asker(Server(name="near"), Server(name="far", remote=True), seconds=0.1)
    made = 0

    def lane_pools(lane):
        nonlocal made
        made += 1
        return asker.endpoints.lane_pools(lane)

    asker.lane_pools = lane_pools
    async with virtual_queue(asker) as queue:
        for _ in range(20):
            await (await queue.submit(asker.spec())).wait()
        assert made <= 3


async def test_a_busy_one_rests_for_as_long_as_it_asks(autojump_clock):
    asker = Asker(Server(name="a"))
    asker.faults["a"] = Down(Verdict.BUSY, rest=40)
    async with virtual_queue(asker) as queue:
        await (await queue.submit(asker.spec())).wait()
        asker.faults.clear()
        second = await queue.submit(asker.spec())
        await trio.sleep(38)
        assert asker.asked == ["a"]
        assert (await second.wait()).result == "a"


async def test_one_that_lacks_the_model_is_passed_over_for_a_while(autojump_clock):
    asker = Asker(Server(name="a", priority=1), Server(name="b"))
    asker.faults["a"] = Down(Verdict.UNSUITED, permanent=True)
    async with virtual_queue(asker) as queue:
        for _ in range(2):
            assert (await (await queue.submit(asker.spec())).wait()).result == "b"
        assert asker.asked == ["a", "b", "b"]
        assert asker.health("a") is Health.HEALTHY
        asker.faults.clear()
        await trio.sleep(91)
        assert (await (await queue.submit(asker.spec())).wait()).result == "a"


async def test_a_model_that_nobody_has_is_a_failure(autojump_clock):
    asker = Asker(Server(name="a"), Server(name="b"))
    asker.faults |= {name: Down(Verdict.UNSUITED, permanent=True) for name in "ab"}
    async with virtual_queue(asker) as queue:
        for _ in range(2):
            done = await (await queue.submit(asker.spec())).wait()
            assert (done.status, done.failure.retryable) == (oq.Status.FAILED, False)


async def test_where_another_may_have_the_model_but_is_busy_the_task_waits_for_it(autojump_clock):
    asker = Asker(Server(name="a"), Server(name="b"), seconds=3)
    asker.faults["a"] = Down(Verdict.UNSUITED, permanent=True)
    async with virtual_queue(asker) as queue:
        tasks = [await queue.submit(asker.spec()) for _ in range(3)]
        assert [(await task.wait()).result for task in tasks] == ["b", "b", "b"]
        assert [(await task.wait()).attempt for task in tasks] == [1, 1, 1]
        assert asker.asked.count("a") == 1


async def test_a_task_that_must_stay_near_is_not_taken_over_by_a_far_one(autojump_clock):
    asker = Asker(Server(name="near"), Server(name="far", remote=True))
    asker.faults["near"] = Down(Verdict.FAILED)
    async with virtual_queue(asker) as queue:
        usual = await (await queue.submit(asker.spec())).wait()
        assert usual.failure.message == "near is failed"
        asked = await (await queue.submit(asker.spec(remote=True))).wait()
        assert asked.result == "far"
        asker.faults = {"far": Down(Verdict.FAILED)}
        critical = await (await queue.submit(asker.spec(priority="critical"))).wait()
        assert critical.result == "near"


async def test_a_long_backlog_opens_the_far_one_for_high_tasks(autojump_clock):
    asker = Asker(Server(name="near"), Server(name="far", remote=True), routing=Routing(max_local_queue_size=2))
    async with virtual_queue(asker) as queue:
        await queue.submit_many([asker.spec(priority="high") for _ in range(3)])
        await wait_all_tasks_blocked()
        assert asker.asked == ["near"]
        await queue.submit_many([asker.spec(priority="low") for _ in range(2)])
        await wait_all_tasks_blocked()
        assert asker.asked == ["near", "far"]


async def test_without_a_queue_the_best_endpoint_is_asked_and_another_takes_over(autojump_clock):
    asker = Asker(Server(name="a", priority=1), Server(name="b"))
    asker.faults["a"] = Down()
    registry = oq.Registry([asker])
    async with registry.opened():
        assert await registry.execute(asker.spec()) == "b"
        asker.faults["b"] = Down()
        with pytest.raises(oq.RetryableError, match="b is unreachable"):
            await registry.execute(asker.spec())


async def test_a_model_that_no_endpoint_is_there_for_is_said_so():
    asker = Asker(Server(name="a", models=("other",)))
    registry = oq.Registry([asker])
    async with registry.opened():
        with pytest.raises(oq.PermanentError, match=r"no endpoint serves the model 'm'; see \[\[asker\.endpoints\]\]"):
            await registry.execute(asker.spec())


async def test_a_look_that_takes_long_is_not_the_last_one(autojump_clock):
    """By the time it is over, the next moment at which there is something to do may have passed."""
    asker = Asker(Server(name="a", priority=1), Server(name="b"))

    async def slow(server):
        asker.checked.append((server.name, trio.current_time()))
        await trio.sleep(40)

    asker._check = slow
    asker.faults["a"] = Down(Verdict.UNSUITED, permanent=True)
    async with virtual_queue(asker) as queue:
        await (await queue.submit(asker.spec())).wait()
        await trio.sleep(300)
        assert [name for name, _ in asker.checked].count("a") >= 4


async def test_what_was_known_in_one_run_of_trio_is_forgotten_in_the_next(autojump_clock):
    """The moments of one clock mean nothing by another."""
    asker = Asker(Server(name="a", priority=1), Server(name="b"))
    asker.faults["a"] = Down(Verdict.UNSUITED, permanent=True)
    for _ in range(2):
        asker.asked.clear()
        async with virtual_queue(asker) as queue:
            await (await queue.submit(asker.spec())).wait()
        assert asker.asked == ["a", "b"]


async def test_how_long_answers_take_to_begin_is_known(autojump_clock):
    asker = Asker(Server(name="a"), seconds=3)
    async with virtual_queue(asker) as queue:
        assert asker.endpoints.states()[0].first_byte is None
        await (await queue.submit(asker.spec())).wait()
        assert asker.endpoints.states()[0].first_byte == pytest.approx(3)
