"""The address of a server, as people and `OLLAMA_HOST` write it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oq_ollama import parse_host


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("  ", "http://127.0.0.1:11434"),
        ('"box:1234"', "http://box:1234"),
        ("example.com", "http://example.com:11434"),
        ("Example.COM", "http://example.com:11434"),
        ("example.com:1234", "http://example.com:1234"),
        (":1234", "http://127.0.0.1:1234"),
        ("example.com:", "http://example.com:11434"),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:1234", "http://127.0.0.1:1234"),
        ("[::]:1234", "http://[::1]:1234"),
        ("::", "http://[::1]:11434"),
        ("::1", "http://[::1]:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("[0001:002:003:0004::1]:1337", "http://[1:2:3:4::1]:1337"),
        ("[fe80::1%eth0]:1337", "http://[fe80::1%eth0]:1337"),
        ("http://example.com", "http://example.com:80"),
        ("https://example.com", "https://example.com:443"),
        ("HTTPS://example.com", "https://example.com:443"),
        ("https://example.com:56789", "https://example.com:56789"),
        ("https://example.com/ollama", "https://example.com:443/ollama"),
        ("https://example.com:8443/a/b/", "https://example.com:8443/a/b"),
        ("http://localhost:11434/", "http://localhost:11434"),
        ("example.com/ollama", "http://example.com:11434/ollama"),
        ("gpu_box", "http://gpu_box:11434"),
    ],
)
def test_each_form_has_one_meaning(text, url):
    """Host, port, scheme, path and brackets may be there or not; what is missing is as Ollama itself has it."""
    assert parse_host(text) == url


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("example.com:port", "'port' is no port"),
        ("example.com:0", "'0' is no port"),
        ("example.com:65536", "'65536' is no port"),
        ("example.com:-1", "'-1' is no port"),
        ("ftp://example.com", "'ftp' is no scheme"),
        ("://example.com", "the scheme is missing"),
        ("exam ple.com", "is no name of a host"),
        ("1.2.3.256", "is no IPv4 address"),
        ("1::2::3", "is no IPv6 address"),
        ("[::1", "brackets"),
        ("[::1]x", "brackets"),
        ("[fe80::1%a b]", "is no zone"),
        ("example.com/a b", "the path"),
    ],
)
def test_what_is_no_address_is_refused_with_a_reason(text, reason):
    """Nothing is guessed, since the wrong server might answer; the message says how to write it."""
    with pytest.raises(ValueError, match="write it like localhost:11434") as refused:
        parse_host(text)
    assert reason in str(refused.value)


def test_a_password_is_refused_and_not_repeated():
    """Messages end up in logs."""
    with pytest.raises(ValueError, match="no user or password") as refused:
        parse_host("https://user:secret@example.com")
    assert "secret" not in str(refused.value)


labels = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
hosts = st.one_of(
    st.lists(labels, min_size=1, max_size=3).map(".".join),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
)
ports = st.integers(1, 65535)
paths = st.lists(labels, max_size=2).map(lambda parts: "".join(f"/{part}" for part in parts))


@given(st.sampled_from(["http", "https"]), hosts, ports, paths)
def test_a_whole_address_keeps_its_parts(scheme, host, port, path):
    """Scheme, port and path stand in the URL as they were given."""
    url = parse_host(f"{scheme}://{host}:{port}{path}")
    assert url.startswith(f"{scheme}://")
    assert url.endswith(f":{port}{path}")


@given(st.sampled_from(["", "http://", "https://"]), hosts, ports.map(str) | st.just(""), paths, st.booleans())
def test_a_url_means_itself(scheme, host, port, path, slash):
    """Parsing what was parsed changes nothing, so settings may be written by a program."""
    url = parse_host(f"{scheme}{host}{':' if port else ''}{port}{path}{'/' if slash else ''}")
    assert parse_host(url) == url
    assert not url.endswith("/")


@given(hosts, ports)
def test_blanks_and_quotes_around_it_mean_nothing(host, port):
    """Environment files keep the quotes around a value."""
    assert parse_host(f' "{host}:{port}" ') == parse_host(f"{host}:{port}")


@given(st.text(max_size=40) | st.text(":/[]%.@0123456789abc", max_size=30))
def test_any_text_is_an_address_or_refused(text):
    """Whatever the environment says, there is a URL that httpx takes, or a ValueError with a sentence."""
    import httpx

    try:
        url = parse_host(text)
    except ValueError as error:
        assert "address of a server" in str(error)  # noqa: PT017  # either is right
        return
    parsed = httpx.URL(url)
    assert parsed.scheme in ("http", "https")
    assert parsed.host
