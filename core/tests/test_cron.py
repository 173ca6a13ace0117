"""When cron entries are due, and what is submitted for them."""

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oq.codec import decode_as, encode, make_converter, structure
from oq.cron import (
    ON_TIME,
    CronEntry,
    CronState,
    Reason,
    Skipped,
    describe,
    fire,
    linked,
    missed,
    next_after,
    parse_schedule,
    parse_zone,
    plan,
    run_now,
    tasks_of,
    tick_key,
    upcoming,
)
from oq.cron.entry import HISTORY
from oq.cron.firing import MOST_COUNTED
from oq.errors import InvalidSchedule
from oq.task import TaskSpec

BERLIN = parse_zone("Europe/Berlin")
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def at(text):
    return datetime.fromisoformat(text).astimezone(UTC)


def local(text, zone="Europe/Berlin"):
    """The moments at which the schedule `text` is due, as the clocks of the zone show them."""
    return lambda after, count: [
        f"{moment.astimezone(parse_zone(zone)):%d. %H:%M %z}"
        for moment in upcoming(parse_schedule(text), at(after), count, parse_zone(zone))
    ]


START = at("2026-01-01T00:00Z")


# --- a slow and obvious reference ---------------------------------------------------------------------------------


NAMES = {
    3: dict(enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], start=1)),
    4: dict(enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])),
}
BOUNDS = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]


@st.composite
def items(draw, index):
    """One item of a field's list, with the values that it stands for."""
    low, high = BOUNDS[index]
    first, last = sorted(draw(st.tuples(st.integers(low, high), st.integers(low, high))))
    step = draw(st.integers(1, 6 if index == 4 else high - low))

    def name(value):
        return draw(st.sampled_from([str(value), NAMES.get(index, {}).get(value, str(value))]))

    match draw(st.sampled_from(["one", "one", "range", "stepped"])):
        case "one":
            return name(first), {first}
        case "range":
            return f"{name(first)}-{last}", set(range(first, last + 1))
        case _:
            return f"{first}-{name(last) if last != 0 else last}/{step}", set(range(first, last + 1, step))


@st.composite
def fields(draw, index):
    """A field's text, with the values that it stands for."""
    low, high = BOUNDS[index]
    high = 6 if index == 4 else high
    match draw(st.sampled_from(["*", "*", "*/", "list"])):
        case "*":
            return "*", set(range(low, high + 1))
        case "*/":
            step = draw(st.integers(1, high - low))
            return f"*/{step}", set(range(low, high + 1, step))
        case _:
            parts = draw(st.lists(items(index), min_size=1, max_size=3))
            return ",".join(text for text, _ in parts), set().union(*(values for _, values in parts))


naive_moments = st.datetimes(START.replace(tzinfo=None) - 20 * 365 * DAY, START.replace(tzinfo=None) + 15 * 365 * DAY)
expressions = st.tuples(*(fields(index) for index in range(5)))


def text_of(expression):
    return " ".join(text for text, _ in expression)


def possible(expression):
    """The schedule, or None where it could never be due: nothing else can be wrong with one of these."""
    try:
        return parse_schedule(text_of(expression))
    except InvalidSchedule as error:
        if "never be due" not in str(error):
            raise
    return None


def fits_day(expression, day):
    (day_text, days), (_, months), (weekday_text, weekdays) = expression[2:]
    by_day, by_weekday = day.day in days, day.isoweekday() % 7 in {value % 7 for value in weekdays}
    either = day_text[0] != "*" and weekday_text[0] != "*"
    return day.month in months and ((by_day or by_weekday) if either else (by_day and by_weekday))


def fits(expression, clock):
    (_, minutes), (_, hours) = expression[:2]
    return clock.minute in minutes and clock.hour in hours and fits_day(expression, clock)


def reference(expression, after, until, zone):
    """The first moment after `after`, minute by minute, with an eye on the clock on the wall."""
    by_real_time = expression[0][0][0] == "*" or expression[1][0][0] == "*"
    moment = after.replace(second=0, microsecond=0) - 26 * HOUR
    highest = moment.astimezone(zone).replace(tzinfo=None)
    while (moment := moment + MINUTE) <= until:
        clock = moment.astimezone(zone).replace(tzinfo=None)
        if by_real_time:
            due = moment > after and fits(expression, clock)
        else:  # each time that the clock has come to, or gone past, for the first time
            due = False
            while highest < clock:
                highest += MINUTE
                due = due or (moment > after and fits(expression, highest))
        if due:
            return moment
    return None


CHANGES = [
    ("UTC", "2026-03-29T01:00Z"),
    ("Asia/Kolkata", "2026-06-30T18:30Z"),
    ("Europe/Berlin", "2026-03-29T01:00Z"),
    ("Europe/Berlin", "2026-10-25T01:00Z"),
    ("America/New_York", "2026-03-08T07:00Z"),
    ("America/New_York", "2026-11-01T06:00Z"),
    ("America/St_Johns", "2010-11-07T02:31Z"),  # at one minute past midnight, so that the day before comes back
    ("Australia/Lord_Howe", "2026-04-04T15:00Z"),  # by half an hour
    ("Australia/Lord_Howe", "2026-10-03T15:30Z"),
    ("America/Sao_Paulo", "2018-11-04T03:00Z"),  # there is no midnight
    ("Pacific/Apia", "2011-12-30T10:00Z"),  # there is no 30 December
]


@settings(max_examples=300, deadline=None)
@given(expressions, st.sampled_from(CHANGES), st.integers(-30 * 60, 30 * 60), st.integers(0, 59))
def test_the_next_moment_is_the_one_that_a_slow_reference_finds(expression, change, minutes, seconds):
    zone, around = change
    after = at(around) + minutes * MINUTE + timedelta(seconds=seconds)
    schedule = possible(expression)
    if schedule is None:
        return
    until = after + 2 * DAY
    expected = reference(expression, after, until, parse_zone(zone))
    found = next_after(schedule, after, parse_zone(zone))
    assert found == expected or (expected is None and (found is None or found > until))


@settings(max_examples=300, deadline=None)
@given(expressions, naive_moments)
def test_the_next_day_is_the_one_that_a_walk_through_the_calendar_finds(expression, start):
    expression = (("0", {0}), ("0", {0}), *expression[2:])
    day = start.date()
    last = day + 60 * 365 * DAY
    while not fits_day(expression, day := day + DAY):
        if day > last:
            with pytest.raises(InvalidSchedule, match="never be due"):
                parse_schedule(text_of(expression))
            return
    found = next_after(parse_schedule(text_of(expression)), start.replace(tzinfo=UTC))
    assert found == datetime(day.year, day.month, day.day, tzinfo=UTC)


@settings(deadline=None)
@given(expressions, st.sampled_from(CHANGES), st.integers(-3000, 3000), st.integers(-3000, 3000))
def test_there_is_no_moment_between_a_moment_and_the_next(expression, change, one, other):
    zone, around = change
    one, other = sorted([at(around) + one * MINUTE, at(around) + other * MINUTE])
    schedule = possible(expression)
    if schedule is None:
        return
    first, second = (next_after(schedule, moment, parse_zone(zone)) for moment in (one, other))
    assert first is None or (first > one and second >= first and (first <= other or first == second))


# --- what a text means ---------------------------------------------------------------------------------------------


class TestText:
    @pytest.mark.parametrize(
        ("text", "same"),
        [
            ("@yearly", "0 0 1 1 *"),
            ("@annually", "0 0 1 1 *"),
            ("@monthly", "0 0 1 * *"),
            ("@weekly", "0 0 * * 0"),
            ("@daily", "0 0 * * *"),
            ("@midnight", "0 0 * * *"),
            ("@HOURLY", "0 * * * *"),
            ("0 9 * * MON-Fri", "0 9 * * 1-5"),
            ("0 9 * jan,DEC *", "0 9 * 1,12 *"),
            ("0 9 * * 7", "0 9 * * 0"),
            ("0 9 * * 5-7", "0 9 * * 5,6,0"),
            ("0 9 * * sat-sun", "0 9 * * 6,0"),
            ("0-59/20 * * * *", "*/20 * * * *"),
            ("5/20 * * * *", "5,25,45 * * * *"),
            ("  0   9 * *\t* ", "0 9 * * *"),
            ("55-59,0-4 * * * *", "0,1,2,3,4,55,56,57,58,59 * * * *"),
        ],
    )
    def test_several_ways_to_say_the_same(self, text, same):
        assert parse_schedule(text).fields == parse_schedule(same).fields

    def test_a_schedule_is_shown_as_it_was_written(self):
        assert str(parse_schedule("  0  9 * * MON ")) == "0 9 * * MON"

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "is empty; write five fields such as '0 9 * * 1-5'"),
            ("0 0 30 2 *", "day of month 30 does not exist in the month feb; choose a day up to 29, or other months"),
            ("0 0 31 4,jun *", "day of month 31 does not exist in the months apr, jun; choose a day up to 30"),
            ("0 0 31 2 */2", "would never be due"),
            ("0 0 9 * * 1-5", "has 6 fields; a schedule has five: minute, hour, day of month, month, day of week"),
            ("0 0 9 * * 1-5", "Seconds and years are not supported: leave them out, or write @every 30s"),
            ("0 0 9 * * ? 2026", "has 7 fields"),
            ("9 * *", "has 3 fields; a schedule has five"),
            ("@reboot", "submit the task when your program starts"),
            ("@dayly", "did you mean @daily?"),
            ("@daily 5", "is no nickname"),
            ("@teatime", "there are @yearly"),
            ("@every", "needs a duration from 1 s to 100 years, such as @every 5m"),
            ("@every 0.5s", "needs a duration from 1 s"),
            ("@every 40000d", "needs a duration"),
            ("@every soon", "needs a duration"),
            ("CRON_TZ=UTC 0 9 * * *", "give it as the entry's zone"),
            ("60 * * * *", "minute '60': 60 is not in 0-59"),
            ("0 24 * * *", "hour '24': 24 is not in 0-23"),
            ("0 0 0 * *", "day of month '0': 0 is not in 1-31"),
            ("0 0 * 13 *", "month '13': 13 is not in 1-12 or jan-dec"),
            ("0 0 * * 8", "day of week '8': 8 is not in 0-7 or sun-sat"),
            ("0 0 * * tues", "'tues' is not a value; did you mean tue?"),
            ("0 0 * * 5-1", "day of week '5-1': a range goes upwards; write 5-7,0-1 to go over the end"),
            ("0 22-2 * * *", "hour '22-2': a range goes upwards; write 22-23,0-2"),
            ("*/90 * * * *", "minute '*/90': a step is from 1 to 59; for longer ones write @every 90m"),
            ("0 */36 * * *", "hour '*/36': a step is from 1 to 23; for longer ones write @every 36h"),
            ("*/0 * * * *", "a step is from 1 to 59"),
            ("5,,7 * * * *", "minute '5,,7': a value is missing at a comma"),
            ("a-b-c * * * *", "write a number, a range such as 1-5"),
            ("-5 * * * *", "write a number, a range such as 1-5"),
            ("0 0 L * *", "day of month 'l': ? L W and # are not supported"),
            ("0 0 15W * *", "are not supported"),
            ("0 0 ? * 1", "day of month '?': ? L W and # are not supported; write * for any day"),
            ("0 0 * * mon#1", "day of week 'mon#1': ? L W and # are not supported"),
            ("h h * * *", "minute 'h': 'h' is not a value"),
        ],
    )
    def test_what_is_wrong_is_said_with_its_field_and_what_would_be_right(self, text, says):
        with pytest.raises(InvalidSchedule) as refused:
            parse_schedule(text)
        assert says in str(refused.value)
        assert {problem.path for problem in refused.value.problems} == {"schedule"}

    def test_everything_that_is_wrong_is_said_at_once(self):
        with pytest.raises(InvalidSchedule) as refused:
            parse_schedule("61 25 * foo 8")
        assert len(refused.value.problems) == 4

    @given(st.text(max_size=20) | st.from_regex(r"[0-9*/,@a-z -]{1,20}", fullmatch=True))
    def test_any_text_is_a_schedule_or_refused_with_a_sentence(self, text):
        try:
            schedule = parse_schedule(text)
        except InvalidSchedule:
            return
        assert next_after(schedule, START) is not None

    def test_a_day_that_exists_in_leap_years_alone_is_possible(self):
        assert next_after(parse_schedule("0 0 29 2 *"), at("2097-01-01T00:00Z")) == at("2104-02-29T00:00Z")

    @pytest.mark.parametrize(
        ("text", "phrase"),
        [
            ("@every 1h30m", "every 1 h 30 min"),
            ("*/5 * * * *", "every 5 minutes"),
            ("0 9 * * *", "every day at 09:00"),
            ("30 9 * * mon-fri", "at 09:30 on Monday to Friday"),
            ("0 9 * * 0,6", "at 09:00 on Sunday, Saturday"),
            ("@hourly", "at minute 0 of every hour"),
            ("0 0 1 * *", "0 0 1 * *"),
        ],
    )
    def test_a_schedule_can_be_told_to_people(self, text, phrase):
        assert describe(parse_schedule(text)) == phrase


class TestTheTwoDayFields:
    def test_where_both_are_restricted_either_will_do(self):
        assert local("0 0 13 * 5", "UTC")("2026-11-05T12:00Z", 4) == [
            "06. 00:00 +0000",
            "13. 00:00 +0000",
            "20. 00:00 +0000",
            "27. 00:00 +0000",
        ]
        assert local("0 0 14 * 5", "UTC")("2026-11-05T12:00Z", 3) == [
            "06. 00:00 +0000",
            "13. 00:00 +0000",
            "14. 00:00 +0000",
        ]

    def test_where_one_begins_with_a_star_both_must_fit(self):
        assert local("0 0 */2 * 5", "UTC")("2026-11-05T12:00Z", 2) == ["13. 00:00 +0000", "27. 00:00 +0000"]

    def test_a_day_that_never_comes_leaves_the_days_of_the_week(self):
        assert local("0 0 30 2 1", "UTC")("2026-02-22T12:00Z", 2) == ["23. 00:00 +0000", "01. 00:00 +0000"]


# --- zones and clocks that are changed -----------------------------------------------------------------------------


class TestClocksThatAreChanged:
    def test_a_time_that_is_left_out_in_spring_is_due_once_at_the_end_of_the_gap(self):
        assert local("30 2 * * *")("2026-03-27T12:00Z", 3) == ["28. 02:30 +0100", "29. 03:00 +0200", "30. 02:30 +0200"]

    def test_several_times_that_are_left_out_are_due_together_once(self):
        assert local("0,20,40 2,3 * * *")("2026-03-29T00:30Z", 3) == [
            "29. 03:00 +0200",
            "29. 03:20 +0200",
            "29. 03:40 +0200",
        ]

    def test_a_time_that_comes_twice_in_autumn_is_due_at_its_first_occurrence(self):
        assert local("30 2 * * *")("2026-10-24T12:00Z", 2) == ["25. 02:30 +0200", "26. 02:30 +0100"]

    def test_asked_between_the_two_occurrences_it_is_due_the_next_day(self):
        assert local("30 2 * * *")("2026-10-25T01:10Z", 1) == ["26. 02:30 +0100"]

    def test_what_begins_with_a_star_goes_on_by_real_time(self):
        assert local("*/30 * * * *")("2026-10-25T00:00Z", 4) == [
            "25. 02:30 +0200",
            "25. 02:00 +0100",
            "25. 02:30 +0100",
            "25. 03:00 +0100",
        ]
        assert local("0 * * * *")("2026-03-28T23:30Z", 3) == ["29. 01:00 +0100", "29. 03:00 +0200", "29. 04:00 +0200"]

    def test_the_second_pass_is_seen_though_the_next_time_that_fits_is_a_year_away(self):
        assert local("*/30 2 25 10 *")("2026-10-25T00:45Z", 3) == [
            "25. 02:00 +0100",
            "25. 02:30 +0100",
            "25. 02:00 +0200",
        ]

    def test_what_begins_with_a_star_does_not_make_up_for_a_gap(self):
        assert local("*/30 2 * * *")("2026-03-28T12:00Z", 1) == ["30. 02:00 +0200"]

    def test_half_an_hour_of_difference_is_no_other_matter(self):
        lord_howe = "Australia/Lord_Howe"
        assert local("15 2 * * *", lord_howe)("2026-10-03T12:00Z", 2) == ["04. 02:30 +1100", "05. 02:15 +1100"]
        assert local("45 1 * * *", lord_howe)("2026-04-04T12:00Z", 2) == ["05. 01:45 +1100", "06. 01:45 +1030"]

    def test_a_day_that_is_left_out_is_made_up_for_at_its_end(self):
        assert local("0 9 * * *", "Pacific/Apia")("2011-12-29T12:00Z", 3) == [
            "29. 09:00 -1000",
            "31. 00:00 +1400",
            "31. 09:00 +1400",
        ]

    def test_a_midnight_that_is_left_out_is_the_first_moment_of_the_day(self):
        assert local("@daily", "America/Sao_Paulo")("2018-11-03T12:00Z", 1) == ["04. 01:00 -0200"]

    def test_nine_in_the_morning_stays_nine_in_the_morning(self):
        moments = upcoming(parse_schedule("0 9 * * *"), at("2026-01-01T00:00Z"), 365, BERLIN)
        assert {moment.astimezone(BERLIN).hour for moment in moments} == {9}
        assert {moment.hour for moment in moments} == {7, 8}


class TestZones:
    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("berlin", "'berlin' is no time zone; did you mean Europe/Berlin?"),
            ("Europe/Berln", "did you mean Europe/Berlin"),
            ("New York", "did you mean America/New_York?"),
            ("Europe", "is no time zone"),
            ("../../etc/passwd", "is no time zone"),
            ("", "write it like Europe/Berlin or UTC"),
        ],
    )
    def test_an_unknown_one_is_refused_with_the_nearest_there_is(self, name, says):
        with pytest.raises(InvalidSchedule) as refused:
            parse_zone(name)
        assert says in str(refused.value)
        assert refused.value.problems[0].path == "zone"

    def test_where_no_zones_are_installed_the_error_says_what_to_install(self, monkeypatch):
        monkeypatch.setattr("oq.cron.schedule.available_timezones", set)
        with pytest.raises(InvalidSchedule, match="install the package tzdata"):
            parse_zone("Europe/Nowhere")

    def test_moments_are_in_utc_whatever_the_zone(self):
        found = next_after(parse_schedule("@daily"), at("2026-01-01T12:00+05:30"), parse_zone("Asia/Kolkata"))
        assert found == at("2026-01-01T18:30Z")
        assert found.tzinfo is UTC


class TestEvery:
    def test_it_is_due_at_its_anchor_and_at_each_whole_period_after_it(self):
        schedule, anchor = parse_schedule("@every 1h30m"), at("2026-01-01T00:07:30Z")
        assert upcoming(schedule, at("2025-12-01T00:00Z"), 3, anchor=anchor) == [
            anchor,
            anchor + 1.5 * HOUR,
            anchor + 3 * HOUR,
        ]

    @given(
        st.integers(1, 10**6),
        naive_moments,
        naive_moments,
    )
    def test_no_moment_drifts_however_often_it_is_asked_for(self, period, anchor, after):
        anchor, after = anchor.replace(tzinfo=UTC), after.replace(tzinfo=UTC)
        found = next_after(parse_schedule(f"@every {period}"), after, anchor=anchor)
        assert found > after
        assert found >= anchor
        assert (found - anchor) % timedelta(seconds=period) == timedelta(0)
        assert found == anchor or found - after <= timedelta(seconds=period)

    def test_the_clocks_of_a_zone_do_not_matter(self):
        schedule = parse_schedule("@every 1h")
        moments = upcoming(schedule, at("2026-10-24T22:30Z"), 5, BERLIN)
        assert {later - earlier for earlier, later in pairwise(moments)} == {HOUR}

    def test_spaces_between_its_parts_are_allowed(self):
        assert parse_schedule("@every 1h 30m").every == 1.5 * HOUR


class TestMissed:
    @given(
        st.sampled_from(["* * * * *", "*/7 * * * *", "0 9 * * 1-5", "@every 40m", "0 0 1 * *"]),
        st.integers(0, 20_000),
        st.integers(1, 30),
    )
    @settings(deadline=None)
    def test_they_are_the_newest_of_all(self, text, minutes, limit):
        schedule, last = parse_schedule(text), at("2026-03-20T00:00Z")
        now = last + minutes * MINUTE
        every_one = [moment for moment in upcoming(schedule, last, min(minutes, 3000) + 1, BERLIN) if moment <= now]
        if len(every_one) <= 3000:
            assert missed(schedule, last, now, limit, BERLIN)[-1:] == missed(schedule, last, now, 1, BERLIN)
        if minutes <= 3000:
            assert missed(schedule, last, now, limit, BERLIN) == every_one[-limit:]

    def test_a_hundred_years_of_minutes_cost_no_more_than_the_few_that_are_wanted(self):
        schedule = parse_schedule("* * * * *")
        now = at("2026-01-01T00:00:30Z")
        assert missed(schedule, now - 36500 * DAY, now, 2) == [at("2025-12-31T23:59Z"), at("2026-01-01T00:00Z")]

    def test_none_are_wanted_none_are_found(self):
        assert missed(parse_schedule("* * * * *"), at("2026-01-01T00:00Z"), at("2026-01-02T00:00Z"), 0) == []
        assert upcoming(parse_schedule("* * * * *"), at("2026-01-01T00:00Z"), 0) == []

    def test_none_are_missed_by_a_clock_that_stepped_back(self):
        assert missed(parse_schedule("* * * * *"), at("2026-01-02T00:00Z"), at("2026-01-01T00:00Z"), 5) == []


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("text", ["0 0 1 1 *", "*/5 0 1 1 *", "0 0 29 2 *", "@every 36500d"])
def test_the_end_of_the_calendar_is_the_end_of_a_schedule(text, zone):
    for month, day in ((6, 1), (12, 31)):
        after = datetime(9999, month, day, 23, 59, tzinfo=UTC)
        assert next_after(parse_schedule(text), after, parse_zone(zone)) is None
    assert next_after(parse_schedule("* * * * *"), datetime(9999, 12, 31, 23, 59, tzinfo=UTC), parse_zone(zone)) is None


def test_importing_cron_does_not_import_croniter():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, oq.cron; print('croniter' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"


# --- entries -------------------------------------------------------------------------------------------------------


def an_entry(schedule="0 * * * *", **more):
    fields = {
        "id": "e1",
        "name": "report",
        "schedule": schedule,
        "tasks": TaskSpec(executor="test", action="run", payload={"text": "for {{scheduled_at:%H:%M}}"}),
        "created_at": START,
    }
    return CronEntry(**(fields | more))


class TestEntry:
    def test_everything_that_is_wrong_is_said_with_its_path(self):
        with pytest.raises(InvalidSchedule) as refused:
            an_entry(
                "0 25 * * *",
                id="",
                zone="berlin",
                tasks=TaskSpec(executor="x", action="y", id="daily", payload={"a": ["{{sheduled_at}}"]}, run_at=START),
                overlap="queue",
                catch_up="some",
                catch_up_limit=0,
                start_at=START,
                end_at=START - DAY,
            )
        assert [problem.path for problem in refused.value.problems] == [
            "id",
            "schedule",
            "zone",
            "end_at",
            "overlap",
            "catch_up",
            "catch_up_limit",
            "tasks[0].payload.a[0]",
            "tasks[0].id",
            "tasks[0].run_at",
        ]
        assert "did you mean 'scheduled_at'?" in str(refused.value)

    @pytest.mark.parametrize(
        ("more", "says"),
        [
            ({"start_at": START.replace(tzinfo=None)}, "start_at: 2026-01-01T00:00:00 has no time zone; add Z"),
            ({"tasks": []}, "tasks: is empty"),
            ({"tasks": "run it"}, "tasks[0]: expected an object"),
            ({"tasks": {"executor": "x", "acton": "y"}}, "did you mean 'action'?"),
            ({"tasks": TaskSpec(executor="x", action="y", payload=object())}, "tasks[0].payload: cannot be stored"),
            ({"schedule": None}, "schedule: must be a text"),
            ({"catch_up_limit": True}, "catch_up_limit: must be a whole number from 1 to 1000"),
            ({"tasks": TaskSpec(executor="x", action="y", id="{{name}}")}, "would be the same at each firing"),
            ({"tasks": TaskSpec(executor="x", action="y", expires_at=START)}, "tasks[0].expires_at: would be the same"),
        ],
    )
    def test_what_could_never_work_is_refused(self, more, says):
        with pytest.raises(InvalidSchedule) as refused:
            an_entry(**more)
        assert says in str(refused.value)

    def test_the_template_may_be_one_task_or_several_as_specs_or_as_mappings(self):
        one = {"executor": "x", "action": "y"}
        assert an_entry(tasks=one).tasks == (TaskSpec(executor="x", action="y"),)
        assert an_entry(tasks=[one, TaskSpec(executor="z", action="y")]).tasks[1].executor == "z"

    def test_an_entry_comes_back_from_the_store_as_it_was(self):
        entry = an_entry(zone="Europe/Berlin", end_at=START + DAY, metadata={"a": [1]})
        assert decode_as(encode(entry), CronEntry) == entry

    def test_an_entry_can_be_read_from_what_people_send(self):
        data = {
            "id": "e1",
            "name": "report",
            "schedule": "@daily",
            "created_at": "2026-01-01T01:00:00+01:00",
            "tasks": [{"executor": "x", "action": "y", "priority": "high"}],
        }
        entry, problems = structure(make_converter(), data, CronEntry)
        assert not problems
        assert entry.created_at == START
        _, [problem] = structure(make_converter(), data | {"schedule": "@dayly"}, CronEntry)
        assert "did you mean @daily?" in str(problem)

    def test_a_state_comes_back_from_the_store_as_it_was(self):
        entry = an_entry(overlap="queue_one")
        state = fire(entry, plan(entry, CronState(), START), START + 3 * HOUR, 0).state
        assert decode_as(encode(state), CronState) == state


class TestTasks:
    def tick(self, entry, now=START + HOUR):
        [tick] = fire(entry, plan(entry, CronState(), now - MINUTE), now, 0).ticks
        return tick

    def test_every_string_is_filled_in_by_the_clocks_of_the_entry(self):
        spec = TaskSpec(
            executor="test",
            action="run",
            id="{{name}}-{{scheduled_at:%Y%m%d-%H%M}}",
            payload={"deep": [{"text": "run {{run_count}} at {{scheduled_at}}, before: {{last_at}}"}], "n": 3},
            tags=("day-{{scheduled_at:%d}}",),
            metadata={"fired": "{{fired_at:%H:%M:%S}}"},
            unique_key="{{id}}",
            group="{{name}}",
            after=("x-{{run_count}}",),
        )
        entry = an_entry(tasks=spec, zone="Europe/Berlin")
        now = START + HOUR + timedelta(seconds=2)
        [made] = tasks_of(entry, self.tick(entry, now))
        assert made == TaskSpec(
            executor="test",
            action="run",
            id="report-20260101-0200",
            payload={"deep": [{"text": "run 1 at 2026-01-01T02:00:00+01:00, before: "}], "n": 3},
            tags=("day-01",),
            metadata={"fired": "02:00:02"},
            unique_key="e1",
            group="report",
            after=("x-1",),
        )

    def test_a_moment_has_one_key_whoever_fires_it(self):
        entry = an_entry()
        state = plan(entry, CronState(), START)
        one, other = (fire(entry, state, START + HOUR + late, 0).ticks[0] for late in (0 * MINUTE, MINUTE))
        assert tick_key("e1", one) == tick_key("e1", other) == "cron:e1:at:2026-01-01T01:00:00+00:00"
        assert tick_key("e2", one) != tick_key("e1", one)

    def test_a_run_by_hand_has_another_key_than_the_moment_itself(self):
        entry = an_entry()
        [by_hand] = run_now(CronState(), START + HOUR).ticks
        assert tick_key("e1", by_hand) != tick_key("e1", self.tick(entry))


# --- firing --------------------------------------------------------------------------------------------------------


def started(entry, now=START):
    return plan(entry, CronState(), now)


def moments_of(firing):
    return [tick.scheduled_at for tick in firing.ticks]


def hours(*numbers):
    return [START + number * HOUR for number in numbers]


class TestFiring:
    def test_a_new_entry_waits_for_its_first_moment(self):
        assert started(an_entry()).next_at == START + HOUR

    def test_before_its_moment_nothing_happens_and_nothing_need_be_stored(self):
        entry = an_entry()
        state = started(entry)
        firing = fire(entry, state, START + 59 * MINUTE, 0)
        assert (firing.state is state, firing.ticks, firing.skipped) == (True, (), ())

    def test_at_its_moment_it_fires_and_plans_the_next(self):
        entry = an_entry()
        firing = fire(entry, started(entry), START + HOUR, 0)
        assert moments_of(firing) == hours(1)
        assert firing.state.next_at == START + 2 * HOUR
        assert (firing.state.run_count, firing.state.last_at) == (1, START + HOUR)

    def test_fired_again_at_once_it_does_nothing(self):
        entry = an_entry()
        state = fire(entry, started(entry), START + HOUR, 0).state
        assert fire(entry, state, START + HOUR, 0).state is state

    def test_a_clock_that_steps_back_fires_nothing_again(self):
        entry = an_entry()
        state = fire(entry, started(entry), START + HOUR, 0).state
        for now in (START, START - DAY, START + HOUR):
            assert fire(entry, state, now, 0).state is state

    def test_an_entry_that_was_never_planned_is_planned(self):
        firing = fire(an_entry(), CronState(), START, 0)
        assert (firing.ticks, firing.state.next_at) == ((), START + HOUR)

    def test_each_firing_knows_its_number_and_the_moment_before(self):
        entry = an_entry(catch_up="all", overlap="allow")
        first = fire(entry, started(entry), START + HOUR, 0)
        second = fire(entry, first.state, START + 3 * HOUR, 0)
        told = [(tick.run_count, tick.last_at) for tick in (*first.ticks, *second.ticks)]
        assert told == [(1, None), (2, START + HOUR), (3, START + 2 * HOUR)]

    def test_the_history_is_bounded_and_names_tasks(self):
        entry = an_entry(catch_up="all", overlap="allow")
        state = fire(entry, started(entry), START + 50 * HOUR, 0).state
        assert [fired.run_count for fired in state.history] == list(range(51 - HISTORY, 51))
        state = linked(state, {50: ["t1", "t2"], 3: ["gone"]})
        assert [fired.task_ids for fired in state.history[-2:]] == [(), ("t1", "t2")]

    def test_a_run_by_hand_leaves_the_schedule_as_it_is(self):
        entry = an_entry()
        state = started(entry)
        firing = run_now(state, START + MINUTE)
        assert [(tick.scheduled_at, tick.manual, tick.run_count) for tick in firing.ticks] == [
            (START + MINUTE, True, 1)
        ]
        assert (firing.state.next_at, firing.state.last_at, firing.state.run_count) == (state.next_at, None, 1)


class TestCatchUp:
    WEEK = START + 7 * DAY + 12 * HOUR

    def down_for_a_week(self, catch_up, **more):
        entry = an_entry("0 9 * * *", catch_up=catch_up, overlap="allow", **more)
        firing = fire(entry, started(entry), self.WEEK, 0)
        assert firing.state.next_at == START + 8 * DAY + 9 * HOUR
        return moments_of(firing), firing.skipped

    def test_none_makes_up_for_nothing(self):
        missed_ones = (Skipped(reason=Reason.MISSED, first_at=START + 9 * HOUR, count=8),)
        assert self.down_for_a_week("none") == ([], missed_ones)

    def test_latest_makes_up_for_the_newest(self):
        missed_ones = (Skipped(reason=Reason.MISSED, first_at=START + 9 * HOUR, count=7),)
        assert self.down_for_a_week("latest") == ([START + 7 * DAY + 9 * HOUR], missed_ones)

    def test_all_makes_up_for_each(self):
        assert self.down_for_a_week("all") == ([START + day * DAY + 9 * HOUR for day in range(8)], ())

    def test_all_up_to_a_limit_makes_up_for_the_newest(self):
        missed_ones = (Skipped(reason=Reason.MISSED, first_at=START + 9 * HOUR, count=5),)
        newest = [START + day * DAY + 9 * HOUR for day in (5, 6, 7)]
        assert self.down_for_a_week("all", catch_up_limit=3) == (newest, missed_ones)

    @pytest.mark.parametrize("late", [timedelta(0), timedelta(seconds=1), ON_TIME])
    def test_a_moment_that_has_just_come_was_not_missed(self, late):
        entry = an_entry(catch_up="none")
        assert moments_of(fire(entry, started(entry), START + HOUR + late, 0)) == hours(1)

    def test_a_moment_longer_ago_was(self):
        entry = an_entry(catch_up="none")
        assert moments_of(fire(entry, started(entry), START + HOUR + ON_TIME + timedelta(seconds=1), 0)) == []

    def test_missed_ones_are_left_out_but_not_the_one_that_has_just_come(self):
        entry = an_entry(catch_up="none")
        firing = fire(entry, started(entry), START + 5 * HOUR, 0)
        assert moments_of(firing) == hours(5)
        assert firing.state.skip_count == 4

    def test_more_than_a_hundred_are_not_counted(self):
        entry = an_entry("* * * * *")
        [skip] = fire(entry, started(entry), START + 3650 * DAY, 0).skipped
        assert skip.count == MOST_COUNTED


class TestOverlap:
    def test_skip_leaves_moments_out_while_tasks_are_not_final(self):
        entry = an_entry(overlap="skip")
        firing = fire(entry, started(entry), START + HOUR, 1)
        assert moments_of(firing) == []
        assert firing.skipped == (Skipped(reason=Reason.OVERLAP, first_at=START + HOUR, count=1),)
        assert moments_of(fire(entry, firing.state, START + 2 * HOUR, 0)) == hours(2)

    def test_allow_does_not_look(self):
        entry = an_entry(overlap="allow")
        assert moments_of(fire(entry, started(entry), START + HOUR, 7)) == hours(1)

    def test_queue_one_keeps_the_first_and_leaves_out_the_others(self):
        entry = an_entry(overlap="queue_one")
        state = started(entry)
        for hour in (1, 2, 3):
            firing = fire(entry, state, START + hour * HOUR, 1)
            assert not firing.ticks
            state = firing.state
        assert (state.waiting_at, state.skip_count) == (START + HOUR, 2)
        firing = fire(entry, state, START + 3.5 * HOUR, 0)
        assert moments_of(firing) == hours(1)
        assert (firing.state.waiting_at, firing.state.next_at) == (None, START + 4 * HOUR)

    def test_one_that_waits_goes_first_and_the_next_waits_then(self):
        entry = an_entry(overlap="queue_one")
        state = fire(entry, started(entry), START + HOUR, 1).state
        firing = fire(entry, state, START + 2 * HOUR, 0)
        assert moments_of(firing) == hours(1)
        assert firing.state.waiting_at == START + 2 * HOUR

    def test_while_one_waits_and_others_run_nothing_need_be_stored(self):
        entry = an_entry(overlap="queue_one")
        state = fire(entry, started(entry), START + HOUR, 1).state
        assert fire(entry, state, START + 1.5 * HOUR, 1).state is state

    def test_moments_that_are_made_up_for_overlap_each_other(self):
        for overlap, waiting in (("skip", []), ("queue_one", hours(2))):
            entry = an_entry(overlap=overlap, catch_up="all")
            firing = fire(entry, started(entry), START + 4 * HOUR, 0)
            assert moments_of(firing) == hours(1)
            assert [firing.state.waiting_at] == (waiting or [None])
            assert firing.state.skip_count == 3 - len(waiting)


class TestStartEndAndEnabling:
    def test_nothing_counts_before_the_start(self):
        entry = an_entry(start_at=START + 5 * HOUR)
        assert started(entry).next_at == START + 5 * HOUR

    def test_every_counts_from_the_start_or_from_when_the_entry_was_made(self):
        assert started(an_entry("@every 7m", start_at=START + 3 * MINUTE)).next_at == START + 3 * MINUTE
        assert started(an_entry("@every 7m")).next_at == START + 7 * MINUTE
        assert started(an_entry("@every 7m"), START + 20 * MINUTE).next_at == START + 21 * MINUTE

    def test_the_end_counts_and_nothing_after_it(self):
        entry = an_entry(end_at=START + 2 * HOUR)
        first = fire(entry, started(entry), START + HOUR, 0)
        second = fire(entry, first.state, START + 2 * HOUR, 0)
        assert moments_of(second) == hours(2)
        assert second.state.next_at is None
        assert fire(entry, second.state, START + 9 * DAY, 0).state is second.state

    def test_moments_before_the_end_are_made_up_for_after_it(self):
        entry = an_entry(end_at=START + 2 * HOUR, catch_up="all", overlap="allow")
        assert moments_of(fire(entry, started(entry), START + DAY, 0)) == hours(1, 2)

    def test_one_that_waits_is_submitted_after_the_end(self):
        entry = an_entry(end_at=START + HOUR, overlap="queue_one")
        state = fire(entry, started(entry), START + HOUR, 1).state
        assert state.next_at is None
        assert moments_of(fire(entry, state, START + DAY, 0)) == hours(1)

    def test_a_disabled_entry_does_not_fire_and_enabling_makes_up_for_nothing(self):
        entry = an_entry(catch_up="all", overlap="queue_one")
        off = evolve(entry, enabled=False)
        state = fire(entry, started(entry), START + HOUR, 1).state
        firing = fire(off, state, START + 3 * HOUR, 0)
        assert firing.ticks == ()
        assert firing.skipped == (Skipped(reason=Reason.DISABLED, first_at=START + HOUR, count=1),)
        assert fire(off, firing.state, START + 5 * HOUR, 0).state is firing.state
        again = fire(entry, firing.state, START + 9.5 * HOUR, 0)
        assert (again.ticks, again.state.next_at) == ((), START + 10 * HOUR)

    def test_enabling_after_a_clock_was_set_back_fires_nothing_again(self):
        entry = an_entry()
        state = fire(entry, started(entry), START + 5 * HOUR, 0).state
        assert plan(entry, state, START + 2 * HOUR).next_at == START + 6 * HOUR

    def test_one_that_waits_under_an_old_schedule_does_not_wait_under_a_new_one(self):
        entry = an_entry(overlap="queue_one")
        state = fire(entry, started(entry), START + HOUR, 1).state
        planned = plan(evolve(entry, schedule="@daily"), state, START + HOUR)
        assert (planned.waiting_at, planned.next_at) == (None, START + DAY)

    def test_a_disabled_entry_has_no_next_moment(self):
        assert started(an_entry(enabled=False)).next_at is None


# --- rules that hold whatever happens ------------------------------------------------------------------------------

entries = st.builds(
    partial(an_entry, zone="Europe/Berlin"),
    st.sampled_from(["*/10 * * * *", "0 * * * *", "30 2 * * *", "@every 7m", "15,45 1-3 * * *"]),
    overlap=st.sampled_from(["skip", "allow", "queue_one"]),
    catch_up=st.sampled_from(["none", "latest", "all"]),
    catch_up_limit=st.integers(1, 5),
    created_at=st.just(at("2026-10-24T18:00Z")),
    start_at=st.none() | st.just(at("2026-10-24T21:03Z")),
    end_at=st.none() | st.just(at("2026-10-25T02:00Z")),
)
calls = st.lists(
    st.tuples(st.sampled_from([0, 1, 5, 30, 90, 300, -1, -45, -200]), st.integers(0, 2)), min_size=1, max_size=40
)


def all_moments(entry, until):
    """Every moment of the entry from when it was made until then."""
    found, moment = [], entry.created_at
    while (moment := next_after(entry.parsed, moment, entry.clocks, entry.anchor)) is not None and moment <= until:
        if entry.start_at is None or moment >= entry.start_at:
            found.append(moment)
    return [moment for moment in found if entry.end_at is None or moment <= entry.end_at]


@settings(deadline=None)
@given(entries, calls)
def test_no_moment_is_submitted_twice_and_none_is_left_out_untold(entry, calls):
    """Whatever the clock does, and whenever it is called."""
    now = latest = entry.created_at
    state = plan(entry, CronState(), now)
    submitted, left_out = [], 0
    for minutes, running in calls:
        now += minutes * MINUTE
        latest = max(latest, now)
        firing = fire(entry, state, now, running)
        assert all(skip.count < MOST_COUNTED for skip in firing.skipped)
        assert not firing.ticks or entry.overlap == "allow" or (running == 0 and len(firing.ticks) == 1)
        submitted += moments_of(firing)
        left_out += sum(skip.count for skip in firing.skipped)
        state = firing.state
    every_one = all_moments(entry, latest)
    assert submitted == sorted(set(submitted))
    assert set(submitted) <= set(every_one)
    waiting = 0 if state.waiting_at is None else 1
    assert len(submitted) + left_out + waiting == len(every_one)
    assert (state.run_count, state.skip_count) == (len(submitted), left_out)
    assert state.next_at is None or state.next_at > latest


@settings(deadline=None)
@given(entries, calls)
def test_with_all_and_allow_each_moment_is_submitted_in_its_turn(entry, calls):
    entry = evolve(entry, overlap="allow", catch_up="all", catch_up_limit=1000)
    now = latest = entry.created_at
    state, submitted = plan(entry, CronState(), now), []
    for minutes, running in calls:
        now += minutes * MINUTE
        latest = max(latest, now)
        firing = fire(entry, state, now, running)
        submitted += moments_of(firing)
        state = firing.state
    assert submitted == all_moments(entry, latest)


@settings(deadline=None)
@given(entries, st.lists(st.tuples(st.integers(-90, 200), st.integers(0, 1), st.booleans()), max_size=30))
@example(an_entry("* * * * *"), [(5, 0, True), (1, 0, False), (-3, 0, True), (2, 0, True)])
def test_enabling_and_disabling_never_submits_a_moment_twice_or_one_of_the_disabled_time(entry, calls):
    now = entry.created_at
    state, submitted = plan(entry, CronState(), now), []
    enabled_since = now
    for minutes, running, enabled in calls:
        before, now = now, now + minutes * MINUTE
        if enabled and not entry.enabled:
            enabled_since = min(before, now)
        entry = evolve(entry, enabled=enabled)
        firing = fire(entry, state, now, running)
        assert enabled or not firing.ticks
        assert all(moment > enabled_since for moment in moments_of(firing)) or minutes < 0
        submitted += moments_of(firing)
        state = firing.state
    assert submitted == sorted(set(submitted))


@given(entries, st.integers(0, 600), st.integers(0, 2))
@settings(deadline=None)
def test_two_who_fire_from_one_state_say_the_same(entry, minutes, running):
    state, now = plan(entry, CronState(), entry.created_at), entry.created_at + minutes * MINUTE
    one, other = fire(entry, state, now, running), fire(entry, decode_as(encode(state), CronState), now, running)
    assert one == other


def test_the_program_of_the_docs_runs(capsys):
    text = (Path(__file__).parents[2] / "docs" / "cron.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(code, {})
    assert capsys.readouterr().out.splitlines() == [
        "at 09:30 on Monday to Friday",
        "2026-03-27 08:30:00+00:00",
        "2026-03-30 07:30:00+00:00",
        "2026-03-31 07:30:00+00:00",
    ]
