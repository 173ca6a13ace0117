"""The contract of payloads: what is taken, how it is stored, and how the rest is refused before it is stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oq.codec import decode
from oq.errors import InvalidTask
from oq.executor import SUMMARY_LENGTH
from oq.registry import CheckedPayload, Registry
from oq.task import TaskSpec
from oq.testing.executor_contract.base import ExecutorFrame, Subject, on_trio, one_line

UNKNOWN_FIELD = "no_such_field_0"

_odd_texts = ["", " ", "\n", "\0", "\ud800", "'", "-", "..", "/", "://", "${x", "0", "é" * 5_000]
_texts = st.text(st.characters(), max_size=20) | st.sampled_from(_odd_texts)
_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _texts | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=5,
)


class Accepting(ExecutorFrame):
    """It takes good payloads, and says what is wrong with the others."""

    @on_trio
    async def test_each_good_example_is_taken(self, subject: Subject) -> None:
        """The payload of each example passes its checks, today and tomorrow."""
        for spec in subject.examples.good:
            assert subject.registry.check(spec) == subject.registry.check(spec)

    @on_trio
    async def test_a_stored_payload_comes_back_as_it_was(self, subject: Subject) -> None:
        """What is stored of a payload, decoded, equals the payload."""
        for spec in subject.examples.good:
            checked = subject.registry.check(spec)
            assert isinstance(checked.value, subject.action_of(spec).payload)
            assert subject.registry.decode_payload(spec.executor, spec.action, checked.data) == checked.value

    @on_trio
    async def test_a_mapping_and_an_instance_mean_the_same(self, subject: Subject) -> None:
        """A payload given as a mapping, as by the command line, and one given as an instance are stored alike."""
        for spec in subject.examples.good:
            instance = subject.registry.check(spec)
            again = attrs.evolve(spec, payload=instance.value)
            mapping = attrs.evolve(spec, payload=decode(instance.data))
            assert subject.registry.check(again) == instance
            assert subject.registry.check(mapping) == instance

    @on_trio
    async def test_an_unknown_field_is_refused_by_its_name(self, subject: Subject) -> None:
        """A misspelt field is an error that names it, never ignored."""
        for spec, good in _as_mappings(subject):
            problems = _problems(subject.registry, spec, {**good, UNKNOWN_FIELD: 1})
            assert any(UNKNOWN_FIELD in message for message in problems.get("payload", [])), problems

    @on_trio
    async def test_a_missing_field_is_refused_by_its_path(self, subject: Subject) -> None:
        """A payload without a field that has no default is refused, and the error's path is the field's."""
        for spec, good in _as_mappings(subject):
            for field in attrs.fields(subject.action_of(spec).payload):
                if field.default is attrs.NOTHING:
                    rest = {name: value for name, value in good.items() if name != field.name}
                    assert f"payload.{field.name}" in _problems(subject.registry, spec, rest)

    @on_trio
    async def test_what_cannot_be_stored_is_refused_in_every_field(self, subject: Subject) -> None:
        """A value that no store could keep is refused at submit, whichever field has it."""
        for spec, good in _as_mappings(subject):
            for field in attrs.fields(subject.action_of(spec).payload):
                assert _problems(subject.registry, spec, {**good, field.name: object()})

    @on_trio
    async def test_a_bad_payload_is_refused_before_it_is_stored(self, subject: Subject) -> None:
        """Submit raises InvalidTask with the path of what is wrong, and the queue is as empty as it was."""
        if not subject.examples.bad_payloads:
            pytest.skip("there is no example of a bad payload")
        async with subject.queue(workers=1) as queue:
            for action, payload, path in subject.examples.bad_payloads:
                spec = attrs.evolve(_spec(subject, action), payload=payload)
                try:
                    await queue.submit(spec)
                except InvalidTask as refused:
                    paths = [problem.path for problem in refused.problems]
                    told = str(refused)
                else:
                    raise AssertionError(f"{action!r} takes {payload!r}")
                assert path in paths, f"what is wrong is {path}, but it says {told!r}"
            assert not (await queue.list()).items

    @on_trio
    async def test_every_problem_is_told_in_a_sentence_with_a_path_in_the_payload(self, subject: Subject) -> None:
        """What is wrong is said in words, and where, so that a form or a program can show it at the right place."""
        for action, payload, _ in subject.examples.bad_payloads:
            problems = _problems(subject.registry, _spec(subject, action), payload)
            _assert_in_payload(problems)
            assert all(one_line(message) for messages in problems.values() for message in messages), problems

    @on_trio
    async def test_a_check_passes_or_raises_InvalidTask_whatever_it_is_given(self, subject: Subject) -> None:  # noqa: N802  # its name
        """Odd texts, huge numbers, wrong types: each is refused with paths in the payload, or taken and described."""
        mappings = _as_mappings(subject)

        @settings(max_examples=100, deadline=None, database=None)
        @given(st.sampled_from(range(len(mappings))).flatmap(lambda index: _varied(index, mappings[index][1])))
        def tries(drawn: tuple[int, dict[str, Any]]) -> None:
            index, payload = drawn
            spec = attrs.evolve(mappings[index][0], payload=payload)
            try:
                checked = subject.registry.check(spec)
            except InvalidTask as refused:
                _assert_in_payload([problem.path for problem in refused.problems])
                return
            _assert_described(checked)
            assert subject.registry.decode_payload(spec.executor, spec.action, checked.data) == checked.value

        tries()

    @on_trio
    async def test_each_good_example_is_described_in_a_line(self, subject: Subject) -> None:
        """An action that describes its payloads gives a line that is not empty for each example."""
        for spec in subject.examples.good:
            checked = subject.registry.check(spec)
            _assert_described(checked)
            if subject.action_of(spec).describe is not None:
                assert one_line(checked.summary), f"{spec.payload!r} is described as {checked.summary!r}"


def _assert_in_payload(paths: Iterable[str]) -> None:
    for path in paths:
        assert path.partition(".")[0].partition("[")[0] == "payload", f"{path!r} is no path in the payload"


def _assert_described(checked: CheckedPayload) -> None:
    assert isinstance(checked.lane, str)
    assert isinstance(checked.summary, str)
    assert "\n" not in checked.summary
    assert len(checked.summary) <= SUMMARY_LENGTH


def _spec(subject: Subject, action: str) -> TaskSpec:
    return TaskSpec(executor=subject.executor.name, action=action)


def _as_mappings(subject: Subject) -> list[tuple[TaskSpec, dict[str, Any]]]:
    """Each good example with its whole payload, as a mapping."""
    return [(spec, decode(subject.registry.check(spec).data)) for spec in subject.examples.good]


def _problems(registry: Registry, spec: TaskSpec, payload: Mapping[str, Any]) -> dict[str, list[str]]:
    """What is wrong with a payload, by path; fails when it is taken."""
    try:
        registry.check(attrs.evolve(spec, payload=payload))
    except InvalidTask as error:
        problems: dict[str, list[str]] = {}
        for problem in error.problems:
            problems.setdefault(problem.path, []).append(problem.message)
        return problems
    raise AssertionError(f"{spec.action!r} takes {payload!r}")


def _varied(index: int, good: dict[str, Any]) -> st.SearchStrategy[tuple[int, dict[str, Any]]]:
    """The payload with some of its fields replaced, often by what is of the same kind."""
    return st.tuples(st.just(index), _changed(good))


def _changed(good: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    changes = st.fixed_dictionaries({}, optional={name: _like(value) | _anything for name, value in good.items()})
    return changes.map(lambda changed: {**good, **changed})


def _like(value: Any) -> st.SearchStrategy[Any]:
    match value:
        case bool():
            return st.booleans()
        case int():
            return st.integers(-(2**63), 2**64)
        case float():
            return st.floats(allow_nan=False)
        case dict():
            return _changed(value) | st.dictionaries(_texts, _texts, max_size=3)
        case list():
            return st.lists(st.one_of([_texts, *(_like(item) for item in value[:3])]), max_size=3)
        case _:
            return _texts
