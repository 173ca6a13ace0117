"""Fields in the strings of a template."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oq.errors import Problem
from oq.templates import fields_in, problems, render

FIELDS = {"scheduled_at": datetime, "run_count": int, "name": str}
VALUES = {"scheduled_at": datetime(2026, 1, 31, 9, 5, tzinfo=UTC), "run_count": 7, "name": "daily"}

texts = st.text(max_size=12) | st.text("{}%:_ abname", max_size=24)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("no field", "no field"),
        ("{{name}}", "daily"),
        ("{{ name }}!", "daily!"),
        ("{{name}}{{run_count}}", "daily7"),
        ("{{scheduled_at}}", "2026-01-31T09:05:00+00:00"),
        ("{{scheduled_at:%Y-%m-%d}}", "2026-01-31"),
        ("{{scheduled_at:%H:%M}}", "09:05"),
        ("{{scheduled_at:%d. %B, 100%%}}", "31. January, 100%"),
        ("{{{{name}}", "{{name}}"),
        ("{{{{ {{name}}", "{{ daily"),
        ('{"a":{"n":{{run_count}}}}', '{"a":{"n":7}}'),
        ('{"a":{"b":{"c":1}}}', '{"a":{"b":{"c":1}}}'),
        ("{{{run_count}}}", "{7}"),
        ("{name} %Y {}", "{name} %Y {}"),
        ("a }} b }}}} c", "a }} b }}}} c"),
    ],
)
def test_a_field_is_replaced_and_the_rest_stays(text, filled):
    assert problems(text, FIELDS) == []
    assert render(text, VALUES) == filled


def test_a_value_that_is_not_there_is_filled_in_as_nothing():
    assert render("before: {{scheduled_at:%Y}}.", {"scheduled_at": None}) == "before: ."


def test_every_string_is_filled_in_however_deep_and_nothing_else_changes():
    value = {"a": ["{{name}}", 1, None, {"b": ("{{run_count}}", b"{{name}}", 1.5)}], "{{name}}": True}
    assert render(value, VALUES) == {"a": ["daily", 1, None, {"b": ("7", b"{{name}}", 1.5)}], "{{name}}": True}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{nam}}", "unknown field 'nam'; did you mean 'name'?; write {{{{ for two braces"),
        ("{{x}}", "unknown field 'x' (known: name, run_count, scheduled_at)"),
        ("{{name.upper()}}", "unknown field 'name.upper()'"),
        ("{{name.__class__}}", "unknown field 'name.__class__'"),
        ("{{name[0]}}", "unknown field 'name[0]'"),
        ("{{1 + 1}}", "unknown field '1 + 1'"),
        ("{{}}", "unknown field ''"),
        ("{{name", "is not closed; write {{{{ for two braces"),
        ("{{name}", "is not closed"),
        ("{{{name}", "is not closed"),
        ("{{name:%Y}}", "'name' is no moment and takes no format; write {{name}}"),
        ("{{run_count:03}}", "'run_count' is no moment"),
        ("{{scheduled_at:}}", "the format '' shows nothing of the moment; write it like %Y-%m-%d"),
        ("{{scheduled_at:YYYY}}", "the format 'YYYY' shows nothing"),
        ("{{scheduled_at:%Q}}", "%Q is not a part of a moment in the format '%Q'"),
        ("{{scheduled_at:%Y%}}", "% is not a part of a moment"),
        ("{{scheduled_at:%c}}", "%c is not a part of a moment"),
    ],
)
def test_what_is_wrong_is_said_before_it_is_filled_in(text, says):
    [problem] = problems(text, FIELDS)
    assert says in problem.message


def test_what_is_wrong_is_said_with_its_place():
    value = {"messages": [{"text": "{{name}}"}, {"text": "{{nam}}"}], "prompt": "{{x}} {{y}}"}
    assert [problem.path for problem in problems(value, FIELDS)] == ["messages[1].text", "prompt", "prompt"]
    assert problems("{{", FIELDS) == [
        Problem("", "a field that begins with {{ is not closed; write {{{{ for two braces that are meant as such")
    ]


def test_the_fields_that_are_used_can_be_told():
    assert fields_in(["{{name}}", {"a": "{{ scheduled_at:%Y }}", "b": "{{{{run_count}}"}]) == {"name", "scheduled_at"}


@given(values)
def test_what_has_nothing_wrong_can_be_filled_in(value):
    if not problems(value, FIELDS):
        render(value, VALUES)


@given(values)
def test_a_value_without_two_opening_braces_stays_as_it_is(value):
    if "{{" not in repr(value):
        assert problems(value, FIELDS) == []
        assert render(value, VALUES) == value


@given(st.text())
def test_any_text_can_be_written_with_escapes(text):
    """Three braces in a row need the third apart: an escape takes four."""
    if "{{{" not in text:
        escaped = text.replace("{{", "{{{{")
        assert problems(escaped, FIELDS) == []
        assert render(escaped, VALUES) == text


@given(texts)
def test_what_is_filled_in_is_not_looked_at_again(name):
    assert render("<{{name}}>", {"name": name}) == f"<{name}>"


@given(st.sampled_from("aAbBdeDfFGHIjmMpSTuUVwWyYzZ%"), st.datetimes(datetime(1970, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_every_part_of_a_moment_that_is_allowed_is_shown(letter, moment):
    text = f"{{{{scheduled_at:%{letter}}}}}"
    assert problems(text, FIELDS) == []
    assert "%" + letter not in render(text, {"scheduled_at": moment}).replace("%%", "") or letter == "%"
