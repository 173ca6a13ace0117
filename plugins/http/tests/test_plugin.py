"""How the package presents itself to oq and to those who embed it."""

import subprocess
import sys

import pytest

import oq_http
from oq import InvalidTask, Priority, Registry, Settings, load_plugins
from oq_http import HttpExecutor, RequestPayload, request


def test_oq_finds_the_executor_and_gives_it_its_settings():
    settings = Settings(sections={"http": {"allowed_hosts": ["a.test"]}})
    (executor,) = [found for found in load_plugins().executors(settings) if found.name == "http"]
    with pytest.raises(InvalidTask, match="allowed_hosts"):
        Registry([executor]).check(request("GET", "http://b.test/"))


def test_oq_finds_the_command_line():
    assert load_plugins().cli_commands()["submit", "http"].load == "oq_http.cli:http"


def test_the_executor_says_what_it_is():
    (info,) = Registry([HttpExecutor()]).list()
    assert (info.name, info.version) == ("http", oq_http.__version__)
    assert set(info.actions) == {"request"}


@pytest.mark.parametrize("module", ["httpx", "httpcore", "trio", "ssl"])
def test_loading_the_plugin_loads_nothing_that_only_a_run_needs(module):
    code = (
        "import sys, oq\nbefore = set(sys.modules)\nimport oq_http\noq_http.HttpExecutor()\n"
        f"sys.exit({module!r} in set(sys.modules) - before)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_are_a_sorted_list():
    assert list(oq_http.__all__) == sorted(oq_http.__all__)
    assert all(hasattr(oq_http, name) for name in oq_http.__all__)


def test_request_makes_a_task_and_passes_on_its_options():
    spec = request("POST", "http://a.test/", json={"a": [1]}, expect=201, priority="high", tags=("a",), timeout=5.0)
    assert (spec.executor, spec.action, spec.priority, spec.tags, spec.timeout) == (
        "http",
        "request",
        Priority.HIGH,
        ("a",),
        5.0,
    )
    assert spec.payload == RequestPayload(method="POST", url="http://a.test/", json={"a": [1]}, expect=(201,))


def test_lists_and_bytes_become_what_a_payload_holds():
    payload = request("PUT", "http://a.test/", headers={"X": ["a", "b"]}, params={"p": [1]}, body=b"\xff").payload
    assert (payload.headers, payload.params, payload.body_base64) == ({"X": ("a", "b")}, {"p": (1,)}, "/w==")


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="priorty"):
        request("GET", "http://a.test/", priorty="high")


async def test_an_executor_that_is_not_open_says_how_to_open_it():
    with pytest.raises(RuntimeError, match=r"registry\.opened\(\)"):
        await Registry([HttpExecutor()]).execute(request("GET", "http://a.test/"))
