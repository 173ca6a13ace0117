"""Ids sort by the moment they were made, and no two are the same whatever the clock does."""

import random
import re
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from oq.admission import _PLAIN_ID
from oq.ids import IdMaker

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
moments = st.datetimes(datetime(1960, 1, 1), datetime(2999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # made aware
steps = st.lists(st.integers(-5_000, 5_000).map(lambda ms: timedelta(milliseconds=ms)), max_size=50)


def maker(seed=0):
    return IdMaker(random.Random(seed))


def test_an_id_is_sixteen_letters_and_digits_that_cannot_be_mistaken():
    assert re.fullmatch(r"[0-9a-hjkmnp-tv-z]{16}", maker()(NOON))


@given(moments)
def test_an_id_is_one_that_a_user_could_have_chosen_too(now):
    made = maker()(now)
    assert len(made) == 16
    assert _PLAIN_ID.fullmatch(made)


@given(st.integers(2, 500))
def test_while_the_clock_stands_still_ids_are_unique_and_sorted(count):
    make = maker()
    made = [make(NOON) for _ in range(count)]
    assert made == sorted(set(made))


@given(moments, steps)
def test_when_the_clock_steps_back_and_forth_ids_stay_unique_and_sorted(now, steps):
    make = maker()
    made = [make(now)]
    for step in steps:
        now += step
        made.append(make(now))
    assert made == sorted(set(made))


@given(moments, moments)
def test_ids_of_different_processes_sort_by_their_milliseconds(one, other):
    one, other = sorted((one, other))
    if one.year >= 1970 and other - one >= timedelta(milliseconds=1):
        assert maker(1)(one) < maker(2)(other)


def test_processes_that_submit_in_the_same_millisecond_hardly_meet():
    made = [IdMaker()(NOON) for _ in range(1_000)]
    assert len(set(made)) == 1_000
