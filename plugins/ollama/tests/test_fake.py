"""The simulated Ollama itself: how it keeps models in memory, lets requests wait, and tells a test what it saw."""

import json
import signal
import subprocess
import sys

import httpx
import pytest
import trio

from oq_ollama.testing import (
    FakeModel,
    busy,
    cut,
    ends_early,
    error_line,
    fake_ollama,
    missing,
    refused,
    stall,
)


@pytest.fixture
async def http():
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None), timeout=30) as http:
        yield http


async def say(http, fake, model="qwen3", **fields):
    """The answer to a prompt, whole."""
    return await http.post(f"{fake.url}/api/generate", json={"model": model, "prompt": "hi", "stream": False, **fields})


async def running(fake, nursery, http, model="qwen3", **fields):
    """Begin a request that goes on until the gate that this gives is opened, and return once it runs."""
    gate = trio.Event()
    before = len(fake.running)
    fake.fail(stall(after=1, until=gate))
    body = {"model": model, "prompt": "hi", **fields}
    nursery.start_soon(lambda: http.post(f"{fake.url}/api/generate", json=body))
    await fake.until(lambda fake: len(fake.running) == before + 1 and fake.running[-1].frames)
    return gate


async def test_it_says_plainly_that_it_is_simulated(http, fake):
    """In the answers, the version and the greeting."""
    assert "simulated" in (await say(http, fake)).json()["response"]
    assert "simulated" in (await http.get(f"{fake.url}/api/version")).json()["version"]
    assert "simulated" in (await http.get(fake.url)).text


async def test_it_always_answers_the_same(http, fake):
    """But for the moment at which it was made."""
    first, second = [(await say(http, fake)).json() for _ in range(2)]
    assert first | {"created_at": ""} == second | {"created_at": ""}


async def test_a_model_says_what_a_test_wants(http, fake):
    """`FakeModel(answer=…)`."""
    fake.add(FakeModel(name="parrot", answer="Hello sailor"))
    assert (await say(http, fake, "parrot")).json()["response"] == "Hello sailor"


async def test_a_model_is_loaded_once(http, fake):
    """And stays in memory."""
    for _ in range(3):
        await say(http, fake)
    assert (fake.loads, fake.loaded) == (["qwen3"], ("qwen3:latest",))


async def test_two_models_evict_each_other(http, fake):
    """With room for one, every change is a load."""
    for model in ("qwen3", "llama3.2", "qwen3"):
        await say(http, fake, model)
    assert (fake.loads, fake.loaded) == (["qwen3", "llama3.2", "qwen3"], ("qwen3:latest",))


async def test_with_room_for_two_nothing_is_evicted(http):
    """`loaded_at_once`."""
    async with fake_ollama(loaded_at_once=2) as fake:
        for model in ("qwen3", "llama3.2", "qwen3", "llama3.2"):
            await say(http, fake, model)
        assert fake.loads == ["qwen3", "llama3.2"]
        await say(http, fake, "nomic-embed-text")
        assert fake.loaded == ("llama3.2:latest", "nomic-embed-text:latest")


async def test_another_context_loads_a_model_anew(http, fake):
    """As with a real one: these options belong to the loaded model."""
    for options in ({}, {"temperature": 1}, {"num_ctx": 64}, {"num_ctx": 64}):
        await say(http, fake, options=options)
    assert fake.loads == ["qwen3", "qwen3"]


async def test_a_model_takes_its_time_to_load(http):
    """`load_time`, of the server or of the model."""
    async with fake_ollama([FakeModel(name="slow", load_time=0.05)]) as fake:
        began = trio.current_time()
        await say(http, fake, "slow")
        assert trio.current_time() - began >= 0.05


async def test_keep_alive_0_unloads_the_model_afterwards(http, fake):
    """Once it has answered."""
    await say(http, fake, keep_alive=0)
    assert (fake.loads, fake.loaded) == (["qwen3"], ())


async def test_a_second_request_waits_for_the_first(http, fake):
    """A model works on one at a time."""
    async with trio.open_nursery() as nursery:
        gate = await running(fake, nursery, http)
        nursery.start_soon(say, http, fake)
        await fake.until(lambda fake: fake.waiting)
        assert (len(fake.running), fake.requests[1].waited, fake.requests[1].started_at) == (1, True, None)
        gate.set()
    assert fake.requests[1].started_at >= fake.requests[0].closed_at


async def test_a_request_for_another_model_waits_until_the_loaded_one_is_idle(http, fake):
    """It cannot be evicted while it works."""
    async with trio.open_nursery() as nursery:
        gate = await running(fake, nursery, http)
        nursery.start_soon(say, http, fake, "llama3.2")
        await fake.until(lambda fake: fake.waiting)
        assert fake.loads == ["qwen3"]
        gate.set()
    assert fake.loads == ["qwen3", "llama3.2"]


async def test_nobody_overtakes_who_waits(http):
    """First come, first served, though the third could start at once: its model is loaded and has room."""
    async with fake_ollama(parallel=2) as fake, trio.open_nursery() as nursery:
        gate = await running(fake, nursery, http)
        nursery.start_soon(say, http, fake, "llama3.2")
        await fake.until(lambda fake: len(fake.waiting) == 1)
        nursery.start_soon(say, http, fake)
        await fake.until(lambda fake: len(fake.waiting) == 2)
        gate.set()
    assert fake.loads == ["qwen3", "llama3.2", "qwen3"]


async def test_a_model_works_on_several_requests_where_it_may(http):
    """`parallel`."""
    async with fake_ollama(parallel=2) as fake, trio.open_nursery() as nursery:
        gates = [await running(fake, nursery, http) for _ in range(2)]
        assert len(fake.running) == 2
        for gate in gates:
            gate.set()


async def test_it_is_busy_when_too_many_wait(http):
    """`max_queue`; the status is 503, as a real server has it."""
    async with fake_ollama(max_queue=1) as fake, trio.open_nursery() as nursery:
        gate = await running(fake, nursery, http)
        nursery.start_soon(say, http, fake)
        await fake.until(lambda fake: fake.waiting)
        answer = await say(http, fake)
        assert answer.status_code == 503
        assert "server busy" in answer.json()["error"]
        gate.set()


async def test_a_client_that_hangs_up_makes_room(http, fake):
    """Its request says so, and when."""
    async with trio.open_nursery() as nursery:
        await running(fake, nursery, http)
        nursery.cancel_scope.cancel()
    await fake.until(lambda fake: not fake.running)
    assert fake.requests[0].disconnected
    assert fake.requests[0].closed_at >= fake.requests[0].started_at
    assert (await say(http, fake)).status_code == 200


async def test_one_that_hangs_up_while_it_waits_is_forgotten(http, fake):
    """It does not hold up those behind it."""
    async with trio.open_nursery() as nursery:
        gate = await running(fake, nursery, http)
        async with trio.open_nursery() as inner:
            inner.start_soon(say, http, fake)
            await fake.until(lambda fake: fake.waiting)
            inner.cancel_scope.cancel()
        await fake.until(lambda fake: not fake.waiting)
        gate.set()
    assert (await say(http, fake)).status_code == 200


async def test_words_come_at_the_pace_that_is_set(http):
    """Seconds between two frames."""
    async with fake_ollama([FakeModel(name="m", answer="a b c d")], pace=0.02) as fake:
        began = trio.current_time()
        await say(http, fake, "m")
        assert trio.current_time() - began >= 0.08


async def test_faults_come_one_by_one_in_their_order(http, fake):
    """Then all is well."""
    fake.fail(refused(500, "a"), refused(400, "b"))
    assert [(await say(http, fake)).status_code for _ in range(3)] == [500, 400, 200]


async def test_a_fault_may_be_for_one_model_or_one_path_only(http, fake):
    """Others do not meet it."""
    fake.fail(refused(500, "a"), model="llama3.2")
    fake.fail(refused(500, "b"), path="/api/tags")
    assert (await say(http, fake)).status_code == 200
    assert (await say(http, fake, "llama3.2:latest")).status_code == 500
    assert [(await http.get(f"{fake.url}/api/tags")).status_code for _ in range(2)] == [500, 200]


async def test_a_fault_may_last(http, fake):
    """Several times, or until the server recovers."""
    fake.fail(refused(500, "a"), times=2)
    assert [(await say(http, fake)).status_code for _ in range(3)] == [500, 500, 200]
    fake.fail(refused(500, "a"), times=None)
    assert [(await say(http, fake)).status_code for _ in range(3)] == [500, 500, 500]
    fake.recover()
    assert (await say(http, fake)).status_code == 200


async def test_a_busy_server_says_when_to_come_back(http, fake):
    """By a header, where it is told to."""
    fake.fail(busy(retry_after="3"))
    assert (await say(http, fake)).headers["retry-after"] == "3"


@pytest.mark.parametrize(
    ("fault", "lines"),
    [
        (ends_early(after=2), ["This ", "is "]),
        (error_line("oh", after=1), ["This ", {"error": "oh"}]),
        (ends_early(after=0), []),
    ],
)
async def test_an_answer_goes_wrong_where_it_is_told_to(http, fake, fault, lines):
    """After so many frames."""
    fake.fail(fault)
    answer = await http.post(f"{fake.url}/api/generate", json={"model": "qwen3", "prompt": "hi"})
    frames = [json.loads(line) for line in answer.text.splitlines()]
    assert [frame if "error" in frame else frame["response"] for frame in frames] == lines


@pytest.mark.parametrize("after", [0, 2])
async def test_a_cut_resets_the_connection(http, fake, after):
    """Before the answer or within it."""
    fake.fail(cut(after=after))
    with pytest.raises(httpx.TransportError):
        await http.post(f"{fake.url}/api/generate", json={"model": "qwen3", "prompt": "hi"})


async def test_a_model_may_be_missing_for_once(http, fake):
    """Though it is there."""
    fake.fail(missing("qwen3"))
    assert (await say(http, fake)).json() == {"error": "model 'qwen3' not found"}
    assert (await say(http, fake)).status_code == 200


async def test_a_name_without_a_tag_means_the_latest(http, fake):
    """As everywhere in Ollama."""
    assert (await say(http, fake, "qwen3:latest")).status_code == 200
    assert (await say(http, fake, "qwen3:8b")).status_code == 404
    fake.remove("qwen3")
    assert (await say(http, fake)).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/api/chat", {}, 400, "model is required"),
        ("/api/chat", {"model": "text", "think": True, "messages": [{}]}, 400, "does not support thinking"),
        ("/api/chat", {"model": "text", "tools": [{}], "messages": [{}]}, 400, "does not support tools"),
        ("/api/chat", {"model": "vectors", "messages": [{}]}, 400, "does not support chat"),
        ("/api/generate", {"model": "vectors", "prompt": "hi"}, 400, "does not support generate"),
        ("/api/embed", {"model": "text", "input": "hi"}, 400, "does not support embeddings"),
        ("/api/show", {"model": "none"}, 404, "model 'none' not found"),
        ("/api/nothing", {}, 404, None),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(http, path, body, status, words):
    """In the words of a real server."""
    models = [
        FakeModel(name="text", capabilities=("completion",)),
        FakeModel(name="vectors", capabilities=("embedding",)),
    ]
    async with fake_ollama(models) as fake:
        answer = await http.post(f"{fake.url}{path}", json=body)
        assert answer.status_code == status
        if words is not None:
            assert words in answer.json()["error"]


@pytest.mark.parametrize("body", [b"{", b"[]"])
async def test_a_body_that_is_no_object_is_refused(http, fake, body):
    """As JSON that nobody can read."""
    assert (await http.post(f"{fake.url}/api/chat", content=body)).status_code == 400


async def test_without_the_key_it_answers_nothing(http):
    """Where it is told to want one."""
    async with fake_ollama(api_key="secret") as fake:
        assert (await say(http, fake)).status_code == 401
        http.headers["Authorization"] = "Bearer secret"
        assert (await say(http, fake)).status_code == 200


async def test_other_methods_are_refused(http, fake):
    """Such as DELETE, by which models are removed from a real one."""
    assert (await http.delete(f"{fake.url}/api/delete")).status_code == 405


async def test_it_remembers_no_more_than_it_is_told_to(http):
    """For a server that runs for days."""
    async with fake_ollama(remember=2) as fake:
        for number in range(4):
            await say(http, fake, options={"seed": number})
        assert [request.body["options"]["seed"] for request in fake.requests] == [2, 3]


def test_it_runs_as_a_command():
    """For other programs: the URL on stdout, and on stderr that nothing here is real."""
    command = [sys.executable, "-m", "oq_ollama.testing", "--model", "m", "--pace", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip()
            body = {"model": "m", "prompt": "hi", "stream": False}
            with httpx.Client() as http:
                assert "simulated" in http.post(f"{url}/api/generate", json=body).json()["response"]
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert "SIMULATED Ollama with m: its answers are made up, no model is run" in process.stderr.read()


async def test_a_port_that_is_taken_is_told_in_a_sentence(fake):
    """No traceback."""
    command = [sys.executable, "-m", "oq_ollama.testing", "--port", str(fake.port)]
    done = await trio.run_process(command, check=False, capture_stderr=True, capture_stdout=True)
    assert done.returncode == 1
    assert f"cannot serve on port {fake.port}" in done.stderr.decode()
    assert b"Traceback" not in done.stderr
