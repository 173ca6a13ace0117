"""Commands for tasks that are there: wait, logs, priority, retry, pause, resume, stats; and tasks of any executor."""

import csv
import json

import pytest


@pytest.fixture
def submitted(oq):
    def submit(command="true", *options):
        return oq("submit", "script", "--command", command, *options, "--output", "json").json["id"]

    return submit


class TestWait:
    def test_it_runs_the_queue_and_shows_the_result(self, oq, submitted):
        answer = oq("wait", submitted("echo hi"))
        line, _, result = answer.out.partition("\n")
        assert (answer.code, line[0], result) == (0, "✓", "hi\n")

    def test_a_final_task_is_shown_at_once(self, oq, submitted):
        task_id = submitted("echo hi")
        oq("wait", task_id)
        assert oq("wait", task_id).out.endswith("\nhi\n")

    def test_several_are_counted(self, oq, submitted):
        answer = oq("wait", submitted(), submitted("false", "--attempts", "1"))
        assert answer.code == 1
        assert answer.out.endswith("2 tasks: 1 completed, 1 failed\n")

    def test_attempts_that_fail_are_told_while_they_are_repeated(self, oq, home, submitted):
        """Whoever waits learns why it takes so long."""
        task_id = submitted("sh -c 'test -e done || { touch done; exit 3; }'")
        answer = oq("wait", task_id)
        assert answer.code == 0
        assert f"↻ {task_id}  ExitCode: sh exited with code 3; tries again in " in answer.err

    def test_the_output_of_several_cannot_be_streamed(self, oq, submitted):
        answer = oq("wait", "--stream", submitted(), submitted())
        assert (answer.code, answer.out) == (2, "")
        assert "--stream goes with one ID" in answer.err


class TestLogs:
    def test_what_a_task_has_put_out_is_printed_as_it_was(self, oq, submitted):
        task_id = submitted("sh -c 'echo one; echo two >&2'")
        oq("wait", task_id)
        answer = oq("logs", task_id)
        assert (answer.code, answer.out, answer.err) == (0, "one\n", "two\n")

    def test_a_task_that_has_not_run_has_put_out_nothing(self, oq, submitted):
        answer = oq("logs", submitted("echo hi"))
        assert (answer.code, answer.out) == (0, "")

    def test_following_ends_with_the_task(self, oq, submitted):
        task_id = submitted("echo hi")
        oq("wait", task_id)
        assert oq("logs", task_id, "--follow").out == "hi\n"

    def test_a_program_gets_the_chunks(self, oq, submitted):
        task_id = submitted("echo hi")
        oq("wait", task_id)
        [line] = oq("logs", task_id, "--output", "json").out.splitlines()
        chunk = json.loads(line)
        assert (chunk["kind"], chunk["text"], chunk["epoch"], chunk["index"]) == ("stdout", "hi\n", 1, 0)


class TestActing:
    def test_the_priority_can_be_changed(self, oq, submitted):
        task_id = submitted()
        assert oq("priority", task_id, "critical").out == f"critical {task_id}\n"
        assert oq("status", task_id, "--output", "json").json["priority"] == "critical"

    def test_a_priority_that_there_is_not_is_refused(self, oq, submitted):
        answer = oq("priority", submitted(), "urgent")
        assert answer.code == 2
        assert "urgent" in answer.err

    def test_a_failed_task_can_be_retried(self, oq, submitted):
        task_id = submitted("false", "--attempts", "1")
        oq("wait", task_id)
        assert oq("retry", task_id).out == f"requeued {task_id}\n"
        assert oq("status", task_id, "--output", "json").json["status"] == "pending"

    def test_what_cannot_be_done_to_one_is_done_to_the_others(self, oq, submitted):
        done, pending = submitted(), submitted()
        oq("cancel", done)
        answer = oq("retry", pending, done)
        assert (answer.code, answer.out) == (2, f"requeued {done}\n")
        assert answer.err == f"oq: task '{pending}' is pending; requeue is not possible\n"

    def test_a_final_task_can_be_deleted(self, oq, submitted):
        task_id = submitted("echo hi")
        oq("wait", task_id)
        assert oq("delete", task_id).out == f"deleted {task_id}\n"
        answer = oq("status", task_id)
        assert (answer.code, answer.err) == (2, f"oq: there is no task '{task_id}'\n")

    def test_one_that_is_not_final_or_in_use_stays(self, oq, submitted):
        done = submitted()
        oq("wait", done)
        pending = submitted("true", "--delay", "1h")
        waiting = submitted("true", "--after", done, "--delay", "1h")
        answer = oq("delete", pending, done, "--output", "json")
        assert answer.code == 2
        assert answer.json == {
            "number": 0,
            "tasks": [],
            "refused": [
                f"task '{pending}' is pending; delete is not possible",
                f"task '{done}' cannot be deleted: task '{waiting}', which comes after it, is not final",
            ],
        }


class TestPause:
    def test_a_paused_queue_starts_nothing_until_it_is_resumed(self, oq, submitted):
        submitted("true", "--in-queue", "night")
        assert oq("pause", "night").out == "paused night\n"
        assert oq("stats", "--output", "json").json["stats"]["paused"] == ["night"]
        assert oq("list", "--output", "json").json["tasks"][0]["phase"] == "paused"
        assert oq("resume", "night").out == "resumed night\n"
        assert oq("list", "--output", "json").json["tasks"][0]["phase"] == "ready"

    def test_resuming_all_tells_of_those_that_were_paused_by_name(self, oq, submitted):
        submitted()
        oq("pause", "night")
        oq("pause")
        answer = oq("resume")
        assert (answer.out, answer.err) == ("resumed all queues\n", "still paused: night\n")


class TestGeneric:
    def test_a_task_of_any_executor_can_be_handed_in(self, oq):
        answer = oq(
            "submit",
            "generic",
            "--executor",
            "script",
            "--action",
            "run",
            "--payload",
            '{"command": "echo hi"}',
            "--wait",
        )
        assert answer.out.endswith("\nhi\n")

    def test_the_payload_may_be_in_a_file_or_piped_in(self, oq, home):
        (home / "payload.json").write_text('{"command": "echo file"}')
        generic = ("submit", "generic", "--executor", "script", "--action", "run", "--output", "json", "--payload")
        assert oq(*generic, "@payload.json").json["payload"]["command"] == "echo file"
        assert oq(*generic, "-", stdin=b'{"command": "echo pipe"}').json["payload"]["command"] == "echo pipe"

    @pytest.mark.parametrize(
        ("payload", "said"),
        [
            ("{", "oq: --payload: Expecting property name"),
            ("[1]", "oq: --payload: must be a JSON object"),
            ("@nosuch.json", "oq: --payload: nosuch.json does not exist"),
            ('{"comand": "x"}', "oq: --payload: unknown field 'comand'; did you mean 'command'?"),
        ],
    )
    def test_a_payload_that_is_none_is_told_as_such(self, oq, payload, said):
        answer = oq("submit", "generic", "--executor", "script", "--action", "run", "--payload", payload)
        assert (answer.code, answer.out) == (2, "")
        assert answer.err.startswith(said)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_completion_script(oq, shell):
    answer = oq("completion", shell)
    assert answer.code == 0
    assert "_OQ_COMPLETE" in answer.out


class TestMany:
    """What tasks have in common chooses them, for every command that can take many."""

    @pytest.fixture
    def three(self, oq, submitted):
        """One that failed, one that was cancelled, and one that waits."""
        failed = submitted("false", "--attempts", "1", "--tag", "red")
        oq("wait", failed)
        cancelled = submitted("true", "--tag", "red")
        oq("cancel", cancelled)
        return failed, cancelled, submitted("sleep 1", "--in-queue", "night", "--lane", "slow", "--priority", "low")

    @pytest.mark.parametrize(
        ("options", "fits"),
        [
            (("--failed",), [0]),
            (("--type", "ExitCode"), [0]),
            (("--type", "Timeout"), []),
            (("--tag", "red"), [1, 0]),
            (("--text", "SLEEP"), [2]),
            (("--phase", "ready"), [2]),
            (("--in-queue", "night", "--lane", "slow", "--priority", "low"), [2]),
            (("--since", "1h"), [2, 1, 0]),
            (("--until", "1h"), []),
            (("--since", "2020-01-31"), [2, 1, 0]),
            (("--until", "2020-01-31"), []),
            (("--until", "2100-01-01T00:00:00Z", "--status", "cancelled"), [1]),
        ],
    )
    def test_a_list_shows_those_that_fit(self, oq, three, options, fits):
        shown = [task["id"] for task in oq("list", *options, "--output", "json").json["tasks"]]
        assert shown == [three[index] for index in fits]

    def test_all_that_failed_in_one_way_can_be_retried(self, oq, three):
        assert oq("retry", "--failed", "--type", "ExitCode").out == "requeued 1 task\n"
        assert oq("status", three[0], "--output", "json").json["status"] == "pending"

    def test_all_that_fit_can_be_cancelled(self, oq, three):
        answer = oq("cancel", "--in-queue", "night", "--output", "json")
        assert answer.json == {"number": 1}

    def test_all_that_fit_can_be_deleted(self, oq, three):
        *_, waits = three
        assert oq("delete", "--failed").out == "deleted 1 task\n"
        assert oq("delete", "--all").out == "deleted 1 task\n"
        assert [task["id"] for task in oq("list", "--output", "json").json["tasks"]] == [waits]

    def test_the_priority_of_all_that_fit_can_be_changed(self, oq, three):
        assert oq("priority", "high", "--in-queue", "night").out == "high 1 task\n"
        assert oq("status", three[2], "--output", "json").json["priority"] == "high"

    def test_all_means_all_to_which_it_can_be_done(self, oq, three):
        assert oq("retry", "--all").out == "requeued 2 tasks\n"
        assert oq("cancel", "--all").out == "cancelled 3 tasks\n"

    @pytest.mark.parametrize("arguments", [(), ("some-id", "--failed"), ("--failed", "--all"), ("x", "--all")])
    def test_nothing_is_done_unless_it_is_clear_to_which(self, oq, three, arguments):
        answer = oq("retry", *arguments)
        assert (answer.code, answer.out) == (2, "")
        assert "name tasks, or say what they have in common" in answer.err

    def test_a_moment_that_is_none_is_told_as_such(self, oq, three):
        answer = oq("list", "--since", "yesterday")
        assert answer.code == 2
        assert answer.err.startswith("oq: --since: 'yesterday' is neither a moment such as")


class TestExport:
    def test_tasks_are_written_as_lines_of_json(self, oq, submitted):
        first, second = submitted("echo hi"), submitted("true")
        oq("wait", first)
        lines = [json.loads(line) for line in oq("export").out.splitlines()]
        assert [line["id"] for line in lines] == [second, first]
        assert lines[1]["result"]["stdout"] == "hi\n"
        assert lines[1]["payload"]["command"] == "echo hi"
        assert len(lines[1]["attempts"]) == 1

    def test_tasks_are_written_as_rows_of_csv(self, oq, submitted, home):
        submitted("=1+1 'a, b'", "--tag", "x")
        answer = oq("export", "--format", "csv", "--file", "tasks.csv")
        assert (answer.out, answer.err) == ("", "1 task written to tasks.csv\n")
        with (home / "tasks.csv").open(newline="") as file:
            [row] = csv.DictReader(file)
        assert row["summary"].startswith("'="), "a spreadsheet would take it for a formula"
        assert json.loads(row["payload"])["command"] == "=1+1 'a, b'"
        assert row["status"] == "pending"

    def test_no_cell_of_a_failure_is_a_formula(self, oq, submitted):
        oq("wait", submitted("=nosuch", "--attempts", "1"))
        [row] = csv.DictReader(oq("export", "--format", "csv").out.splitlines())
        assert row["failure_message"]
        assert not row["failure_message"].startswith("=")

    def test_an_older_file_stays_until_the_new_one_is_whole(self, oq, home):
        (home / "tasks.jsonl").write_text("older")
        assert oq("export", "--file", "tasks.jsonl", "--queue", "nosuch").code == 3
        assert (home / "tasks.jsonl").read_text() == "older"
        assert [path.name for path in home.iterdir()] == ["tasks.jsonl"]

    def test_a_file_that_cannot_be_written_is_told_as_such(self, oq, submitted):
        submitted()
        answer = oq("export", "--file", "nosuch/tasks.csv")
        assert (answer.code, answer.err) == (
            2,
            "oq: --file: nosuch/tasks.csv cannot be written: No such file or directory\n",
        )
