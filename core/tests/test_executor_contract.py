"""Every executor that comes with oq passes the contract, and the contract finds what is wrong with others."""

from __future__ import annotations

import math
import re
import threading
import time
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from attrs import evolve, field, frozen

from oq import Action, Chunk, Functions, InvalidTask, LanePools, PermanentError, Priority, RetryableError, TaskSpec
from oq.executor import Urgent
from oq.testing import ExecutorContract, ExecutorExamples, Scripted, ScriptedExecutor, virtual_queue


class TestFunctions(ExecutorContract):
    """The executor `python`, which each queue has one of."""

    def make_executor(self, directory):
        functions = Functions()

        @functions.task()
        async def add(a: int, *more: int, scale: float = 1.0) -> float:
            """Add numbers."""
            return (a + sum(more)) * scale

        @functions.task()
        async def greet(name: str | None = None, **words: str) -> dict[str, str]:
            await trio.lowlevel.checkpoint()
            return {"hello": name or "you", **words}

        @functions.task()
        async def divide(a: float, b: float) -> float:
            return a / b

        @functions.task()
        async def wait(seconds: float = math.inf) -> None:
            await trio.sleep(seconds)

        @functions.task()
        async def forget(anything) -> None:
            pass

        return functions

    def examples(self, directory):
        def call(name, /, **payload):
            return TaskSpec(executor="python", action=name, payload=payload)

        return ExecutorExamples(
            quick=call("add", a=1, more=[2, 3], scale=0.5),
            others=[
                call("greet"),
                call("greet", name="Ann", words={"bye": "Bob"}),
                call("divide", a=1.0, b=2.0),
                call("wait", seconds=0.0),
                call("forget", anything={"deep": [1, None, "x"]}),
            ],
            failing=call("divide", a=1.0, b=0.0),
            endless=call("wait"),
            bad_payloads=[
                ("add", {"a": "1"}, "payload.a"),
                ("add", {"a": 1, "more": [2, "3"]}, "payload.more[1]"),
                ("wait", {"until": "noon"}, "payload"),
            ],
        )

    def open_queue(self, *executors, workers):
        """A queue whose own functions make way for the executor under test, as there is one of the name."""

        @asynccontextmanager
        async def opened():
            async with virtual_queue(workers=workers) as queue:
                queue.executors.unregister("python")
                for executor in executors:
                    queue.executors.register(executor)
                yield queue

        return opened()


class TestScripted(ExecutorContract):
    """The scripted executor, with pools and lanes, and a behaviour for each label."""

    def make_executor(self, directory):
        async def behave(run):
            match run.label:
                case "words":
                    for word in ("one", "two", "three"):
                        await run.ctx.emit(word)
                    await run.ctx.emit(Chunk(kind="progress", data={"done": 1.0}))
                case "fail":
                    raise PermanentError("the disk is full; make room", type="DiskFull", details={"free": 0})
                case "endless":
                    await run.ctx.emit("working")
                    await trio.sleep_forever()
            return run.task.payload.value

        return ScriptedExecutor(
            behave=behave,
            pools={"gpu": 100, "one": 100, "two": 0},
            lanes={"heavy": LanePools(needs=("gpu",), choices=(("two",), ("one",)))},
        )

    def examples(self, directory):
        def spec(label, value=None, **fields):
            return TaskSpec(executor="scripted", action="run", payload=Scripted(label=label, value=value), **fields)

        return ExecutorExamples(
            quick=spec("quick", {"a": [1, 2.5, None, "x"]}),
            others=[spec("heavy", lane="heavy")],
            streaming=spec("words"),
            failing=spec("fail"),
            endless=spec("endless"),
            bad_payloads=[("run", {"label": 7}, "payload.label"), ("run", {"labl": "x"}, "payload")],
        )


@frozen(kw_only=True)
class Say:
    """What the model of a good executor needs; each planted fault is one thing that differs from it."""

    text: str
    times: int = 1


@frozen(kw_only=True)
class Said:
    text: str


class Sound:
    """An executor without a fault, with everything that an executor may have."""

    name = "sound"
    version = "1.0"
    description = "Says things"
    actions = {  # noqa: RUF012  # as executors have it
        "say": Action(payload=Say, summary="Say it", streams=True, result=Said, describe=lambda say: say.text),
        "keep": Action(payload=Say, summary="Keep it to oneself"),
    }

    def __init__(self):
        self.opened = False
        self.tell = None

    async def __aenter__(self):
        assert not self.opened
        self.opened = True
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(self, *_):
        self.opened = False

    def check(self, action, payload):
        if payload.times < 0:
            raise InvalidTask("must not be negative", "payload.times")

    def lane(self, action, payload, wanted):
        return wanted or "voice"

    def pools(self):
        return {"mouth": 50, "other mouth": 0}

    def lane_pools(self, lane):
        return LanePools(choices=(("other mouth",), ("mouth",))) if lane in ("voice", "wished-for") else None

    def on_pools_change(self, tell):
        self.tell = tell

    async def execute(self, task, ctx):
        assert self.opened
        if task.payload.text == "fail":
            raise self.failure()
        if task.action == "keep":
            return await self.keep(task.payload, ctx)
        for _ in range(task.payload.times):
            await ctx.emit(task.payload.text)
        if task.payload.text == "endless":
            await self.endless(ctx)
        return Said(text=task.payload.text)

    async def keep(self, payload, ctx):
        await trio.lowlevel.checkpoint()
        return payload.text

    async def endless(self, ctx):
        await trio.sleep_forever()

    def failure(self):
        return PermanentError("the voice is gone; drink tea", type="Hoarse", details={"degree": 2})


def spec_of(action, **payload):
    return TaskSpec(executor="sound", action=action, payload=payload)


EXAMPLES = ExecutorExamples(
    quick=spec_of("keep", text="hello"),
    streaming=spec_of("say", text="hi", times=3),
    failing=spec_of("say", text="fail"),
    endless=spec_of("say", text="endless"),
    bad_payloads=[("say", {"text": "hi", "times": -1}, "payload.times"), ("keep", {"text": 7}, "payload.text")],
)


class TestSound(ExecutorContract):
    def make_executor(self, directory):
        return Sound()

    def examples(self, directory):
        return EXAMPLES


class Relay:
    """Lets another executor do the work, and adds a word that it finds around it."""

    name = "relay"
    version = "1.0"
    description = "Passes on what it is told"

    def __init__(self, words):
        self.words = words
        self.actions = {"pass": Action(payload=Say, summary="Pass it on", streams=True, result=Said)}

    def pools(self):
        return {}

    def lane_pools(self, lane):
        return LanePools(needs=("mouth",), urgent=(Urgent(priority=Priority.HIGH, choices=(("mouth",),)),))

    def on_pools_change(self, tell):
        pass

    async def execute(self, task, ctx):
        self.words.append(task.payload.text)
        said = await ctx.delegate("sound", "say", {"text": task.payload.text, "times": task.payload.times})
        assert isinstance(said, Said)
        return said


class TestRelay(ExecutorContract):
    """One that needs something around it and another executor beside it."""

    @asynccontextmanager
    async def surroundings(self, directory):
        self.words = []
        yield
        assert self.words is not None

    def beside(self, directory):
        return [Sound()]

    def make_executor(self, directory):
        return Relay(self.words)

    def examples(self, directory):
        def relayed(**payload):
            return TaskSpec(executor="relay", action="pass", payload=payload)

        return ExecutorExamples(
            quick=relayed(text="hello"),
            streaming=relayed(text="hi", times=3),
            failing=relayed(text="fail"),
            endless=relayed(text="endless"),
            bad_payloads=[("pass", {}, "payload.text")],
        )


def contract_of(executor_class, examples=EXAMPLES, **limits):
    """The contract over a faulty executor, which is quick to lose its patience."""

    class Planted(ExecutorContract):
        patience = 1.0
        cancel_within = 0.1
        give_up_after = 10.0

        def make_executor(self, directory):
            return executor_class()

        def examples(self, directory):
            return examples

    for name, value in limits.items():
        setattr(Planted, name, value)
    return Planted()


FAULTS = []


def caught_by(test, sentence="", *, examples=EXAMPLES, **limits):
    """Say of a faulty executor by which test it is caught, and what that says."""

    def plant(executor_class):
        case = (executor_class, test, sentence, examples, limits)
        FAULTS.append(pytest.param(*case, id=executor_class.__name__))
        return executor_class

    return plant


def with_action(**changes):
    return Sound.actions | {"say": evolve(Sound.actions["say"], **changes)}


# What it says of itself


@caught_by("its_name_is_one_that_specs_can_say", "lower-case")
class HasAName(Sound):
    name = "Sound Executor"


@caught_by("it_says_its_version_and_what_it_is", "no line for people")
class SaysNothing(Sound):
    description = ""


@caught_by("each_action_says_what_it_does", "summary of 'say'")
class HasNoSummary(Sound):
    actions = with_action(summary="")


@caught_by("each_action_says_what_it_does", "can do nothing")
class CanDoNothing(Sound):
    actions = {}  # noqa: RUF012  # likewise


@caught_by("each_action_has_an_example", "shows keep", examples=evolve(EXAMPLES, quick=spec_of("say", text="x")))
class HasAnActionWithoutExample(Sound):
    pass


@caught_by(
    "each_action_has_an_example",
    "no example of that",
    examples=evolve(EXAMPLES, streaming=None, others=[EXAMPLES.streaming]),
)
class HasNoStreamingExample(Sound):
    pass


@caught_by("it_says_the_same_of_itself_each_time")
class ChangesItsVersion(Sound):
    made = 0

    def __init__(self):
        super().__init__()
        ChangesItsVersion.made += 1
        self.version = str(ChangesItsVersion.made)


@caught_by("oq_finds_it_where_its_plugin_is_installed", entry_point="sound")
class IsInstalledNowhere(Sound):
    pass


# Payloads


@frozen(kw_only=True, eq=False)
class Unequal:
    text: str
    times: int = 1


@caught_by("a_stored_payload_comes_back_as_it_was")
class TakesWhatIsNotEqual(Sound):
    actions = with_action(payload=Unequal)


@frozen(kw_only=True)
class Louder:
    text: str = field(converter=lambda text: text + "!")
    times: int = 1


@caught_by("a_mapping_and_an_instance_mean_the_same")
class ChangesPayloads(Sound):
    actions = with_action(payload=Louder)


@frozen(kw_only=True)
class Anything:
    text: Any = field(converter=str)
    times: int = 1


@caught_by("what_cannot_be_stored_is_refused_in_every_field", "'say' takes .*object")
class MakesATextOfAnything(Sound):
    actions = with_action(payload=Anything)


@caught_by("a_bad_payload_is_refused_before_it_is_stored", "'say' takes")
class TakesAnything(Sound):
    def check(self, action, payload):
        pass


@caught_by("a_bad_payload_is_refused_before_it_is_stored", r"wrong is payload\.times, but it says .payload\.number")
class NamesAnotherPath(Sound):
    def check(self, action, payload):
        if payload.times < 0:
            raise InvalidTask("must not be negative", "payload.number")


@caught_by("every_problem_is_told_in_a_sentence_with_a_path_in_the_payload", "'times' is no path")
class NamesNoPath(Sound):
    def check(self, action, payload):
        if payload.times < 0:
            raise InvalidTask("must not be negative", "times")


@caught_by("a_check_passes_or_raises_InvalidTask_whatever_it_is_given", "ValueError")
class ChecksByValueError(Sound):
    def check(self, action, payload):
        if payload.times < 0:
            raise ValueError("must not be negative")


@caught_by("a_check_passes_or_raises_InvalidTask_whatever_it_is_given", "IndexError")
class CannotDescribeAll(Sound):
    actions = with_action(describe=lambda say: say.text[0])


@caught_by("each_good_example_is_described_in_a_line", "described as ''")
class DescribesByNothing(Sound):
    actions = with_action(describe=lambda _: "")


@caught_by("each_good_example_is_taken")
class TakesItOnce(Sound):
    def check(self, action, payload):
        if self.tell:
            raise InvalidTask("was here before", "payload")
        self.tell = True


# Lanes and pools


@caught_by("a_task_has_the_same_lane_each_time", "several lanes")
class ChangesLanes(Sound):
    made = 0

    def lane(self, action, payload, wanted):
        ChangesLanes.made += 1
        return f"voice {ChangesLanes.made}"


@caught_by("a_task_has_the_same_lane_each_time", "no name of a lane")
class HasNoLane(Sound):
    def lane(self, action, payload, wanted):
        return None


@caught_by("the_units_of_pools_are_whole_numbers", "has -1 units")
class HasLessThanNothing(Sound):
    def pools(self):
        return {"mouth": -1}


@caught_by("no_pool_is_named_like_those_of_oq", "queue:default")
class WantsToLimitQueues(Sound):
    def pools(self):
        return {"queue:default": 1}


@caught_by("the_lanes_of_the_examples_can_be_served", "lane 'voice' cannot be served")
class ServesNobody(Sound):
    def lane_pools(self, lane):
        return None


@caught_by("lanes_need_only_pools_that_there_are", "needs ear, which nobody has")
class NeedsWhatIsNotThere(Sound):
    def lane_pools(self, lane):
        return LanePools(needs=("ear",))


@caught_by("a_strange_lane_is_no_error", "KeyError")
class KnowsItsLanesOnly(Sound):
    def lane_pools(self, lane):
        return {"voice": LanePools()}[lane]


@caught_by("asking_changes_nothing")
class LosesUnitsWhenAsked(Sound):
    units = 50

    def pools(self):
        self.units -= 1
        return {"mouth": self.units, "other mouth": 0}


# Runs that end by themselves


@caught_by("each_example_completes_without_a_queue", "not complete")
class NeverEnds(Sound):
    async def keep(self, payload, ctx):
        await trio.sleep_forever()


@caught_by("each_example_completes_in_a_queue", "no attempt")
class FailsWithUnits(Sound):
    async def keep(self, payload, ctx):
        if ctx.units:
            raise RetryableError("no attempt with units")


@caught_by("a_result_can_be_stored_and_comes_back_as_its_type", "cannot be stored")
class ReturnsWhatCannotBeStored(Sound):
    async def keep(self, payload, ctx):
        return object()


@caught_by("a_result_can_be_stored_and_comes_back_as_its_type", "is no <class")
class ReturnsAnotherType(Sound):
    actions = Sound.actions | {"keep": evolve(Sound.actions["keep"], result=Said)}


@caught_by("a_queue_gives_the_result_as_its_type")
class ReturnsAnotherTypeInAQueue(Sound):
    actions = Sound.actions | {"keep": evolve(Sound.actions["keep"], result=Said)}

    async def keep(self, payload, ctx):
        return payload.text if ctx.units else Said(text=payload.text)


@caught_by("a_result_can_be_shown_to_people", "no attribute 'words'")
class CannotShowItsResults(Sound):
    actions = with_action(show=lambda said: said.words)


@caught_by("the_output_is_the_same_with_a_queue_and_without", "other output than a direct run")
class EmitsByUnits(Sound):
    async def execute(self, task, ctx):
        await ctx.emit(f"I hold {ctx.units}")
        return await super().execute(task, ctx)


@caught_by("the_output_is_the_same_with_a_queue_and_without", "emits nothing")
class StreamsNothing(Sound):
    async def execute(self, task, ctx):
        return Said(text=task.payload.text)


@caught_by("an_action_that_does_not_stream_emits_nothing", "'keep' does not stream, but it emits")
class EmitsAllTheSame(Sound):
    async def keep(self, payload, ctx):
        await ctx.emit(payload.text)


@caught_by("the_same_task_can_be_run_again")
class CountsItsRuns(Sound):
    runs = 0

    async def execute(self, task, ctx):
        self.runs += 1
        if task.action == "say":
            await ctx.emit(f"run {self.runs}")
        return await super().execute(task, ctx)


@caught_by("runs_at_the_same_time_do_not_disturb_each_other", "beside others, .* emits something else")
class HasOneContextForAll(Sound):
    async def execute(self, task, ctx):
        self.ctx = ctx
        await trio.lowlevel.checkpoint()
        return await super().execute(task, self.ctx if task.action == "say" else ctx)


@caught_by("a_failure_says_what_happened_in_a_line", "not one line")
class FailsAtLength(Sound):
    def failure(self):
        return PermanentError("the voice\nis gone", type="Hoarse")


@caught_by("a_failure_says_what_happened_in_a_line", "tells a person nothing")
class FailsWithoutAWord(Sound):
    def failure(self):
        return KeyError("voice")


@caught_by("a_failure_says_what_happened_in_a_line", "no type of a failure")
class HasASentenceForAType(Sound):
    def failure(self):
        return PermanentError("the voice is gone", type="The voice is gone")


@caught_by("a_failure_is_the_same_with_a_queue_and_without")
class FailsInAnotherWayEachTime(Sound):
    failures = 0

    def failure(self):
        FailsInAnotherWayEachTime.failures += 1
        return PermanentError("the voice is gone", type=f"Hoarse{FailsInAnotherWayEachTime.failures}")


@caught_by("the_details_of_a_failure_can_be_stored", "cannot be stored")
class HasDetailsThatCannotBeStored(Sound):
    def failure(self):
        return PermanentError("the voice is gone", details={"voice": object()})


@caught_by("the_details_of_a_failure_can_be_stored", "too large")
class HasTooManyDetails(Sound):
    def failure(self):
        return PermanentError("the voice is gone", details={"voice": "a" * 2**20})


# Runs that are ended


@caught_by("a_cancelled_run_ends_soon_and_lets_cancelled_pass", "swallowed: the cancelled run returned Said")
class SwallowsCancelled(Sound):
    async def endless(self, ctx):
        with suppress(trio.Cancelled):
            await trio.sleep_forever()


@caught_by("a_cancelled_run_ends_soon_and_lets_cancelled_pass", "swallowed: the cancelled run raised RuntimeError")
class MakesAnErrorOfCancelled(Sound):
    async def endless(self, ctx):
        try:
            await trio.sleep_forever()
        except BaseException:  # noqa: BLE001  # the fault
            raise RuntimeError("something went wrong") from None


@caught_by("a_cancelled_run_ends_soon_and_lets_cancelled_pass", "still runs 0.1 s after it was cancelled")
class TakesItsTime(Sound):
    async def endless(self, ctx):
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.3)


class Deaf(Sound):
    """Does not end before the test is over."""

    async def endless(self, ctx):
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()


@caught_by("a_cancelled_run_ends_soon_and_lets_cancelled_pass", "still runs 0.1 s after", give_up_after=1.0)
class IsDeaf(Deaf):
    pass


@caught_by("a_cancelled_run_ends_soon_and_lets_cancelled_pass", "neither ends nor lets others run", give_up_after=0.3)
class StopsTheWorld(Sound):
    async def endless(self, ctx):
        time.sleep(1.0)  # noqa: ASYNC251  # the fault; not long enough to disturb other tests


@caught_by("a_run_can_be_cancelled_at_once", "swallowed")
class SwallowsAnEarlyCancel(Sound):
    async def execute(self, task, ctx):
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            return Said(text="")
        return await super().execute(task, ctx)


@caught_by("a_run_can_be_cancelled_at_any_moment", "still runs")
class ShieldsItsBeginning(Sound):
    async def execute(self, task, ctx):
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        with trio.CancelScope(shield=True):
            await trio.sleep(0.3)
        return await super().execute(task, ctx)


@caught_by("a_run_can_be_cancelled_while_it_emits", "still runs", give_up_after=1.0)
class ShieldsWhatItEmits(Sound):
    async def execute(self, task, ctx):
        with trio.CancelScope(shield=True):
            await ctx.emit("this must arrive")


@caught_by("a_run_whose_reader_goes_away_ends", "nobody reads its output", give_up_after=2.0, patience=0.1)
class WorksForNobody(Sound):
    async def execute(self, task, ctx):
        await ctx.emit("first")
        with trio.CancelScope(shield=True):
            await trio.sleep(0.5)


@caught_by("a_cancel_frees_the_unit", "go on", give_up_after=1.0, patience=0.1)
class KeepsItsUnit(Deaf):
    pass


@caught_by("a_time_out_is_a_failure", "goes on after its time", give_up_after=1.0, patience=0.1)
class KnowsNoTimeOut(Deaf):
    pass


@caught_by("a_time_out_is_a_failure", "completed")
class CompletesAtATimeOut(SwallowsCancelled):
    pass


@caught_by("a_shutdown_gives_the_attempt_back", "left its task completed")
class CompletesAtAShutdown(SwallowsCancelled):
    pass


# What is left


@caught_by("it_can_be_opened_closed_and_opened_again", "ClosedResourceError")
class OpensOnce(Sound):
    def __init__(self):
        super().__init__()
        self.closed = False

    async def __aexit__(self, *_):
        self.closed = True

    async def __aenter__(self):
        if self.closed:
            raise trio.ClosedResourceError
        self.opened = True


@caught_by("it_can_be_closed_while_nothing_has_run", "AttributeError")
class ClosesWhatARunOpened(Sound):
    async def __aexit__(self, *_):
        self.opened = False
        self.ctx.emit  # noqa: B018  # there is none before the first run

    async def execute(self, task, ctx):
        self.ctx = ctx
        return await super().execute(task, ctx)


@caught_by("it_runs_after_it_was_closed_on_a_cancelled_run", "does not end")
class NeverUnlocks(Sound):
    def __init__(self):
        super().__init__()
        self.lock = trio.Semaphore(1)

    async def execute(self, task, ctx):
        await self.lock.acquire()
        result = await super().execute(task, ctx)
        self.lock.release()
        return result


@caught_by("a_cancel_does_not_disturb_the_neighbours", "beside a cancelled run")
class CancelsAll(Sound):
    def __init__(self):
        super().__init__()
        self.scopes = set()

    async def execute(self, task, ctx):
        with trio.CancelScope() as scope:
            self.scopes.add(scope)
            try:
                for _ in range(20):
                    await trio.lowlevel.checkpoint()
                return await super().execute(task, ctx)
            except trio.Cancelled:
                for other in self.scopes:
                    other.cancel()
                raise
        raise RuntimeError("cancelled by another one")


@caught_by("nothing_is_left_of_runs_that_have_ended", "1 tasks of trio are left")
class LeavesATask(Sound):
    async def endless(self, ctx):
        trio.lowlevel.spawn_system_task(trio.sleep_forever)
        await super().endless(ctx)


@caught_by("nothing_is_left_of_runs_that_have_ended", "1 processes outlive their runs")
class LeavesAProcess(Sound):
    async def endless(self, ctx):
        LeavesAProcess.process = await trio.lowlevel.open_process(["sleep", "3"])
        await super().endless(ctx)


@caught_by("nothing_is_left_of_runs_that_have_ended", "threads are left: .*left over")
class LeavesAThread(Sound):
    async def endless(self, ctx):
        threading.Thread(target=time.sleep, args=(2.0,), name="left over", daemon=True).start()
        await super().endless(ctx)


@caught_by("nothing_is_left_of_runs_that_have_ended", "open files are left: .*test_executor_contract")
class LeavesAFile(Sound):
    files = []  # noqa: RUF012  # likewise

    async def endless(self, ctx):
        self.files.append(open(__file__))  # noqa: ASYNC230, PTH123, SIM115  # the fault
        await super().endless(ctx)


@caught_by("a_crowd_of_runs_and_cancels_leaves_it_as_it_was", "does not end")
class LosesAPlaceWithEachCancel(Sound):
    def __init__(self):
        super().__init__()
        self.places = trio.Semaphore(2)

    async def execute(self, task, ctx):
        await self.places.acquire()
        try:
            result = await super().execute(task, ctx)
        except Exception:
            self.places.release()
            raise
        self.places.release()
        return result


@caught_by("a_queue_full_of_cancels_goes_on", "not all tasks|does not complete")
class LosesAPlaceInAQueue(LosesAPlaceWithEachCancel):
    pass


@pytest.mark.parametrize(("executor_class", "test", "sentence", "examples", "limits"), FAULTS)
def test_the_contract_finds_a_fault(executor_class, test, sentence, examples, limits, tmp_path):
    contract = contract_of(executor_class, examples, **limits)
    with pytest.raises(Exception) as found:  # those that an executor raises tell as well
        getattr(contract, f"test_{test}")(tmp_path)
    assert re.search(sentence, f"{found.type.__name__}: {found.value}")


def test_each_fact_of_the_contract_finds_a_planted_fault():
    facts = {name.removeprefix("test_") for name in dir(ExecutorContract) if name.startswith("test_")}
    built_in = {
        "an_unknown_field_is_refused_by_its_name",  # oq sees to these itself, whatever an executor does
        "a_missing_field_is_refused_by_its_path",
    }
    assert {fault.values[1] for fault in FAULTS} | built_in == facts


def test_each_fact_of_the_contract_is_a_sentence():
    for name in dir(ExecutorContract):
        if name.startswith("test_"):
            assert getattr(ExecutorContract, name).__doc__, name


def test_the_tests_need_no_plugin_of_pytest():
    import inspect

    for name in dir(ExecutorContract):
        if name.startswith("test_"):
            assert list(inspect.signature(getattr(ExecutorContract, name)).parameters) == ["self", "tmp_path"]
            assert not inspect.iscoroutinefunction(getattr(ExecutorContract, name))
