"""What the README and the docs show runs as it stands there."""

import json
import os
import re
import subprocess
import sys
import tomllib
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from oq.batch import parse_batch
from oq.config import Settings, load_settings
from oq.config.legacy import FLAT_KEYS, VARIABLES
from oq.config.reading import SHORT_VARIABLES
from oq.config.tables import TABLES
from oq.lifecycle import as_mermaid
from oq_ollama import OllamaSettings

ROOT = Path(__file__).parent.parent


def blocks(file, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / file).read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def models():
    """Variables that lead to simulated models, which run in processes of their own."""
    with (
        simulated("oq_ollama.testing", "--model", "qwen3", "--model", "nomic-embed-text") as ollama,
        simulated("oq_openai.testing", "--model", "gpt-5") as openai,
    ):
        yield {"OLLAMA_HOST": ollama, "OPENAI_BASE_URL": f"{openai.removesuffix('/v1')}/v1", "OPENAI_API_KEY": "any"}


@contextmanager
def simulated(module, *options):
    command = [sys.executable, "-m", module, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        yield process.stdout.readline().strip()
        process.terminate()


@pytest.mark.parametrize("code", blocks("README.md", "python"))
def test_each_program_of_the_readme_runs(code, tmp_path, models):
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | models,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_batch_file_of_the_readme_is_one():
    [text] = blocks("README.md", "json")
    assert len(parse_batch(text)) == len(json.loads(text))


def test_the_settings_of_the_docs_are_those_that_hold_without_a_file(tmp_path):
    [text] = blocks("docs/configuration.md", "toml")
    text = text.replace("limits = { script = 2 }", "limits = {}")
    (tmp_path / "shown.toml").write_text(text)
    shown = load_settings(tmp_path / "shown.toml", {})
    assert shown == attrs.evolve(Settings(), source=shown.source)


def test_the_docs_show_every_setting_of_the_core():
    [text] = blocks("docs/configuration.md", "toml")
    shown = {table: list(keys) for table, keys in tomllib.loads(text).items()}
    assert shown == {table: [field.name for field in attrs.fields(cls)] for table, cls in TABLES.items()}


def test_the_settings_of_the_docs_in_yaml_are_settings(tmp_path):
    [text] = blocks("docs/configuration.md", "yaml")
    (tmp_path / "oq.yaml").write_text(text)
    assert load_settings(tmp_path / "oq.yaml", {}) == attrs.evolve(Settings(), source=str(tmp_path / "oq.yaml"))


def test_the_docs_name_every_short_variable():
    text = (ROOT / "docs/configuration.md").read_text()
    assert [name for name in (*SHORT_VARIABLES, *VARIABLES) if f"| `{name}` |" not in text] == []


def test_the_docs_name_every_key_of_ollama_queue():
    text = (ROOT / "docs/configuration.md").read_text()
    assert [name for name in FLAT_KEYS if f"`{name}`" not in text] == []


def test_the_settings_class_of_the_docs_is_one():
    [code] = blocks("docs/configuration.md", "python")
    namespace = {}
    exec(code, namespace)
    settings = load_settings(environ={"ECHO_HOST": "there", "OQ_ECHO_KEY": "sesame", "OQ_ECHO_TEMPLATE": "${x}"})
    echo = settings.section("echo", namespace["EchoSettings"])
    assert (echo.host, echo.key, echo.template) == ("there", "sesame", "${x}")
    assert "sesame" not in repr(echo)


@pytest.mark.parametrize(
    "command", re.findall(r"^\$ (.*\boq submit .*)$", (ROOT / "docs/models.md").read_text(), re.MULTILINE)
)
def test_each_command_about_models_gives_an_answer(command, tmp_path, models):
    (tmp_path / "report.txt").write_text("It rained.")
    bin_of_oq = str(Path(sys.executable).parent)
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env=os.environ | models | {"PATH": f"{bin_of_oq}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "simulated" in done.stdout or "embeddings" in done.stdout


def test_the_endpoints_of_the_docs_are_settings(tmp_path):
    [text] = blocks("docs/models.md", "toml")
    (tmp_path / "oq.toml").write_text(text)
    settings = load_settings(tmp_path / "oq.toml", {}).section("ollama", OllamaSettings)
    assert [(endpoint.name, endpoint.remote) for endpoint in settings.endpoints] == [("desk", False), ("rack", True)]
    assert settings.routing.max_local_queue_size == 50


def test_the_diagram_of_the_docs_is_made_from_the_table():
    assert blocks("docs/concepts.md", "mermaid") == [as_mermaid()]


def test_the_executor_of_the_docs_works_without_a_queue():
    code, _ = blocks("docs/executors.md", "python")
    namespace = {}
    exec(code, namespace)
    import trio

    import oq

    registry = oq.Registry([namespace["EchoExecutor"]()])
    spec = oq.TaskSpec(executor="echo", action="say", payload={"text": "hi", "times": 2})
    assert trio.run(registry.execute, spec) == "hihi"


def test_the_executor_of_the_docs_passes_the_contract_as_the_docs_apply_it(tmp_path):
    executor, tests = blocks("docs/executors.md", "python")
    (tmp_path / "oq_echo.py").write_text(executor)
    (tmp_path / "test_echo.py").write_text(tests)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", ".", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
