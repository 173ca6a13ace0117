"""What the README shows works as it is written."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from oq.config import load_settings
from oq_ollama import OllamaExecutor, OllamaSettings

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def examples(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty directory, and nothing of the settings of whoever runs the tests."""
    for name in ("OQ_QUEUE", "OQ_CONFIG", "OLLAMA_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def run(fake, *command):
    """Run Python for whoever asks the environment where Ollama is."""
    return await trio.run_process(
        [sys.executable, *command],
        env={**os.environ, "OLLAMA_HOST": fake.url},
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )


async def test_the_first_example_runs(fake):
    """It prints the answer and how fast it came."""
    done = await run(fake, "-c", examples("python")[0])
    assert done.stdout.decode() == "This is a simulated answer of qwen3 to: Why is the sky blue?100.0\n", done.stderr
    assert fake.loads[0] == "qwen3"


@pytest.mark.parametrize("line", re.findall(r"^    (oq .*)$", README, re.MULTILINE))
async def test_each_command_runs(line, fake):
    """As it is shown."""
    done = await run(fake, "-m", "oq", *shlex.split(line)[1:])
    assert done.returncode == 0, done.stderr.decode()
    if "--wait" in line:
        assert "This is a simulated answer of qwen3 to: Why is the sky blue?" in done.stdout.decode()


@pytest.mark.parametrize("number", [0, 1])
def test_the_settings_are_settings(here, number):
    """Each of the two files, with every key that it shows."""
    (here / "oq.toml").write_text(examples("toml")[number])
    executor = OllamaExecutor(load_settings("oq.toml").section("ollama", OllamaSettings))
    names = list(executor.endpoints._kept)
    assert names == [["local"], ["desk", "gpu", "cloud"]][number]


def test_the_settings_shown_are_the_defaults(here):
    """But for the host."""
    (here / "oq.toml").write_text(examples("toml")[0].replace("host =", "# host ="))
    assert load_settings("oq.toml").section("ollama", OllamaSettings) == OllamaSettings()


def test_the_test_shown_is_a_test(here):
    """pytest runs it."""
    (here / "test_it.py").write_text(
        examples("python")[1].replace("...", "").replace('assert fake.loads == ["qwen3"]', "")
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "trio_mode=true", "test_it.py"]
    subprocess.run(command, check=True, cwd=here)
