"""An error names its cause and the next step in a line of its own; nothing is half done, and no traceback is shown."""

import json
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from oq.errors import StoreUnavailable


class TestWrongArguments:
    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["lst"], "No such command 'lst'."),
            (["list", "--bogus"], "No such option '--bogus'."),
            (["list", "--status", "done"], "'done' is not one of 'pending', 'running'"),
            (["list", "--limit", "0"], "0 is not in the range 1<=x<=1000"),
            (["list", "--cursor", "-3"], "-3 is not in the range"),
            (["list", "--cursor", "9" * 30], "is not in the range"),
            (["list", "--priority", "urgent"], "'urgent' is not a priority; use one of low (1), normal (5)"),
            (["--output", "yaml", "list"], "'yaml' is not one of 'table', 'json'"),
            (["list", "--queue", ""], "it is empty; leave it out for the default"),
            (["cancel"], "name tasks, or say what they have in common"),
            (["run", "--workers", "0"], "0 is not in the range x>=1"),
            (["submit", "batch"], "Missing option '--file'"),
            (["submit", "script"], "give either --command or --script"),
            (["submit", "script", "--command", "x", "--delay", "soon"], "'soon' is not a duration; write 90, 1.5s"),
            (
                ["submit", "script", "--command", "x", "--run-at", "tomorrow"],
                "'tomorrow' is not a moment; write it like",
            ),
            (["submit", "script", "--command", "x", "--run-at", "9999-12-31T23:59:59-12:00"], "out of range"),
        ],
    )
    def test_it_is_told_with_the_way_to_help_and_two_as_code(self, oq, home, arguments, told):
        answer = oq(*arguments)
        assert (answer.code, answer.out) == (2, "")
        assert re.match(r"Usage: oq .*\nTry 'oq .*--help' for help\.\n\nError: ", answer.err)
        assert told in answer.err
        assert list(home.iterdir()) == []

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            (["--command", ""], ["oq: --command: is empty"]),
            (["--command", "echo 'a"], ["oq: --command: cannot be split into words: No closing quotation"]),
            (["--command", "x", "--timeout", "0"], ["oq: --timeout: must be more than 0 seconds"]),
            (["--command", "x", "--in-queue", "*"], ["oq: --in-queue: '*' stands for all queues"]),
            (["--command", "x", "--id", "a b"], ["oq: --id: may have only letters, digits and . _ : @ / + -"]),
            (["--command", "x", "--after", "nobody"], ["oq: --after: there is no task 'nobody'"]),
            (
                ["--command", "", "--tag", "", "--env", "A-B=x"],
                [
                    "oq: --tag[0]: must be a text of 1 to 100 printable characters",
                    "oq: --command: is empty",
                    "oq: --env A-B: is no name of a variable; use letters, digits and _",
                ],
            ),
        ],
    )  # fmt: skip
    def test_a_task_that_is_wrong_is_told_by_its_options_all_at_once(self, oq, options, told):
        answer = oq("submit", "script", *options)
        assert (answer.code, answer.out, answer.said) == (2, "", told)

    def test_an_id_that_is_taken_is_told(self, oq):
        oq("submit", "script", "--command", "true", "--id", "a")
        answer = oq("submit", "script", "--command", "true", "--id", "a")
        assert (answer.code, answer.said) == (
            2,
            ["oq: a task with the id 'a' exists already; choose another id or leave it out"],
        )

    @pytest.mark.parametrize("command", [["status"], ["cancel"]])
    @pytest.mark.parametrize("unknown", ["nobody", ""])
    def test_an_unknown_id_is_told(self, oq, command, unknown):
        oq("submit", "script", "--command", "true")
        answer = oq(*command, unknown)
        assert (answer.code, answer.out, answer.said) == (2, "", [f"oq: there is no task {unknown!r}"])

    @pytest.mark.parametrize("command", [["status"], ["cancel"]])
    def test_an_ambiguous_one_is_told_with_what_it_fits(self, oq, command):
        for task_id in ("report-1", "report-2"):
            oq("submit", "script", "--command", "true", "--id", task_id)
        answer = oq(*command, "rep")
        assert answer.code == 2
        assert answer.said[0].startswith("oq: 'rep' fits several tasks (report-1, report-2")
        assert answer.said[0].endswith("; give more characters")


class TestWhatIsNotInstalled:
    @pytest.mark.parametrize("kind", ["chat", "generate", "embed"])
    def test_a_kind_of_task_says_which_package_brings_it(self, oq, monkeypatch, kind):
        monkeypatch.setenv("OQ_DISABLED_PLUGINS", "ollama,openai")
        answer = oq("submit", kind, "--model", "m", "some text")
        assert answer.code == 2
        assert f"'submit {kind}' comes from oq-ollama, which is" in answer.err
        assert "disabled by OQ_DISABLED_PLUGINS" in answer.err or "try pip install oq-ollama" in answer.err

    def test_no_package_is_advised_for_a_word_that_may_be_anybodys(self, oq):
        answer = oq("submit", "scripd")
        assert answer.code == 2
        assert "no installed package brings 'submit scripd' (there are: batch, chat, embed, generate, gen" in answer.err
        assert "pip" not in answer.err

    def test_a_disabled_one_is_told_as_such(self, oq, monkeypatch):
        monkeypatch.setenv("OQ_DISABLED_PLUGINS", "script")
        answer = oq("submit", "script", "--command", "true")
        assert answer.code == 2
        assert "comes from oq-script, which is disabled by OQ_DISABLED_PLUGINS or the settings" in answer.err

    def test_a_store_that_nobody_opens_is_told_with_those_there_are(self, oq):
        answer = oq("list", "--queue", "nosuch://host")
        assert (answer.code, answer.out) == (3, "")
        assert answer.err.startswith("oq: queue.path: no installed package opens nosuch://")


class TestBatch:
    @pytest.fixture
    def submit(self, oq, home):
        def submit(*entries):
            (home / "tasks.json").write_text(json.dumps(entries))
            return oq("submit", "batch", "--file", "tasks.json")

        return submit

    def test_every_bad_entry_is_told_with_index_and_field_and_nothing_is_stored(self, submit, home):
        answer = submit(
            {"type": "script", "command": "true"},
            {"type": "script", "command": "true", "priority": "urgent"},
            {"type": "script", "comand": "true"},
            {"type": "script", "command": "true", "scheduled_at": "tomorrow"},
            {"executor": "script", "action": "walk", "payload": {}},
            {"executor": "script", "action": "run", "payload": {"command": ""}},
            {"type": "nosuch", "model": "m", "prompt": "hi"},
            {"type": "script", "command": "true", "delay": -1},
            {"type": "script", "command": "true", "id": "a"},
            {"type": "script", "command": "true", "id": "a"},
            17,
        )
        assert (answer.code, answer.out) == (2, "")
        assert [line.split(": ")[1] for line in answer.said] == [
            "tasks[1].priority",
            "tasks[2].comand",
            "tasks[3].scheduled_at",
            "tasks[4].action",
            "tasks[5].payload.command",
            "tasks[6].type",
            "tasks[7].delay",
            "tasks[9].id",
            "tasks[10]",
        ]
        assert not (home / "oq-data").exists()

    def test_a_model_without_its_package_is_refused_with_what_to_install(self, submit, oq, monkeypatch):
        monkeypatch.setenv("OQ_DISABLED_PLUGINS", "ollama,openai")
        answer = submit({"type": "script", "command": "true"}, {"type": "chat", "model": "m", "messages": []})
        assert answer.code == 2
        [line] = answer.said
        assert line.startswith("oq: tasks[1].type: no executor 'ollama'")
        assert line.endswith("oq-ollama")

    def test_an_unknown_parent_is_told_and_nothing_is_stored(self, submit, oq):
        answer = submit(
            {"type": "script", "command": "true"}, {"type": "script", "command": "true", "after": ["nobody"]}
        )
        assert (answer.code, answer.said) == (2, ["oq: tasks[1].after: there is no task 'nobody'"])
        assert oq("list").err == "no tasks\n"

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (b"{", "tasks.json: is not JSON: Expecting property name enclosed in double quotes: line 1 column 2"),
            (b"", "tasks.json: is not JSON: Expecting value: line 1 column 1"),
            (b'{"type": "script"}', "tasks.json: must be a JSON array of tasks"),
            (b"\xff\xfe[]", "--file: tasks.json cannot be read: 'utf-8' codec can't decode byte 0xff"),
            (b"[" * 100_000, "tasks.json: is nested too deeply"),
        ],
    )
    def test_a_file_that_is_no_batch_is_told(self, oq, home, content, told):
        (home / "tasks.json").write_bytes(content)
        answer = oq("submit", "batch", "--file", "tasks.json")
        assert (answer.code, answer.out) == (2, "")
        assert answer.err.startswith(f"oq: {told}")

    def test_a_missing_file_is_told(self, oq):
        answer = oq("submit", "batch", "--file", "missing.json")
        assert (answer.code, answer.said) == (2, ["oq: --file: missing.json does not exist"])

    def test_a_directory_is_told(self, oq):
        answer = oq("submit", "batch", "--file", ".")
        assert answer.code == 2
        assert answer.err.startswith("oq: --file: . cannot be read: ")

    def test_a_pipe_that_carries_no_text_is_told(self, oq):
        answer = oq("submit", "batch", "--file", "-", stdin=b"\xff\xfe")
        assert (answer.code, answer.said) == (
            2,
            ["oq: --file: standard input is not UTF-8: invalid start byte at byte 0"],
        )

    def test_a_pipe_that_carries_no_json_is_told(self, oq):
        answer = oq("submit", "batch", "--file", "-", stdin=b"nonsense")
        assert answer.code == 2
        assert answer.err.startswith("oq: standard input: is not JSON: ")


class TestNoQueue:
    LOOKING = [["list"], ["status"], ["status", "a"], ["cancel", "a"], ["check"]]  # noqa: RUF012

    @pytest.mark.parametrize("command", LOOKING)
    def test_where_there_is_none_a_look_makes_none(self, oq, home, command):
        answer = oq(*command, "--queue", "nowhere")
        assert (answer.code, answer.out) == (3, "")
        assert answer.said == [
            "oq: cannot open nowhere: there is no queue; `oq submit` makes one, --queue names another"
        ]
        assert list(home.iterdir()) == []

    @pytest.mark.parametrize("command", LOOKING)
    def test_a_directory_of_something_else_is_left_alone(self, oq, home, command):
        (home / "photos").mkdir()
        (home / "photos" / "me.jpg").touch()
        assert oq(*command, "--queue", "photos").code == 3
        assert [path.name for path in (home / "photos").iterdir()] == ["me.jpg"]

    @pytest.mark.parametrize("command", [*LOOKING, ["submit", "script", "--command", "true"], ["run"]])
    def test_a_file_is_told(self, oq, home, command):
        (home / "file").write_text("mine")
        answer = oq(*command, "--queue", "file")
        assert (answer.code, answer.out) == (3, "")
        assert answer.said == ["oq: cannot open file: it is a file, and a queue is a directory; --queue names another"]
        assert (home / "file").read_text() == "mine"

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
    @pytest.mark.parametrize("command", [["list"], ["submit", "script", "--command", "true"], ["run"]])
    def test_a_directory_that_cannot_be_written_is_told(self, oq, command):
        with TemporaryDirectory(dir="/tmp") as everybodys:
            Path(everybodys).chmod(0o755)
            oq("submit", "script", "--command", "true", "--queue", f"{everybodys}/roots")
            os.seteuid(65534)
            try:
                answer = oq(*command, "--queue", f"{everybodys}/roots")
            finally:
                os.seteuid(0)
        assert (answer.code, answer.out) == (3, "")
        assert "Permission denied" in answer.err
        assert len(answer.said) == 1


class TestSettings:
    @pytest.mark.parametrize("where", ["before", "after"])
    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (None, "oq: mine.toml does not exist"),
            ("[queue\n", "oq: mine.toml: Expected ']' at the end of a table declaration (at line 1, column 7)"),
            ('[queue]\npth = "x"', "oq: mine.toml:2: queue.pth: there is no such key; did you mean 'path'?"),
            ("[quue]", "oq: mine.toml:1: quue: there is no such table; did you mean 'queue'?"),
            ("[script]\nallow_shell = 1", "oq: mine.toml:2: script.allow_shell: expected true or false, got 1"),
        ],
    )
    def test_a_wrong_file_is_told_wherever_it_is_named(self, oq, home, where, content, told):
        if content is not None:
            (home / "mine.toml").write_text(content)
        config = ["--config", "mine.toml"]
        submit = ["submit", "script", "--command", "true"]
        answer = oq(*config, *submit) if where == "before" else oq(*submit, *config)
        assert (answer.code, answer.out, answer.said) == (3, "", [told])

    def test_a_wrong_variable_is_told_by_its_name(self, oq, monkeypatch):
        monkeypatch.setenv("OQ_WORKERS", "many")
        answer = oq("run")
        assert (answer.code, answer.said) == (3, ["oq: OQ_WORKERS: expected a whole number, got 'many'"])

    def test_a_wrong_file_that_another_replaces_does_not_matter(self, oq, home):
        (home / "oq.toml").write_text("[queue")
        (home / "good.toml").write_text("")
        assert oq("run", "--until-idle", "--config", "good.toml").code == 0


class TestDefects:
    @pytest.fixture
    def broken(self, monkeypatch):
        def break_it(error):
            def fail(*arguments, **options):
                raise error

            monkeypatch.setattr("oq.opening.open_queue", fail)

        return break_it

    def test_a_defect_is_one_line_too(self, oq, broken):
        broken(ZeroDivisionError("division by zero"))
        answer = oq("submit", "script", "--command", "true")
        assert (answer.code, answer.said) == (
            3,
            ["oq: ZeroDivisionError: division by zero (this is a defect; --debug shows where)"],
        )

    def test_debug_shows_where(self, oq, broken, capsys):
        broken(ZeroDivisionError("division by zero"))
        with pytest.raises(ZeroDivisionError):
            oq("--debug", "submit", "script", "--command", "true")

    def test_debug_shows_where_a_foreseen_error_comes_from_too(self, oq):
        answer = oq("list", "--debug")
        assert answer.code == 3
        assert answer.said[0].startswith("Traceback")
        assert answer.said[-1].startswith("oq: cannot open ./oq-data: there is no queue")

    def test_a_disk_that_refuses_is_no_defect(self, oq, broken):
        broken(StoreUnavailable("here", "the disk is full"))
        answer = oq("submit", "script", "--command", "true")
        assert (answer.code, answer.said) == (3, ["oq: the store in here cannot write: the disk is full"])

    def test_an_error_of_the_system_is_no_defect(self, oq, broken):
        broken(OSError(5, "Input/output error", "data.mdb"))
        answer = oq("submit", "script", "--command", "true")
        assert (answer.code, answer.said) == (3, ["oq: [Errno 5] Input/output error: 'data.mdb'"])

    def test_an_error_is_found_in_the_groups_that_it_comes_in(self, oq, broken):
        group = ExceptionGroup("", [ValueError("x"), ExceptionGroup("", [StoreUnavailable("here", "full")])])
        broken(group)
        assert oq("submit", "script", "--command", "true").said == ["oq: the store in here cannot write: full"]

    def test_ctrl_c_is_found_there_too(self, oq, broken):
        broken(BaseExceptionGroup("", [ValueError("x"), KeyboardInterrupt()]))
        answer = oq("submit", "script", "--command", "true")
        assert (answer.code, answer.said) == (130, ["interrupted"])
