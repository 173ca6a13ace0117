"""A plugin that is at fault is named in one line, with how to go on without it."""

import os
import re

import pytest

GOOD = """
import oq

class Echo:
    name = "echo"
    version = "1"
    description = "Says what it is told"
    actions = {}
    async def execute(self, task, ctx): ...

@oq.hookimpl
def oq_executors(settings):
    return [Echo()]

@oq.hookimpl
def oq_cli_commands():
    return [oq.CliCommand(path=("submit", "echo"), summary="Echo.", load="oq_echo_test:command")]
"""

MISSPELT = """
import oq

@oq.hookimpl
def oq_executers(settings):
    return []
"""


@pytest.fixture
def install(home, monkeypatch):
    """Make an installed package of a plugin with this source, for `start`."""
    site = home / "site"

    def install(source, *, name="echo", package="oq-echo-test"):
        module = package.replace("-", "_")
        info = site / f"{module}-1.5.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[oq]\n{name} = {module}\n")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))

    return install


@pytest.fixture
def failing(start):
    """Run `oq` where a plugin is at fault, and give the one line that says so."""

    def run(*arguments):
        process = start(*arguments)
        assert process.end() == 3
        [line] = process.printed.splitlines()
        return line

    return run


TO_DO = r"; repair it, uninstall oq-echo-test, or disable it with OQ_DISABLED_PLUGINS=echo"


def test_one_that_cannot_be_imported_is_named_with_the_reason(install, failing):
    install("import nothing_of_that_name")
    assert failing("plugins") == (
        "oq: plugin 'echo' (oq-echo-test 1.5) cannot be loaded: "
        f"ModuleNotFoundError: No module named 'nothing_of_that_name'{TO_DO}"
    )


def test_one_with_a_misspelt_hook_is_named_with_the_hook(install, failing):
    install(MISSPELT)
    line = failing("submit", "script", "--command", "true")
    assert re.match(r"oq: plugin 'echo' \(oq-echo-test 1\.5\) cannot be loaded: .*'oq_executers'", line)


def test_two_of_one_name_are_an_error_that_names_both(install, failing):
    install(GOOD)
    install(GOOD, package="oq-other-test")
    line = failing("plugins")
    assert "plugin 'echo'" in line
    assert "oq-echo-test" in line
    assert "oq-other-test" in line


def test_a_command_that_oq_has_itself_is_not_taken_over(install, failing):
    install(GOOD.replace('("submit", "echo")', '("list",)'))
    assert failing("--help") == "oq: oq_echo_test:command wants to be the command 'oq list', which is oq's own"


def test_a_command_that_is_not_there_is_told(install, failing):
    install(GOOD)
    line = failing("submit", "echo")
    assert line.startswith("oq: the command 'oq submit echo' cannot be loaded: ")


def test_one_that_works_brings_its_executor_and_its_command(install, start):
    install(GOOD)
    process = start("plugins")
    assert process.end() == 0
    assert re.search(r"^  echo +oq-echo-test 1\.5$", process.printed, re.MULTILINE)
    assert "echo  Says what it is told" in process.printed
    process = start("submit", "--help")
    assert process.end() == 0
    assert re.search(r"^  echo +Echo\.$", process.printed, re.MULTILINE)


def test_what_is_wrong_with_one_that_is_disabled_does_not_matter(install, start, monkeypatch):
    install("import nothing_of_that_name")
    monkeypatch.setenv("OQ_DISABLED_PLUGINS", "echo")
    process = start("plugins")
    assert process.end() == 0
    assert re.search(r"^  echo +oq-echo-test 1\.5  \(disabled\)$", process.printed, re.MULTILINE)


def test_help_of_oqs_own_commands_needs_no_plugin(install, start):
    install("import nothing_of_that_name")
    assert start("list", "--help").end() == 0
