"""The tree of exceptions is the one that is drawn on top of its module, and each says what to do next."""

import inspect
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oq import errors
from oq.errors import (
    AmbiguousId,
    CallerError,
    DamagedRecord,
    DuplicateExecutor,
    IdempotencyConflict,
    IllegalMove,
    InvalidExecutor,
    InvalidTask,
    LeaseLost,
    OqError,
    PermanentError,
    PluginLoadError,
    Problem,
    QueueClosed,
    QueueFull,
    RetryableError,
    RetryLater,
    Steering,
    StoreFormat,
    StoreInUse,
    StoreUnavailable,
    TaskCancelled,
    TaskExists,
    TaskFailed,
    TaskNotFound,
    UniqueKeyTaken,
    UnknownAction,
    UnknownExecutor,
    VersionConflict,
)
from oq.task import Failure, Priority, Status, Task, TaskHead, TaskState


def drawn_tree() -> dict[str, str | None]:
    """Name -> name of its parent, as drawn in the module's docstring."""
    parents: dict[str, str | None] = {}
    above: list[str] = []
    for line in inspect.cleandoc(errors.__doc__).splitlines():
        if drawn := re.fullmatch(r"((?:│   |    )*(?:[├└]── )?)([A-Z]\w+)( {2,}.*)?", line):
            depth = len(drawn[1]) // 4
            above = [*above[:depth], drawn[2]]
            parents[drawn[2]] = above[depth - 1] if depth else None
    return parents


def real_tree() -> dict[str, str | None]:
    """The same of the classes themselves; those with an underscore only share code."""

    def parent(cls):
        base = cls.__bases__[0]
        return parent(base) if base.__name__.startswith("_") else base.__name__

    return {
        name: None if cls in (OqError, Steering) else parent(cls)
        for name, cls in vars(errors).items()
        if inspect.isclass(cls)
        and issubclass(cls, Exception)
        and cls.__module__ == errors.__name__
        and not name.startswith("_")
    }


def a_task(status, failure=None):
    head = TaskHead(
        id="t1",
        executor="test",
        action="run",
        queue="default",
        lane="test",
        submitted_at=datetime(2026, 1, 31, tzinfo=UTC),
    )
    return Task(seq=1, head=head, state=TaskState(status=status, phase=None, priority=Priority.LOW, failure=failure))


def test_the_tree_that_is_drawn_is_the_tree_that_is():
    assert drawn_tree() == real_tree()


def test_what_steers_a_task_is_no_error_of_oq():
    assert not issubclass(Steering, OqError)


def test_every_exception_of_oq_has_a_sentence_about_it():
    assert [name for name in real_tree() if not (getattr(errors, name).__doc__ or "").strip()] == []


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (TaskNotFound("t9"), "there is no task 't9'"),
        (AmbiguousId("t", ["t1", "t2"]), "'t' fits several tasks (t1, t2); give more characters"),
        (TaskExists("t1"), "a task with the id 't1' exists already; choose another id or leave it out"),
        (UniqueKeyTaken("t1", "t2"), "'t1' cannot be requeued: task 't2' has the same unique key"),
        (IdempotencyConflict("k"), "the idempotency key 'k' was used before with other content"),
        (IllegalMove("t1", Status.RUNNING, "requeue"), "task 't1' is running; requeue is not possible"),
        (VersionConflict("cron", "daily", 3), "cron/daily is at version 3; read it again and repeat the change"),
        (
            UnknownExecutor("ollama", ["python"]),
            "(there are: python); install oq-ollama",
        ),
        (UnknownExecutor("ollama", []), "(there are: none)"),
        (UnknownAction("ollama", "chatt", ["chat", "embed"]), "has no action 'chatt' (it has: chat, embed)"),
        (QueueClosed(), "the queue is closed"),
        (QueueFull("pending tasks", 10_000, 2.0), "pending tasks is at its limit of 10,000; try again in 2 s"),
        (QueueFull("bytes", 7), "the queue is full: bytes is at its limit of 7"),
        (LeaseLost(7, 2), "epoch 2 of task #7 is over"),
        (
            TaskFailed(a_task(Status.FAILED, Failure(type="Timeout", message="too slow"))),
            "'t1' failed: Timeout: too slow",
        ),
        (TaskCancelled(a_task(Status.CANCELLED)), "task 't1' cancelled"),
        (PluginLoadError("echo", "oq-echo", "1.0", "no"), "OQ_DISABLED_PLUGINS=echo"),
        (InvalidExecutor("echo", "it has no attribute 'version'"), "executor 'echo': it has no attribute 'version'"),
        (DuplicateExecutor("echo"), "named 'echo' is registered already; unregister or disable one of the two"),
        (StoreInUse("./data", "process 7"), "./data is run by process 7; stop that one, or open it without workers"),
        (StoreUnavailable("./data", "disk full"), "the store in ./data cannot write: disk full"),
        (StoreFormat("./data", "format 9"), "cannot open ./data: format 9"),
        (
            DamagedRecord("state", "#7", "checksum"),
            "the state record of #7 is damaged (checksum); `oq check` tells more",
        ),
        (PermanentError("bad request"), "bad request"),
        (RetryLater(5.0), "asked to be retried later"),
    ],
)
def test_the_message_names_the_cause_and_where_there_is_one_the_next_step(error, says):
    assert says in str(error)


def test_an_error_keeps_the_ids_that_its_message_is_made_of():
    assert TaskNotFound("t9").task_id == "t9"
    assert AmbiguousId("t", ["t1", "t2"]).matches == ("t1", "t2")
    assert (LeaseLost(7, 2).seq, LeaseLost(7, 2).epoch) == (7, 2)
    assert QueueFull("tasks", 1, 2.5).retry_after == 2.5
    assert TaskFailed(task := a_task(Status.FAILED)).task is task


class TestProblem:
    def test_every_problem_of_an_invalid_task_is_in_its_message(self):
        error = InvalidTask([Problem("payload.model", "is required"), Problem("", "is odd")])
        assert str(error) == "payload.model: is required; is odd"
        assert [problem.path for problem in error.problems] == ["payload.model", ""]

    def test_one_problem_can_be_given_as_a_sentence(self):
        assert InvalidTask("is required", "payload.model").problems == (Problem("payload.model", "is required"),)

    def test_an_invalid_task_is_the_mistake_of_whoever_called(self):
        assert issubclass(InvalidTask, CallerError)

    @pytest.mark.parametrize(
        ("path", "seen"), [("", "payload"), ("model", "payload.model"), ("[0].role", "payload[0].role")]
    )
    def test_a_problem_can_be_seen_from_one_level_further_out(self, path, seen):
        assert Problem(path, "is odd").under("payload") == Problem(seen, "is odd")

    @given(st.text(), st.text(), st.text(min_size=1))
    def test_the_message_stays_the_same_from_wherever_it_is_seen(self, path, message, prefix):
        seen = Problem(path, message).under(prefix)
        assert seen.message == message
        assert seen.path.startswith(prefix)
        assert seen.path.endswith(path)


class TestSteering:
    def test_a_permanent_error_may_say_what_to_call_it_and_what_to_keep(self):
        error = PermanentError("exit code 2", type="ExitCode", details={"code": 2})
        assert (error.message, error.type, error.details) == ("exit code 2", "ExitCode", {"code": 2})

    def test_a_failure_is_called_by_the_class_of_what_was_raised_unless_it_says_otherwise(self):
        class Overloaded(RetryableError):
            pass

        raised = [PermanentError("no"), RetryLater(1.0), Overloaded("too much"), Overloaded("no", type="Busy")]
        assert [error.type for error in raised] == ["PermanentError", "RetryLater", "Overloaded", "Busy"]

    def test_a_retry_asked_for_counts_unless_it_says_otherwise(self):
        assert RetryLater(5.0).counted
        assert not RetryLater(5.0, counted=False).counted
        assert RetryLater(5.0, "busy").after == 5.0
