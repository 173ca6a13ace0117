"""A batch file becomes tasks, or a list of everything that is wrong with it, in its own words."""

import json
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oq.batch import parse_batch
from oq.errors import InvalidTask, Problem, UnknownAction, UnknownExecutor
from oq.task import Priority, TaskSpec


def parse(*entries, check=None):
    return parse_batch(json.dumps(entries), check)


def problems(*entries, check=None):
    with pytest.raises(InvalidTask) as caught:
        parse(*entries, check=check)
    return [str(problem) for problem in caught.value.problems]


def unreadable(text):
    with pytest.raises(InvalidTask) as caught:
        parse_batch(text)
    return str(caught.value)


def refuse(*wrong):
    """A check that finds this wrong with the task that has the id `bad`."""

    def check(spec):
        if spec.id == "bad":
            raise InvalidTask([Problem(path, message) for path, message in wrong])

    return check


class TestReading:
    def test_a_request_is_a_task_for_http(self):
        [spec] = parse({"type": "http", "url": "https://example.org"})
        assert (spec.executor, spec.action) == ("http", "request")

    def test_another_executor_may_be_asked_for_them(self):
        [spec] = parse_batch('[{"type": "chat", "executor": "openai", "model": "m"}]')
        assert (spec.executor, spec.action, spec.payload) == ("openai", "chat", {"model": "m"})

    def test_chat_generate_and_embed_are_tasks_for_ollama(self):
        specs = parse(
            {"type": "chat", "model": "m", "messages": [{"role": "user", "content": "Hello, you"}]},
            {"type": "generate", "model": "m", "prompt": "Once", "system": "Be brief"},
            {"type": "embed", "model": "m", "input": ["a", "b"]},
        )
        assert [(spec.executor, spec.action) for spec in specs] == [
            ("ollama", "chat"),
            ("ollama", "generate"),
            ("ollama", "embed"),
        ]
        assert [spec.payload for spec in specs] == [
            {"model": "m", "messages": [{"role": "user", "content": "Hello, you"}]},
            {"model": "m", "prompt": "Once", "system": "Be brief"},
            {"model": "m", "input": ["a", "b"]},
        ]

    def test_any_other_type_is_an_executor_that_runs(self):
        assert parse({"type": "script", "command": "echo hi"}) == [
            TaskSpec(executor="script", action="run", payload={"command": "echo hi"})
        ]

    def test_a_type_may_come_with_an_action(self):
        [spec] = parse({"type": "openai", "action": "chat", "model": "m"})
        assert (spec.executor, spec.action, spec.payload) == ("openai", "chat", {"model": "m"})

    def test_an_entry_may_say_executor_action_and_payload(self):
        assert parse({"executor": "script", "action": "run", "payload": {"command": "echo hi"}}) == [
            TaskSpec(executor="script", action="run", payload={"command": "echo hi"})
        ]

    @pytest.mark.parametrize("priority", ["high", "HIGH", "High", 10])
    def test_a_priority_is_a_name_in_any_case_or_its_number(self, priority):
        [spec] = parse({"type": "script", "priority": priority})
        assert spec.priority is Priority.HIGH

    @pytest.mark.parametrize("field", ["scheduled_at", "run_at"])
    def test_a_moment_is_rfc_3339(self, field):
        [spec] = parse({"type": "script", field: "2026-01-31T10:00:00+01:00"})
        assert spec.run_at == datetime(2026, 1, 31, 9, tzinfo=UTC)

    def test_any_field_of_a_task_may_be_given_beside_the_payload(self):
        [spec] = parse(
            {"type": "script", "command": "x", "id": "a", "tags": ["t"], "after": ["b"], "timeout": 5, "queue": "q"}
        )
        assert (spec.id, spec.tags, spec.after, spec.timeout, spec.queue) == ("a", ("t",), ("b",), 5.0, "q")
        assert spec.payload == {"command": "x"}

    def test_tasks_come_in_the_order_of_the_file(self):
        assert [spec.id for spec in parse(*({"type": "script", "id": name} for name in "cab"))] == ["c", "a", "b"]

    def test_the_array_may_be_the_value_of_tasks(self):
        assert parse_batch('{"tasks": [{"type": "script"}]}') == parse({"type": "script"})

    def test_the_mark_that_windows_editors_put_first_is_skipped(self):
        assert parse_batch('\ufeff[{"type": "script"}]') == parse({"type": "script"})

    def test_an_empty_array_is_no_task(self):
        assert parse() == []


class TestRefusing:
    @pytest.mark.parametrize("text", ["", "[", "{]", "[{'type': 'chat'}]"])
    def test_what_is_not_json_is_told_with_its_place(self, text):
        assert unreadable(text).startswith("is not JSON: ")

    def test_what_is_nested_without_end_is_refused(self):
        assert unreadable("[" * 100_000) == "is nested too deeply"

    @pytest.mark.parametrize("text", ["{}", '"text"', "3", "null", '{"tasks": 3}'])
    def test_anything_but_an_array_is_refused(self, text):
        assert unreadable(text) == "must be a JSON array of tasks"

    @pytest.mark.parametrize(
        ("entry", "told"),
        [
            (3, "tasks[0]: must be an object with `type`, or with `executor`, `action` and `payload`"),
            ({}, "tasks[0]: needs `type`, or `executor`, `action` and `payload`"),
            ({"type": 5}, "tasks[0].type: must be chat, generate, embed, or the name of an executor"),
            ({"type": ""}, "tasks[0].type: must be chat, generate, embed, or the name of an executor"),
            (
                {"type": "script", "executor": "ollama"},
                "tasks[0].type: cannot be given together with executor or payload",
            ),
            ({"type": "chat", "payload": {}}, "tasks[0].type: cannot be given together with executor or payload"),
            ({"executor": "script"}, "tasks[0].action: is required"),
            (
                {"type": "script", "priority": "asap"},
                "tasks[0].priority: 'asap' is not a priority; use one of low (1), normal (5), high (10), critical (15)",
            ),
            (
                {"type": "script", "scheduled_at": "tomorrow"},
                "tasks[0].scheduled_at: 'tomorrow' is not a moment; write it like 2026-01-31T09:00:00Z",
            ),
            (
                {"type": "script", "run_at": "2026-01-31T09:00:00"},
                "tasks[0].run_at: 2026-01-31T09:00:00 has no time zone; add Z or an offset such as +01:00",
            ),
            ({"type": "script", "tags": "a"}, "tasks[0].tags: expected a list, got 'a'"),
            (
                {"executor": "script", "action": "run", "prioriti": 5},
                "tasks[0].prioriti: unknown field 'prioriti'; did you mean 'priority'?",
            ),
        ],
    )
    def test_a_wrong_entry_is_told_with_its_index_and_field(self, entry, told):
        assert problems(entry) == [told]

    def test_everything_wrong_is_told_at_once(self):
        assert [
            told.partition(":")[0]
            for told in problems(
                {"type": "script"},
                {"type": "script", "priority": "urgent", "tags": 3},
                7,
                {"type": "script"},
                {"executor": "script", "action": "run", "payload": {}, "pay": 1, "lod": 2},
            )
        ] == ["tasks[1].priority", "tasks[1].tags", "tasks[2]", "tasks[4].pay", "tasks[4].lod"]

    def test_an_id_that_comes_twice_is_told(self):
        assert problems({"type": "script", "id": "a"}, {"type": "script"}, {"type": "script", "id": "a"}) == [
            "tasks[2].id: 'a' is the id of tasks[0] too"
        ]


class TestChecking:
    def test_what_the_check_finds_is_told_among_the_rest(self):
        assert problems(
            {"type": "script", "id": "bad"},
            {"type": "script", "priority": 99},
            {"type": "script", "id": "bad"},
            check=refuse(("delay", "is too long")),
        ) == [
            "tasks[0].delay: is too long",
            "tasks[1].priority: 99 is not a priority; use one of low (1), normal (5), high (10), critical (15)",
            "tasks[2].delay: is too long",
            "tasks[2].id: 'bad' is the id of tasks[0] too",
        ]

    def test_an_entry_with_a_wrong_field_is_checked_without_it(self):
        assert problems({"type": "script", "id": "bad", "priority": 99}, check=refuse(("payload.command", "is empty")))[
            1
        ] == ("tasks[0].command: is empty")

    def test_a_path_is_told_as_the_entry_has_it(self):
        check = refuse(("payload.args[0]", "is odd"), ("run_at", "is past"))
        beside = {"type": "script", "id": "bad", "scheduled_at": "2026-01-31T09:00:00Z"}
        inside = {"executor": "script", "action": "run", "id": "bad", "run_at": "2026-01-31T09:00:00Z"}
        assert problems(beside, check=check) == ["tasks[0].args[0]: is odd", "tasks[0].scheduled_at: is past"]
        assert problems(inside, check=check) == ["tasks[0].payload.args[0]: is odd", "tasks[0].run_at: is past"]

    def test_an_executor_that_is_not_there_is_told_as_the_type(self):
        def check(spec):
            raise UnknownExecutor(spec.executor, ["script"])

        [one] = problems({"type": "chat", "model": "m"}, check=check)
        [other] = problems({"executor": "ollama", "action": "chat", "payload": {"model": "m"}}, check=check)
        assert one.startswith("tasks[0].type: no executor 'ollama'")
        assert one.endswith("oq-ollama")
        assert other.startswith("tasks[0].executor: no executor 'ollama'")

    def test_an_action_that_is_not_there_is_told_where_it_was_said(self):
        def check(spec):
            raise UnknownAction(spec.executor, spec.action, ["run"])

        [one] = problems({"type": "script"}, check=check)
        [other] = problems({"type": "script", "action": "walk"}, check=check)
        assert one.startswith("tasks[0].type: ")
        assert other.startswith("tasks[0].action: ")

    def test_a_misspelt_field_of_the_payload_is_told_by_its_name(self):
        check = refuse(("payload", "unknown field 'comand'; did you mean 'command'?"))
        assert problems({"type": "script", "id": "bad", "comand": 1}, check=check) == [
            "tasks[0].comand: unknown field 'comand'; did you mean 'command'?"
        ]

    def test_a_misspelt_field_of_the_task_beside_the_payload_is_recognized(self):
        check = refuse(("payload", "unknown field 'priorty' (known: command, script)"))
        assert problems({"type": "script", "id": "bad", "priorty": 1}, check=check) == [
            "tasks[0].priorty: unknown field 'priorty'; did you mean 'priority'?"
        ]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
entries = json_values | st.dictionaries(
    st.sampled_from(["type", "executor", "action", "payload", "priority", "id", "scheduled_at", "tags", "delay", "x"]),
    st.sampled_from(["chat", "script", "high", 5, None, "2026-01-31T09:00:00Z", [], {}, ["a"]]) | json_values,
)


@given(st.lists(entries, max_size=4))
def test_whatever_a_file_holds_it_gives_a_task_for_each_entry_or_names_entries_of_it(content):
    try:
        specs = parse_batch(json.dumps(content))
    except InvalidTask as error:
        named = [re.match(r"tasks\[(\d+)\]", problem.path) for problem in error.problems]
    else:
        assert len(specs) == len(content)
        return
    assert named
    assert all(name and int(name[1]) < len(content) for name in named)
