"""Functions as tasks: called as ever, or submitted with arguments that are checked against their annotations."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal

import pytest
from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st

from oq.codec import decode_as, encode
from oq.errors import InvalidTask, UnknownAction
from oq.executor import ChoosesLane, HasPools, LanePools
from oq.functions import Functions
from oq.registry import Registry
from oq.task import TaskSpec

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@frozen
class Point:
    x: int
    y: int = 0


@pytest.fixture
def functions():
    return Functions()


async def run(functions, spec):
    return await Registry([functions]).execute(spec)


class TestCalling:
    async def test_a_task_function_can_still_be_called(self, functions):
        @functions.task()
        async def add(a: int, b: int = 2) -> int:
            """Add two numbers."""
            return a + b

        assert await add(1) == 3
        assert await add(1, b=5) == 6
        assert add.__doc__ == "Add two numbers."

    async def test_its_task_gives_the_same_result(self, functions):
        @functions.task()
        async def add(a: int, b: int = 2) -> int:
            return a + b

        assert await run(functions, add.spec(1)) == 3
        assert await run(functions, add.spec(1, b=5)) == 6

    async def test_its_task_can_be_written_as_a_mapping_of_arguments(self, functions):
        @functions.task()
        async def add(a: int, b: int = 2) -> int:
            return a + b

        assert await run(functions, TaskSpec(executor="python", action="add", payload={"a": 1, "b": 9})) == 10

    async def test_what_it_raises_comes_out(self, functions):
        @functions.task()
        async def fail() -> None:
            raise OSError("broke")

        with pytest.raises(OSError, match="broke"):
            await run(functions, fail.spec())

    def test_it_is_printed_with_its_signature(self, functions):
        @functions.task()
        async def add(a: int, b: int = 2) -> int:
            return a + b

        assert repr(add).startswith("<task function add(a: ")


class TestArguments:
    async def test_every_kind_of_parameter_gets_its_argument(self, functions):
        @functions.task()
        async def everything(
            a: int, /, b: int, c: int = 3, *rest: int, d: int, e: int = 5, **others: int
        ) -> dict[str, Any]:
            return {"a": a, "b": b, "c": c, "rest": rest, "d": d, "e": e, "others": others}

        least = {"a": 1, "b": 2, "c": 3, "rest": (), "d": 4, "e": 5, "others": {}}
        assert await run(functions, everything.spec(1, 2, d=4)) == least
        assert await run(functions, everything.spec(1, b=2, d=4)) == least
        assert await run(functions, everything.spec(1, 2, 30, 7, 8, d=4, e=50, f=6, g=9)) == {
            "a": 1,
            "b": 2,
            "c": 30,
            "rest": (7, 8),
            "d": 4,
            "e": 50,
            "others": {"f": 6, "g": 9},
        }

    @given(
        st.lists(st.integers(-(2**63), 2**63), max_size=4),
        st.dictionaries(st.text("abc", min_size=1).map("k_{}".format), st.booleans(), max_size=3),
    )
    def test_a_task_is_called_with_what_its_spec_was_made_with(self, args, kwargs):
        import trio

        functions = Functions()

        @functions.task()
        async def echo(*args: int, **kwargs: bool) -> list[Any]:
            return [list(args), kwargs]

        assert trio.run(run, functions, echo.spec(*args, **kwargs)) == [args, kwargs]

    async def test_arguments_arrive_as_instances_of_their_annotations(self, functions):
        @functions.task()
        async def look(
            point: Point, day: date, price: Decimal, at: datetime, either: str | int, mode: Literal["a"]
        ) -> str:
            return " ".join(type(value).__name__ for value in (point, day, price, at, either, mode))

        values = {
            "point": Point(1),
            "day": date(2026, 1, 31),
            "price": Decimal("1.5"),
            "at": NOON,
            "either": 7,
            "mode": "a",
        }
        assert await run(functions, look.spec(**values)) == "Point date Decimal datetime int str"
        as_json = values | {"point": {"x": 1}, "day": "2026-01-31", "price": "1.5", "at": "2026-01-31T12:00:00Z"}
        assert await run(functions, TaskSpec(executor="python", action="look", payload=as_json)) == (
            "Point date Decimal datetime int str"
        )

    async def test_what_is_not_annotated_may_be_anything_that_can_be_stored(self, functions):
        @functions.task()
        async def echo(value, *more):
            return value, more

        registry = Registry([functions])
        assert await registry.execute(echo.spec({"a": [1, None]}, "x")) == ({"a": [1, None]}, ("x",))
        with pytest.raises(InvalidTask, match="payload: cannot be stored"):
            registry.check(echo.spec(object()))

    def test_an_argument_of_a_wrong_type_is_refused_when_it_is_submitted_with_its_path(self, functions):
        @functions.task()
        async def draw(points: list[Point], *sizes: int, **names: str) -> None: ...

        registry = Registry([functions])
        with pytest.raises(InvalidTask) as caught:
            registry.check(draw.spec([Point(1), Point("2")], 1, "2", title=3))  # type: ignore[arg-type]
        assert sorted(map(str, caught.value.problems)) == [
            "payload.names['title']: expected a string, got 3",
            "payload.points[1].x: expected a whole number, got '2'",
            "payload.sizes[1]: expected a whole number, got '2'",
        ]

    @pytest.mark.parametrize(
        ("args", "kwargs", "reason"),
        [
            ((), {}, "missing a required argument: 'a'"),
            ((1, 2, 3), {}, "too many positional arguments"),
            ((1,), {"c": 3}, "got an unexpected keyword argument 'c'"),
            ((1,), {"a": 1}, "multiple values for argument 'a'"),
        ],
    )
    def test_arguments_that_do_not_fit_the_signature_are_refused_at_once(self, functions, args, kwargs, reason):
        @functions.task()
        async def add(a: int, b: int = 2) -> int:
            return a + b

        with pytest.raises(InvalidTask, match=f"payload: add: {reason}"):
            add.spec(*args, **kwargs)

    def test_a_mapping_with_an_argument_that_there_is_not_is_refused_too(self, functions):
        @functions.task()
        async def add(apples: int) -> None: ...

        with pytest.raises(InvalidTask, match="payload: unknown field 'aples'; did you mean 'apples'"):
            Registry([functions]).check(TaskSpec(executor="python", action="add", payload={"apples": 1, "aples": 1}))

    async def test_each_call_without_an_argument_gets_the_default_itself(self, functions):
        @functions.task()
        async def collect(into: tuple[int, ...] = (1,), mood: str | None = None) -> list[Any]:
            return [into, mood]

        assert await run(functions, collect.spec()) == [(1,), None]


class TestSpec:
    def test_a_spec_names_the_executor_and_the_function(self, functions):
        @functions.task()
        async def add(a: int) -> None: ...

        spec = add.spec(1)
        assert (spec.executor, spec.action) == ("python", "add")
        assert evolve(spec, priority="high").priority == 10

    def test_a_task_is_described_by_its_call(self, functions):
        @functions.task()
        async def add(a: int, b: str = "x") -> None: ...

        assert Registry([functions]).check(add.spec(1)).summary == "add(a=1, b='x')"

    def test_a_description_of_large_arguments_is_short(self, functions):
        @functions.task()
        async def read(text: str) -> None: ...

        assert len(Registry([functions]).check(read.spec("x" * 10_000)).summary) < 100

    def test_the_first_line_of_its_docstring_is_its_summary(self, functions):
        @functions.task()
        async def documented() -> None:
            """Does it well.

            And more.
            """

        @functions.task()
        async def bare() -> None: ...

        assert functions.actions["documented"].summary == "Does it well."
        assert functions.actions["bare"].summary == "the function bare"

    def test_the_type_of_its_result_is_known(self, functions):
        @functions.task()
        async def point() -> Point:
            return Point(1, 2)

        @functions.task()
        async def bare(): ...

        assert Registry([functions]).action("python", "point").result is Point
        assert decode_as(encode(Point(1, 2)), functions.actions["point"].result) == Point(1, 2)
        assert functions.actions["bare"].result is Any


class TestMaking:
    def test_a_function_may_have_another_name_as_a_task(self, functions):
        @functions.task(name="mail.send")
        async def send(to: str) -> None: ...

        assert send.spec("x").action == "mail.send"
        assert Registry([functions]).check(send.spec("x")).summary == "mail.send(to='x')"

    def test_a_name_can_be_taken_once(self, functions):
        @functions.task()
        async def add() -> None: ...

        with pytest.raises(ValueError, match="there is a task function named 'add' already"):
            functions.task(name="add")(run)

    def test_a_name_has_no_slash_because_that_would_end_it_in_the_name_of_its_lane(self, functions):
        with pytest.raises(ValueError, match="'a/b' has a slash"):
            functions.task(name="a/b")(run)

    def test_a_function_that_is_not_async_is_refused(self, functions):
        def add() -> None: ...

        async def generate():
            yield 1

        for function in (add, generate, lambda: None):
            with pytest.raises(ValueError, match="is not an async function"):
                functions.task(name="add")(function)  # type: ignore[arg-type]

    def test_an_argument_whose_type_cannot_be_stored_is_refused(self, functions):
        async def look(thing: list[complex]) -> None: ...

        with pytest.raises(TypeError, match="'look' has an argument that cannot be stored: thing has the type complex"):
            functions.task()(look)

    def test_an_argument_that_begins_with_an_underscore_is_refused_because_it_would_get_lost(self, functions):
        async def look(_thing: int) -> None: ...

        with pytest.raises(TypeError, match="_thing begins with an underscore"):
            functions.task()(look)

    def test_a_result_whose_type_cannot_be_stored_is_refused(self, functions):
        async def look() -> complex: ...

        with pytest.raises(TypeError, match="'look' has a result that cannot be stored: it has the type complex"):
            functions.task()(look)

    def test_a_function_that_was_refused_leaves_nothing_behind(self, functions):
        async def look(thing: complex) -> None: ...

        with pytest.raises(TypeError):
            functions.task()(look)
        assert dict(functions.actions) == {}
        assert functions.lane_pools("look") is None

    def test_the_actions_cannot_be_changed_from_outside(self, functions):
        with pytest.raises(TypeError):
            functions.actions["x"] = None


class TestLanes:
    def test_functions_choose_their_lane_and_have_pools(self, functions):
        assert isinstance(functions, ChoosesLane)
        assert isinstance(functions, HasPools)

    def test_each_function_has_a_lane_of_its_own_and_any_that_is_wished_for(self, functions):
        @functions.task()
        async def add(a: int) -> None: ...

        registry = Registry([functions])
        assert registry.check(add.spec(1)).lane == "add"
        assert registry.check(evolve(add.spec(1), lane="slow/er")).lane == "add/slow/er"

    def test_tasks_of_a_function_that_is_not_known_here_wait(self, functions):
        @functions.task()
        async def add(a: int) -> None: ...

        assert functions.lane_pools("add") == functions.lane_pools("add/slow") == LanePools()
        assert functions.lane_pools("ad") is None
        assert functions.lane_pools("unheard/add") is None
        assert functions.pools() == {}

    def test_whoever_asked_is_told_when_another_function_becomes_known(self, functions):
        told = []
        functions.on_pools_change(lambda: told.append(functions.lane_pools("add")))

        @functions.task()
        async def add(a: int) -> None: ...

        assert told == [LanePools()]

    async def test_a_function_may_become_known_after_its_executor_was_registered(self, functions):
        registry = Registry([functions])
        with pytest.raises(UnknownAction):
            registry.check(TaskSpec(executor="python", action="late"))

        @functions.task()
        async def late() -> str:
            return "here"

        assert await registry.execute(late.spec()) == "here"
