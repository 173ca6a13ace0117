"""What runs, what it gets, and what comes back."""

import sys

import attrs
import pytest

from oq import PermanentError, RetryableError
from oq_script import ScriptResult, command, script


async def test_a_command_gives_its_output_exit_code_and_duration(registry):
    result = await registry.execute(command("echo hi"))
    assert result == ScriptResult(exit_code=0, stdout="hi\n", stderr="", duration=result.duration)
    assert 0 < result.duration < 60


async def test_stdout_and_stderr_are_kept_apart(registry_with):
    result = await registry_with(allow_shell=True).execute(command("echo out; echo err >&2", shell=True))
    assert (result.stdout, result.stderr) == ("out\n", "err\n")


async def test_a_command_is_split_as_a_shell_would(registry):
    result = await registry.execute(command("printf '%s|' 'a b' \"c d\" e\\ f"))
    assert result.stdout == "a b|c d|e f|"


async def test_no_shell_interprets_a_command(registry):
    result = await registry.execute(command("echo $HOME * ; true | false"))
    assert result.stdout == "$HOME * ; true | false\n"


async def test_a_shell_interprets_a_command_where_it_is_asked_for_and_allowed(registry_with):
    result = await registry_with(allow_shell=True).execute(command("echo $((6 * 7))", shell=True))
    assert result.stdout == "42\n"


async def test_the_arguments_of_a_command_are_taken_as_they_are(registry):
    result = await registry.execute(command("printf '%s|'", args=["a b", "'", "$HOME"]))
    assert result.stdout == "a b|'|$HOME|"


async def test_a_script_is_run_by_the_interpreter_of_its_extension(registry, directory):
    (directory / "hi.sh").write_text('echo "hi $1 from $0"')
    result = await registry.execute(script("hi.sh", args=["a b"]))
    assert result.stdout == f"hi a b from {directory / 'hi.sh'}\n"


async def test_an_interpreter_can_be_chosen(registry_with, directory):
    (directory / "hi.py").write_text("import sys; print(sys.flags.isolated, sys.argv[1:])")
    registry = registry_with(interpreters={".py": [sys.executable, "-I"]})
    assert (await registry.execute(script("hi.py", args=["x"]))).stdout == "1 ['x']\n"


async def test_choosing_one_interpreter_keeps_the_others(registry_with, directory):
    (directory / "hi.sh").write_text("echo hi")
    registry = registry_with(interpreters={".R": ["Rscript"]})
    assert (await registry.execute(script("hi.sh"))).stdout == "hi\n"


async def test_without_an_interpreter_a_script_is_run_by_its_first_line(registry_with, directory):
    file = directory / "hi"
    file.write_text("#!/bin/sh\necho direct")
    file.chmod(0o755)
    assert (await registry_with(extensions=("",)).execute(script("hi"))).stdout == "direct\n"


async def test_a_script_may_lie_in_a_folder_of_the_directory(registry, directory):
    (directory / "deep" / "er").mkdir(parents=True)
    (directory / "deep" / "er" / "hi.sh").write_text("pwd")
    assert (await registry.execute(script("deep/er/hi.sh"))).stdout == f"{directory}\n"


async def test_the_working_directory_is_the_script_directory(registry, directory):
    assert (await registry.execute(command("pwd"))).stdout == f"{directory}\n"


async def test_the_working_directory_can_be_one_inside(registry, directory):
    (directory / "inside").mkdir()
    assert (await registry.execute(command("pwd", cwd="inside"))).stdout == f"{directory / 'inside'}\n"


async def test_a_relative_script_directory_stays_where_it_was_when_the_process_moves(
    registry_with, directory, monkeypatch
):
    monkeypatch.chdir(directory.parent)
    registry = registry_with(directory=directory.name)
    monkeypatch.chdir("/")
    assert (await registry.execute(command("pwd"))).stdout == f"{directory}\n"


async def test_the_script_directory_may_be_a_link_that_is_bent(registry_with, directory):
    (directory / "v1").mkdir()
    (directory / "v2").mkdir()
    current = directory / "current"
    current.symlink_to("v1")
    registry = registry_with(directory=str(current))
    assert (await registry.execute(command("pwd"))).stdout == f"{directory / 'v1'}\n"
    current.unlink()
    current.symlink_to("v2")
    assert (await registry.execute(command("pwd"))).stdout == f"{directory / 'v2'}\n"


async def test_stdin_is_given_whole_and_then_closed(registry):
    text = "zażółć\n" * 50_000  # several times what a pipe holds
    assert (await registry.execute(command("wc -c", stdin=text))).stdout.strip() == str(len(text.encode()))


async def test_without_stdin_there_is_nothing_to_read(registry):
    assert (await registry.execute(command("wc -c"))).stdout.strip() == "0"


async def test_a_process_that_does_not_read_its_stdin_does_not_fail(registry):
    assert (await registry.execute(command("true", stdin="x" * 1_000_000))).exit_code == 0


async def test_stdin_is_fed_while_output_is_read(registry):
    text = "line\n" * 200_000
    result = await registry.execute(command("cat", stdin=text))
    assert result.stdout == text


async def test_an_exit_code_other_than_0_is_a_failure_that_may_be_retried(registry_with):
    registry = registry_with(allow_shell=True)
    with pytest.raises(RetryableError, match="exited with code 3") as caught:
        await registry.execute(command("exit 3", shell=True))
    assert caught.value.type == "ExitCode"


async def test_an_exit_code_can_be_set_to_mean_do_not_retry(registry_with):
    registry = registry_with(allow_shell=True, permanent_exit_codes=(2, -15))
    for text, code in (("exit 2", 2), ("kill $$", -15)):
        with pytest.raises(PermanentError) as caught:
            await registry.execute(command(text, shell=True))
        assert caught.value.type == "ExitCode"
        assert caught.value.details["exit_code"] == code
    with pytest.raises(RetryableError):
        await registry.execute(command("exit 1", shell=True))


async def test_a_failure_keeps_the_output(registry_with):
    with pytest.raises(RetryableError) as caught:
        await registry_with(allow_shell=True).execute(command("echo out; echo err >&2; exit 7", shell=True))
    duration = caught.value.details["duration"]
    assert caught.value.details == {
        "exit_code": 7,
        "stdout": "out\n",
        "stderr": "err\n",
        "stdout_truncated": False,
        "stderr_truncated": False,
        "duration": duration,
    }


async def test_the_message_of_a_failure_repeats_the_last_line_of_stderr(registry, directory):
    (directory / "bad.sh").write_text("echo first >&2; echo 'no such table' >&2; echo >&2; exit 4")
    with pytest.raises(RetryableError) as caught:
        await registry.execute(script("bad.sh"))
    assert caught.value.message == "bad.sh exited with code 4: no such table"


async def test_the_message_of_a_failure_names_the_signal(registry):
    with pytest.raises(RetryableError, match=r"^sh was ended by SIGKILL$") as caught:
        await registry.execute(command("sh -c 'kill -9 $$'"))
    assert caught.value.details["exit_code"] == -9


async def test_a_program_that_is_not_there_fails_for_good_and_says_where_it_was_looked_for(registry):
    with pytest.raises(PermanentError, match=r"no program 'no-such-program' in PATH .*install it") as caught:
        await registry.execute(command("no-such-program --help"))
    assert caught.value.type == "NotFound"


async def test_a_program_whose_path_is_wrong_fails_for_good(registry):
    with pytest.raises(PermanentError, match="/no/such/program does not exist") as caught:
        await registry.execute(command("/no/such/program"))
    assert caught.value.type == "NotFound"


async def test_a_file_that_may_not_be_executed_fails_for_good_and_says_what_to_do(registry, directory):
    (directory / "tool").write_text("#!/bin/sh\n")
    with pytest.raises(PermanentError, match="chmod") as caught:
        await registry.execute(command("./tool"))
    assert caught.value.type == "NotExecutable"


async def test_a_script_without_interpreter_or_first_line_fails_for_good_and_says_what_to_do(registry_with, directory):
    (directory / "tool").write_text("echo hi")
    (directory / "tool").chmod(0o755)
    with pytest.raises(PermanentError, match="begin it with a #! line") as caught:
        await registry_with(extensions=("",)).execute(script("tool"))
    assert caught.value.type == "NotExecutable"


async def test_a_missing_interpreter_fails_for_good_and_is_named(registry_with, directory):
    (directory / "hi.sh").write_text("")
    with pytest.raises(PermanentError, match=r"hi\.sh cannot be started: .*'no-such-shell'"):
        await registry_with(interpreters={".sh": ["no-such-shell"]}).execute(script("hi.sh"))


async def test_arguments_that_are_too_long_for_the_system_fail_for_good(registry):
    with pytest.raises(PermanentError, match="by stdin") as caught:
        await registry.execute(command("true", args=["x" * 10_000_000]))
    assert caught.value.type == "TooLong"


async def test_a_script_that_is_not_there_fails_for_good_and_says_where_it_should_be(registry, directory):
    with pytest.raises(PermanentError, match=f"no script 'gone.sh' in {directory}; put it there") as caught:
        await registry.execute(script("gone.sh"))
    assert caught.value.type == "NotFound"


async def test_a_script_must_be_a_file(registry, directory):
    (directory / "folder.sh").mkdir()
    with pytest.raises(PermanentError, match="no script"):
        await registry.execute(script("folder.sh"))


async def test_a_working_directory_that_is_not_there_fails_for_good(registry):
    with pytest.raises(PermanentError, match="no directory 'gone' to work in"):
        await registry.execute(command("true", cwd="gone"))


async def test_a_script_directory_that_is_not_there_fails_for_good_and_names_the_setting(registry_with):
    with pytest.raises(PermanentError, match=r"set directory in the table \[script\]"):
        await registry_with(directory="/no/such/directory").execute(command("true"))


async def test_each_line_is_a_chunk_of_its_stream(registry_with):
    spec = command("echo one; echo two >&2; printf three", shell=True)
    async with registry_with(allow_shell=True).stream(spec) as chunks:
        seen = [(chunk.kind, chunk.text) async for chunk in chunks]
    assert sorted(seen) == [("stderr", "two\n"), ("stdout", "one\n"), ("stdout", "three")]
    assert [text for kind, text in seen if kind == "stdout"] == ["one\n", "three"]


async def test_a_line_is_passed_on_before_the_process_ends(registry):
    async with registry.stream(command("sh -c 'echo $$; exec sleep 1000'")) as chunks:
        assert (await anext(chunks)).text.strip().isdecimal()


async def test_the_lines_of_a_python_script_are_passed_on_one_by_one(registry_with, directory):
    (directory / "slow.py").write_text("import time; print('first'); time.sleep(1000)")
    async with registry_with().stream(script("slow.py")) as chunks:
        assert (await anext(chunks)).text == "first\n"


def test_the_stored_payload_comes_back_as_it_was(registry):
    payload = attrs.evolve(command("cat", args=["a"], env={"A": "1"}, cwd=".", stdin="x").payload)
    checked = registry.check(command("cat", args=["a"], env={"A": "1"}, cwd=".", stdin="x"))
    assert registry.decode_payload("script", "run", checked.data) == payload


def test_the_summary_of_a_task_is_its_command_line_without_secrets(registry):
    checked = registry.check(command("login now", args=["a b"], env={"TOKEN": "s3cret"}, stdin="s3cret"))
    assert checked.summary == "login now 'a b'"
