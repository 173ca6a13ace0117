"""How the package presents itself to oq and to those who embed it."""

import subprocess
import sys

import pytest

import oq_script
from oq import InvalidTask, Priority, Registry, Settings, load_plugins
from oq_script import ScriptExecutor, ScriptPayload, command, script


def test_oq_finds_the_executor_and_gives_it_its_settings():
    settings = Settings(sections={"script": {"allow_commands": False}})
    (executor,) = [found for found in load_plugins().executors(settings) if found.name == "script"]
    with pytest.raises(InvalidTask, match="allow_commands"):
        Registry([executor]).check(command("true"))


def test_oq_finds_the_command_line():
    found = load_plugins().cli_commands()["submit", "script"]
    assert found.load == "oq_script.cli:script"


def test_the_executor_says_what_it_is():
    (info,) = Registry([ScriptExecutor()]).list()
    assert (info.name, info.version) == ("script", oq_script.__version__)
    assert set(info.actions) == {"run"}


def test_loading_the_plugin_loads_nothing_that_only_a_run_needs():
    code = "import sys, oq_script; oq_script.ScriptExecutor(); sys.exit('oq_script.process' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_are_a_sorted_list():
    assert list(oq_script.__all__) == sorted(oq_script.__all__)
    assert all(hasattr(oq_script, name) for name in oq_script.__all__)


def test_command_makes_a_task_and_passes_on_its_options():
    spec = command("echo hi", env={"A": "1"}, priority="high", tags=("a",), timeout=5.0)
    assert (spec.executor, spec.action, spec.priority, spec.tags, spec.timeout) == (
        "script",
        "run",
        Priority.HIGH,
        ("a",),
        5.0,
    )
    assert spec.payload == ScriptPayload(command="echo hi", env={"A": "1"})


def test_script_makes_a_task_and_passes_on_its_options():
    spec = script("job.py", args=["--fast"], cwd="data", stdin="x", delay=3.0)
    assert spec.delay == 3.0
    assert spec.payload == ScriptPayload(script="job.py", args=("--fast",), cwd="data", stdin="x")


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="priorty"):
        command("echo hi", priorty="high")
