"""Executors by name: looked up, checked, and run without a queue."""

import math
from datetime import UTC, datetime

import pytest
import trio
import trio.testing
from attrs import evolve, frozen
from trio.testing import wait_all_tasks_blocked

from oq.codec import encode
from oq.errors import (
    DuplicateExecutor,
    InvalidExecutor,
    InvalidTask,
    PermanentError,
    PluginError,
    UnknownAction,
    UnknownExecutor,
)
from oq.executor import Action, Chunk, LanePools
from oq.registry import Registry
from oq.task import Priority, Status, TaskSpec
from oq.testing import ScriptedExecutor

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@frozen
class Say:
    text: str
    model: str | None = None


@frozen
class Odd:
    thing: complex


class Echo:
    """Says what it is told, word by word; `run` may be replaced."""

    name = "echo"
    version = "1.2"
    description = "Says what it is told"

    def __init__(self, name="echo", **actions):
        self.name = name
        self.actions = actions or {"say": Action(payload=Say, summary="Say it", streams=True)}
        self.tasks = []

    async def execute(self, task, ctx):
        self.tasks.append(task)
        for word in task.payload.text.split():
            await ctx.emit(word)
        return task.payload.text


class Scripted(Echo):
    """Does what it is given."""

    def __init__(self, run, name="echo"):
        super().__init__(name)
        self.run = run

    async def execute(self, task, ctx):
        return await self.run(task, ctx)


class Resource(Echo):
    """Notes when its resource is taken and given back."""

    def __init__(self, name, log, error=None):
        super().__init__(name)
        self.log = log
        self.error = error

    async def __aenter__(self):
        await trio.lowlevel.checkpoint()
        if self.error:
            raise self.error
        self.log.append(f"{self.name} opened")
        return self

    async def __aexit__(self, *_):
        await trio.lowlevel.checkpoint()
        self.log.append(f"{self.name} closed")


def say(text="hello world", **fields):
    return TaskSpec(executor="echo", action="say", payload={"text": text}, **fields)


@pytest.fixture
def registry():
    return Registry([Echo()])


class TestNames:
    def test_an_executor_is_found_by_its_name(self, registry):
        assert registry.get("echo").name == "echo"
        assert "echo" in registry

    def test_an_executor_that_was_taken_out_is_unknown(self, registry):
        registry.unregister("echo")
        assert "echo" not in registry
        for ask in (lambda: registry.get("echo"), lambda: registry.unregister("echo"), lambda: registry.check(say())):
            with pytest.raises(UnknownExecutor):
                ask()

    def test_an_executor_may_come_back_with_other_actions(self, registry):
        registry.unregister("echo")
        registry.register(Echo(shout=Action(payload=Say, summary="Shout it")))
        assert registry.check(evolve(say(), action="shout")).value == Say("hello world")
        with pytest.raises(UnknownAction):
            registry.check(say())

    def test_a_name_can_be_taken_once(self, registry):
        first = registry.get("echo")
        with pytest.raises(DuplicateExecutor, match="named 'echo' is registered already"):
            registry.register(Echo(whisper=Action(payload=Say, summary="Whisper it")))
        assert registry.get("echo") is first
        with pytest.raises(UnknownAction):
            registry.action("echo", "whisper")

    def test_an_unknown_executor_is_told_with_the_known_ones(self, registry):
        registry.register(Echo("alpha"))
        with pytest.raises(
            UnknownExecutor, match=r"no executor 'ollama' is installed \(there are: alpha, echo\); install oq-ollama"
        ):
            registry.get("ollama")

    def test_an_unknown_action_is_told_with_the_known_ones(self, registry):
        with pytest.raises(UnknownAction, match=r"'echo' has no action 'shout' \(it has: say\)"):
            registry.action("echo", "shout")

    def test_the_list_is_in_the_order_of_names_and_tells_what_each_can_do(self):
        registry = Registry(
            [Echo("zeta"), Echo("alpha", b=Action(payload=Say, summary="B"), a=Action(payload=Say, summary="A"))]
        )
        assert [info.name for info in registry.list()] == ["alpha", "zeta"]
        assert registry.list()[0].actions == {"a": "A", "b": "B"}
        assert list(registry.list()[0].actions) == ["a", "b"]
        assert (registry.list()[1].version, registry.list()[1].description) == ("1.2", "Says what it is told")

    def test_what_is_said_of_an_action_can_be_asked_for(self, registry):
        assert registry.action("echo", "say").streams


class TestChanges:
    def test_everybody_who_asked_is_told_of_an_executor_that_comes_or_goes(self, registry):
        told: list[str] = []
        registry.on_change(lambda: told.append("one"))
        registry.on_change(lambda: told.append("two"))
        registry.register(Echo("other"))
        assert told == ["one", "two"]
        registry.unregister("other")
        assert told == ["one", "two"] * 2

    def test_they_find_the_change_made_when_they_are_told(self, registry):
        seen = []
        registry.on_change(lambda: seen.append("other" in registry))
        registry.register(Echo("other"))
        registry.unregister("other")
        assert seen == [True, False]

    def test_nobody_is_told_of_an_executor_that_was_refused(self, registry):
        told: list[bool] = []
        registry.on_change(lambda: told.append(True))
        with pytest.raises(DuplicateExecutor):
            registry.register(Echo())
        assert told == []

    def test_they_are_told_when_an_executor_says_that_its_pools_changed(self, registry):
        class Pooled(Echo):
            def pools(self):
                return {}

            def lane_pools(self, lane):
                return LanePools()

            def on_pools_change(self, tell):
                self.tell = tell

        pooled = Pooled("pooled")
        registry.register(pooled)
        told: list[bool] = []
        registry.on_change(lambda: told.append(True))
        pooled.tell()
        assert told == [True]


class TestInvalidExecutors:
    @pytest.mark.parametrize("name", ["all", "queue", "executor"])
    def test_names_of_oqs_own_pools_are_taken(self, name):
        with pytest.raises(InvalidExecutor, match="begins the names of oq's own pools"):
            Registry([ScriptedExecutor(name=name)])

    @pytest.mark.parametrize("name", ["", "Echo", "1st", "with space", "a/b", "ünder", "x" * 65, None, 7])
    def test_a_name_is_lower_case_letters_digits_underscore_and_hyphen(self, name):
        with pytest.raises(InvalidExecutor, match="the name must be lower-case letters, digits, _ and -"):
            Registry([Echo(name)])

    @pytest.mark.parametrize("name", ["a", "gpt-4_mini", "x" * 64])
    def test_such_a_name_is_taken(self, name):
        assert name in Registry([Echo(name)])

    @pytest.mark.parametrize("missing", ["version", "description", "actions", "execute"])
    def test_an_attribute_that_is_missing_is_named(self, missing):
        attributes = {"name": "echo", "version": "1", "description": "d", "actions": {}, "execute": Echo.execute}
        del attributes[missing]
        with pytest.raises(InvalidExecutor, match=f"'echo': it has no attribute '{missing}'"):
            Registry([type("Partial", (), attributes)()])

    def test_what_has_no_name_is_no_executor(self):
        with pytest.raises(InvalidExecutor):
            Registry([object()])

    @pytest.mark.parametrize("actions", [["say"], None, "say"])
    def test_its_actions_are_a_mapping(self, actions):
        executor = Echo()
        executor.actions = actions
        with pytest.raises(InvalidExecutor, match="its actions must be a mapping"):
            Registry([executor])

    def test_each_of_them_is_an_action(self):
        with pytest.raises(InvalidExecutor, match="'say' is not an Action"):
            Registry([Echo(say=Say)])

    @pytest.mark.parametrize("payload", [dict, None, "Say", Say("x")])
    def test_a_payload_class_is_an_attrs_class(self, payload):
        with pytest.raises(InvalidExecutor, match=r"the payload of 'say' cannot be stored: .* is not an attrs class"):
            Registry([Echo(say=Action(payload=payload, summary="Say it"))])

    def test_a_payload_class_has_fields_that_can_be_stored(self):
        with pytest.raises(InvalidExecutor, match="the payload of 'odd' cannot be stored: thing has the type complex"):
            Registry([Echo(odd=Action(payload=Odd, summary="Be odd"))])

    def test_an_executor_that_was_refused_leaves_nothing_behind(self, registry):
        registry.unregister("echo")
        with pytest.raises(InvalidExecutor):
            registry.register(Echo(say=Action(payload=Say, summary="Say it"), odd=Action(payload=Odd, summary="Odd")))
        assert registry.list() == []
        with pytest.raises(UnknownExecutor):
            registry.check(say())


class TestCheck:
    def test_a_payload_becomes_an_instance_and_bytes_that_say_the_same(self, registry):
        checked = registry.check(say())
        assert checked.value == Say("hello world")
        assert registry.decode_payload("echo", "say", checked.data) == checked.value

    def test_a_bad_payload_is_refused_with_every_path(self, registry):
        with pytest.raises(InvalidTask) as caught:
            registry.check(evolve(say(), payload={"text": 7, "modle": "m"}))
        assert [str(problem) for problem in caught.value.problems] == [
            "payload.text: expected a string, got 7",
            "payload: unknown field 'modle'; did you mean 'model'?",
        ]

    def test_the_lane_is_the_executors_name_or_the_one_that_is_wished_for(self, registry):
        assert registry.check(say()).lane == "echo"
        assert registry.check(say(lane="slow")).lane == "slow"

    def test_an_executor_may_choose_the_lane_and_is_told_the_wish(self):
        class Choosing(Echo):
            def lane(self, action, payload, wanted):
                return f"{action}-{payload.text}-{wanted}"

        assert Registry([Choosing()]).check(say("hi", lane="slow")).lane == "say-hi-slow"

    def test_an_executor_may_refuse_a_payload_that_fits_its_class(self):
        class Picky(Echo):
            def check(self, action, payload):
                if payload.text == "no":
                    raise InvalidTask("is not welcome", "payload.text")

        registry = Registry([Picky()])
        assert registry.can_execute(say("yes"))
        with pytest.raises(InvalidTask, match=r"payload\.text: is not welcome"):
            registry.check(say("no"))

    def test_a_task_is_described_in_one_short_line(self):
        echo = Echo(say=Action(payload=Say, summary="Say it", describe=lambda payload: payload.text))
        registry = Registry([echo])
        assert registry.check(say(" a\n b\tc ")).summary == "a b c"
        assert registry.check(say("x " * 1000)).summary == ("x " * 100)

    def test_a_task_that_nobody_describes_has_no_summary(self, registry):
        assert registry.check(say()).summary == ""

    def test_the_model_that_a_payload_names_is_known(self, registry):
        assert registry.check(evolve(say(), payload=Say("hi", model="qwen3"))).model == "qwen3"
        assert registry.check(say()).model is None

    @pytest.mark.parametrize(
        ("spec", "possible"),
        [
            (say(), True),
            (evolve(say(), executor="ollama"), False),
            (evolve(say(), action="shout"), False),
            (evolve(say(), payload={}), False),
        ],
    )
    def test_it_can_be_asked_whether_a_task_could_run(self, registry, spec, possible):
        assert registry.can_execute(spec) is possible

    def test_a_stored_payload_that_no_longer_fits_is_an_invalid_task(self, registry):
        with pytest.raises(InvalidTask, match="payload: the stored payload does not fit echo/say any more"):
            registry.decode_payload("echo", "say", encode({"words": 3}))

    def test_a_stored_payload_of_an_executor_that_is_gone_is_told(self, registry):
        with pytest.raises(UnknownExecutor):
            registry.decode_payload("ollama", "chat", b"")
        with pytest.raises(UnknownAction):
            registry.decode_payload("echo", "shout", b"")

    def test_an_action_may_be_added_later(self):
        echo = Echo()
        registry = Registry([echo])
        echo.actions["shout"] = Action(payload=Say, summary="Shout it")
        assert registry.can_execute(evolve(say(), action="shout"))


class TestExecute:
    async def test_a_task_runs_here_and_now_and_gives_its_result(self, registry):
        assert await registry.execute(say()) == "hello world"

    async def test_the_executor_gets_a_task_as_from_a_queue(self, registry):
        spec = say(priority="high", tags=("x",), metadata={"k": 1}, id="mine", queue="mail", lane="slow")
        await registry.execute(spec, clock=lambda: NOON)
        (task,) = registry.get("echo").tasks
        assert (task.id, task.tags, task.metadata, task.queue, task.lane) == ("mine", ("x",), {"k": 1}, "mail", "slow")
        assert (task.status, task.priority, task.attempt, task.epoch) == (Status.RUNNING, Priority.HIGH, 1, 1)
        assert (task.submitted_at, task.started_at, task.attempts) == (NOON, NOON, ())
        assert task.payload == Say("hello world")

    async def test_the_context_tells_when_it_began_and_when_it_must_end(self, autojump_clock):
        seen = []

        async def run(task, ctx):
            await trio.lowlevel.checkpoint()
            seen.append((ctx.started_at, ctx.deadline - trio.current_time(), ctx.attempt, ctx.units))

        registry = Registry([Scripted(run)])
        await registry.execute(say(timeout=5.0), clock=lambda: NOON)
        await registry.execute(say(), clock=lambda: NOON)
        await registry.execute(say(timeout=math.inf), clock=lambda: NOON)
        assert seen == [(NOON, 5.0, 1, ()), (NOON, math.inf, 1, ()), (NOON, math.inf, 1, ())]

    async def test_what_the_executor_raises_comes_out(self):
        async def run(task, ctx):
            raise PermanentError("no such file")

        with pytest.raises(PermanentError, match="no such file"):
            await Registry([Scripted(run)]).execute(say())

    async def test_a_bad_payload_never_reaches_the_executor(self, registry):
        with pytest.raises(InvalidTask):
            await registry.execute(evolve(say(), payload={}))
        assert registry.get("echo").tasks == []

    async def test_a_task_that_is_too_slow_is_stopped(self, autojump_clock):
        stopped = []

        async def run(task, ctx):
            try:
                await trio.sleep_forever()
            finally:
                stopped.append(trio.current_time())

        began = trio.current_time()
        with pytest.raises(trio.TooSlowError):
            await Registry([Scripted(run)]).execute(say(timeout=5.0))
        assert stopped == [began + 5]

    async def test_chunks_that_nobody_reads_are_let_go(self, registry):
        with trio.fail_after(5):
            assert await registry.execute(say("x " * 1000))

    async def test_emitting_is_a_checkpoint(self, registry):
        with trio.CancelScope() as scope:
            scope.cancel()
            await registry.execute(say())
        assert scope.cancelled_caught


class TestStream:
    async def test_every_chunk_arrives_in_order_with_its_number(self, registry):
        async with registry.stream(say("a b c")) as chunks:
            got = [chunk async for chunk in chunks]
        assert got == [Chunk(text=text, epoch=1, index=index) for index, text in enumerate("abc")]

    async def test_a_chunk_with_data_arrives_as_it_is(self):
        async def run(task, ctx):
            await ctx.emit(Chunk(kind="tool_call", data={"name": "f"}))

        async with Registry([Scripted(run)]).stream(say()) as chunks:
            got = [chunk async for chunk in chunks]
        assert got == [Chunk(kind="tool_call", data={"name": "f"}, epoch=1, index=0)]

    async def test_the_executor_waits_for_a_reader_that_is_slow(self):
        emitted = []

        async def run(task, ctx):
            for number in range(3):
                await ctx.emit(str(number))
                emitted.append(number)

        async with Registry([Scripted(run)]).stream(say()) as chunks:
            await trio.testing.wait_all_tasks_blocked()
            assert emitted == []
            await anext(chunks)
            await trio.testing.wait_all_tasks_blocked()
            assert emitted == [0]

    async def test_the_executors_error_comes_out_after_its_chunks_and_in_no_group(self):
        async def run(task, ctx):
            await ctx.emit("before")
            raise PermanentError("broke")

        got = []
        with pytest.raises(PermanentError, match="broke"):
            async with Registry([Scripted(run)]).stream(say()) as chunks:
                got += [chunk.text async for chunk in chunks]
        assert got == ["before"]

    async def test_a_bad_payload_comes_out_in_no_group_either(self, registry):
        with pytest.raises(InvalidTask):
            async with registry.stream(evolve(say(), payload={})) as chunks:
                assert [chunk async for chunk in chunks] == []

    async def test_so_does_what_the_block_raises(self, registry):
        with pytest.raises(KeyError, match="mine"):
            async with registry.stream(say()):
                raise KeyError("mine")

    async def test_what_the_block_raises_is_told_rather_than_what_the_executor_raised(self):
        async def run(task, ctx):
            raise PermanentError("broke")

        with pytest.raises(KeyError, match="mine"):  # noqa: PT012  # the executor comes first
            async with Registry([Scripted(run)]).stream(say()):
                await trio.testing.wait_all_tasks_blocked()
                raise KeyError("mine")

    async def test_leaving_the_block_early_stops_the_run(self):
        stopped = []

        async def run(task, ctx):
            try:
                while True:
                    await ctx.emit("tick")
            finally:
                stopped.append(True)

        with trio.fail_after(5):
            async with Registry([Scripted(run)]).stream(say()) as chunks:
                async for _ in chunks:
                    break
        assert stopped == [True]

    async def test_a_stream_that_is_too_slow_ends_with_the_error_of_the_time_out(self, autojump_clock):
        async def run(task, ctx):
            await ctx.emit("first")
            await trio.sleep_forever()

        got = []
        with pytest.raises(trio.TooSlowError):
            async with Registry([Scripted(run)]).stream(say(timeout=5.0)) as chunks:
                got += [chunk.text async for chunk in chunks]
        assert got == ["first"]

    async def test_it_can_be_cancelled_from_outside(self):
        async def run(task, ctx):
            await trio.sleep_forever()

        with trio.CancelScope() as scope:
            async with Registry([Scripted(run)]).stream(say()) as chunks:
                scope.cancel()
                await anext(chunks)
        assert scope.cancelled_caught


class TestOpened:
    async def test_each_resource_is_taken_once_before_and_given_back_once_after(self):
        log: list[str] = []
        registry = Registry([Resource("a", log), Echo(), Resource("b", log)])
        async with registry.opened():
            assert log == ["a opened", "b opened"]
            assert await registry.execute(say()) == "hello world"
        assert sorted(log[2:]) == ["a closed", "b closed"]

    async def test_they_are_given_back_when_the_block_fails_and_its_error_comes_out_in_no_group(self):
        log: list[str] = []
        with pytest.raises(KeyError, match="mine"):
            async with Registry([Resource("a", log)]).opened():
                raise KeyError("mine")
        assert log == ["a opened", "a closed"]

    async def test_when_one_cannot_be_taken_the_others_are_given_back(self):
        log: list[str] = []
        registry = Registry([Resource("a", log), Resource("b", log, OSError("no such device")), Resource("c", log)])
        with pytest.raises(OSError, match="no such device"):
            async with registry.opened():
                raise AssertionError
        assert log == ["a opened", "a closed"]

    async def test_they_are_given_back_when_the_block_is_cancelled(self):
        log: list[str] = []

        class Guarded(Resource):
            async def __aexit__(self, *args):
                with trio.CancelScope(shield=True):
                    await super().__aexit__(*args)

        with trio.CancelScope() as scope:
            async with Registry([Guarded("a", log)]).opened():
                scope.cancel()
                await trio.lowlevel.checkpoint()
        assert log == ["a opened", "a closed"]

    async def test_it_can_be_opened_again_after_it_was_closed(self):
        log: list[str] = []
        registry = Registry([Resource("a", log)])
        for _ in range(2):
            async with registry.opened():
                pass
        assert log == ["a opened", "a closed"] * 2

    async def test_it_cannot_be_opened_twice_at_a_time(self):
        log: list[str] = []
        registry = Registry([Resource("a", log)])
        async with registry.opened():
            with pytest.raises(RuntimeError, match="open already"):
                async with registry.opened():
                    raise AssertionError
            with pytest.raises(InvalidExecutor):
                registry.register(Resource("b", log))
        assert log == ["a opened", "a closed"]

    async def test_one_that_breaks_while_it_is_open_ends_the_block_with_its_name(self):
        """What goes on beside the attempts must not stop without a word."""

        class Breaking(Echo):
            async def __aenter__(self):
                self._nursery_manager = trio.open_nursery()
                nursery = await self._nursery_manager.__aenter__()
                nursery.start_soon(self._break)

            async def __aexit__(self, *error):
                return await self._nursery_manager.__aexit__(*error)

            async def _break(self):
                await wait_all_tasks_blocked()
                raise ZeroDivisionError("by mistake")

        registry = Registry([Breaking("frail")])
        with pytest.raises(PluginError, match=r"executor 'frail' broke while it was open: ZeroDivisionError") as caught:
            async with registry.opened():
                await trio.sleep_forever()
        assert caught.value.__cause__ is not None

    async def test_an_executor_with_resources_is_registered_before(self):
        registry = Registry()
        async with registry.opened():
            with pytest.raises(InvalidExecutor, match="'a': it holds resources, so it must be registered before"):
                registry.register(Resource("a", []))
            registry.register(Echo())
        registry.register(Resource("a", []))
        assert "echo" in registry
        assert "a" in registry
