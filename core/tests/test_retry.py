"""When a failed attempt is repeated."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from oq.codec import decode_as, encode
from oq.retry import LONGEST_DELAY, NO_RETRY, RetryPolicy, next_delay
from oq.task import Failure

BROKEN = Failure(type="Broken", message="it broke")

finite = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 2**63 - 1),
    delay=finite | st.integers(0, 10**9),
    factor=st.floats(min_value=1, allow_nan=False, allow_infinity=False) | st.integers(1, 100),
    max_delay=finite | st.integers(0, 10**9),
    jitter=st.floats(0, 1),
)
attempts = st.integers(1, 2**63 - 1)
chances = st.floats(0, 1, exclude_max=True)
failures = st.builds(
    Failure,
    type=st.just("Broken"),
    message=st.just("it broke"),
    retryable=st.booleans(),
    retry_after=st.none() | st.floats(),
)


def test_waits_double_from_a_second_on():
    policy = RetryPolicy(max_attempts=9, delay=1.0, factor=2.0, max_delay=20.0, jitter=0)
    assert [next_delay(policy, attempt, BROKEN, 0.5) for attempt in range(1, 10)] == [1, 2, 4, 8, 16, 20, 20, 20, None]


def test_three_attempts_in_all_unless_the_policy_says_otherwise():
    assert [next_delay(RetryPolicy(), attempt, BROKEN, 0.0) is None for attempt in (1, 2, 3)] == [False, False, True]


def test_no_retry_means_one_attempt():
    assert next_delay(NO_RETRY, 1, BROKEN, 0.0) is None


@given(policies, attempts, chances)
def test_there_is_no_attempt_beyond_the_last(policy, attempt, chance):
    assert (next_delay(policy, attempt, BROKEN, chance) is None) == (attempt >= policy.max_attempts)


@given(policies, attempts, chances, st.none() | st.floats())
def test_a_failure_that_a_retry_cannot_mend_is_the_end_whatever_it_asks_for(policy, attempt, chance, retry_after):
    hopeless = evolve(BROKEN, retryable=False, retry_after=retry_after)
    assert next_delay(policy, attempt, hopeless, chance) is None


@given(policies, attempts, attempts)
def test_without_jitter_a_later_attempt_never_waits_less(policy, one, other):
    waits = [next_delay(evolve(policy, jitter=0), attempt, BROKEN, 0.5) for attempt in sorted((one, other))]
    assert None in waits or waits[0] <= waits[1]


@given(policies, attempts, chances)
def test_no_wait_is_longer_than_the_policy_allows(policy, attempt, chance):
    wait = next_delay(policy, attempt, BROKEN, chance)
    assert wait is None or 0 <= wait <= policy.max_delay


@given(policies, attempts, chances)
def test_jitter_takes_off_at_most_its_share_and_adds_nothing(policy, attempt, chance):
    wait = next_delay(policy, attempt, BROKEN, chance)
    plain = next_delay(evolve(policy, jitter=0), attempt, BROKEN, chance)
    if wait is not None:
        assert plain * (1 - policy.jitter) <= wait * (1 + 1e-9) + 1e-300
        assert wait <= plain


def test_jitter_spreads_the_waits_over_its_whole_share():
    policy = RetryPolicy(delay=100.0, jitter=0.25)
    assert next_delay(policy, 1, BROKEN, 0.0) == 100
    assert next_delay(policy, 1, BROKEN, 0.5) == 87.5
    assert next_delay(policy, 1, BROKEN, 0.999999) == pytest.approx(75, abs=0.001)


@given(policies, attempts, chances, st.floats(0, LONGEST_DELAY))
def test_a_failure_that_asks_for_time_gets_at_least_that_much_even_beyond_the_maximum(policy, attempt, chance, asked):
    wait = next_delay(policy, attempt, evolve(BROKEN, retry_after=asked), chance)
    assert wait is None or wait == max(asked, next_delay(policy, attempt, BROKEN, chance))


@given(policies, attempts, failures, chances)
def test_a_wait_always_ends_at_a_moment_that_can_be_told(policy, attempt, failure, chance):
    """Nothing overflows, whatever a policy or a server says."""
    wait = next_delay(policy, attempt, failure, chance)
    if wait is not None:
        assert 0 <= wait <= LONGEST_DELAY
        assert datetime(2100, 1, 1, tzinfo=UTC) + timedelta(seconds=wait)


@given(policies, attempts, failures, chances)
def test_the_same_arguments_give_the_same_wait(policy, attempt, failure, chance):
    assert next_delay(policy, attempt, failure, chance) == next_delay(policy, attempt, failure, chance)


def test_a_policy_without_a_wait_never_waits():
    policy = RetryPolicy(max_attempts=10_000, delay=0.0, factor=10.0)
    assert {next_delay(policy, attempt, BROKEN, 0.5) for attempt in range(1, 10_000)} == {0.0}


@given(policies)
def test_a_policy_comes_back_from_the_store_as_it_was(policy):
    assert decode_as(encode(policy), RetryPolicy) == policy


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_attempts", 0),
        ("max_attempts", 2.5),
        ("max_attempts", "3"),
        ("max_attempts", True),
        ("max_attempts", math.inf),
        ("delay", -1.0),
        ("delay", math.nan),
        ("delay", math.inf),
        ("factor", 0.5),
        ("factor", math.inf),
        ("max_delay", -0.1),
        ("max_delay", math.inf),
        ("jitter", 1.1),
        ("jitter", -0.1),
        ("jitter", math.nan),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=f"'{field}' must be"):
        RetryPolicy(**{field: value})
