"""What the README shows works as it is written."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from oq.cli.main import run
from oq.config import load_settings
from oq_script import ScriptSettings

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def example(language):
    return re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)[1]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty directory, but for the script that the README speaks of."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.py").write_text("print('report')")
    return tmp_path


def test_the_first_example_runs(here):
    done = subprocess.run([sys.executable, "-c", example("python")], check=True, capture_output=True, text=True)
    assert done.stdout == "hi\n\n"


@pytest.mark.parametrize("line", re.findall(r"^    (oq .*)$", README, re.MULTILINE))
def test_each_command_runs(line):
    with pytest.raises(SystemExit) as exited:
        run(shlex.split(line)[1:])
    assert exited.value.code == 0


def test_the_settings_are_settings(here):
    (here / "oq.toml").write_text(example("toml"))
    settings = load_settings("oq.toml").section("script", ScriptSettings)
    assert settings.permanent_exit_codes == (2,)
    assert ".run" in settings.extensions
