"""What is refused, at submit and again when it runs."""

import pytest

from oq import InvalidTask, PermanentError, Registry, TaskSpec
from oq_script import ScriptExecutor, ScriptSettings, command, script


def refusals(registry, spec):
    """What `check` says of a spec, by path."""
    with pytest.raises(InvalidTask) as caught:
        registry.check(spec)
    return {problem.path: problem.message for problem in caught.value.problems}


def run(**payload):
    return TaskSpec(executor="script", action="run", payload=payload)


@pytest.fixture
def unchecked(directory):
    """A registry that lets every payload in, as if it had been good when it was submitted."""

    class Unchecked(ScriptExecutor):
        def check(self, action, payload):
            pass

    return Registry([Unchecked(ScriptSettings(directory=str(directory)))])


@pytest.fixture
def outside(directory):
    """A script beside the directory."""
    file = directory.parent / "outside.sh"
    file.write_text("echo outside")
    return file


@pytest.mark.parametrize("payload", [{}, {"command": "true", "script": "a.sh"}])
def test_exactly_one_of_command_and_script_is_given(registry, payload):
    assert "give a command or a script" in refusals(registry, run(**payload))["payload"]


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_an_empty_command_is_refused(registry_with, text):
    registry = registry_with(allow_shell=True)
    assert refusals(registry, run(command=text)) == {"payload.command": "is empty"}
    assert refusals(registry, run(command=text, shell=True)) == {"payload.command": "is empty"}


def test_a_command_that_cannot_be_split_is_refused(registry):
    assert refusals(registry, run(command="echo 'open")) == {
        "payload.command": "cannot be split into words: No closing quotation"
    }


def test_the_shell_is_refused_unless_the_settings_allow_it(registry):
    assert "allow_shell = true" in refusals(registry, run(command="echo hi", shell=True))["payload.shell"]


def test_the_shell_is_for_commands(registry_with):
    assert "payload.shell" in refusals(registry_with(allow_shell=True), run(script="a.sh", shell=True))


def test_a_shell_takes_no_further_arguments(registry_with):
    spec = run(command="echo", args=["hi"], shell=True)
    assert "payload.args" in refusals(registry_with(allow_shell=True), spec)


def test_commands_are_refused_where_the_settings_say_so(registry_with):
    registry = registry_with(allow_commands=False)
    assert "allow_commands = true" in refusals(registry, command("true"))["payload.command"]
    registry.check(script("a.sh"))


@pytest.mark.parametrize("field", ["script", "cwd"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/etc/a.sh", "is absolute"),
        ("../a.sh", "contains '..'"),
        ("deep/../../a.sh", "contains '..'"),
        ("deep/..", "contains '..'"),
        ("", "must be a path"),
        ("a\0.sh", "must be a path"),
    ],
)
def test_a_name_that_could_lead_out_is_refused(registry, field, name, reason):
    given = {"script": "a.sh"} | {field: name}
    assert reason in refusals(registry, run(**given))[f"payload.{field}"]


def test_a_link_to_a_script_outside_is_refused(registry, directory, outside):
    (directory / "inside.sh").symlink_to(outside)
    assert "leads out" in refusals(registry, script("inside.sh"))["payload.script"]


def test_a_script_behind_a_folder_that_is_a_link_out_is_refused(registry, directory, outside):
    (directory / "folder").symlink_to(outside.parent)
    assert "leads out" in refusals(registry, script("folder/outside.sh"))["payload.script"]


def test_a_working_directory_that_is_a_link_out_is_refused(registry, directory):
    (directory / "folder").symlink_to("/tmp")
    assert "leads out" in refusals(registry, command("true", cwd="folder"))["payload.cwd"]


def test_a_directory_whose_name_only_begins_alike_is_outside(registry, directory):
    twin = directory.with_name(directory.name + "-private")
    twin.mkdir()
    (twin / "a.sh").write_text("echo private")
    (directory / "a.sh").symlink_to(twin / "a.sh")
    assert "leads out" in refusals(registry, script("a.sh"))["payload.script"]


async def test_a_link_that_stays_inside_is_followed(registry, directory):
    (directory / "v1.sh").write_text("echo v1")
    (directory / "current.sh").symlink_to("v1.sh")
    assert (await registry.execute(script("current.sh"))).stdout == "v1\n"


async def test_links_in_a_circle_are_no_script(registry, directory):
    (directory / "a.sh").symlink_to("b.sh")
    (directory / "b.sh").symlink_to("a.sh")
    with pytest.raises(PermanentError, match="no script"):
        await registry.execute(script("a.sh"))


async def test_a_script_that_became_a_link_out_since_submit_is_refused_when_it_runs(unchecked, directory, outside):
    (directory / "a.sh").symlink_to(outside)
    with pytest.raises(PermanentError, match="leads out") as caught:
        await unchecked.execute(script("a.sh"))
    assert caught.value.type == "InvalidTask"


@pytest.mark.parametrize(
    "payload",
    [
        {"script": "../outside.sh"},
        {"command": "pwd", "cwd": "../"},
        {"command": "pwd", "shell": True},
        {"command": "env", "env": {"LD_PRELOAD": "/tmp/evil.so"}},
        {"script": "notes.txt"},
    ],
)
async def test_whatever_is_refused_at_submit_is_refused_when_it_runs(unchecked, directory, outside, payload):
    (directory / "notes.txt").write_text("echo notes")
    with pytest.raises(PermanentError) as caught:
        await unchecked.execute(run(**payload))
    assert caught.value.type == "InvalidTask"


def test_only_files_with_an_allowed_extension_are_run(registry_with):
    registry = registry_with(extensions=(".py",))
    registry.check(script("a.py"))
    assert "allowed: .py" in refusals(registry, script("a.sh"))["payload.script"]
    assert "payload.script" in refusals(registry, script("a"))


def test_a_link_does_not_make_a_script_of_another_file(registry, directory):
    (directory / "notes.txt").write_text("echo notes")
    (directory / "notes.sh").symlink_to("notes.txt")
    assert ".txt" in refusals(registry, script("notes.sh"))["payload.script"]


def test_a_script_need_not_exist_yet_when_it_is_submitted(registry):
    registry.check(script("written-by-an-earlier-task.sh"))


@pytest.mark.parametrize("name", ["LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH", "BASH_ENV", "NODE_OPTIONS", "PATH"])
def test_a_variable_that_makes_programs_run_other_code_is_refused(registry, name):
    assert "other code" in refusals(registry, command("true", env={name: "x"}))[f"payload.env.{name}"]


@pytest.mark.parametrize("name", ["", "A=B", "A B", "1A", "A\0", "BASH_FUNC_ls%%", "LD_PRELOAD\n"])
def test_a_variable_needs_a_proper_name(registry, name):
    assert "no name of a variable" in refusals(registry, command("true", env={name: "x"}))[f"payload.env.{name}"]


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({"command": "echo \0"}, "payload.command"),
        ({"command": "echo", "args": ["a", "\0"]}, "payload.args[1]"),
        ({"command": "echo", "env": {"A": "\0"}}, "payload.env.A"),
    ],
)
def test_a_nul_character_is_refused_where_the_system_cannot_pass_it(registry, payload, path):
    assert "NUL" in refusals(registry, run(**payload))[path]


def test_everything_that_is_wrong_is_said_at_once(registry):
    spec = run(command="echo 'open", cwd="/", env={"LD_PRELOAD": "x"}, shell=True)
    assert set(refusals(registry, spec)) == {"payload.cwd", "payload.env.LD_PRELOAD", "payload.shell"}


def test_an_unknown_field_is_refused_with_the_one_that_was_meant(registry):
    assert "'script'" in refusals(registry, run(skript="a.sh"))["payload"]


def test_a_field_of_the_wrong_type_is_refused_by_its_path(registry):
    assert "payload.args[0]" in refusals(registry, run(command="echo", args=[1]))
