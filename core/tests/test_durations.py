"""Durations are read as people write them, and shown so that people can read them."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oq.durations import parse_duration, show_duration

SECONDS_IN = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}


class TestParsing:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("90", 90),
            ("1.5", 1.5),
            ("0", 0),
            ("250ms", 0.25),
            ("1.5s", 1.5),
            ("5m", 300),
            ("2h", 7200),
            ("1d", 86400),
            ("1h30m", 5400),
            ("1d2h3m4s5ms", 93784.005),
            (" 2H ", 7200),
        ],
    )
    def test_it_is_read_as_written(self, text, seconds):
        assert parse_duration(text) == pytest.approx(seconds)

    @pytest.mark.parametrize(
        "text",
        ["", "soon", "-5", "5x", "m5", "5 m", "1h-30m", "inf", "nan", "1e999", "9" * 400 + "d", "0x10", "1:30"],
    )
    def test_anything_else_is_refused_with_examples(self, text):
        with pytest.raises(ValueError, match=r"is not a duration; write 90, 1\.5s, 5m, 2h or 1h30m"):
            parse_duration(text)

    @given(st.floats(0, 1e15))
    def test_a_number_means_seconds(self, seconds):
        assert parse_duration(repr(seconds)) == seconds

    @given(st.text())
    def test_no_text_gives_anything_but_a_finite_time_or_an_error(self, text):
        try:
            seconds = parse_duration(text)
        except ValueError:
            return
        assert 0 <= seconds < math.inf


class TestShowing:
    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0, "0 ms"),
            (0.0123, "12 ms"),
            (0.9996, "1.0 s"),
            (1, "1.0 s"),
            (59.94, "59.9 s"),
            (59.96, "1 min 0 s"),
            (90, "1 min 30 s"),
            (3599.7, "1 h 0 min"),
            (5400, "1 h 30 min"),
            (47 * 3600, "47 h 0 min"),
            (48 * 3600, "2 d 0 h"),
            (100 * 86400, "100 d 0 h"),
        ],
    )
    def test_it_has_at_most_two_units(self, seconds, text):
        assert show_duration(seconds) == text

    @given(st.floats(0, 1e9))
    def test_no_unit_overflows_into_the_next(self, seconds):
        limits = {"ms": 1000, "s": 60, "min": 60, "h": 48}
        for number, unit in re.findall(r"([\d.]+) (\w+)", show_duration(seconds)):
            assert float(number) < limits.get(unit, math.inf)

    @given(st.floats(1, 1e9))
    def test_it_tells_the_duration_to_within_a_fiftieth(self, seconds):
        shown = sum(
            float(number) * SECONDS_IN[unit] for number, unit in re.findall(r"([\d.]+) (\w+)", show_duration(seconds))
        )
        assert shown == pytest.approx(seconds, rel=0.05)
