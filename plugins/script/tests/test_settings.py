"""The table `[script]`."""

import pytest

from oq import InvalidSettings, Settings
from oq_script import ScriptSettings


def section(**table):
    return Settings(sections={"script": table}).section("script", ScriptSettings)


def test_without_a_table_there_are_defaults():
    assert section() == ScriptSettings()


def test_commands_are_allowed_and_the_shell_is_not_unless_set():
    assert (section().allow_commands, section().allow_shell) == (True, False)


def test_an_interpreter_allows_its_extension():
    assert ".R" in section(interpreters={".R": ["Rscript"]}).extensions


def test_extensions_can_be_narrowed_down():
    assert section(extensions=[".py"]).extensions == (".py",)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"directory": ""}, "directory must name a directory"),
        ({"extensions": ["py"]}, "'py' is no extension; write it like \".py\""),
        ({"extensions": [".py/.."]}, "is no extension"),
        ({"interpreters": {"py": ["python3"]}}, "'py' is no extension"),
        ({"interpreters": {".py": "python3"}}, "interpreters"),
        ({"inherit_env": ["A=B"]}, "'A=B' is no variable"),
        ({"denied_env": ["[A]"]}, "'[A]' is no variable"),
        ({"permanent_exit_codes": [0]}, "0 is no exit code of a failure"),
        ({"permanent_exit_codes": [256]}, "256 is no exit code"),
        ({"max_output": -1}, "max_output"),
        ({"max_line": 0}, "max_line"),
        ({"kill_grace": -1.0}, "kill_grace"),
        ({"kill_grace": float("inf")}, "kill_grace"),
        ({"linger": float("nan")}, "linger"),
        ({"allow_shell": "yes"}, "script.allow_shell: expected true or false"),
        ({"allow_shel": True}, "did you mean 'allow_shell'?"),
    ],
)
def test_a_wrong_setting_is_refused_and_named(table, reason):
    with pytest.raises(InvalidSettings) as caught:
        section(**table)
    assert reason in str(caught.value)
