"""The table `[http]`."""

import pytest

from oq import InvalidSettings, Registry, Settings
from oq_http import HttpExecutor, HttpSettings


def section(**table):
    return Settings(sections={"http": table}).section("http", HttpSettings)


def test_without_a_table_there_are_defaults():
    assert section() == HttpSettings()


def test_secrets_are_tables_of_their_own():
    auth = section(auth={"github": {"hosts": ["api.github.com"], "bearer": "x"}}).auth
    assert (auth["github"].hosts, auth["github"].bearer) == (("api.github.com",), "x")


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"allowed_hosts": ["http://a.test"]}, "'http://a.test' is no host; write it like"),
        ({"denied_hosts": ["a.test:80"]}, "'a.test:80' is no host"),
        ({"denied_hosts": [""]}, "'' is no host"),
        ({"denied_hosts": "a.test"}, "denied_hosts"),
        ({"allowed_networks": ["10.0.0.1/8"]}, "10.0.0.1/8 has host bits set"),
        ({"denied_networks": ["home"]}, "'home' does not appear to be an IPv4 or IPv6 network; write networks like"),
        ({"proxy": "proxy:3128"}, "proxy must be the URL of an HTTP proxy"),
        ({"proxy": "socks5://proxy:1080"}, "proxy must be the URL of an HTTP proxy"),
        ({"connect_timeout": 0.0}, "connect_timeout"),
        ({"read_timeout": float("inf")}, "read_timeout"),
        ({"write_timeout": float("nan")}, "write_timeout"),
        ({"max_body": -1}, "max_body"),
        ({"max_redirects": 101}, "max_redirects"),
        ({"user_agent": "a\r\nb"}, "user_agent"),
        ({"allow_metadata": "yes"}, "http.allow_metadata: expected true or false"),
        ({"denied_host": []}, "did you mean 'denied_hosts'?"),
        ({"auth": {"a": {"bearer": "x"}}}, "hosts: is required"),
        ({"auth": {"a": {"hosts": [], "bearer": "x"}}}, "must say where this secret may be sent"),
        ({"auth": {"a": {"hosts": ["a.test"]}}}, "give bearer, or username and password, or header and value"),
        ({"auth": {"a": {"hosts": ["a.test"], "bearer": "x", "username": "y"}}}, "give bearer, or username"),
        ({"auth": {"a": {"hosts": ["a.test"], "header": "X Y", "value": "y"}}}, "'X Y' is no name of a header"),
        ({"auth": {"a": {"hosts": ["a.test"], "token": "x"}}}, "token"),
    ],
)
def test_a_wrong_setting_is_refused_and_named(table, reason):
    with pytest.raises(InvalidSettings) as caught:
        section(**table)
    assert reason in str(caught.value)


async def test_a_file_of_certificates_that_is_not_there_stops_the_start():
    registry = Registry([HttpExecutor(HttpSettings(ca_file="/no/such.pem"))])
    with pytest.raises(InvalidSettings, match=r"http\.ca_file: /no/such\.pem cannot be used: No such file"):
        async with registry.opened():
            pass


async def test_nor_is_one_without_certificates_taken(tmp_path):
    (tmp_path / "empty.pem").write_text("nothing")
    registry = Registry([HttpExecutor(HttpSettings(ca_file=str(tmp_path / "empty.pem")))])
    with pytest.raises(InvalidSettings, match=r"empty\.pem cannot be used"):
        async with registry.opened():
            pass
