"""What the README shows works as it is written, but for the port."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import trio

from oq.cli.main import run
from oq.config import load_settings
from oq.testing import serve_http
from oq_http import HttpSettings
from oq_http.policy import Policy

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def examples(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


async def healthy(_, exchange):
    await exchange.respond_json(200, "well")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty directory, but for the task that the README speaks of."""
    monkeypatch.chdir(tmp_path)
    task = {"id": "1", "method": "GET", "url": "http://localhost:8080/health", "header": {}, "body": ""}
    (tmp_path / "task.json").write_text(json.dumps(task))
    return tmp_path


async def test_the_first_example_runs(here):
    async with serve_http(healthy) as server:
        code = examples("python")[0].replace("localhost:8080", f"127.0.0.1:{server.port}")
        done = await trio.run_process([sys.executable, "-c", code], capture_stdout=True)
        assert done.stdout == b"200 well\n"
        await server.wait_requests(1)


@pytest.mark.parametrize("line", re.findall(r"^    (oq .*)$", README, re.MULTILINE))
def test_each_command_runs(line):
    """Without waiting: nobody is at that port."""
    with pytest.raises(SystemExit) as exited:
        run([word for word in shlex.split(line)[1:] if word != "--wait"])
    assert exited.value.code == 0


def test_the_settings_are_settings(here, monkeypatch):
    for name in ("GITHUB_TOKEN", "SHOP_PASSWORD", "SEARCH_KEY"):
        monkeypatch.setenv(name, "sesame-open")
    for number, example in enumerate(examples("toml")):
        (here / f"{number}.toml").write_text(example)
        settings = load_settings(f"{number}.toml").section("http", HttpSettings)
    assert set(settings.auth) == {"github", "shop", "search"}


def test_what_is_called_a_default_there_is_one():
    for name in ("connect_timeout", "read_timeout", "write_timeout", "max_redirects", "max_body", "max_failure_body"):
        shown = re.search(rf"^{name} = ([\d_.]+)", README, re.MULTILINE)[1]
        assert float(shown) == getattr(HttpSettings(), name)


def test_the_networks_to_deny_are_those_of_this_machine_and_of_private_use(here):
    (here / "oq.toml").write_text(examples("toml")[0])
    policy = Policy.of(load_settings("oq.toml").section("http", HttpSettings))
    for host in ("127.0.0.1", "::1", "10.0.0.1", "172.31.0.1", "192.168.1.1", "100.64.0.1", "fd00::1", "0.0.0.0"):
        assert policy.host_objection(host)
    assert policy.host_objection("8.8.8.8") is None
