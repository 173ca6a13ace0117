"""What the README shows works as it is written, with the fake in OpenAI's place."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from oq.cli.main import run
from oq.config import load_settings
from oq_openai import OpenAISettings

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture(autouse=True)
def served(tmp_path, environment):
    """An empty directory, and a fake as a process of its own, which the environment names."""
    environment.chdir(tmp_path)
    command = [sys.executable, "-m", "oq_openai.testing", "--pace", "0", "--api-key", "the key"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        environment.setenv("OPENAI_BASE_URL", f"{process.stdout.readline().strip()}/v1")
        environment.setenv("OPENAI_API_KEY", "the key")
        yield tmp_path
        process.terminate()


def test_the_first_example_runs():
    done = subprocess.run([sys.executable, "-c", EXAMPLES[0]], check=True, capture_output=True, text=True)
    assert done.stdout == ("This is a simulated answer of gpt-5-mini to: Why is the sky blue?\n13 tokens\n2 vectors\n")


async def test_the_test_passes():
    names = {}
    exec(EXAMPLES[1], names)
    await names["test_a_task_whose_stream_breaks_off_is_tried_again"]()


@pytest.mark.parametrize("line", re.findall(r"^    (oq .*)$", README, re.MULTILINE))
def test_each_command_runs(line, capsys):
    with pytest.raises(SystemExit) as exited:
        run(shlex.split(line)[1:])
    assert exited.value.code == 0
    assert re.search("simulated answer|1 vector of 8", capsys.readouterr().out)


def test_the_settings_are_settings(served):
    (served / "oq.toml").write_text(re.search(r"```toml\n(.*?)```", README, re.DOTALL)[1])
    settings = load_settings("oq.toml").section("openai", OpenAISettings)
    gpu, cloud = settings.servers({})
    assert (gpu.models, gpu.stream_options, cloud.remote) == (("qwen*", "bge-*"), False, True)
    assert (settings.pace, settings.routing, settings.rest) == (
        OpenAISettings().pace,
        OpenAISettings().routing,
        OpenAISettings().rest,
    )
