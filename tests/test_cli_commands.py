"""Every command does what it says, and prints text for people, or nothing but JSON for programs."""

import json
import os
import re
import sys

import pytest

from oq.cli.main import BUILT_IN


@pytest.fixture
def submitted(oq):
    """Submit a script task, and give its id."""

    def submit(command="true", *options):
        return oq("submit", "script", "--command", command, *options, "--output", "json").json["id"]

    return submit


@pytest.fixture
def batch_file(home):
    """Write a batch file, and give its name."""

    def write(*entries):
        (home / "tasks.json").write_text(json.dumps(entries))
        return "tasks.json"

    return write


def a_script(**fields):
    return {"type": "script", "command": "true", **fields}


class TestSubmit:
    def test_it_stores_a_task_and_says_who_will_run_it(self, oq):
        answer = oq("submit", "script", "--command", "echo hi")
        assert answer.code == 0
        assert re.fullmatch(r"\w{16}  script: echo hi\n", answer.out)
        assert answer.err == "stored; nobody runs this queue now, so start `oq run`\n"

    def test_the_command_it_advises_is_for_the_same_queue(self, oq):
        assert oq("submit", "script", "--command", "true", "--queue", "my queue").err.endswith(
            "start `oq run --queue 'my queue'`\n"
        )

    def test_a_program_gets_the_task(self, oq):
        answer = oq("submit", "script", "--command", "echo hi", "--output", "json")
        task = answer.json
        assert (task["status"], task["phase"], task["executor"], task["action"]) == (
            "pending",
            "ready",
            "script",
            "run",
        )
        assert task["payload"]["command"] == "echo hi"
        assert task["duplicate"] is False

    def test_every_option_reaches_the_task(self, oq, submitted):
        first = submitted()
        options = (
            "--priority HIGH --in-queue night --lane slow --tag a --tag b --id my-task --run-at 2098-01-01T00:00:00Z "
            f"--expires-at 2099-01-01T00:00:00Z --timeout 5m --attempts 7 --unique-key once --after {first}"
        )
        task = oq("submit", "script", "--command", "true", *options.split(), "--output", "json").json
        assert (task["id"], task["priority"], task["queue"], task["lane"], task["tags"], task["after"]) == (
            "my-task",
            "high",
            "night",
            "slow",
            ["a", "b"],
            [first],
        )
        shown = oq("status", "my-task").out
        for name, value in (("run at", "2098"), ("expires", "2099"), ("timeout", "5 min 0 s"), ("unique key", "once")):
            assert re.search(rf"^{name} +{value}", shown, re.MULTILINE)

    def test_a_task_may_be_put_off(self, oq, submitted):
        shown = oq("status", submitted("true", "--delay", "2h")).out
        assert re.search(r"^due .*\(in (2 h 0|1 h 59) min\)$", shown, re.MULTILINE)

    def test_a_unique_key_gives_the_task_that_has_it(self, oq, submitted):
        first = submitted("true", "--unique-key", "once")
        again = oq("submit", "script", "--command", "false", "--unique-key", "once")
        assert again.out == f"already there: {first}  script: true\n"

    def test_waiting_runs_the_queue_and_shows_the_result(self, oq):
        answer = oq("submit", "script", "--command", "echo hi", "--wait")
        assert answer.code == 0
        line, _, result = answer.out.partition("\n")
        assert re.fullmatch(r"✓ \w{16}  normal    script: echo hi  \(.* ms\)", line)
        assert result == "hi\n"
        assert answer.err == ""

    def test_a_program_that_waits_gets_the_final_task(self, oq):
        answer = oq("submit", "script", "--command", "echo hi", "--wait", "--output", "json")
        assert (answer.code, answer.json["status"], answer.json["result"]["stdout"]) == (0, "completed", "hi\n")
        assert [attempt["outcome"] for attempt in answer.json["attempts"]] == ["completed"]

    def test_a_failure_is_told_by_the_exit_code(self, oq):
        answer = oq("submit", "script", "--command", "ls nowhere", "--wait", "--attempts", "1")
        assert answer.code == 1
        assert answer.out.startswith("✗ ")
        assert "ExitCode: ls exited with code 2: ls: " in answer.out

    def test_a_stream_is_printed_as_it_comes_apart_by_its_kinds(self, oq):
        answer = oq("submit", "script", "--command", "sh -c 'echo out; echo err >&2'", "--stream")
        assert (answer.code, answer.out) == (0, "out\n")
        assert answer.said[0] == "err"
        assert answer.said[1].startswith("✓ ")

    def test_a_program_gets_a_stream_as_lines_the_last_of_which_is_the_task(self, oq):
        answer = oq("submit", "script", "--command", "printf 'a\\nb\\n'", "--stream", "--output", "json")
        *chunks, task = [json.loads(line) for line in answer.out.splitlines()]
        assert [(chunk["text"], chunk["kind"], chunk["index"]) for chunk in chunks] == [
            ("a\n", "stdout", 0),
            ("b\n", "stdout", 1),
        ]
        assert task["status"] == "completed"

    def test_waiting_also_runs_what_waited_before(self, oq, submitted):
        first = submitted("echo first")
        oq("submit", "script", "--command", "echo second", "--wait")
        assert oq("status", first, "--output", "json").json["status"] == "completed"


class TestBatch:
    def test_it_stores_all_tasks_of_a_file(self, oq, batch_file):
        answer = oq("submit", "batch", "--file", batch_file(a_script(command="echo 1"), a_script(command="echo 2")))
        assert answer.code == 0
        assert [line[18:] for line in answer.out.splitlines()] == ["script: echo 1", "script: echo 2"]

    def test_the_file_may_be_piped(self, oq):
        answer = oq("submit", "batch", "--file", "-", stdin=json.dumps([a_script(id="piped")]).encode())
        assert (answer.code, answer.out) == (0, "piped  script: true\n")

    def test_a_program_gets_the_tasks_in_the_order_of_the_file(self, oq, batch_file):
        answer = oq("submit", "batch", "--file", batch_file(*(a_script(id=i) for i in "cab")), "--output", "json")
        assert [task["id"] for task in answer.json] == ["c", "a", "b"]

    def test_sync_waits_for_all_and_tells_how_they_ended(self, oq, batch_file):
        file = batch_file(a_script(), a_script(command="false", retry={"max_attempts": 1}), a_script())
        answer = oq("submit", "batch", "--file", file, "--sync")
        assert answer.code == 1
        assert sorted(line[0] for line in answer.out.splitlines()) == ["3", "✓", "✓", "✗"]
        assert answer.out.splitlines()[-1] == "3 tasks: 2 completed, 1 failed"

    def test_a_program_that_waits_gets_the_final_tasks(self, oq, batch_file):
        answer = oq("submit", "batch", "--file", batch_file(a_script(), a_script()), "--sync", "--output", "json")
        assert (answer.code, [task["status"] for task in answer.json]) == (0, ["completed", "completed"])

    def test_more_tasks_than_are_watched_at_once_are_waited_for(self, oq, batch_file):
        tasks = [a_script(id=f"t{number}", delay=0 if number % 2 else 0.001) for number in range(60)]
        answer = oq("submit", "batch", "--file", batch_file(*tasks), "--sync")
        assert (answer.code, answer.out.splitlines()[-1]) == (0, "60 tasks: 60 completed")

    @pytest.mark.parametrize("wait", [(), ("--sync",)])
    def test_a_file_without_tasks_is_no_error_and_makes_no_queue(self, oq, home, batch_file, wait):
        answer = oq("submit", "batch", "--file", batch_file(), *wait)
        assert (answer.code, answer.out, answer.err) == (0, "", "tasks.json holds no tasks\n")
        assert oq("submit", "batch", "--file", batch_file(), *wait, "--output", "json").json == []
        assert not (home / "oq-data").exists()


class TestList:
    def test_the_newest_come_first(self, oq, submitted):
        ids = [submitted(f"echo {number}") for number in range(3)]
        answer = oq("list")
        head, *rows = answer.out.splitlines()
        assert head.split() == ["ID", "STATUS", "PRIORITY", "WHEN", "WHAT"]
        assert [row.split()[0] for row in rows] == ids[::-1]
        assert answer.code == 0

    @pytest.mark.parametrize(
        ("option", "value", "found"),
        [
            ("--status", "pending", ["b", "a"]),
            ("--status", "cancelled", ["c"]),
            ("--tag", "red", ["b"]),
            ("--in-queue", "night", ["c", "a"]),
            ("--priority", "high", ["a"]),
            ("--executor", "script", ["c", "b", "a"]),
            ("--executor", "nobody", []),
            ("--action", "run", ["c", "b", "a"]),
        ],
    )
    def test_it_can_be_narrowed(self, oq, batch_file, option, value, found):
        oq(
            "submit",
            "batch",
            "--file",
            batch_file(
                a_script(id="a", priority="high", queue="night"),
                a_script(id="b", tags=["red"]),
                a_script(id="c", queue="night"),
            ),
        )
        oq("cancel", "c")
        answer = oq("list", option, value, "--output", "json")
        assert (answer.code, [task["id"] for task in answer.json["tasks"]]) == (0, found)

    def test_pages_follow_each_other(self, oq, batch_file):
        oq("submit", "batch", "--file", batch_file(*(a_script(id=f"t{number}") for number in range(5))))
        seen, more = [], []
        while True:
            answer = oq("list", "--limit", 2, *more)
            seen += [row.split()[0] for row in answer.out.splitlines()[1:]]
            cursor = re.search(r"there are more: --cursor (\d+)", answer.err)
            if cursor is None:
                break
            more = ["--cursor", cursor[1]]
        assert seen == ["t4", "t3", "t2", "t1", "t0"]

    def test_where_nothing_fits_it_says_so_beside_the_output(self, oq, submitted):
        submitted()
        answer = oq("list", "--status", "failed")
        assert (answer.code, answer.out, answer.err) == (0, "", "no tasks fit\n")
        assert oq("list", "--status", "failed", "--output", "json").json == {"tasks": [], "cursor": None}

    def test_it_fits_a_terminal_of_eighty_columns(self, oq, submitted, monkeypatch):
        monkeypatch.setenv("COLUMNS", "80")
        submitted("echo " + "long " * 50, "--delay", "100d")
        _, row = oq("list").out.splitlines()
        assert len(row) == 80
        assert row.endswith("…")

    def test_a_pipe_gets_it_whole(self, oq, submitted, monkeypatch):
        monkeypatch.delenv("COLUMNS", raising=False)
        submitted("echo " + "long " * 30)
        assert oq("list").out.count("long") == 30


class TestStatus:
    def test_the_queue_is_shown_in_numbers(self, oq, submitted):
        submitted()
        submitted("true", "--delay", "1h")
        oq("cancel", submitted())
        answer = oq("status")
        shown = dict(re.split(r"  +", line, maxsplit=1) for line in answer.out.splitlines())
        assert shown["queue"] == "./oq-data"
        assert shown["run by"] == "nobody; `oq run` starts tasks"
        assert (shown["pending"], shown["running"], shown["cancelled"]) == ("2  (1 ready, 1 scheduled)", "0", "1")
        assert answer.code == 0

    def test_several_named_queues_are_shown_each(self, oq, submitted):
        submitted()
        submitted("true", "--in-queue", "night")
        assert re.search(r"^in default +1 pending\nin night +1 pending$", oq("status").out, re.MULTILINE)

    def test_a_program_gets_the_numbers(self, oq, submitted):
        submitted()
        answer = oq("status", "--output", "json").json
        assert answer["run_by"] is None
        assert answer["stats"]["tasks"]["by_status"]["pending"] == 1

    def test_a_task_is_shown_field_by_field(self, oq, submitted):
        task_id = submitted("echo hi", "--tag", "red", "--priority", "critical")
        shown = oq("status", task_id).out
        for name, value in (("id", task_id), ("status", "pending"), ("priority", "critical"), ("tags", "red")):
            assert re.search(rf"^{name} +{value}$", shown, re.MULTILINE)
        assert '"command": "echo hi"' in shown

    def test_a_task_is_found_by_the_beginning_of_its_id(self, oq, submitted):
        task_id = submitted()
        assert oq("status", task_id[:4], "--output", "json").json["id"] == task_id

    def test_a_failed_task_tells_what_went_wrong_each_time(self, oq):
        task_id = oq("submit", "script", "--command", "ls nowhere", "--wait", "--attempts", 1, "--output", "json").json[
            "id"
        ]
        assert "attempt 1  ExitCode: ls exited with code 2: ls: " in oq("status", task_id).out


class TestCancel:
    def test_it_cancels_each_task_that_is_named(self, oq, submitted):
        first, second = submitted(), submitted()
        answer = oq("cancel", first, second)
        assert (answer.code, answer.out) == (0, f"cancelled {first}\ncancelled {second}\n")
        assert oq("status", first, "--output", "json").json["status"] == "cancelled"

    def test_what_cannot_be_cancelled_is_told_and_the_rest_is_done(self, oq, submitted):
        first, second = submitted(), submitted()
        oq("cancel", first)
        answer = oq("cancel", first, "nobody", second)
        assert (answer.code, answer.out) == (2, f"cancelled {second}\n")
        assert answer.said == [
            f"oq: task '{first}' is cancelled; cancel is not possible",
            "oq: there is no task 'nobody'",
        ]

    def test_a_program_gets_both(self, oq, submitted):
        task_id = submitted()
        answer = oq("cancel", task_id, "nobody", "--output", "json")
        assert [task["id"] for task in answer.json["tasks"]] == [task_id]
        assert answer.json["refused"] == ["there is no task 'nobody'"]


class TestRun:
    def test_it_runs_what_waits_and_ends_when_idle(self, oq, submitted):
        first, second = submitted(), submitted("ls nowhere", "--attempts", "1")
        answer = oq("run", "--until-idle", "--workers", "1")
        assert answer.code == 0
        assert answer.err == "running ./oq-data with 1 worker; Ctrl-C stops\n"
        assert [line.split()[1:3] for line in answer.out.splitlines()] == [
            ["started", first],
            ["completed", first],
            ["started", second],
            ["failed", second],
        ]
        assert "ExitCode: ls exited with code 2" in answer.out

    def test_a_program_gets_events_as_lines(self, oq, submitted):
        task_id = submitted()
        events = [json.loads(line) for line in oq("run", "--until-idle", "--output", "json").out.splitlines()]
        assert [(event["kind"], event["task_id"]) for event in events] == [
            ("started", task_id),
            ("completed", task_id),
        ]

    def test_it_can_be_quiet(self, oq, submitted):
        submitted()
        assert oq("run", "--until-idle", "--quiet").out == ""

    def test_it_does_not_wait_for_what_is_scheduled(self, oq, submitted):
        submitted("true", "--delay", "1h")
        assert oq("run", "--until-idle").code == 0

    def test_it_makes_a_queue_where_there_is_none(self, oq):
        assert oq("run", "--until-idle").code == 0
        assert oq("list").err == "no tasks\n"


class TestPlugins:
    def test_it_tells_what_is_installed_and_what_is_not(self, oq):
        answer = oq("plugins")
        assert answer.code == 0
        assert re.search(r"^  script +oq-script \d", answer.out, re.MULTILINE)
        assert "run  Run a command, or a script" in answer.out
        if "not installed" in answer.out:
            names = re.search(r"^not installed: (.*) \(pip install (.*)\)$", answer.out, re.MULTILINE)
            assert [f"oq-{name}" for name in names[1].split(", ")] == names[2].split()

    def test_a_disabled_one_is_told_as_such_not_as_missing(self, oq, monkeypatch):
        monkeypatch.setenv("OQ_DISABLED_PLUGINS", "script")
        answer = oq("plugins")
        assert re.search(r"^  script +oq-script .*\(disabled\)$", answer.out, re.MULTILINE)
        assert not re.search(r"^not installed:.*script", answer.out, re.MULTILINE)

    def test_a_program_gets_names_and_versions(self, oq):
        answer = oq("plugins", "--output", "json").json
        assert {"lmdb", "memory", "script"} <= {plugin["name"] for plugin in answer["plugins"]}
        assert {"python", "script"} <= {executor["name"] for executor in answer["executors"]}


class TestCheck:
    def test_a_sound_queue_is_said_to_be_so(self, oq, submitted):
        submitted()
        answer = oq("check")
        assert (answer.code, answer.out, answer.err) == (0, "./oq-data is sound\n", "")
        assert oq("check", "--output", "json").json == {"location": "./oq-data", "sound": True, "problems": []}

    def test_damage_is_found(self, oq, home, submitted):
        task_id = submitted("echo " + "x" * 300)
        data = home / "oq-data" / "data.mdb"
        data.write_bytes(data.read_bytes().replace(b"x" * 300, b"x" * 150 + b"y" + b"x" * 149))
        answer = oq("check")
        assert answer.code == 1
        assert any("checksum" in line for line in answer.out.splitlines())
        assert answer.err == "./oq-data: 1 problem\n"
        assert oq("status", task_id).code == 3

    def test_a_file_that_kills_whoever_reads_it_kills_a_child_only(self, oq, home, batch_file):
        oq("submit", "batch", "--file", batch_file(*(a_script(command=f"echo {'x' * 3000}") for _ in range(100))))
        data = home / "oq-data" / "data.mdb"
        os.truncate(data, 3 * 4096)
        answer = oq("check")
        assert answer.code == 1
        [line] = answer.out.splitlines()
        assert "damaged" in line

    def test_what_is_no_database_at_all_is_told(self, oq, home):
        (home / "oq-data").mkdir()
        (home / "oq-data" / "data.mdb").write_bytes(b"nonsense" * 1000)
        answer = oq("check")
        assert (answer.code, answer.out) == (3, "")
        assert "data.mdb is not an LMDB database, or it is damaged" in answer.err


class TestWhichQueue:
    def test_it_may_be_named_before_between_and_after_the_commands(self, oq):
        oq("submit", "script", "--command", "true", "--id", "a", "--queue", "q")
        oq("--queue", "q", "submit", "script", "--command", "true", "--id", "b")
        oq("submit", "--queue", "q", "script", "--command", "true", "--id", "c")
        assert [task["id"] for task in oq("list", "--queue", "q", "--output", "json").json["tasks"]] == ["c", "b", "a"]

    def test_the_last_name_wins(self, oq, submitted):
        submitted("true", "--queue", "q")
        assert oq("--queue", "other", "list", "--queue", "q").code == 0

    def test_data_dir_is_another_word_for_it(self, oq, submitted):
        submitted("true", "--data-dir", "q")
        assert oq("--data-dir", "q", "list").code == 0

    def test_the_environment_may_name_it(self, oq, submitted, monkeypatch):
        monkeypatch.setenv("OQ_QUEUE", "elsewhere")
        submitted()
        assert oq("status", "--output", "json").json["location"] == "elsewhere"

    def test_so_may_a_settings_file(self, oq, home, submitted):
        (home / "oq.toml").write_text('[queue]\npath = "mine"\n')
        (home / "other.toml").write_text('[queue]\npath = "other"\n')
        submitted()
        submitted("true", "--config", "other.toml")
        assert oq("status", "--output", "json").json["location"] == "mine"
        assert oq("--config", "other.toml", "status", "--output", "json").json["location"] == "other"
        assert oq("status", "--config", "other.toml", "--output", "json").json["location"] == "other"

    def test_output_may_be_chosen_before_and_after_too(self, oq, submitted):
        submitted()
        assert oq("--output", "json", "status").json == oq("status", "--output", "json").json

    def test_a_deep_directory_works_though_sockets_have_short_names(self, oq):
        deep = "d" * 150
        answer = oq("submit", "script", "--command", "true", "--wait", "--queue", deep)
        assert (answer.code, answer.err) == (0, "")


class TestWorkers:
    def test_the_environment_says_how_many(self, oq, monkeypatch):
        monkeypatch.setenv("OQ_WORKERS", "7")
        assert "with 7 workers" in oq("run", "--until-idle").err

    def test_an_option_wins(self, oq, monkeypatch):
        monkeypatch.setenv("OQ_WORKERS", "7")
        assert "with 2 workers" in oq("run", "--until-idle", "--workers", "2").err


class TestHelp:
    @pytest.mark.parametrize("path", [*(command.path for command in BUILT_IN), ("submit", "script"), ()])
    def test_every_command_explains_itself_within_eighty_columns(self, oq, monkeypatch, path):
        monkeypatch.setenv("COLUMNS", "80")
        answer = oq(*path, "--help")
        assert answer.code == 0
        assert answer.out.startswith(f"Usage: oq {' '.join(path)}".rstrip())
        assert max(map(len, answer.out.splitlines())) <= 80
        assert "\\b" not in answer.out

    def test_examples_stand_as_they_are_typed(self, oq, monkeypatch):
        monkeypatch.setenv("COLUMNS", "80")
        assert '  oq submit script --command "echo hi" --wait\n' in oq("submit", "script", "--help").out

    def test_the_version_is_told(self, oq):
        assert re.fullmatch(r"oq, version \d+\.\d+\.\d+\n", oq("--version").out)


class TestNothingDoesHarm:
    """What others wrote is shown, never obeyed."""

    EVIL = "\x1b]0;owned\x07 \x1b[2J [red]x[/red] \x9b31m \u202e"

    @pytest.fixture
    def evil_task(self, oq, batch_file):
        answer = oq(
            "submit",
            "batch",
            "--file",
            batch_file(
                {
                    "type": "script",
                    "command": f"sh -c 'printf %s \"$1\" >&2; exit 1' - '{self.EVIL}'",
                    "metadata": {"note": self.EVIL},
                    "retry": {"max_attempts": 1},
                    "id": "evil",
                }
            ),
            "--sync",
        )
        assert answer.code == 1
        return answer

    def harmless(self, text):
        assert not set(text) & {*map(chr, range(32)), *map(chr, range(0x7F, 0xA0)), "\u202e"} - {"\n"}
        assert r"\x1b" in text
        assert "[red]x[/red]" in text

    def test_in_the_line_of_a_finished_task(self, evil_task):
        self.harmless(evil_task.out)

    def test_in_a_table(self, oq, evil_task):
        self.harmless(oq("list").out)

    def test_in_the_status_of_a_task(self, oq, evil_task):
        shown = oq("status", "evil").out.replace(r"\u001b", r"\x1b")
        self.harmless(shown)

    def test_in_json(self, oq, evil_task):
        answer = oq("status", "evil", "--output", "json")
        self.harmless(answer.out.replace(r"\u001b", r"\x1b"))
        assert answer.json["metadata"]["note"] == self.EVIL

    def test_in_the_lines_of_a_run(self, oq, batch_file):
        command = f"sh -c 'printf %s \"$1\" >&2; exit 1' - '{self.EVIL}'"
        oq("submit", "batch", "--file", batch_file(a_script(command=command, retry={"max_attempts": 1})))
        self.harmless(oq("run", "--until-idle").out)

    def test_in_an_error(self, oq):
        answer = oq("list", "--queue", self.EVIL)
        self.harmless(answer.err)


def test_a_terminal_that_lacks_a_letter_gets_an_escape_and_no_error(start):
    process = start(
        "submit",
        "script",
        "--command",
        "echo ✓",
        "--stream",
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
    )
    assert process.end() == 0
    assert process.printed.startswith("\\u2713\n\\u2713 ")


def test_python_m_oq_is_oq(start):
    process = start("--version", program=(sys.executable, "-m", "oq"))
    assert (process.end(), process.printed.split()[:2]) == (0, ["oq,", "version"])
