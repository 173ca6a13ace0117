"""The task model, and what can be asked about it."""

import math
from datetime import UTC, datetime, timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oq.codec import decode_as, encode
from oq.events import EventKind, event_of
from oq.query import TaskFilter
from oq.task import (
    OMITTED,
    Attempt,
    Failure,
    Outcome,
    Phase,
    Priority,
    Status,
    Task,
    TaskHead,
    TaskSpec,
    TaskState,
    effective_timeout,
)

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=90)

moments = st.datetimes(timezones=st.just(UTC))


def a_head(**fields):
    return TaskHead(
        **{"id": "t1", "executor": "test", "action": "run", "queue": "default", "lane": "test", "submitted_at": NOON}
        | fields
    )


def a_state(**fields):
    return TaskState(**{"status": Status.PENDING, "phase": Phase.READY, "priority": Priority.NORMAL} | fields)


def a_task(*, paused=False, past_attempts=(), head=None, **state):
    return Task(seq=7, head=head or a_head(), state=a_state(**state), paused=paused, past_attempts=past_attempts)


def a_failed_attempt(epoch=1):
    return Attempt(
        epoch=epoch,
        number=epoch,
        outcome=Outcome.FAILED,
        started_at=NOON,
        ended_at=LATER,
        failure=Failure(type="Broken", message="it broke"),
    )


class TestPriority:
    def test_the_numbers_are_those_that_users_know(self):
        assert {priority.name.lower(): priority.value for priority in Priority} == {
            "low": 1,
            "normal": 5,
            "high": 10,
            "critical": 15,
        }

    @given(st.sampled_from(Priority), st.lists(st.booleans(), min_size=8, max_size=8))
    def test_a_name_is_understood_in_any_case(self, priority, upper):
        letters = zip(priority.name, upper, strict=False)
        name = "".join(letter.upper() if up else letter.lower() for letter, up in letters)
        assert Priority.parse(name) is priority

    @given(st.integers())
    def test_a_number_is_understood_only_if_it_is_exactly_one_of_the_four(self, number):
        if number in {1, 5, 10, 15}:
            assert Priority.parse(number) == Priority.parse(str(number)) == number
        else:
            with pytest.raises(ValueError, match="is not a priority; use one of low"):
                Priority.parse(number)
            with pytest.raises(ValueError, match="is not a priority"):
                Priority.parse(str(number))

    @given(st.floats() | st.booleans() | st.none() | st.binary() | st.lists(st.integers()))
    def test_nothing_else_is_a_priority(self, value):
        with pytest.raises(ValueError, match="is not a priority"):
            Priority.parse(value)

    @given(st.text().filter(lambda text: not text.strip().isdecimal()))
    def test_no_other_name_is_a_priority(self, name):
        if name.upper() not in {"LOW", "NORMAL", "HIGH", "CRITICAL"}:
            with pytest.raises(ValueError, match="is not a priority"):
                Priority.parse(name)

    def test_a_priority_is_itself(self):
        assert Priority.parse(Priority.HIGH) is Priority.HIGH

    def test_the_refusal_says_what_would_be_right(self):
        with pytest.raises(ValueError, match=r"'urgent'.*low \(1\), normal \(5\), high \(10\), critical \(15\)"):
            Priority.parse("urgent")

    def test_a_spec_takes_a_priority_as_people_write_it(self):
        assert TaskSpec(executor="test", action="run", priority="High").priority is Priority.HIGH

    def test_a_spec_refuses_a_priority_that_there_is_not(self):
        with pytest.raises(ValueError, match="7 is not a priority"):
            TaskSpec(executor="test", action="run", priority=7)


class TestStatus:
    def test_the_last_three_are_final(self):
        assert [status.value for status in Status if status.final] == ["completed", "failed", "cancelled"]
        assert [status.value for status in Status if not status.final] == ["pending", "running"]


class TestSpec:
    def test_a_spec_needs_an_executor_and_an_action_and_nothing_more(self):
        spec = TaskSpec(executor="test", action="run")
        assert (spec.priority, spec.queue, spec.payload) == (Priority.NORMAL, "default", None)

    def test_a_spec_cannot_be_changed_but_copied_with_a_change(self):
        spec = TaskSpec(executor="test", action="run")
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            spec.queue = "other"  # type: ignore[misc]
        assert attrs.evolve(spec, queue="other").queue == "other"


class TestView:
    def test_it_shows_what_is_in_head_and_state(self):
        task = a_task(head=a_head(tags=("x",), metadata={"k": 1}, summary="greets"), epoch=3, attempt=2, due_at=LATER)
        assert (task.id, task.executor, task.action, task.queue, task.lane) == ("t1", "test", "run", "default", "test")
        assert (task.tags, task.metadata, task.summary, task.submitted_at) == (("x",), {"k": 1}, "greets", NOON)
        assert (task.status, task.priority, task.epoch, task.attempt, task.due_at) == ("pending", 5, 3, 2, LATER)

    def test_a_ready_task_of_a_paused_queue_is_shown_as_paused(self):
        assert a_task(paused=True).phase is Phase.PAUSED

    @pytest.mark.parametrize("phase", [Phase.SCHEDULED, Phase.RETRYING, Phase.BLOCKED, None])
    def test_a_pause_hides_no_other_phase(self, phase):
        assert a_task(paused=True, phase=phase).phase is phase

    @given(st.none() | moments, st.none() | moments)
    def test_the_duration_is_known_after_the_end_and_never_negative(self, started, finished):
        duration = a_task(started_at=started, finished_at=finished).duration
        assert (duration is None) == (started is None or finished is None)
        assert duration is None or duration == max(0.0, (finished - started).total_seconds())

    def test_an_attempt_took_no_negative_time_either(self):
        backwards = attrs.evolve(a_failed_attempt(), started_at=LATER, ended_at=NOON)
        assert a_failed_attempt().duration == 90
        assert backwards.duration == 0

    def test_a_completed_task_shows_its_success_as_the_last_attempt(self):
        task = a_task(
            status=Status.COMPLETED,
            phase=None,
            epoch=2,
            attempt=2,
            started_at=NOON,
            finished_at=LATER,
            worker="w",
            executed_on="gpu-1",
            past_attempts=(a_failed_attempt(),),
        )
        assert task.attempts[:-1] == (a_failed_attempt(),)
        assert task.attempts[-1] == Attempt(
            epoch=2,
            number=2,
            outcome=Outcome.COMPLETED,
            started_at=NOON,
            ended_at=LATER,
            worker="w",
            executed_on="gpu-1",
        )

    def test_a_failed_task_shows_the_attempts_that_ended(self):
        task = a_task(
            status=Status.FAILED, phase=None, started_at=NOON, finished_at=LATER, past_attempts=(a_failed_attempt(),)
        )
        assert task.attempts == (a_failed_attempt(),)

    def test_a_view_that_leaves_attempts_out_says_where_to_get_them(self):
        with pytest.raises(AttributeError, match=r"'t1' leaves its attempts out; Queue.get has them"):
            _ = a_task(past_attempts=OMITTED).attempts

    def test_a_task_is_printed_on_one_line_without_its_payload(self):
        assert repr(a_task()) == "<Task t1 test/run pending normal>"


class TestState:
    @given(st.none() | moments, st.none() | moments)
    def test_a_pending_task_wakes_when_it_is_due_or_expires_whichever_is_first(self, due_at, expires_at):
        expected = min((moment for moment in (due_at, expires_at) if moment), default=None)
        assert a_state(due_at=due_at, expires_at=expires_at).wakes_at == expected

    def test_a_running_task_wakes_when_its_lease_ends(self):
        assert a_state(status=Status.RUNNING, phase=None, lease_until=LATER, drop_at=NOON).wakes_at == LATER

    def test_a_final_task_wakes_when_its_result_is_to_be_dropped(self):
        assert a_state(status=Status.COMPLETED, phase=None, drop_at=LATER).wakes_at == LATER

    def test_head_and_state_come_back_from_the_store_as_they_were(self):
        head = a_head(tags=("a", "b"), metadata={"k": [1, None]}, after=("t0",), run_at=LATER)
        state = a_state(failure=Failure(type="Broken", message="it broke", details={"code": 2}), due_at=LATER)
        assert decode_as(encode(head), TaskHead) == head
        assert decode_as(encode(state), TaskState) == state

    def test_a_head_that_was_stored_before_a_field_was_added_can_still_be_read(self):
        stored = decode_as(encode(a_head()), list)
        assert decode_as(encode(stored[:6]), TaskHead) == a_head()


class TestTimeout:
    @pytest.mark.parametrize(
        ("own", "default", "effective"),
        [(3.0, 60.0, 3.0), (None, 60.0, 60.0), (None, None, math.inf), (math.inf, 60.0, math.inf), (3.0, None, 3.0)],
    )
    def test_a_task_has_its_own_limit_or_the_default_or_none(self, own, default, effective):
        assert effective_timeout(own, default) == effective


class TestFilter:
    HEAD = a_head(
        queue="mail",
        executor="http",
        action="get",
        lane="slow",
        model="qwen3",
        tags=("x", "y"),
        group="g",
        summary="A Letter",
    )
    STATE = a_state(priority=Priority.HIGH, failure=Failure(type="Broken", message="it broke"))
    FITTING = {  # noqa: RUF012
        "status": Status.PENDING,
        "phase": Phase.READY,
        "queue": "mail",
        "executor": "http",
        "action": "get",
        "lane": "slow",
        "model": "qwen3",
        "tag": "y",
        "priority": Priority.HIGH,
        "group": "g",
        "failure_type": "Broken",
        "since": NOON,
        "until": LATER,
        "id_prefix": "t",
        "text": "lETTER",
    }
    OTHER = {  # noqa: RUF012
        "status": Status.FAILED,
        "phase": Phase.BLOCKED,
        "queue": "default",
        "executor": "test",
        "action": "run",
        "lane": "quick",
        "model": "qwen",
        "tag": "z",
        "priority": Priority.LOW,
        "group": "h",
        "failure_type": "broken",
        "since": LATER,
        "until": NOON,
        "id_prefix": "1",
        "text": "parcel",
    }

    def test_every_field_of_the_filter_is_tried_here(self):
        assert set(self.FITTING) == set(self.OTHER) == {field.name for field in attrs.fields(TaskFilter)}

    def test_a_filter_that_says_nothing_wants_every_task(self):
        assert TaskFilter().matches(self.HEAD, self.STATE)

    @given(st.sets(st.sampled_from(sorted(FITTING))), st.sets(st.sampled_from(sorted(OTHER))))
    def test_every_field_that_is_given_must_fit(self, fitting, other):
        given_fields = {name: self.FITTING[name] for name in fitting} | {name: self.OTHER[name] for name in other}
        assert TaskFilter(**given_fields).matches(self.HEAD, self.STATE) == (not other)


class TestEvent:
    def test_an_event_tells_how_the_task_stands_without_its_payload(self):
        head = a_head(queue="mail", lane="slow")
        state = a_state(status=Status.FAILED, phase=None, epoch=2, attempt=1, drop_at=LATER)
        event = event_of(EventKind.FAILED, NOON, 7, head, state)
        assert (event.kind, event.at, event.task_id, event.seq, event.queue) == ("failed", NOON, "t1", 7, "mail")
        assert (event.lane, event.status, event.epoch, event.attempt, event.wakes_at) == ("slow", "failed", 2, 1, LATER)
        assert event.final

    @given(st.sampled_from(Status))
    def test_an_event_is_final_when_its_status_is(self, status):
        event = event_of(EventKind.STARTED, NOON, 1, a_head(), a_state(status=status))
        assert event.final == status.final
