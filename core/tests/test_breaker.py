"""When an endpoint that fails is left alone, for how long, and what makes it well again."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oq.breaker import Breaker, Health, RestPolicy

POLICY = RestPolicy(after_failures=3, rest=5, longest_rest=12)


@pytest.fixture
def breaker():
    return Breaker(policy=POLICY)


def test_a_few_failures_are_forgiven(breaker):
    """It rests after as many failures in a row as the policy says, no sooner."""
    for _ in range(2):
        breaker.failed(0, "broken")
    assert breaker.health(0) is Health.HEALTHY
    breaker.failed(0, "broken")
    assert (breaker.health(0), breaker.health(4.9), breaker.health(5)) == (Health.RESTING, Health.RESTING, Health.TRIED)


def test_an_answer_between_starts_the_count_anew(breaker):
    for _ in range(10):
        breaker.failed(0, "broken")
        breaker.failed(0, "broken")
        breaker.answered(0)
    assert breaker.health(0) is Health.HEALTHY


def test_one_that_is_not_there_rests_at_once(breaker):
    breaker.unreachable(0, "refused")
    assert breaker.health(0) is Health.RESTING
    assert breaker.last_error == "refused"


def test_a_failure_while_it_is_tried_ends_the_trial_and_doubles_the_rest(breaker):
    breaker.unreachable(0, "refused")
    rests = []
    now = 5.0
    for _ in range(4):
        breaker.failed(now, "broken")
        rests.append(breaker.until - now)
        now = breaker.until
    assert rests == [10, 12, 12, 12]


def test_an_answer_while_it_is_tried_makes_it_healthy(breaker):
    breaker.unreachable(0, "refused")
    breaker.answered(0)
    assert (breaker.health(0), breaker.last_error) == (Health.HEALTHY, "")
    breaker.unreachable(100, "refused")
    assert breaker.until == 105


def test_one_that_looks_well_is_tried_sooner_but_is_not_healthy(breaker):
    breaker.unreachable(0, "refused")
    breaker.looks_well(1)
    assert breaker.health(1) is Health.TRIED
    breaker.answered(1)
    breaker.looks_well(2)
    assert breaker.health(2) is Health.HEALTHY


def test_an_answer_to_what_it_was_asked_before_its_rest_does_not_end_it(breaker):
    breaker.busy(5, 30, "too many requests")
    breaker.answered(4)
    assert breaker.health(5) is Health.RESTING
    breaker.answered(5)
    assert breaker.health(5) is Health.HEALTHY


def test_several_tasks_that_meet_one_outage_make_the_rest_no_longer(breaker):
    for _ in range(4):
        breaker.unreachable(0, "refused")
    assert breaker.until == 5


def test_a_busy_one_is_left_alone_for_as_long_as_it_asks(breaker):
    breaker.busy(0, 30, "too many requests")
    assert (breaker.health(29), breaker.health(30)) == (Health.RESTING, Health.TRIED)
    breaker.busy(0, 3, "too many requests")
    assert breaker.until == 30


@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from(["answered", "failed", "unreachable", "busy", "well"]))))
def test_no_rest_is_longer_than_the_longest_and_each_ends(steps):
    """Whatever happens, the endpoint gets another chance within the longest rest (or what it asked for)."""
    breaker, now = Breaker(policy=POLICY), 0.0
    for seconds, what in steps:
        now += seconds
        match what:
            case "answered":
                breaker.answered(now)
                assert breaker.health(now) is Health.HEALTHY
            case "failed":
                breaker.failed(now, "broken")
            case "unreachable":
                breaker.unreachable(now, "refused")
            case "busy":
                breaker.busy(now, 7, "busy")
            case "well":
                breaker.looks_well(now)
                assert breaker.health(now) is not Health.RESTING
        assert breaker.health(math.inf) is not Health.RESTING
        assert breaker.until is None or breaker.until - now <= POLICY.longest_rest
