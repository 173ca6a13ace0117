"""Several servers: who gets a task, who takes over, who rests, and how another executor hands its work over."""

from typing import ClassVar

import pytest
import trio
from attrs import frozen

import oq
from oq.testing import refused_url
from oq_openai import OpenAIEndpoint, OpenAIExecutor, OpenAISettings, chat, embed
from oq_openai.testing import fake_openai, faults

AT_ONCE = oq.RetryPolicy(max_attempts=3, delay=0.0)
HELLO = chat("m", "Hello", retry=oq.NO_RETRY)


@pytest.fixture
async def other():
    """A second fake."""
    async with fake_openai(models=("*",)) as fake:
        yield fake


class TestLanes:
    @pytest.mark.parametrize(
        ("options", "lane"),
        [
            ({}, "m"),
            ({"lane": "night"}, "m [night]"),
            ({"endpoint": "b"}, "m @b"),
            ({"remote_execution": True}, "m (remote)"),
            ({"lane": "night", "endpoint": "b", "remote_execution": True}, "m [night] @b (remote)"),
        ],
    )
    async def test_a_lane_says_what_its_tasks_want(self, fake, other, executor_for, options, lane):
        assert oq.Registry([executor_for(fake, other)]).check(chat("m", "x", **options)).lane == lane

    async def test_each_endpoint_is_a_pool(self, fake, other, endpoint, executor_for):
        executor = executor_for(
            endpoint(fake, "a", concurrency=3), endpoint(other, "b"), endpoint(fake, "c", enabled=False)
        )
        assert executor.pools() == {"openai:a": 3, "openai:b": 8}

    async def test_a_task_may_go_to_any_endpoint_that_serves_its_model(self, fake, endpoint, executor_for):
        executor = executor_for(
            endpoint(fake, "a", models=("gpt-*", "m")), endpoint(fake, "b"), endpoint(fake, "c", models=("x",))
        )
        assert executor.lane_pools("m").choices == (("openai:a", "openai:b"),)
        assert executor.lane_pools("gpt-5").choices == (("openai:a", "openai:b"),)
        assert executor.lane_pools("x").choices == (("openai:b", "openai:c"),)

    async def test_a_pinned_task_may_go_to_its_endpoint_only(self, fake, other, executor_for):
        executor = executor_for(fake, other)
        assert executor.lane_pools("m @b").choices == (("openai:b",),)
        assert executor.lane_pools("m @nowhere") is None

    async def test_urgent_tasks_go_to_remote_endpoints(self, fake, other, endpoint, executor_for):
        executor = executor_for(endpoint(fake, "near"), endpoint(other, "far", remote=True))
        pools = executor.lane_pools("m")
        assert pools.choices_for(oq.Priority.NORMAL, 0) == (("openai:near",),)
        assert pools.choices_for(oq.Priority.CRITICAL, 0)[0] == ("openai:far",)
        assert executor.lane_pools("m (remote)").choices[0] == ("openai:far",)

    def test_a_task_that_no_endpoint_may_ever_take_is_refused(self):
        near = OpenAIEndpoint(name="near", url="http://localhost/v1")
        settings = OpenAISettings(endpoints=(near,), routing=oq.Routing(fallback_to_local=False))
        registry = oq.Registry([OpenAIExecutor(settings)])
        registry.check(chat("m", "Hello"))
        with pytest.raises(oq.InvalidTask, match=r"payload\.remote_execution: no remote endpoint serves 'm'"):
            registry.check(chat("m", "Hello", remote_execution=True))

    @pytest.mark.parametrize("model", ["m @b", "m [x]", "m (remote)"])
    async def test_a_model_that_looks_like_a_lane_is_refused(self, fake, other, executor_for, model):
        with pytest.raises(oq.InvalidTask, match=r"payload\.model: .* ends like the name of a lane"):
            oq.Registry([executor_for(fake, other)]).check(chat(model, "x"))


class TestRefused:
    """At submit."""

    async def test_an_endpoint_of_which_there_is_none(self, fake, other, queue_for):
        async with queue_for(fake, other) as queue:
            with pytest.raises(
                oq.InvalidTask, match=r"payload\.endpoint: there is no endpoint 'c' \(there are: a, b\)"
            ):
                await queue.submit(chat("m", "x", endpoint="c"))

    async def test_an_endpoint_that_is_disabled(self, fake, endpoint, queue_for):
        async with queue_for(endpoint(fake, "a"), endpoint(fake, "b", enabled=False)) as queue:
            with pytest.raises(oq.InvalidTask, match=r"payload\.endpoint: there is no endpoint 'b'"):
                await queue.submit(chat("m", "x", endpoint="b"))

    @pytest.mark.parametrize("pinned", [None, "b"])
    async def test_a_model_that_nobody_serves(self, fake, endpoint, queue_for, pinned):
        async with queue_for(
            endpoint(fake, "a", models=("n" if pinned is None else "m",)), endpoint(fake, "b", models=("o*",))
        ) as queue:
            with pytest.raises(oq.InvalidTask, match=r"payload\.model: no endpoint serves 'm' \(there are: .*b: o\*\)"):
                await queue.submit(chat("m", "x", endpoint=pinned))


class TestRouting:
    async def test_a_task_knows_where_it_ran(self, fake, other, queue_for):
        async with queue_for(fake, other) as queue:
            for name, server in (("a", fake), ("b", other)):
                task = await (await queue.submit(chat("m", "x", endpoint=name))).wait()
                assert task.executed_on == name
                assert len(server.asked) == 1

    async def test_the_endpoint_of_higher_priority_is_asked_first(self, fake, other, endpoint, queue_for):
        async with queue_for(endpoint(fake, "a"), endpoint(other, "b", priority=1)) as queue:
            for _ in range(3):
                assert (await (await queue.submit(HELLO)).wait()).executed_on == "b"

    async def test_no_endpoint_gets_more_than_it_takes_at_once(self, fake, other, endpoint, queue_for):
        for server in (fake, other):
            server.set_model("m", faults.stall())
        async with queue_for(
            endpoint(fake, "a", concurrency=2), endpoint(other, "b", concurrency=3), workers=20
        ) as queue:
            handles = await queue.submit_many([HELLO] * 10)
            with trio.fail_after(20):
                await fake.wait_asked(2)
                await other.wait_asked(3)
            assert (await queue.stats()).busy == 5
            for handle in handles:
                await handle.cancel()
        assert (len(fake.asked), len(other.asked)) == (2, 3)

    async def test_without_a_queue_the_best_endpoint_is_asked(self, fake, other, endpoint, opened):
        async with opened(endpoint(fake, "a"), endpoint(other, "b", priority=1)) as registry:
            await registry.execute(HELLO)
        assert (len(fake.asked), len(other.asked)) == (0, 1)


class TestFailover:
    @pytest.mark.parametrize(
        "fault",
        [
            faults.cut_before_the_answer(),
            faults.refuse(500),
            faults.refuse(503, headers={"Retry-After": "60"}),
            faults.rate_limited(60),
            faults.no_credit(),
            faults.wrong_key(),
            faults.refuse(403),
            faults.refuse(404, "The model `m` does not exist", code="model_not_found"),
            faults.web_page(),
            faults.error_event(after=0),
            faults.error_event("Too many requests", type="rate_limit_error", after=0),
        ],
    )
    async def test_another_endpoint_takes_over_within_the_attempt(self, fake, other, endpoint, queue_for, fault):
        fake.set_model("m", fault)
        async with queue_for(endpoint(fake, "a", priority=1), endpoint(other, "b")) as queue:
            task = await (await queue.submit(HELLO)).wait()
        assert (task.status, task.executed_on, task.attempt) == (oq.Status.COMPLETED, "b", 1)
        assert (len(fake.asked), len(other.asked)) == (1, 1)

    async def test_one_that_is_not_there_is_not_asked_again(self, other, endpoint, queue_for):
        with refused_url() as url:
            async with queue_for(endpoint(f"{url}/v1", "a", priority=1), endpoint(other, "b")) as queue:
                for _ in range(3):
                    assert (await (await queue.submit(HELLO)).wait()).executed_on == "b"
                [state, _] = queue.executors.get("openai").endpoints.states()
        assert state.health is oq.Health.RESTING
        assert "cannot be reached" in state.last_error

    async def test_a_request_that_is_refused_is_refused_everywhere(self, fake, other, endpoint, queue_for):
        fake.script(faults.refuse(400, "No."))
        async with queue_for(endpoint(fake, "a", priority=1), endpoint(other, "b")) as queue:
            assert (await (await queue.submit(HELLO)).wait()).failure.type == "BadRequest"
            assert queue.executors.get("openai").endpoints.states()[0].health is oq.Health.HEALTHY
        assert not other.asked

    async def test_nobody_takes_over_once_something_was_said(self, fake, other, endpoint, queue_for):
        fake.script(faults.cut(after=3))
        async with queue_for(endpoint(fake, "a", priority=1), endpoint(other, "b")) as queue:
            task = await (await queue.submit(HELLO)).wait()
        assert (task.status, task.executed_on) == (oq.Status.FAILED, "a")
        assert not other.asked

    async def test_a_pinned_task_stays_where_it_is(self, fake, other, queue_for):
        fake.script(faults.refuse(500))
        async with queue_for(fake, other) as queue:
            task = await (await queue.submit(chat("m", "x", endpoint="a", retry=oq.NO_RETRY))).wait()
        assert (task.status, task.failure.type) == (oq.Status.FAILED, "Http500")
        assert not other.asked

    async def test_where_a_model_is_missing_is_remembered(self, fake, other, endpoint, queue_for):
        fake.models = ["n"]
        async with queue_for(endpoint(fake, "a", priority=1), endpoint(other, "b")) as queue:
            for _ in range(3):
                assert (await (await queue.submit(HELLO)).wait()).executed_on == "b"
            assert (await (await queue.submit(chat("n", "x"))).wait()).executed_on == "a"
        assert [body["model"] for body in fake.bodies] == ["m", "n"]

    async def test_a_key_that_is_not_set_is_no_reason_to_send_anything(self, fake, other, endpoint, queue_for):
        async with queue_for(endpoint(fake, "a", priority=1, api_key_env="NOT_SET"), endpoint(other, "b")) as queue:
            assert (await (await queue.submit(HELLO)).wait()).executed_on == "b"
        assert not fake.asked

    async def test_embeddings_go_elsewhere_as_well(self, fake, other, endpoint, queue_for):
        fake.script(faults.cut())
        async with queue_for(endpoint(fake, "a", priority=1), endpoint(other, "b")) as queue:
            assert (await (await queue.submit(embed("m", "x"))).wait()).executed_on == "b"


class TestRest:
    async def test_a_request_that_is_refused_says_that_the_endpoint_is_well(self, fake, queue_for):
        fake.script(faults.refuse(500), faults.refuse(500), faults.refuse(400), faults.refuse(500), faults.refuse(500))
        async with queue_for(fake, workers=1) as queue:
            for handle in await queue.submit_many([HELLO] * 5):
                await handle.wait()
            [state] = queue.executors.get("openai").endpoints.states()
        assert state.health is oq.Health.HEALTHY

    async def test_one_that_fails_three_times_rests(self, fake, queue_for):
        fake.script(*[faults.refuse(500)] * 3)
        async with queue_for(fake, workers=1) as queue:
            for handle in await queue.submit_many([HELLO] * 3):
                await handle.wait()
            [state] = queue.executors.get("openai").endpoints.states()
        assert (state.health, state.last_error) == (
            oq.Health.RESTING,
            "endpoint default failed (500): This error is simulated (500)",
        )

    async def test_while_one_is_rate_limited_others_go_on(self, fake, other, endpoint, queue_for):
        fake.set_model("m", faults.rate_limited(3600))
        async with queue_for(endpoint(fake, "a", priority=1, concurrency=1), endpoint(other, "b")) as queue:
            with trio.fail_after(20):
                tasks = [await handle.wait() for handle in await queue.submit_many([chat("m", "x")] * 20)]
        assert {task.executed_on for task in tasks} == {"b"}
        assert len(fake.asked) == 1

    async def test_it_is_asked_again_when_its_rest_is_over(self, fake, queue_for):
        fake.script(faults.rate_limited(0.2))
        async with queue_for(fake) as queue:
            first = await queue.submit(chat("m", "x", retry=AT_ONCE))
            with trio.fail_after(20):
                await first.wait()
                assert (await (await queue.submit(HELLO)).wait()).status is oq.Status.COMPLETED
        first, again, _ = fake.asked
        assert again.arrived_at - first.arrived_at >= 0.2

    async def test_before_that_it_is_looked_at(self, fake, queue_for):
        fake.script(faults.rate_limited(0.1))
        async with queue_for(fake) as queue:
            with trio.fail_after(20):
                await (await queue.submit(chat("m", "x", retry=AT_ONCE))).wait()
        assert "/v1/models" in [request.path for request in fake.server.requests]

    async def test_a_task_does_not_wait_for_a_rest_when_another_endpoint_may_be_free_before(
        self, fake, other, endpoint, queue_for
    ):
        fake.set_model("m", faults.rate_limited(3600))
        other.script(faults.stall())
        async with queue_for(endpoint(fake, "a", priority=1), endpoint(other, "b", concurrency=1)) as queue:
            first = await queue.submit(chat("m", "x", endpoint="b"))
            with trio.fail_after(20):
                await other.wait_asked(1)
                second = await queue.submit(chat("m", "x"))
                await fake.wait_asked(1)
                await first.cancel()
                assert (await second.wait()).executed_on == "b"

    async def test_when_all_rest_the_first_that_is_over_counts(self, fake, other, opened, failure_of):
        fake.script(faults.rate_limited(60))
        other.script(faults.rate_limited(30))
        async with opened(fake, other) as registry:
            assert (await failure_of(registry, HELLO)).after == 30.0

    async def test_a_key_that_is_not_set_is_no_reason_not_to_look(self, fake, endpoint, opened, failure_of):
        async with opened(endpoint(fake, "a", api_key_env="NOT_SET"), health_check_interval=0.05) as registry:
            await failure_of(registry, HELLO)
            await looked_at(fake, 2)
            [state] = registry.get("openai").endpoints.states()
        assert state.health is oq.Health.HEALTHY

    async def test_endpoints_that_are_used_are_looked_at_beside_the_queue(self, fake, opened):
        async with opened(fake, health_check_interval=0.05) as registry:
            await registry.execute(HELLO)
            await looked_at(fake, 3)
        assert len(fake.asked) == 1

    @pytest.mark.parametrize(
        ("status", "health"), [(500, oq.Health.RESTING), (404, oq.Health.HEALTHY), (401, oq.Health.HEALTHY)]
    )
    async def test_any_answer_below_500_is_one_of_a_server_that_works(self, fake, opened, status, health):
        async with opened(fake, health_check_interval=0.05) as registry:
            await registry.execute(HELLO)
            fake.always = faults.refuse(status)
            await looked_at(fake, 1)
            await trio.testing.wait_all_tasks_blocked(0.005)
            [state] = registry.get("openai").endpoints.states()
        assert state.health is health


async def looked_at(fake, number):
    """Return when so many looks have been answered."""
    count = 0
    with trio.fail_after(20):
        while len(looks := [request for request in fake.server.requests if request.path == "/v1/models"]) < number:
            count = max(count, len(fake.server.requests)) + 1
            await fake.server.wait_requests(count)
        for request in looks:
            await request.closed.wait()


@frozen(kw_only=True)
class Wish:
    model: str
    endpoint: str


class Gateway:
    """An executor that hands its tasks over, as oq-ollama does, and whose pools are those of the other one."""

    name, version, description = "gateway", "1", "hands over"
    actions: ClassVar = {"chat": oq.Action(payload=Wish, summary="Hand over", streams=True, result=oq.ChatResult)}

    def lane(self, action, payload, wanted):
        return str(oq.Lane(payload.model, own=payload.endpoint))

    def pools(self):
        return {}

    def lane_pools(self, lane):
        return oq.LanePools(choices=((f"openai:{oq.Lane.parse(lane).own}",),))

    def on_pools_change(self, tell):
        pass

    async def execute(self, task, ctx):
        payload = {
            "model": "other-name",
            "messages": [{"role": "user", "content": "Hi"}],
            "endpoint": task.payload.endpoint,
        }
        return await ctx.delegate("openai", "chat", payload)


class TestDelegation:
    async def test_another_executor_can_hand_its_work_over(self, fake, other, queue_for):
        async with queue_for(fake, other, others=[Gateway()]) as queue:
            handle = await queue.submit(
                oq.TaskSpec(executor="gateway", action="chat", payload=Wish(model="m", endpoint="b"))
            )
            async with handle.stream() as chunks:
                text = "".join([chunk.text async for chunk in chunks])
            task = await handle.wait()
        assert text == task.result.message.content == "This is a simulated answer of other-name to: Hi"
        assert (task.executed_on, task.lane) == ("b", "m [b]")
        assert (len(fake.asked), len(other.asked)) == (0, 1)

    async def test_the_model_may_have_another_name_here(self, fake, other, endpoint, queue_for):
        near, far = endpoint(fake, "a", models=("m",)), endpoint(other, "b", models=("other-name",))
        async with queue_for(near, far, others=[Gateway()]) as queue:
            spec = oq.TaskSpec(executor="gateway", action="chat", payload=Wish(model="m", endpoint="b"))
            assert (await (await queue.submit(spec)).wait()).executed_on == "b"

    async def test_its_faults_are_those_of_the_task(self, fake, queue_for):
        fake.script(faults.rate_limited(7))
        async with queue_for(fake, others=[Gateway()]) as queue:
            spec = oq.TaskSpec(
                executor="gateway", action="chat", payload=Wish(model="m", endpoint="default"), retry=oq.NO_RETRY
            )
            failure = (await (await queue.submit(spec)).wait()).failure
        assert (failure.type, failure.retry_after) == ("RateLimited", 7.0)

    async def test_a_payload_that_is_bad_is_told_by_its_path(self, fake, queue_for):
        async with queue_for(fake, others=[Gateway()]) as queue:
            spec = oq.TaskSpec(
                executor="gateway", action="chat", payload=Wish(model="m", endpoint="x"), retry=oq.NO_RETRY
            )
            handle = await queue.submit(spec)
            await trio.testing.wait_all_tasks_blocked()
            assert not (await handle.refresh()).final  # there is no such pool, so it waits
            await handle.cancel()
        assert not fake.asked
