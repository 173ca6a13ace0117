"""The table `[ollama]`."""

import pytest

from oq import InvalidSettings, RestPolicy, Routing, Settings
from oq_ollama import OllamaEndpoint, OllamaExecutor, OllamaSettings


def section(**table):
    return Settings(sections={"ollama": table}).section("ollama", OllamaSettings)


def urls(settings, **environ):
    return [(endpoint.name, endpoint.base_url) for endpoint in settings.servers(environ)]


def test_without_a_table_there_are_defaults():
    """An empty file is enough."""
    assert section() == OllamaSettings()


def test_without_anything_the_server_is_on_this_machine():
    """Ollama's own default."""
    assert urls(section()) == [("local", "http://127.0.0.1:11434")]


def test_the_environment_says_where_the_server_is_when_the_settings_do_not():
    """As for Ollama's own tools."""
    assert urls(section(), OLLAMA_HOST="box:1234") == [("local", "http://box:1234")]


def test_an_empty_variable_says_nothing():
    """`OLLAMA_HOST=` is as good as none."""
    assert urls(section(), OLLAMA_HOST="") == [("local", "http://127.0.0.1:11434")]


def test_the_configured_host_wins_over_the_environment():
    """What is written in the settings is what is used."""
    assert urls(section(host="box"), OLLAMA_HOST="other") == [("local", "http://box:11434")]


def test_configured_endpoints_win_over_the_environment():
    """Likewise, where there are several."""
    settings = section(endpoints=[{"name": "gpu", "url": "gpu:1"}, {"name": "cpu", "url": "https://cpu/ollama"}])
    assert urls(settings, OLLAMA_HOST="other") == [("gpu", "http://gpu:1"), ("cpu", "https://cpu:443/ollama")]


def test_an_executor_asks_the_environment_of_the_process(monkeypatch):
    """`OLLAMA_HOST` is read when the executor is made."""
    monkeypatch.setenv("OLLAMA_HOST", "not an address")
    with pytest.raises(InvalidSettings, match="OLLAMA_HOST: 'not an address' is no address"):
        OllamaExecutor()


def test_an_endpoint_takes_one_task_at_once_unless_set():
    """As Ollama does itself."""
    assert OllamaEndpoint(name="a", url="b").concurrency == 1


def test_an_endpoint_of_the_kind_openai_means_the_one_of_its_name_there():
    """`endpoint` is needed only where the names differ."""
    same, other = section(
        endpoints=[{"name": "cloud", "kind": "openai"}, {"name": "x", "kind": "openai", "endpoint": "y"}]
    ).endpoints
    assert (same.endpoint, other.endpoint) == ("cloud", "y")


def test_routing_and_rest_are_tables():
    """Their fields are those of `oq.Routing` and `oq.RestPolicy`."""
    settings = section(
        routing={"local_first": False, "max_local_queue_size": 5, "fallback_to_local": False},
        rest={"after_failures": 1, "rest": 0.5, "longest_rest": 2},
    )
    assert settings.routing == Routing(local_first=False, max_local_queue_size=5, fallback_to_local=False)
    assert settings.rest == RestPolicy(after_failures=1, rest=0.5, longest_rest=2)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"host": "a:b"}, "ollama.host: 'host' must be an address: 'a:b' is no address"),
        ({"hots": "a"}, "did you mean 'host'?"),
        ({"host": "a", "endpoints": [{"name": "b", "url": "b"}]}, "host and endpoints exclude each other"),
        ({"endpoints": [{"name": "a"}]}, "endpoint 'a' needs a url"),
        ({"endpoints": [{"url": "a"}]}, "ollama.endpoints[0].name: is required"),
        ({"endpoints": [{"name": "a b", "url": "a"}]}, "'name' must be letters"),
        ({"endpoints": [{"name": "a", "url": "a b"}]}, "ollama.endpoints[0].url"),
        ({"endpoints": [{"name": "a", "url": "a", "kind": "other"}]}, "expected 'ollama' or 'openai'"),
        ({"endpoints": [{"name": "a", "url": "a", "kind": "openai"}]}, "belong to [[openai.endpoints]]"),
        ({"endpoints": [{"name": "a", "url": "a", "concurrency": 0}]}, "concurrency"),
        ({"endpoints": [{"name": "a", "url": "a", "api_key_env": "sk-123"}]}, "name of an environment variable"),
        ({"endpoints": [{"name": "a", "url": "a", "headers": {"A B": "c"}}]}, "names of HTTP headers"),
        ({"endpoints": [{"name": "a", "url": "a", "headers": {"A": "ä"}}]}, "plain ASCII"),
        ({"endpoints": [{"name": "a", "url": "a", "headers": {"authorization": "c"}}]}, "api_key_env"),
        ({"endpoints": [{"name": "a", "url": "a", "headers_env": {"A": "b c"}}]}, "must name environment variables"),
        ({"endpoints": [{"name": "a", "url": "a", "headers_env": {"A B": "c"}}]}, "names of HTTP headers"),
        ({"routing": {"local": True}}, "ollama.routing"),
        ({"rest": {"after_failures": 0}}, "ollama.rest"),
        ({"first_byte_timeout": 0.0}, "first_byte_timeout"),
        ({"chunk_timeout": -1.0}, "chunk_timeout"),
        ({"connect_timeout": float("nan")}, "connect_timeout"),
        ({"pull_missing": "yes"}, "ollama.pull_missing: expected true or false"),
    ],
)
def test_a_wrong_setting_is_refused_and_named(table, reason):
    """Each message says which key is wrong, and what would be right."""
    with pytest.raises(InvalidSettings) as refused:
        section(**table)
    assert reason in str(refused.value)


def test_the_value_of_a_wrong_key_variable_is_not_repeated():
    """It is most likely the key itself."""
    with pytest.raises(InvalidSettings) as refused:
        section(endpoints=[{"name": "a", "url": "a", "api_key_env": "sk-secret-value"}])
    assert "sk-secret-value" not in str(refused.value)


def test_two_endpoints_of_one_name_are_refused():
    """The name is what `executed_on` says."""
    twice = OllamaEndpoint(name="a", url="b")
    with pytest.raises(InvalidSettings, match="two endpoints are named 'a'"):
        OllamaExecutor(OllamaSettings(endpoints=(twice, twice)))
