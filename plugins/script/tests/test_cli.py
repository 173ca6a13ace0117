"""`oq submit script`, as a person or a program calls it."""

import io
import json
import sys

import pytest

from oq.cli.main import run


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Commands run in an empty directory, with their queue in it and nothing set elsewhere."""
    monkeypatch.chdir(tmp_path)
    for name in ("OQ_QUEUE", "OQ_CONFIG", "OQ_WORKERS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def oq(capsys):
    """Runs `oq submit script …`; gives the exit code, the output and the messages."""

    def oq(*arguments):
        with pytest.raises(SystemExit) as exited:
            run(["submit", "script", *arguments])
        printed = capsys.readouterr()
        return exited.value.code, printed.out, printed.err

    return oq


@pytest.fixture
def submitted(oq):
    """Runs the task and gives it as programs see it."""

    def submitted(*arguments):
        code, out, err = oq(*arguments, "--wait", "--output", "json")
        assert code == 0, err
        return json.loads(out)

    return submitted


def test_a_command_is_submitted_and_its_result_shown(submitted):
    assert submitted("--command", "echo hi")["result"]["stdout"] == "hi\n"


def test_a_script_gets_its_arguments_variables_directory_and_input(submitted, here):
    (here / "data").mkdir()
    (here / "job.sh").write_text('echo "$1|$2|$LEVEL|$(pwd)|$(cat)"')
    result = submitted(
        *("--script", "job.sh", "--arg", "a b", "--arg", "--c", "--env", "LEVEL=x=y", "--cwd", "data", "--stdin", "in")
    )["result"]
    assert result["stdout"] == f"a b|--c|x=y|{here / 'data'}|in\n"


def test_the_options_of_every_task_are_taken(submitted):
    task = submitted("--command", "true", "--priority", "high", "--tag", "nightly", "--id", "job-1")
    assert (task["id"], task["priority"], task["tags"]) == ("job-1", "high", ["nightly"])


def test_a_dash_stands_for_what_is_piped_in(submitted, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("zażółć\n".encode())))
    assert submitted("--command", "cat", "--stdin", "-")["result"]["stdout"] == "zażółć\n"


def test_the_output_can_be_watched(oq):
    code, out, _ = oq("--command", "seq 3", "--stream")
    assert (code, out) == (0, "1\n2\n3\n")


def test_a_failure_is_told_by_the_exit_code_and_the_message(oq):
    code, out, err = oq("--command", "sh -c 'echo no luck >&2; exit 3'", "--attempts", "1", "--wait")
    assert code == 1
    assert "sh exited with code 3: no luck" in out + err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give either --command or --script"),
        (("--command", "true", "--script", "a.sh"), "give either --command or --script"),
        (("--script", "a.sh", "--shell"), "--shell goes with --command"),
        (("--command", "true", "--env", "LEVEL"), "'LEVEL' is not NAME=VALUE"),
        (("--command", "true", "--env", "=x"), "'=x' is not NAME=VALUE"),
        (("--script", "../a.sh"), "--script: '../a.sh' contains '..'"),
        (("--command", "echo hi", "--shell"), "--shell: the shell is not allowed here"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused_with_the_reason(oq, arguments, message):
    code, _, err = oq(*arguments)
    assert code == 2
    assert message in err


def test_input_that_is_no_text_is_refused(oq, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff")))
    code, _, err = oq("--command", "cat", "--stdin", "-")
    assert (code, "the input is not UTF-8" in err) == (2, True)
