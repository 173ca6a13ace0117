"""Which HTTP answers are worth another attempt, and what `Retry-After` says about its moment."""

import math
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oq import retry_after, retryable_status

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
YEARS_100 = 100 * 365 * 86400
MOMENTS = st.integers(-YEARS_100, 60 * YEARS_100).map(lambda seconds: NOW + timedelta(seconds=seconds))


class TestStatuses:
    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
    def test_what_may_pass_is_worth_another_attempt(self, status):
        assert retryable_status(status)

    @pytest.mark.parametrize("status", [200, 204, 301, 400, 401, 403, 404, 409, 410, 422, 425, 499, 600])
    def test_what_a_repetition_does_not_change_is_not(self, status):
        assert not retryable_status(status)

    @given(st.integers(100, 999), st.sets(st.integers(100, 999)))
    def test_an_executor_can_add_to_them_and_take_nothing_away(self, status, also):
        assert retryable_status(status, also) == (retryable_status(status) or status in also)


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("0", 0),
            ("120", 120),
            (" 120 ", 120),
            ("1.5", 1.5),
            ("007", 7),
            ("Sun, 22 Nov 2026 12:00:30 GMT", 30),
            ("Sunday, 22-Nov-26 12:00:30 GMT", 30),
            ("Sun Nov 22 12:00:30 2026", 30),
            ("Thu Dec  3 12:00:00 2026", 11 * 86400),
            ("Sun, 22 Nov 2026 11:59:59 GMT", 0),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 0),
            ("Sun, 22 Nov 2026 12:00:60 GMT", 59),
        ],
    )
    def test_it_is_read_in_every_form_that_http_knows(self, value, seconds):
        assert retry_after(value, NOW) == seconds

    @pytest.mark.parametrize(
        "value",
        [
            None,
            "",
            "soon",
            "-1",
            "-0.5",
            "+5",
            "1e3",
            "1_000",
            ".5",
            "5.",
            "5 s",
            "٣",
            "inf",
            "nan",
            "9" * 400,
            "Sun, 32 Nov 2026 12:00:00 GMT",
            "Sun, 22 Nov 2026 24:00:00 GMT",
            "Sun, 22 Nov 0000 12:00:00 GMT",
            "Sun, 22 Nov 2026 12:00:00",
            "Sun, 22 Nov 2026 12:00:00 +0100",
            "2026-11-22T12:00:00Z",
        ],
    )
    def test_what_makes_no_sense_says_nothing(self, value):
        assert retry_after(value, NOW) is None

    @given(st.floats(0, 1e15))
    def test_seconds_are_as_they_are(self, seconds):
        assert retry_after(f"{seconds:f}", NOW) == pytest.approx(seconds, abs=1e-6)

    @given(MOMENTS, MOMENTS, st.integers(-23, 23))
    def test_a_date_means_the_time_until_it_wherever_now_is_told_from(self, moment, now, hours):
        local = now.astimezone(timezone(timedelta(hours=hours)))
        assert retry_after(format_datetime(moment, usegmt=True), local) == max(0.0, (moment - now).total_seconds())

    @given(MOMENTS, st.integers(-49, 50), st.integers(1, 28))
    @example(NOW, 50, 1)
    @example(NOW, -49, 1)
    def test_a_year_of_two_digits_is_the_one_that_is_near(self, now, years, day):
        then = datetime(now.year + years, 6, day, 1, 2, 3, tzinfo=UTC)
        text = f"Sunday, {day:02}-Jun-{then.year % 100:02} 01:02:03 GMT"
        assert retry_after(text, now) == max(0.0, (then - now).total_seconds())

    @given(st.text())
    def test_no_text_gives_anything_but_a_finite_time_or_nothing(self, text):
        seconds = retry_after(text, NOW)
        assert seconds is None or 0 <= seconds < math.inf
