"""What the settings of an endpoint refuse: names that are none, and keys where others can see them."""

import pytest
from attrs import field, frozen

from oq import endpoint_name, header_variables, http_headers, plain_text, variable_name


@frozen(kw_only=True)
class Server:
    name: str | None = field(default=None, validator=endpoint_name)
    project: str | None = field(default=None, validator=plain_text)
    api_key_env: str | None = field(default=None, validator=variable_name)
    headers: dict[str, str] = field(factory=dict, validator=http_headers)
    headers_env: dict[str, str] = field(factory=dict, validator=header_variables)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "rack-1.lan_2"},
        {"project": "a project"},
        {"api_key_env": "OPENAI_API_KEY"},
        {"headers": {"X-Trace": "on"}, "headers_env": {"X-Token": "TOKEN"}},
    ],
)
def test_what_makes_sense_is_taken(fields):
    Server(**fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "a b"}, r"'name' must be letters, digits, '\.', '_' and '-', not 'a b'"),
        ({"name": ""}, "'name' must be letters"),
        ({"project": "é"}, "'project' must be plain ASCII"),
        ({"headers": {"a b": "x"}}, "'headers' must have names of HTTP headers, not 'a b'"),
        ({"headers": {"X": "a\nb"}}, "'headers' must have plain ASCII values; that of 'X' is not"),
        ({"headers": {"AUTHORIZATION": "Bearer x"}}, "name the key's variable in api_key_env"),
        ({"headers_env": {"a b": "X"}}, "'headers_env' must have names of HTTP headers"),
    ],
)
def test_what_does_not_is_refused_with_what_would(fields, said):
    with pytest.raises(ValueError, match=said):
        Server(**fields)


@pytest.mark.parametrize("fields", [{"api_key_env": "sk-proj-abc"}, {"headers_env": {"X": "sk-proj-abc"}}])
def test_a_key_in_the_place_of_its_variable_is_refused_and_not_repeated(fields):
    with pytest.raises(ValueError, match="capitals") as caught:
        Server(**fields)
    assert "sk-proj" not in str(caught.value)
