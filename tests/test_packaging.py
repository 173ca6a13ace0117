"""Every package is built, and those that a user would install together work together, in fresh environments."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(path.parent for path in [ROOT / "core/pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")])
ECHO = ROOT / "docs/examples/oq-echo"


def run(*command, cwd=None, code=0, **environ):
    """What the command prints, once it has ended with this code."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OQ_")} | environ
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environ, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == code, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """A directory with the wheels of all packages and of the outsider's, each built from its sdist."""
    directory = tmp_path_factory.mktemp("wheels")
    for package in (*PACKAGES, ECHO):
        run(sys.executable, "-m", "hatchling", "build", "-d", directory, cwd=package)
    assert len(list(directory.glob("*.tar.gz"))) == len(list(directory.glob("*.whl"))) == len(PACKAGES) + 1
    return directory


@pytest.fixture(scope="module")
def environment(tmp_path_factory, wheels):
    """A fresh environment, into which packages can be installed from the wheels."""
    return Environment(tmp_path_factory.mktemp("fresh"), wheels)


class Environment:
    def __init__(self, home, wheels):
        self.home = home
        self._wheels = wheels
        venv.create(home / "venv", with_pip=True)

    def install(self, *names):
        pip = (self.home / "venv/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        try:
            run(*pip, "-c", ROOT / "constraints.txt", *map(self._wheel, names))
        except AssertionError as error:
            if "CI" in os.environ:
                raise
            pytest.skip(f"what {' and '.join(names)} depend on cannot be fetched: {error}")

    def _wheel(self, name):
        """The file that was built here; the name alone might be fetched from elsewhere."""
        [found] = self._wheels.glob(f"{name.replace('-', '_')}-*.whl")
        return found

    def oq(self, *arguments, **options):
        return run(self.home / "venv/bin/oq", *arguments, cwd=self.home, **options)


def test_the_steps_of_a_new_user(environment):
    """One after the other in one environment, since each takes seconds: core alone, then plugin by plugin."""
    environment.install("oq-core")
    assert "not installed: script, ollama, openai, http" in environment.oq("plugins")
    assert "try pip install oq-ollama" in environment.oq("submit", "chat", "--model", "m", "hello", code=2)
    assert "try pip install oq-script" in environment.oq("submit", "script", "--command", "true", code=2)

    environment.install("oq-script")
    assert environment.oq("submit", "script", "--command", "echo hi", "--wait").endswith("\nhi\n")

    environment.install("oq-echo")
    payload = json.dumps({"text": "hello", "times": 2})
    said = environment.oq("submit", "generic", "--executor", "echo", "--action", "say", "--payload", payload, "--wait")
    assert said.endswith("\nhello\nhello\n")
    (environment.home / "oq.toml").write_text('[echo]\nseparator = " "\n')
    said = environment.oq("submit", "generic", "--executor", "echo", "--action", "say", "--payload", payload, "--wait")
    assert said.endswith("\nhello hello\n")
    refused = environment.oq(
        "submit", "generic", "--executor", "echo", "--action", "say", "--payload", '{"text": "x", "times": 0}', code=2
    )
    assert "times" in refused


def test_core_and_ollama_alone_answer_a_chat(environment):
    """The promise on the door: pip install oq-core oq-ollama."""
    environment.install("oq-core", "oq-ollama")
    fake = subprocess.Popen(
        [sys.executable, "-m", "oq_ollama.testing", "--port", "0", "--model", "qwen3"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = next(line.split()[-1] for line in fake.stdout if "http://" in line)
        said = environment.oq(
            "submit", "chat", "--model", "qwen3", "--message", "user:Hello, how are you?", "--wait", OLLAMA_HOST=address
        )
        assert said.startswith("✓")
        assert "simulated" in said
        streamed = environment.oq("submit", "chat", "--model", "qwen3", "Hello!", "--stream", OLLAMA_HOST=address)
        assert "simulated" in streamed
    finally:
        fake.terminate()
        fake.wait()
        fake.stdout.close()
