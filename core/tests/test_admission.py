"""What is wrong with a task is found before it is stored, all of it, and what gets in can be read back."""

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from oq.admission import MAX_NAME, MAX_SECONDS, MAX_TAGS, admit, admit_all
from oq.codec import decode_as, encode
from oq.errors import InvalidTask, UnknownAction, UnknownExecutor
from oq.executor import Action
from oq.registry import Registry
from oq.retry import RetryPolicy
from oq.store.base import NewTask
from oq.task import Priority, TaskHead, TaskSpec

LARGEST = 10_000
"""Bytes of a payload."""
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@frozen(kw_only=True)
class Payload:
    text: str = "hi"
    lane: str | None = None


class Executor:
    """Takes anything, and puts a task in the lane that its payload names."""

    name = "echo"
    version = "1"
    description = "Does nothing"
    actions = {"run": Action(payload=Payload, summary="Do nothing", describe=lambda payload: f" {payload.text}\n ")}  # noqa: RUF012

    def lane(self, action, payload, wanted):
        return wanted or (payload.lane if payload.lane is not None else self.name)

    async def execute(self, task, ctx): ...


registry = Registry([Executor()])


def spec(**fields) -> TaskSpec:
    return TaskSpec(**{"executor": "echo", "action": "run", **fields})


def let_in(wanted: TaskSpec) -> NewTask:
    return admit(wanted, registry, lambda _: "made", LARGEST, NOON)


def admitted(**fields) -> NewTask:
    return let_in(spec(**fields))


def problems(**fields) -> list[str]:
    with pytest.raises(InvalidTask) as caught:
        admitted(**fields)
    return [str(problem) for problem in caught.value.problems]


def paths(**fields) -> list[str]:
    return [told.partition(":")[0] for told in problems(**fields)]


class TestWhatGetsIn:
    def test_a_plain_task_gets_an_id_and_the_executors_lane(self):
        task = admitted()
        assert (task.head.id, task.head.lane, task.head.submitted_at) == ("made", "echo", NOON)

    def test_an_id_of_the_users_own_is_kept(self):
        assert admitted(id="report:2026-01-31/a@b+c").head.id == "report:2026-01-31/a@b+c"

    def test_the_summary_is_one_line(self):
        assert admitted(payload={"text": "two\nlines"}).head.summary == "two lines"

    def test_a_delay_is_counted_from_now(self):
        assert admitted(delay=90).head.run_at == NOON + timedelta(seconds=90)

    def test_moments_are_stored_in_utc(self):
        local = datetime(2026, 2, 1, 13, tzinfo=timezone(timedelta(hours=1)))
        head = admitted(run_at=local, expires_at=local).head
        assert head.run_at == head.expires_at == local
        assert head.run_at.tzinfo is UTC

    def test_an_attempt_may_be_without_limit(self):
        assert admitted(timeout=math.inf).head.timeout == math.inf

    def test_lists_of_names_may_be_lists(self):
        head = admitted(tags=["a"], after=["b"]).head
        assert (head.tags, head.after) == (("a",), ("b",))

    @given(
        st.builds(
            spec,
            priority=st.sampled_from(Priority),
            tags=st.lists(st.text("ab ü", min_size=1, max_size=3), max_size=3),
            metadata=st.dictionaries(
                st.text(max_size=3), st.none() | st.integers(-(2**63), 2**63) | st.text("äb"), max_size=3
            ),
            delay=st.none() | st.floats(0, MAX_SECONDS),
            timeout=st.none() | st.floats(0, exclude_min=True),
            expires_at=st.none() | st.datetimes(timezones=st.timezones()),
            result_ttl=st.none() | st.integers(0, MAX_SECONDS),
            unique_key=st.none() | st.just("key"),
            after=st.lists(st.sampled_from("ab"), max_size=2),
            retry=st.none() | st.just(RetryPolicy(max_attempts=2)),
            on_parent_failure=st.sampled_from(["fail", "continue"]),
        )
    )
    def test_what_gets_in_can_be_read_back(self, wanted):
        try:
            head = let_in(wanted).head
        except InvalidTask as error:  # it is past the calendar's end, in UTC
            wrong = [problem.path for problem in error.problems]
            assert wrong == ["expires_at"]
        else:
            assert decode_as(encode(head), TaskHead) == head


anything: Any = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.lists(st.text()),
    st.datetimes(),
    st.dictionaries(st.integers() | st.text(), st.text()),
)


class TestWhatIsRefused:
    @pytest.mark.parametrize("field", ["queue", "lane", "unique_key", "group", "id"])
    @pytest.mark.parametrize(
        "value", ["", "x" * (MAX_NAME + 1), "a\nb", "a\x1b[31m", "\u202e", "\ud800", 5, b"a", ["a"]]
    )
    def test_a_name_is_a_short_text_that_can_be_printed(self, field, value):
        assert problems(**{field: value})[0] == f"{field}: must be a text of 1 to 100 printable characters"

    def test_a_queue_is_needed(self):
        assert paths(queue=None) == ["queue"]

    @pytest.mark.parametrize("value", ["-a", "a b", "ä", ".", "a,b", "*"])
    def test_an_id_can_be_typed_without_quotes(self, value):
        assert problems(id=value) == ["id: may have only letters, digits and . _ : @ / + -"]

    def test_no_queue_has_the_name_that_means_all(self):
        assert problems(queue="*") == ["queue: '*' stands for all queues"]

    @pytest.mark.parametrize("field", ["tags", "after"])
    @pytest.mark.parametrize("value", ["a", 5, None, {"a"}, {"a": 1}])
    def test_a_list_of_names_is_a_list(self, field, value):
        assert problems(**{field: value}) == [f"{field}: must be a list of texts"]

    @pytest.mark.parametrize("field", ["tags", "after"])
    def test_each_wrong_name_in_a_list_is_told(self, field):
        assert paths(**{field: ["a", "", "b", 5]}) == [f"{field}[1]", f"{field}[3]"]

    def test_there_is_an_end_to_tags(self):
        assert admitted(tags=["a"] * MAX_TAGS)
        assert problems(tags=["a"] * (MAX_TAGS + 1)) == [f"tags: there may be at most {MAX_TAGS}"]

    @pytest.mark.parametrize("value", [None, [], "a", 5, [("a", 1)]])
    def test_metadata_is_an_object(self, value):
        assert problems(metadata=value) == ["metadata: must be an object"]

    def test_metadata_has_texts_as_names(self):
        assert problems(metadata={1: "a"}) == ["metadata: may have only texts as names"]

    @pytest.mark.parametrize("value", [object(), 2**70, "\ud800"])
    def test_metadata_holds_what_can_be_stored(self, value):
        assert problems(metadata={"a": value})[0].startswith("metadata: ")

    @pytest.mark.parametrize("field", ["delay", "timeout", "result_ttl"])
    @pytest.mark.parametrize("value", [-1, math.nan, "5", True, -math.inf, [5]])
    def test_a_duration_is_a_number_of_seconds(self, field, value):
        assert problems(**{field: value}) == [f"{field}: must be a number of seconds, 0 or more"]

    @pytest.mark.parametrize("field", ["delay", "result_ttl"])
    @pytest.mark.parametrize("value", [MAX_SECONDS + 1, math.inf, 10**400])
    def test_nothing_waits_longer_than_a_hundred_years(self, field, value):
        assert admitted(**{field: MAX_SECONDS})
        assert problems(**{field: value}) == [
            f"{field}: must be at most 3,153,600,000 seconds, which is a hundred years"
        ]

    def test_an_attempt_has_some_time(self):
        assert problems(timeout=0) == ["timeout: must be more than 0 seconds"]

    def test_a_delay_and_a_moment_do_not_go_together(self):
        assert problems(delay=5, run_at=NOON) == ["delay: cannot be given together with run_at"]

    @pytest.mark.parametrize("field", ["run_at", "expires_at"])
    @pytest.mark.parametrize(
        "value",
        [
            datetime(2026, 1, 31),  # noqa: DTZ001  # the mistake in question
            "2026-01-31T09:00:00Z",
            5,
            datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12))),
            datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=12))),
        ],
    )
    def test_a_moment_has_a_time_zone_and_is_one_in_utc(self, field, value):
        assert problems(**{field: value}) == [
            f"{field}: must be a moment with a time zone, such as 2026-01-31T09:00:00Z"
        ]

    def test_a_retry_policy_is_one(self):
        assert problems(retry={"max_attempts": 3}) == ["retry: must be a RetryPolicy"]

    @pytest.mark.parametrize("value", ["retry", None, ["fail"]])
    def test_what_to_do_when_a_parent_fails_is_one_of_two_words(self, value):
        assert problems(on_parent_failure=value) == ["on_parent_failure: must be 'fail' or 'continue'"]

    @pytest.mark.parametrize("field", ["executor", "action"])
    @pytest.mark.parametrize("value", [None, 5, ["echo"]])
    def test_executor_and_action_are_texts(self, field, value):
        assert problems(**{field: value}) == [f"{field}: must be a text"]

    @pytest.mark.parametrize("lane", ["", "x" * (MAX_NAME + 1), "a\0b"])
    def test_a_lane_that_the_executor_chose_must_be_a_name_too(self, lane):
        assert paths(payload={"lane": lane}) == ["lane"]
        assert "'echo' would make it" in problems(payload={"lane": lane})[0]

    def test_there_is_an_end_to_payloads(self):
        assert paths(payload={"text": "x" * LARGEST}) == ["payload"]

    def test_an_unknown_executor_is_told_by_its_own_error(self):
        with pytest.raises(UnknownExecutor):
            admitted(executor="nobody")

    def test_an_unknown_action_is_told_by_its_own_error(self):
        with pytest.raises(UnknownAction):
            admitted(action="nothing")

    def test_everything_wrong_is_told_at_once(self):
        assert paths(payload={"txt": 5}, delay=-1, tags="a", id="") == ["id", "tags", "delay", "payload"]
        assert paths(executor="nobody", delay=-1) == ["executor", "delay"]
        assert paths(action="nothing", delay=-1) == ["action", "delay"]

    @given(
        st.dictionaries(
            st.sampled_from([name for name in TaskSpec.__annotations__ if name != "priority"]), anything, max_size=4
        )
    )
    def test_no_value_of_any_type_brings_anything_but_an_answer(self, fields):
        try:
            head = admitted(**fields).head
        except (InvalidTask, UnknownExecutor, UnknownAction):
            return
        assert decode_as(encode(head), TaskHead) == head


class TestSeveral:
    def test_all_get_in_in_their_order(self):
        tasks = admit_all([spec(id=name) for name in "cab"], registry, lambda _: "made", LARGEST, NOON)
        assert [task.head.id for task in tasks] == ["c", "a", "b"]

    def test_what_one_says_is_not_taken_for_what_the_next_one_says(self):
        policy = RetryPolicy(max_attempts=7)
        specs = [
            spec(id="a", retry=policy, timeout=5),
            spec(id="b"),
            spec(id="c", retry=policy),
            spec(id="d", timeout=5),
        ]
        heads = [task.head for task in admit_all(specs, registry, lambda _: "made", LARGEST, NOON)]
        assert [head.retry for head in heads] == [policy, None, policy, None]
        assert [head.timeout for head in heads] == [5, None, None, 5]

    def test_every_wrong_one_is_told_with_its_index(self):
        with pytest.raises(InvalidTask) as caught:
            admit_all(
                [
                    spec(),
                    spec(delay=-1),
                    spec(executor="nobody"),
                    spec(),
                    spec(action="nothing"),
                    spec(payload={"a": 1}),
                ],
                registry,
                lambda _: "made",
                LARGEST,
                NOON,
            )
        assert [problem.path for problem in caught.value.problems] == [
            "tasks[1].delay",
            "tasks[2].executor",
            "tasks[4].action",
            "tasks[5].payload",
        ]
