"""What is refused at submit: each thing that is wrong, with its field and what would be right."""

import pytest

from oq import InvalidTask, Registry, TaskSpec
from oq_http import HttpExecutor, HttpSettings, gopherq

REGISTRY = Registry([HttpExecutor(HttpSettings())])


def refusal(**payload):
    payload = {"url": "http://a.test/", **payload}
    with pytest.raises(InvalidTask) as caught:
        REGISTRY.check(TaskSpec(executor="http", action="request", payload=payload))
    return str(caught.value)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"url": "example.com"}, "payload.url: must be a whole URL such as"),
        ({"url": "ftp://a.test/"}, "payload.url: must be a whole URL"),
        ({"url": "http:///x"}, "payload.url: must be a whole URL"),
        ({"url": "http://a.test/a b"}, "payload.url: must be a whole URL"),
        ({"url": "http://a.test/\r\nX: y"}, "payload.url: must be a whole URL"),
        ({"url": "http://a.test:x/"}, "payload.url: is no URL"),
        ({"url": "http://[::1/"}, "payload.url: is no URL"),
        ({"url": "http://a.test/" + "x" * 60_000}, "payload.url: is longer than 60,000 characters"),
        ({"method": "GET /"}, "payload.method: 'GET /' is no method"),
        ({"method": ""}, "payload.method: '' is no method"),
        ({"method": "connect"}, "payload.method: 'connect' is no method"),
        ({"headers": {"Bad Name": "x"}}, "payload.headers: 'Bad Name' is no name of a header"),
        ({"headers": {"X": "a\r\nY: b"}}, "payload.headers.X: must not contain line breaks"),
        ({"headers": {"X": ["a", "b\0"]}}, "payload.headers.X: must not contain"),
        ({"headers": {"Host": "b.test"}}, "payload.headers.Host: is set by oq"),
        ({"headers": {"content-length": "1"}}, "payload.headers.content-length: is set by oq"),
        ({"headers": {"X": 1}}, "payload.headers"),
        ({"header": {"Host": "b.test"}}, "payload.header.Host: is set by oq"),
        ({"header": {"A": "1"}, "headers": {"B": "2"}}, "payload.header: is another name of headers"),
        ({"json": {}, "body": ""}, "payload.body: cannot be given together with json"),
        ({"form": {}, "body": ""}, "payload.form: cannot be given together with body"),
        ({"body_base64": "x"}, "payload.body_base64: is no base64"),
        ({"expect": []}, "payload.expect: must name a status"),
        ({"expect": [200, "99"]}, "payload.expect[1]: '99' is no status; write 204"),
        ({"expect": ["299-200"]}, "payload.expect[0]: '299-200' is no status"),
        ({"expect": [600]}, "payload.expect[0]: 600 is no status"),
        ({"redirects": -1}, "payload.redirects: must be 0 to 5"),
        ({"redirects": 6}, "payload.redirects: must be 0 to 5 (max_redirects in the table [http])"),
        ({"read_timeout": 0.0}, "payload.read_timeout: must be seconds, more than 0"),
        ({"connect_timeout": float("inf")}, "payload.connect_timeout: must be seconds"),
        ({"write_timeout": float("nan")}, "payload.write_timeout: must be seconds"),
        ({"params": {"a": {}}}, "payload.params"),
        ({"urls": 1}, "unknown field 'urls'; did you mean 'url'?"),
    ],
)
def test_a_payload_that_is_wrong_is_refused_with_the_reason(payload, reason):
    assert reason in refusal(**payload)


def test_everything_that_is_wrong_is_told_at_once():
    told = refusal(method="", headers={"Host": "x"}, expect=["x"])
    assert told.count("payload.") == 3


@pytest.mark.parametrize(
    "payload",
    [
        {"url": "HTTP://a.test"},
        {"url": "https://[::1]:8443/x?y#z"},
        {"url": "http://bücher.test/ż"},
        {"method": "purge"},
        {"header": {"Accept": "text/html"}},
        {"params": {"a": 1, "b": [1.5, True, "x"]}},
        {"expect": [200, "3xx", "404-410"]},
    ],
)
def test_a_payload_that_is_right_is_taken(payload):
    REGISTRY.check(TaskSpec(executor="http", action="request", payload={"url": "http://a.test/", **payload}))


class TestGopherq:
    def test_a_whole_task_becomes_a_spec(self):
        spec = gopherq(
            {"id": "7", "method": "GET", "url": "http://a.test/", "header": None, "body": ""}, priority="high"
        )
        assert (spec.id, spec.priority.name, spec.payload.method, spec.payload.body) == ("7", "HIGH", "GET", None)
        REGISTRY.check(spec)

    def test_what_is_left_out_has_its_usual_value(self):
        spec = gopherq({"url": "http://a.test/"})
        assert (spec.id, spec.payload.method, spec.payload.headers) == (None, "GET", {})

    def test_a_content_type_of_the_task_is_kept(self):
        spec = gopherq({"url": "http://a.test/", "header": {"content-type": "text/plain"}, "body": "x"})
        assert spec.payload.headers == {"content-type": "text/plain"}

    def test_another_id_can_be_given(self):
        assert gopherq({"id": "7", "url": "http://a.test/"}, id="8").id == "8"

    @pytest.mark.parametrize(
        ("task", "reason"),
        [
            ({}, "url: is required"),
            ({"url": 1}, "url: must be a text"),
            ({"url": "http://a.test/", "body": {"a": 1}}, "body: must be a text"),
            ({"url": "http://a.test/", "header": "X: y"}, "header: must be an object"),
            ({"url": "http://a.test/", "headers": {}}, "headers: is no field of a GoPherQ task"),
        ],
    )
    def test_what_is_no_such_task_is_refused(self, task, reason):
        with pytest.raises(InvalidTask, match=reason):
            gopherq(task)
