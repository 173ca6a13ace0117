"""The table `[openai]`: what it takes, what it refuses, and what it makes of the environment."""

import pytest

import oq
from oq_openai import OpenAIExecutor, OpenAISettings
from oq_openai.settings import DEFAULT_URL

KEY = "gsk_abcDEF1234567890"


def read(**table):
    return oq.Settings(sections={"openai": table}).section("openai", OpenAISettings)


def test_without_anything_there_is_one_endpoint():
    [server] = read().servers({})
    assert (server.name, server.url, server.api_key_env) == ("default", DEFAULT_URL, "OPENAI_API_KEY")
    assert not server.key_required


def test_the_environment_says_where_it_is():
    [server] = read().servers({"OPENAI_BASE_URL": "http://here:8000/v1"})
    assert server.url == "http://here:8000/v1"


def test_the_settings_say_it_better():
    [server] = read(base_url="http://there/v1").servers({"OPENAI_BASE_URL": "http://here:8000/v1"})
    assert server.url == "http://there/v1"


def test_an_address_in_the_environment_that_is_none_is_refused_by_its_variable(environment):
    environment.setenv("OPENAI_BASE_URL", "localhost:8000")
    with pytest.raises(oq.InvalidSettings, match=r"OPENAI_BASE_URL: must be the base URL"):
        OpenAIExecutor()


def test_endpoints_are_tables():
    settings = read(
        endpoints=[
            {"name": "cloud", "url": "https://x/v1", "api_key_env": "CLOUD_KEY", "models": ["gpt-*"], "remote": True},
            {"name": "here", "url": "http://localhost:8000/v1", "concurrency": 2, "stream_options": False},
        ],
        routing={"local_first": False},
        rest={"rest": 1.0},
    )
    cloud, here = settings.servers({})
    assert (cloud.models, cloud.remote, cloud.key_required) == (("gpt-*",), True, True)
    assert (here.concurrency, here.stream_options, here.api_key_env) == (2, False, None)
    assert settings.routing == oq.Routing(local_first=False)


@pytest.mark.parametrize(
    ("table", "path"),
    [
        ({"base_url": "localhost:8000"}, "base_url"),
        ({"base_url": "ftp://x"}, "base_url"),
        ({"base_url": "http://x:99999/v1"}, "base_url"),
        ({"base_url": "http://x /v1"}, "base_url"),
        ({"base_url": "http://x/v1#y"}, "base_url"),
        ({"concurrency": 0}, "concurrency"),
        ({"first_byte_timeout": 0}, "first_byte_timeout"),
        ({"chunk_timeout": [1]}, "chunk_timeout"),
        ({"headers": {"a b": "x"}}, "headers"),
        ({"headers": {"a": "x\ny"}}, "headers"),
        ({"organization": "ü"}, "organization"),
        ({"rest": {"rest": -1.0}}, "rest.rest"),
        ({"endpoints": [{"name": "a b", "url": "http://x"}]}, "endpoints[0].name"),
        ({"endpoints": [{"name": "a"}]}, "endpoints[0].url"),
        ({"endpoints": [{"name": "a", "url": "x"}]}, "endpoints[0].url"),
    ],
)
def test_what_is_wrong_is_told_by_its_key(table, path):
    with pytest.raises(oq.InvalidSettings) as refused:
        read(**table)
    assert [problem.path.rpartition(" ")[2] for problem in refused.value.problems] == [f"openai.{path}"]


@pytest.mark.parametrize(
    "table",
    [
        {"api_key": KEY},
        {"api_key_env": KEY},
        {"api_key_env": "sk-abc-DEF"},
        {"headers": {"Authorization": f"Bearer {KEY}"}},
        {"headers_env": {"X-Key": KEY}},
        {"base_url": f"https://me:{KEY}@x/v1"},
        {"endpoints": [{"name": "a", "url": "https://x/v1", "api_key_env": KEY}]},
    ],
)
def test_a_key_in_the_settings_is_refused_and_not_shown(table):
    with pytest.raises(oq.InvalidSettings) as refused:
        read(**table)
    assert KEY not in str(refused.value)
    assert "sk-abc" not in str(refused.value)


def test_two_endpoints_of_one_name_are_refused():
    table = {"name": "a", "url": "http://x/v1"}
    with pytest.raises(oq.InvalidSettings, match="two endpoints are named 'a'"):
        OpenAIExecutor(read(endpoints=[table, table]))


@pytest.mark.parametrize("table", [{"base_url": "http://y/v1"}, {"api_key_env": "MY_KEY"}, {"headers": {"a": "b"}}])
def test_what_belongs_to_an_endpoint_does_not_stand_beside_them(table):
    with pytest.raises(oq.InvalidSettings, match=r"belong to each of \[\[openai.endpoints\]\]"):
        read(endpoints=[{"name": "a", "url": "http://x/v1"}], **table)
