"""`oq submit http`, as a person or a program calls it."""

import io
import json
import sys
import threading

import pytest
import trio

from oq.cli.main import run
from oq.testing import serve_http


@pytest.fixture
def server():
    """A server that tells back what it was sent, in a thread of its own, since commands run trio themselves."""
    started, over = threading.Event(), None

    async def echo(request, exchange):
        seen = {
            "method": request.method,
            "target": request.target,
            "headers": dict(request.headers),
            "body": request.body.decode("latin-1"),
        }
        await exchange.respond_json(404 if request.path == "/missing" else 200, seen)

    async def main():
        nonlocal over
        async with serve_http(echo) as server:
            over = trio.lowlevel.current_trio_token(), trio.Event()
            started.server = server
            started.set()
            await over[1].wait()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert started.wait(10)
    yield started.server
    over[0].run_sync_soon(over[1].set)
    thread.join(10)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Commands run in an empty directory, with their queue in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def oq(capsys):
    """Runs `oq submit http …`; gives the exit code, the output and the messages."""

    def oq(*arguments):
        with pytest.raises(SystemExit) as exited:
            run(["submit", "http", *arguments])
        printed = capsys.readouterr()
        return exited.value.code, printed.out, printed.err

    return oq


@pytest.fixture
def sent(oq, server):
    """Runs the task and gives what the server saw, and the task."""

    def sent(*arguments, path="/"):
        url = () if "--gopherq" in arguments else ("--url", server.url + path)
        code, out, err = oq(*url, *arguments, "--wait", "--output", "json")
        assert code == 0, err
        task = json.loads(out)
        return task["result"]["body"], task

    return sent


def test_a_request_is_made_and_its_answer_shown(sent):
    seen, task = sent()
    assert (seen["method"], task["result"]["status"]) == ("GET", 200)


def test_everything_can_be_said(sent):
    seen, task = sent(
        *("--method", "PUT", "--header", "X-A: b: c", "--header", "X-A:d", "--param", "q=1=2", "--param", "q=3"),
        *(
            "--form",
            "f=x y",
            "--expect",
            "200,204",
            "--redirects",
            "1",
            "--connect-timeout",
            "5s",
            "--read-timeout",
            "1m",
        ),
        *("--priority", "high", "--id", "job-1"),
    )
    assert (seen["method"], seen["target"], seen["headers"]["x-a"], seen["body"]) == (
        "PUT",
        "/?q=1%3D2&q=3",
        "b: c, d",
        "f=x+y",
    )
    assert (task["id"], task["priority"], task["payload"]["read_timeout"]) == ("job-1", "high", 60.0)
    assert task["payload"]["expect"] == ["200", "204"]


def test_with_a_body_it_is_a_post_unless_said_otherwise(sent):
    assert sent("--json", '{"a": [1]}')[0]["method"] == "POST"
    assert sent("--data", "x", "--method", "PATCH")[0]["method"] == "PATCH"


def test_json_and_text_are_the_body(sent):
    assert sent("--json", '{"a": [1]}')[0]["body"] == '{"a":[1]}'
    assert sent("--data", "plain")[0]["body"] == "plain"


@pytest.mark.parametrize(
    ("option", "piped", "body"), [("--json", b' {"a": 1} ', '{"a":1}'), ("--data", b"\xff\n", "\xff\n")]
)
def test_a_dash_stands_for_what_is_piped_in(sent, monkeypatch, option, piped, body):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(piped)))
    assert sent(option, "-")[0]["body"] == body


def test_a_task_of_gopherq_is_taken_from_its_file(sent, server, here):
    task = {"id": "g-1", "method": "POST", "url": f"{server.url}/hook", "header": {"X-A": "1"}, "body": "{}"}
    (here / "task.json").write_text(json.dumps(task))
    seen, submitted = sent("--gopherq", "task.json", "--tag", "old")
    assert (submitted["id"], submitted["tags"], seen["target"], seen["headers"]["x-a"]) == (
        "g-1",
        ["old"],
        "/hook",
        "1",
    )


def test_the_body_can_be_watched(oq, server):
    code, out, _ = oq("--url", f"{server.url}/watched", "--stream")
    assert (code, json.loads(out)["target"]) == (0, "/watched")


def test_a_secret_of_the_settings_is_named(sent, here, monkeypatch):
    monkeypatch.setenv("TEST_TOKEN", "sesame-open")
    (here / "oq.toml").write_text('[http.auth.mine]\nhosts = ["127.0.0.1"]\nbearer = "${TEST_TOKEN}"\n')
    seen, task = sent("--auth", "mine")
    assert "authorization" in seen["headers"]
    assert task["payload"]["auth"] == "mine"
    assert "sesame-open" not in json.dumps(task)


def test_a_failure_is_told_by_the_exit_code_and_the_message(oq, server):
    code, out, err = oq("--url", f"{server.url}/missing", "--wait")
    assert code == 1
    assert "answered 404 Not Found" in out + err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --url"),
        (("--url", "a.test"), "--url: must be a whole URL"),
        (("--url", "http://169.254.169.254/"), "--url: requests do not go there"),
        (("--url", "http://a.test", "--header", "X"), "'X' is not NAME: VALUE"),
        (("--url", "http://a.test", "--param", "=x"), "'=x' is not NAME=VALUE"),
        (("--url", "http://a.test", "--json", "{"), "is no JSON"),
        (("--url", "http://a.test", "--json", "1", "--data", "x"), "--data: cannot be given together with json"),
        (("--url", "http://a.test", "--expect", "20"), "'20' is no status"),
        (("--url", "http://a.test", "--header", "Cookie: a=1"), "--header Cookie: is a secret"),
        (("--url", "http://a.test", "--auth", "mine"), "--auth: there is no table [http.auth.mine]"),
        (("--gopherq", "missing.json"), "missing.json cannot be read"),
        (("--gopherq", "list.json"), "list.json must hold one JSON object"),
        (("--gopherq", "bad.json"), "bad.json is no JSON"),
        (("--gopherq", "object.json"), "url: is required"),
        (("--gopherq", "object.json", "--url", "http://a.test"), "give either --url or --gopherq"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused_with_the_reason(oq, here, arguments, message):
    (here / "list.json").write_text("[]")
    (here / "bad.json").write_text("{")
    (here / "object.json").write_text("{}")
    code, _, err = oq(*arguments)
    assert code == 2
    assert message in err
