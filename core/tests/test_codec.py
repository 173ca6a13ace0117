"""What people send is checked strictly and told with paths; what is stored comes back as it was."""

import enum
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from attrs import asdict, field, frozen, make_class
from attrs.validators import ge, instance_of
from hypothesis import given
from hypothesis import strategies as st

from oq.codec import (
    PayloadCodec,
    decode,
    decode_as,
    decode_block,
    encode,
    make_converter,
    parse_moment,
    structure,
    task_as_dict,
    to_json,
    unknown_key,
)
from oq.errors import InvalidTask, Problem
from oq.executor import Chunk
from oq.task import (
    OMITTED,
    Attempt,
    Failure,
    Omitted,
    Outcome,
    Phase,
    Priority,
    Status,
    Task,
    TaskHead,
    TaskSpec,
    TaskState,
)

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Mood(enum.Enum):
    GOOD = "good"


@frozen
class Message:
    role: str
    content: str = ""


@frozen
class Options:
    temperature: float | None = None
    stop: tuple[str, ...] = ()


@frozen
class Chat:
    """A payload with a field of every kind there is."""

    model: str
    messages: list[Message] = field(factory=list)
    options: Options = field(factory=Options)
    seed: int | None = None
    rate: float = 1.0
    stream: bool = False
    raw: bytes = b""
    mode: Literal["fast", 1] = "fast"
    colour: Colour = Colour.RED
    size: Size = Size.SMALL
    mood: Mood = Mood.GOOD
    pair: tuple[int, str] = (0, "")
    labels: frozenset[str] = frozenset()
    counts: Mapping[str, int] = field(factory=dict)
    format: str | list[str] = "text"
    day: date | None = None
    extra: Any = None


@frozen
class Timed:
    at: datetime
    until: datetime | None = None


@frozen
class Tree:
    name: str
    children: "list[Tree]" = field(factory=list)
    parent: "Tree | None" = None


@frozen
class Bounded:
    number: int = field(default=1, validator=ge(1))
    anything: Any = field(default="", validator=instance_of(str))


@pytest.fixture
def codec():
    return codec_of(Chat)


@cache
def codec_of(cls):
    return PayloadCodec(cls, make_converter())


def one_field(kind, **options):
    return make_class("OneField", {"value": field(type=kind, **options)}, frozen=True)


def problems_of(codec, payload):
    with pytest.raises(InvalidTask) as caught:
        codec.parse(payload)
    return [str(problem) for problem in caught.value.problems]


texts = st.text(st.characters(exclude_categories=["Cs"]))
whole_numbers = st.integers(-(2**63), 2**64 - 1)


def builtins(floats):
    return st.recursive(
        st.none() | st.booleans() | whole_numbers | floats | texts,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=8,
    )


json_values = builtins(st.floats(allow_nan=False))
chats = st.builds(
    Chat,
    model=texts,
    messages=st.lists(st.builds(Message, role=texts, content=texts), max_size=3),
    options=st.builds(
        Options, temperature=st.none() | st.floats(allow_nan=False), stop=st.lists(texts, max_size=2).map(tuple)
    ),
    seed=st.none() | whole_numbers,
    rate=st.floats(allow_nan=False),
    stream=st.booleans(),
    raw=st.binary(),
    mode=st.sampled_from(["fast", 1]),
    colour=st.sampled_from(Colour),
    size=st.sampled_from(Size),
    mood=st.sampled_from(Mood),
    pair=st.tuples(whole_numbers, texts),
    labels=st.frozensets(texts, max_size=3),
    counts=st.dictionaries(texts, whole_numbers, max_size=3),
    format=texts | st.lists(texts, max_size=2),
    day=st.none() | st.dates(),
    extra=json_values,
)


class TestPayload:
    @given(chats)
    def test_a_payload_comes_back_from_the_store_as_it_was(self, chat):
        codec = codec_of(Chat)
        value, data = codec.parse(chat)
        assert value == codec.decode(data) == chat

    @given(chats)
    def test_an_instance_and_the_mapping_that_says_the_same_are_one_payload(self, chat):
        codec = codec_of(Chat)
        assert codec.parse(asdict(chat))[0] == codec.parse(chat)[0] == chat

    @given(chats)
    def test_instances_may_stand_inside_a_mapping(self, chat):
        assert codec_of(Chat).parse(asdict(chat, recurse=False))[0] == chat

    @given(st.dictionaries(st.sampled_from(["model", "seed", "messages", "options", "pair", "zz"]), json_values))
    def test_what_is_accepted_can_be_read_back_and_what_is_not_is_told(self, payload):
        codec = codec_of(Chat)
        problems: tuple[Problem, ...] = ()
        try:
            value, data = codec.parse(payload)
        except InvalidTask as error:
            problems = error.problems
        else:
            assert codec.decode(data) == value
        assert all(problem.path.startswith("payload") for problem in problems)

    def test_nothing_is_an_empty_payload(self):
        assert codec_of(Options).parse(None)[0] == Options()

    def test_a_class_may_have_fields_of_itself(self):
        codec = codec_of(Tree)
        tree = Tree("root", [Tree("leaf")], Tree("above"))
        assert codec.parse(asdict(tree))[0] == codec.parse(tree)[0] == tree
        assert problems_of(codec, {"name": "root", "children": [{"name": "leaf", "children": [{"name": 7}]}]}) == [
            "payload.children[0].children[0].name: expected a string, got 7"
        ]

    def test_what_the_executor_gets_is_what_was_stored_in_anything_goes_fields_too(self, codec):
        assert codec.parse({"model": "m", "extra": {"when": date(2026, 1, 31), "of": (1, 2)}})[0].extra == {
            "when": "2026-01-31",
            "of": [1, 2],
        }

    def test_a_payload_that_no_longer_fits_the_class_is_told_when_it_is_read(self):
        with pytest.raises(msgspec.DecodeError):
            codec_of(Message).decode(encode({"rolle": "user"}))


class TestStrictness:
    @pytest.mark.parametrize(
        ("name", "value", "problem"),
        [
            ("seed", "7", "payload.seed: expected a whole number, got '7'"),
            ("seed", True, "payload.seed: expected a whole number, got True"),
            ("seed", 7.0, "payload.seed: expected a whole number, got 7.0"),
            ("rate", "1.5", "payload.rate: expected a number, got '1.5'"),
            ("rate", True, "payload.rate: expected a number, got True"),
            ("rate", None, "payload.rate: expected a number, got nothing"),
            ("model", 7, "payload.model: expected a string, got 7"),
            ("model", b"m", "payload.model: expected a string, got b'm'"),
            ("stream", 1, "payload.stream: expected true or false, got 1"),
            ("stream", "yes", "payload.stream: expected true or false, got 'yes'"),
            ("raw", "text", "payload.raw: expected bytes, got 'text'"),
            ("mode", "slow", "payload.mode: expected 'fast' or 1, got 'slow'"),
            ("mode", True, "payload.mode: expected 'fast' or 1, got True"),
            ("mode", 1.0, "payload.mode: expected 'fast' or 1, got 1.0"),
            ("colour", "green", "payload.colour: expected 'red' or 'blue', got 'green'"),
            ("size", 3, "payload.size: expected 1 or 2, got 3"),
            ("size", True, "payload.size: expected 1 or 2, got True"),
            ("size", "1", "payload.size: expected 1 or 2, got '1'"),
            ("mood", "bad", "payload.mood: expected 'good', got 'bad'"),
            ("messages", "hello", "payload.messages: expected a list, got 'hello'"),
            ("messages", {"role": "user"}, "payload.messages: expected a list, got {'role': 'user'}"),
            ("messages", None, "payload.messages: expected a list, got nothing"),
            ("messages", ["hi"], "payload.messages[0]: expected an object with the fields of Message, got 'hi'"),
            ("messages", [{}], "payload.messages[0].role: is required"),
            ("options", "abc", "payload.options: expected an object with the fields of Options, got 'abc'"),
            ("options", [], "payload.options: expected an object with the fields of Options, got []"),
            ("options", {"stop": "abc"}, "payload.options.stop: expected a list, got 'abc'"),
            ("options", {"stop": ["a", 7]}, "payload.options.stop[1]: expected a string, got 7"),
            ("pair", "7a", "payload.pair: expected a list, got '7a'"),
            ("pair", [1], "payload.pair: expected a list of 2, got 1"),
            ("pair", [1, 2], "payload.pair[1]: expected a string, got 2"),
            ("labels", "abc", "payload.labels: expected a list, got 'abc'"),
            ("counts", [("a", 1)], "payload.counts: expected a mapping"),
            ("counts", {"a": "1"}, "payload.counts['a']: expected a whole number, got '1'"),
            ("counts", {1: 1}, "payload.counts[1]: expected a string, got 1"),
            ("format", 7, "payload.format: expected `str | array`, got `int`"),
            ("format", [7], "payload.format: expected `str`, got `int` at `[0]`"),
            ("day", "tomorrow", "payload.day: Invalid RFC3339 encoded date"),
        ],
    )
    def test_nothing_is_taken_for_something_else(self, codec, name, value, problem):
        assert problems_of(codec, {"model": "m", name: value}) == [problem]

    @pytest.mark.parametrize(
        ("name", "value", "problem"),
        [
            ("seed", True, "payload.seed: expected a whole number, got True"),
            ("model", 7, "payload.model: expected a string, got 7"),
            ("mode", True, "payload.mode: expected 'fast' or 1, got True"),
            ("messages", [Message(7)], "payload.messages[0].role: expected a string, got 7"),
            (
                "messages",
                [{"role": "user", "contents": "hi"}],
                "payload.messages[0]: unknown field 'contents'; did you mean 'content'?",
            ),
        ],
    )
    def test_an_instance_is_checked_as_well(self, codec, name, value, problem):
        assert problems_of(codec, Chat(**({"model": "m"} | {name: value}))) == [problem]

    @pytest.mark.parametrize("payload", [7, "text", [], [("model", "m")]])
    def test_a_payload_is_an_instance_or_a_mapping(self, codec, payload):
        assert problems_of(codec, payload) == [
            f"payload: expected an object with the fields of Chat, got {payload!r}",
        ]

    def test_a_whole_number_is_a_number(self, codec):
        assert codec.parse({"model": "m", "rate": 2})[0].rate == 2.0

    def test_an_enum_is_given_by_value_or_as_its_member(self, codec):
        by_value = codec.parse({"model": "m", "colour": "blue", "size": 2, "mood": "good"})
        assert by_value == codec.parse({"model": "m", "colour": Colour.BLUE, "size": Size.LARGE, "mood": Mood.GOOD})
        assert by_value[0].size is Size.LARGE

    def test_a_mapping_without_types_takes_mappings_only(self):
        codec = codec_of(one_field(dict))
        assert codec.parse({"value": {"a": [1]}})[0].value == {"a": [1]}
        assert problems_of(codec, {"value": [("a", 1)]}) == ["payload.value: expected a mapping, got [('a', 1)]"]

    def test_a_sequence_without_types_takes_lists_only(self):
        for kind in (list, Sequence):
            codec = codec_of(one_field(kind))
            assert codec.parse({"value": [1, "a"]})[0].value == [1, "a"]
            assert problems_of(codec, {"value": "ab"}) == ["payload.value: expected a list, got 'ab'"]

    def test_a_long_value_is_cut_in_the_message(self, codec):
        (problem,) = problems_of(codec, {"model": "m", "seed": "x" * 1000})
        assert len(problem) < 100


class TestUnknownAndMissing:
    def test_an_unknown_field_is_refused_with_the_nearest_one(self, codec):
        assert problems_of(codec, {"model": "m", "mesages": []}) == [
            "payload: unknown field 'mesages'; did you mean 'messages'?"
        ]

    def test_where_nothing_is_near_the_known_ones_are_listed(self):
        assert problems_of(codec_of(Message), {"role": "user", "zzz": 1}) == [
            "payload: unknown field 'zzz' (known: content, role)"
        ]

    def test_a_key_that_is_no_text_is_unknown_too(self):
        assert problems_of(codec_of(Message), {"role": "user", 7: 1, "zzz": 2}) == [
            "payload: unknown field '7' (known: content, role)",
            "payload: unknown field 'zzz' (known: content, role)",
        ]

    def test_a_missing_field_is_named(self, codec):
        assert problems_of(codec, {}) == ["payload.model: is required"]

    def test_everything_that_is_wrong_is_told_at_once(self, codec):
        wrong = {
            "messages": [{"role": 7, "conten": "hi"}, {"content": 8}],
            "options": {"temperature": "hot"},
            "stream": 1,
            "modle": "m",
        }
        assert sorted(problems_of(codec, wrong)) == [
            "payload.messages[0].role: expected a string, got 7",
            "payload.messages[0]: unknown field 'conten'; did you mean 'content'?",
            "payload.messages[1].content: expected a string, got 8",
            "payload.messages[1].role: is required",
            "payload.model: is required",
            "payload.options.temperature: expected a number, got 'hot'",
            "payload.stream: expected true or false, got 1",
            "payload: unknown field 'modle'; did you mean 'mode'?",
        ]

    @pytest.mark.parametrize("payload", [{"number": 0}, Bounded(), {"anything": 7}])
    def test_a_validator_of_the_class_has_the_last_word_and_its_field_is_named(self, payload):
        codec = codec_of(Bounded)
        if payload == Bounded():
            object.__setattr__(payload, "number", 0)
        (problem,) = problems_of(codec, payload)
        assert problem.startswith(("payload.number: 'number' must be >= 1", "payload.anything: 'anything' must be"))

    @given(st.text(min_size=1), st.lists(st.text(), max_size=3))
    def test_the_hint_names_the_key_and_never_fails(self, key, known):
        assert repr(key) in unknown_key(key, known)


class TestStorable:
    @pytest.mark.parametrize(
        ("extra", "reason"),
        [
            (2**80, "can't serialize ints"),
            ("\ud800", "surrogates not allowed"),
            (object(), "Encoding objects of type object is unsupported"),
            (lambda: None, "Encoding objects of type function is unsupported"),
        ],
    )
    def test_a_value_that_cannot_be_stored_is_refused_in_an_instance_and_in_a_mapping(self, codec, extra, reason):
        for payload in (Chat("m", extra=extra), {"model": "m", "extra": extra}):
            (problem,) = problems_of(codec, payload)
            assert problem.startswith("payload: cannot be stored")
            assert reason in problem

    def test_a_list_that_contains_itself_is_refused(self, codec):
        endless: list[Any] = []
        endless.append(endless)
        for payload in (Chat("m", extra=endless), {"model": "m", "extra": endless}):
            assert problems_of(codec, payload)[0].startswith("payload: cannot be stored")

    @pytest.mark.parametrize("cls", [dict, int, None, 7, dict[str, int], "Chat"])
    def test_a_payload_class_is_an_attrs_class(self, cls):
        with pytest.raises(TypeError, match="is not an attrs class"):
            codec_of(cls)

    @pytest.mark.parametrize("kind", [complex, Path, list[complex], dict[str, Path], Path | None])
    def test_a_field_of_a_type_that_cannot_be_stored_is_found_before_there_is_a_value(self, kind):
        with pytest.raises(TypeError, match=r"value has the type (complex|Path)"):
            codec_of(one_field(kind))

    def test_a_field_of_type_object_may_be_anything_that_can_be_stored(self):
        assert codec_of(one_field(object)).parse({"value": [1, {"a": None}]})[0].value == [1, {"a": None}]

    def test_the_field_is_named_however_deep_it_is(self):
        inner = one_field(complex)
        with pytest.raises(TypeError, match=r"value\.value has the type complex"):
            codec_of(one_field(list[inner]))

    def test_a_field_that_msgspec_leaves_out_is_refused(self):
        @frozen
        class Private:
            size: int
            _number: int

        with pytest.raises(TypeError, match="_number begins with an underscore"):
            codec_of(Private)

    @pytest.mark.parametrize("kind", [Message | str, Message | Options])
    def test_an_object_has_no_alternative_but_nothing(self, kind):
        with pytest.raises(TypeError, match="attrs"):
            codec_of(one_field(kind))

    def test_an_annotation_that_names_nothing_is_told(self):
        with pytest.raises(TypeError, match=r"annotation .* cannot be resolved: name 'Missing' is not defined"):
            codec_of(one_field("Missing"))


class TestMoments:
    @given(st.datetimes(), st.integers(-14 * 60, 14 * 60))
    def test_a_moment_is_the_same_in_every_time_zone_and_kept_in_utc(self, local, minutes):
        zone = timezone(timedelta(minutes=minutes))
        if not datetime(2, 1, 1) < local < datetime(9998, 1, 1):  # noqa: DTZ001
            return
        moment = local.replace(tzinfo=zone)
        assert parse_moment(moment) == parse_moment(moment.isoformat()) == moment
        assert parse_moment(moment).tzinfo is UTC

    def test_z_is_utc(self):
        assert parse_moment("2026-01-31T12:00:00Z") == NOON

    @pytest.mark.parametrize("value", ["2026-01-31T12:00:00", "2026-01-31", datetime(2026, 1, 31)])  # noqa: DTZ001
    def test_a_moment_without_a_time_zone_is_refused(self, value):
        with pytest.raises(ValueError, match="has no time zone; add Z or an offset such as"):
            parse_moment(value)

    @pytest.mark.parametrize("value", ["noon", "", "12:00", 1769860800, None, True, date(2026, 1, 31)])
    def test_what_is_no_moment_is_refused_with_an_example(self, value):
        with pytest.raises(ValueError, match="2026-01-31T09:00:00Z"):
            parse_moment(value)

    def test_a_payload_takes_moments_with_a_time_zone_only(self):
        codec = codec_of(Timed)
        naive = datetime(2026, 1, 31)  # noqa: DTZ001
        assert codec.parse({"at": "2026-01-31T13:00:00+01:00"})[0] == codec.parse(Timed(NOON))[0] == Timed(NOON)
        for payload in ({"at": naive}, {"at": naive.isoformat()}, Timed(naive)):
            assert problems_of(codec, payload) == [
                "payload.at: 2026-01-31T00:00:00 has no time zone; add Z or an offset such as +01:00"
            ]
        assert "payload.until" in problems_of(codec, Timed(NOON, naive))[0]


class TestSpec:
    def test_a_spec_can_be_written_in_json(self):
        text = """{"executor": "ollama", "action": "chat", "payload": {"model": "qwen3"}, "priority": "High",
                   "tags": ["a"], "run_at": "2026-01-31T13:00:00+01:00", "retry": {"max_attempts": 5}}"""
        spec, problems = structure(make_converter(), json.loads(text), TaskSpec)
        assert not problems
        assert (spec.priority, spec.tags, spec.run_at, spec.retry.max_attempts) == (Priority.HIGH, ("a",), NOON, 5)
        assert spec.payload == {"model": "qwen3"}

    def test_everything_that_is_wrong_with_a_spec_is_told_at_once(self):
        _, problems = structure(
            make_converter(),
            {"action": "chat", "priority": 7, "tags": "a", "after": [1], "on_parent_failure": "ignore", "prio": 1}
            | {"retry": {"max_attempts": 0}},
            TaskSpec,
        )
        assert sorted(map(str, problems)) == [
            "after[0]: expected a string, got 1",
            "executor: is required",
            "on_parent_failure: expected 'fail' or 'continue', got 'ignore'",
            "priority: 7 is not a priority; use one of low (1), normal (5), high (10), critical (15)",
            "retry.max_attempts: 'max_attempts' must be 1 or more, and finite, not 0",
            "tags: expected a list, got 'a'",
            "unknown field 'prio'; did you mean 'priority'?",
        ]


class TestStored:
    @given(json_values)
    def test_builtins_come_back_as_they_were(self, value):
        assert decode(encode(value)) == decode_as(encode(value), Any) == value

    def test_a_value_comes_back_as_an_instance_when_its_class_is_known(self):
        assert decode_as(encode(Message("user")), Message) == Message("user")
        assert decode_as(encode([Message("user")]), list[Message]) == [Message("user")]
        assert decode_as(encode(None), type(None)) is None

    def test_what_does_not_fit_the_class_is_told(self):
        with pytest.raises(msgspec.DecodeError):
            decode_as(encode({"role": 7}), Message)

    @given(st.lists(st.builds(Chunk, text=texts, kind=texts, data=json_values, epoch=st.integers(0, 9))))
    def test_chunks_come_back_as_they_were(self, chunks):
        assert decode_block(encode(chunks)) == chunks


class TestJson:
    def test_bytes_become_base64(self):
        assert to_json({"raw": b"hi"}) == '{"raw":"aGk="}'

    def test_values_of_oq_and_of_attrs_become_objects(self):
        assert json.loads(to_json([Message("user"), Chunk(text="x"), Priority.HIGH, NOON])) == [
            {"role": "user", "content": ""},
            {"text": "x", "kind": "output", "data": None, "epoch": 0, "index": 0},
            10,
            "2026-01-31T12:00:00Z",
        ]

    def test_pretty_json_is_indented_and_says_the_same(self):
        text = to_json({"a": [1]}, pretty=True)
        assert text.splitlines()[1] == '  "a": ['
        assert json.loads(text) == {"a": [1]}

    def test_what_is_no_number_in_json_becomes_null(self):
        assert to_json([math.nan, math.inf]) == "[null,null]"

    @given(builtins(st.floats(allow_nan=False, allow_infinity=False)))
    def test_builtins_stay_what_they_are(self, value):
        assert json.loads(to_json(value)) == value


def a_task(**fields):
    head = TaskHead(
        id="t1",
        executor="test",
        action="run",
        queue="default",
        lane="slow",
        submitted_at=NOON,
        model="qwen3",
        tags=("x",),
        after=("t0",),
        group="g",
    )
    state = TaskState(
        status=Status.FAILED,
        phase=None,
        priority=Priority.HIGH,
        epoch=2,
        attempt=1,
        started_at=NOON,
        finished_at=NOON + timedelta(seconds=3),
        failure=Failure(type="Broken", message="it broke"),
    )
    return Task(seq=1, head=head, state=state, **fields)


class TestTaskAsDict:
    def test_a_task_is_shown_in_the_words_that_users_know(self):
        shown = task_as_dict(a_task())
        assert (shown["id"], shown["status"], shown["priority"], shown["duration"]) == ("t1", "failed", "high", 3)
        assert (shown["executor"], shown["action"], shown["queue"], shown["lane"]) == ("test", "run", "default", "slow")
        assert (shown["model"], shown["group"], shown["tags"], shown["after"]) == ("qwen3", "g", ("x",), ("t0",))
        assert json.loads(to_json(shown))["failure"]["message"] == "it broke"

    @pytest.mark.parametrize("left_out", [set(), {"payload"}, {"result"}, {"attempts"}, {"payload", "result"}])
    def test_what_the_view_leaves_out_is_left_out(self, left_out):
        there = {"payload": {"a": 1}, "result": None, "past_attempts": ()}
        fields = {name: OMITTED if name.removeprefix("past_") in left_out else value for name, value in there.items()}
        assert {"payload", "result", "attempts"} - set(task_as_dict(a_task(**fields))) == left_out

    def test_a_result_that_is_a_member_of_an_enum_is_not_left_out(self):
        assert task_as_dict(a_task(result=Colour.RED))["result"] == "red"

    def test_the_attempts_are_those_of_the_task(self):
        attempt = Attempt(epoch=1, number=1, outcome=Outcome.LOST, started_at=NOON, ended_at=NOON)
        assert task_as_dict(a_task(past_attempts=(attempt,)))["attempts"] == (attempt,)

    def test_it_can_be_written_as_json_whatever_phase_the_task_is_in(self):
        for phase in Phase:
            state = TaskState(status=Status.PENDING, phase=phase, priority=5)
            task = Task(seq=1, head=a_task().head, state=state, payload=Chat("m"))
            assert json.loads(to_json(task_as_dict(task)))["phase"] == phase

    def test_nothing_that_stands_for_an_omission_gets_out(self):
        assert not any(isinstance(value, Omitted) for value in task_as_dict(a_task()).values())
