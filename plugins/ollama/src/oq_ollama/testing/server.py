"""The simulated Ollama itself: its routes, its models in memory, its queue, and its faults."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import trio
from attrs import define

from oq.testing.http import HttpExchange, HttpRequest, serve_http
from oq_ollama.testing.behaviour import (
    DIMENSIONS,
    FakeModel,
    Json,
    Said,
    chat_answer,
    full_name,
    generate_answer,
    vector_of,
)
from oq_ollama.testing.faults import Fault, busy, missing, refused

VERSION: Final = "0.0.0-simulated"
DEFAULT_MODELS: Final = ("qwen3", "llama3.2", "nomic-embed-text")

_NDJSON: Final = {"Content-Type": "application/x-ndjson"}
_WORK: Final = ("/api/chat", "/api/generate", "/api/embed", "/api/pull")
_LOADED_WITH: Final = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread")
"""Options a change of which loads a model anew."""
_NEEDS: Final = {"think": "thinking", "tools": "tools", "suffix": "insert"}
"""Fields of a request, and what a model must be capable of for them."""


@define(eq=False)
class FakeRequest:
    """A request to `/api/chat`, `/api/generate`, `/api/embed` or `/api/pull`, and what became of it."""

    path: str
    model: str
    """As it was asked for."""
    body: Json
    http: HttpRequest
    """With headers, and with the moments of arrival and end."""
    waited: bool = False
    """Whether it had to wait for others."""
    started_at: float | None = None
    """When the model began to work on it, by `trio.current_time()`."""
    frames: int = 0
    """How many frames of its answer were sent."""

    @property
    def disconnected(self) -> bool:
        """Whether the client went away before it had its answer."""
        return self.http.disconnected

    @property
    def closed_at(self) -> float | None:
        """When it had its answer, or was gone; by `trio.current_time()`."""
        return self.http.closed_at


@define(eq=False)
class _Planned:
    """A fault that waits for its request."""

    fault: Fault
    model: str | None
    path: str | None
    times: int | None


class _Refusal(Exception):
    """The request is answered with an error."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        super().__init__(fault.message)


class FakeOllama:
    """A simulated Ollama; made and served by `fake_ollama`."""

    def __init__(
        self,
        models: Iterable[str | FakeModel] = DEFAULT_MODELS,
        *,
        pullable: Iterable[str | FakeModel] = (),
        pace: float = 0.0,
        load_time: float = 0.0,
        loaded_at_once: int = 1,
        parallel: int = 1,
        max_queue: int = 512,
        api_key: str | None = None,
        remember: int | None = None,
    ) -> None:
        self.models: dict[str, FakeModel] = {}
        """The models that it has, by their full names (`qwen3:latest`)."""
        self.pullable: dict[str, FakeModel] = {}
        """Those that it can pull."""
        self.pace = pace
        """Seconds between two frames of an answer."""
        self.load_time = load_time
        """Seconds to load a model."""
        self.loaded_at_once = loaded_at_once
        """How many models are in memory at once; a further one evicts the one that was idle longest."""
        self.parallel = parallel
        """How many requests a model works on at once."""
        self.max_queue = max_queue
        """How many requests may wait; one more is answered with 503."""
        self.api_key = api_key
        """What `Authorization: Bearer` must say, if anything."""
        self.remember = remember
        """How many of the latest requests are kept in `requests`; all when None."""
        self.url = ""
        """Where it is served; without a slash at the end."""
        self.port = 0
        self.requests: list[FakeRequest] = []
        """What it was asked to do, in the order of arrival."""
        self.looks: Counter[str] = Counter()
        """How often each other path was asked for, such as `/api/version`."""
        self.loads: list[str] = []
        """The models that were loaded, in that order, as often as they were."""
        self.pulls: list[str] = []
        """Likewise, those that were pulled."""
        self.running: list[FakeRequest] = []
        """What models work on."""
        self.waiting: list[FakeRequest] = []
        """What waits for a model, first come first served."""
        self._loaded: dict[str, Json] = {}
        """Models in memory, by their full names, and the options that they were loaded with; the latest used last."""
        self._loading = False
        self._planned: deque[_Planned] = deque()
        self._changed = trio.lowlevel.ParkingLot()
        for model in models:
            self.add(model)
        for model in pullable:
            made = model if isinstance(model, FakeModel) else FakeModel(name=model)
            self.pullable[made.full_name] = made

    # For the test

    def add(self, model: str | FakeModel) -> None:
        """Have a model."""
        made = model if isinstance(model, FakeModel) else FakeModel(name=model)
        self.models[made.full_name] = made

    def remove(self, model: str) -> None:
        """Have a model no more."""
        del self.models[full_name(model)]

    def fail(self, *faults: Fault, model: str | None = None, path: str | None = None, times: int | None = 1) -> None:
        """Let the next requests fail, one by one, in this order; only those of `model` or to `path`, where given.

        Each fault happens so many `times`; always, with None, until `recover`.
        """
        self._planned += [_Planned(fault, None if model is None else full_name(model), path, times) for fault in faults]

    def recover(self) -> None:
        """Fail no more."""
        self._planned.clear()

    @property
    def loaded(self) -> tuple[str, ...]:
        """The models in memory."""
        return tuple(self._loaded)

    async def until(self, condition: Callable[[FakeOllama], object]) -> None:
        """Return when the condition holds; it is looked at whenever anything has happened."""
        while not condition(self):
            await self._changed.park()

    async def wait_requests(self, number: int) -> list[FakeRequest]:
        """Return when it has been asked so often, with the requests."""
        await self.until(lambda fake: len(fake.requests) >= number)
        return self.requests

    # Routes

    async def handle(self, request: HttpRequest, exchange: HttpExchange) -> None:
        """Answer one request."""
        try:
            await self._route(request, exchange)
        except _Refusal as refusal:
            fault = refusal.fault
            await exchange.respond_json(fault.status, {"error": fault.message}, fault.headers)
        finally:
            self._happened()

    async def _route(self, request: HttpRequest, exchange: HttpExchange) -> None:
        """Answer one request, or raise _Refusal."""
        works = request.path in _WORK
        if not works:
            self.looks[request.path] += 1
            self._happened()
        if self.api_key is not None and request.headers.get("authorization") != f"Bearer {self.api_key}":
            raise _Refusal(refused(401, "unauthorized"))
        if works and request.method == "POST":
            await self._work(request, exchange)
        elif not works and request.method in ("GET", "HEAD", "POST"):
            await self._look(request.path, request, exchange)
        else:
            raise _Refusal(refused(405, "method not allowed"))

    async def _look(self, path: str, request: HttpRequest, exchange: HttpExchange) -> None:
        if await self._suffer(self._fault(path, None), exchange):
            return
        match path:
            case "/":
                await exchange.respond(200, "Ollama is running (simulated by oq_ollama.testing)")
            case "/api/version":
                await exchange.respond_json(200, {"version": VERSION})
            case "/api/tags":
                await exchange.respond_json(200, {"models": [_listed(model) for model in self.models.values()]})
            case "/api/ps":
                loaded = [_listed(self.models[name]) | _in_memory(self.models[name]) for name in self._loaded]
                await exchange.respond_json(200, {"models": loaded})
            case "/api/show":
                await exchange.respond_json(200, _shown(self._model(_body(request))))
            case _:
                await exchange.respond(404, "404 page not found", {"Content-Type": "text/plain"})

    async def _work(self, http: HttpRequest, exchange: HttpExchange) -> None:
        body = _body(http)
        name = str(body.get("model") or body.get("name") or "")
        request = FakeRequest(http.path, name, body, http)
        self.requests.append(request)
        if self.remember is not None:
            del self.requests[: len(self.requests) - self.remember]
        self._happened()
        fault = self._fault(http.path, full_name(name))
        if fault is not None and fault.after == 0 and fault.kind in ("refuse", "stall", "cut"):
            if await self._suffer(fault, exchange):
                return
            fault = None
        if http.path == "/api/pull":
            await self._pull(request, exchange, fault)
            return
        model = self._model(body)
        _check_capabilities(http.path, model, body)
        keep_alive = body.get("keep_alive")
        empty = not (body.get("messages") or body.get("prompt") or body.get("input"))
        if empty and keep_alive in (0, "0", "0s") and http.path != "/api/embed":
            self._loaded.pop(model.full_name, None)
            await self._answer(request, exchange, fault, Said(reason="unload"))
            return
        async with self._unit(request, model):
            request.started_at = trio.current_time()
            self._happened()
            if http.path == "/api/embed":
                await self._embed(request, exchange, fault)
            elif empty:
                await self._answer(request, exchange, fault, Said(reason="load"))
            else:
                make = chat_answer if http.path == "/api/chat" else generate_answer
                await self._answer(request, exchange, fault, make(model, body))
        if keep_alive in (0, "0", "0s"):
            self._loaded.pop(model.full_name, None)

    async def _answer(self, request: FakeRequest, exchange: HttpExchange, fault: Fault | None, said: Said) -> None:
        kind = "chat" if request.path == "/api/chat" else "generate"
        if request.body.get("stream", True):
            await self._stream(request, exchange, fault, said.frames(request.model, _now(), kind))
        else:
            for _ in said.words:
                await trio.sleep(self.pace)
            await exchange.respond_json(200, said.whole(request.model, _now(), kind))

    async def _stream(
        self, request: FakeRequest, exchange: HttpExchange, fault: Fault | None, frames: Iterator[Json]
    ) -> None:
        """Send the frames, and what goes wrong among them."""
        await exchange.start(200, _NDJSON)
        for frame in frames:
            if fault is not None and request.frames >= fault.after:
                if await self._suffer_midway(fault, exchange):
                    return
                fault = None
            await trio.sleep(self.pace)
            await exchange.send(json.dumps(frame, ensure_ascii=False) + "\n")
            request.frames += 1
            self._happened()
        await exchange.end()

    async def _embed(self, request: FakeRequest, exchange: HttpExchange, fault: Fault | None) -> None:
        given = request.body.get("input")
        texts = [given] if isinstance(given, str) else list(given or [])
        size = request.body.get("dimensions") or DIMENSIONS
        answer = {
            "model": request.model,
            "embeddings": [vector_of(str(text), size) for text in texts],
            "total_duration": 1_000_000,
            "load_duration": 1_000_000,
            "prompt_eval_count": sum(len(str(text).split()) for text in texts),
        }
        match None if fault is None else fault.kind:
            case None:
                await exchange.respond_json(200, answer)
            case "error":
                raise _Refusal(refused(500, fault.message if fault else ""))
            case "bad line":
                await exchange.respond(200, '{"model": "simulated", "embed')
            case _:  # an answer in one piece can only be broken
                await exchange.start(200, {"Content-Length": "1000"})
                await exchange.send('{"model": "simulated", "embed')
                await exchange.close()

    async def _pull(self, request: FakeRequest, exchange: HttpExchange, fault: Fault | None) -> None:
        name = full_name(request.model)
        model = self.pullable.get(name) or self.models.get(name)

        def frames() -> Iterator[Json]:
            yield {"status": "pulling manifest"}
            if model is None:
                yield {"error": "pull model manifest: file does not exist"}
                return
            digest = f"sha256:{model.digest}"
            for quarter in range(1, 5):
                part = {"digest": digest, "total": model.size, "completed": model.size * quarter // 4}
                yield {"status": f"pulling {model.digest[:12]}"} | part
            for status in ("verifying sha256 digest", "writing manifest"):
                yield {"status": status}
            self.models[name] = model
            self.pulls.append(request.model)
            yield {"status": "success"}

        if request.body.get("stream", True):
            await self._stream(request, exchange, fault, frames())
            return
        *_, last = frames()
        if "error" in last:
            raise _Refusal(refused(500, last["error"]))
        await exchange.respond_json(200, last)

    # Models in memory, and the queue before them

    @asynccontextmanager
    async def _unit(self, request: FakeRequest, model: FakeModel) -> AsyncIterator[None]:
        """Wait for a turn of the model, load it if need be, and hold the turn for the block."""
        options = request.body.get("options") or {}
        wanted = {name: options[name] for name in _LOADED_WITH if name in options}
        with self._in_line(request):
            while self.waiting[0] is not request or not self._may_start(model, wanted):
                if not request.waited and len(self.waiting) > self.max_queue:
                    raise _Refusal(busy())
                request.waited = True
                await self._changed.park()
        self.running.append(request)
        try:
            if self._loaded.get(model.full_name) != wanted:
                await self._load(model, wanted)
            self._loaded[model.full_name] = self._loaded.pop(model.full_name)
            yield
        finally:
            self.running.remove(request)
            self._happened()

    @contextmanager
    def _in_line(self, request: FakeRequest) -> Iterator[None]:
        self.waiting.append(request)
        try:
            yield
        finally:
            self.waiting.remove(request)
            self._happened()

    def _may_start(self, model: FakeModel, wanted: Json) -> bool:
        busy_models = Counter(full_name(request.model) for request in self.running)
        if self._loading:
            return False
        if self._loaded.get(model.full_name) == wanted:
            return busy_models[model.full_name] < self.parallel
        if model.full_name in self._loaded:  # with other options, so it is loaded anew
            return not busy_models[model.full_name]
        room = len(self._loaded) < self.loaded_at_once
        return room or any(not busy_models[name] for name in self._loaded)

    async def _load(self, model: FakeModel, wanted: Json) -> None:
        busy_models = {full_name(request.model) for request in self.running}
        self._loaded.pop(model.full_name, None)
        while len(self._loaded) >= self.loaded_at_once:
            del self._loaded[next(name for name in self._loaded if name not in busy_models)]
        self._loading = True
        try:
            await trio.sleep(self.load_time if model.load_time is None else model.load_time)
        finally:
            self._loading = False
        self.loads.append(model.name)
        self._loaded[model.full_name] = wanted

    def _model(self, body: Mapping[str, Any]) -> FakeModel:
        name = body.get("model") or body.get("name")
        if not isinstance(name, str) or not name:
            raise _Refusal(refused(400, "model is required"))
        if full_name(name) not in self.models:
            raise _Refusal(missing(name))
        return self.models[full_name(name)]

    # Faults

    def _fault(self, path: str, model: str | None) -> Fault | None:
        """The first planned fault that is meant for such a request."""
        for planned in self._planned:
            if planned.path is None and model is None:  # only a fault for its path meets a mere look
                continue
            if planned.path not in (None, path) or planned.model not in (None, model):
                continue
            if planned.times is not None:
                planned.times -= 1
                if planned.times == 0:
                    self._planned.remove(planned)
            return planned.fault
        return None

    async def _suffer(self, fault: Fault | None, exchange: HttpExchange) -> bool:
        """Fail before there is an answer; whether there will be none. Raises _Refusal."""
        match fault:
            case Fault(kind="refuse"):
                raise _Refusal(fault)
            case Fault(kind="stall", until=None):
                await exchange.stall()
            case Fault(kind="stall", until=trio.Event() as until):
                await until.wait()
            case Fault(kind="cut"):
                await exchange.cut()
                return True
        return False

    async def _suffer_midway(self, fault: Fault, exchange: HttpExchange) -> bool:
        """Fail in the middle of the answer; whether that was its end."""
        match fault.kind:
            case "cut":
                await exchange.cut()
            case "end":
                await exchange.end()
            case "error":
                await exchange.send(json.dumps({"error": fault.message}) + "\n")
                await exchange.end()
            case "bad line":
                await exchange.send('{"model": "simulated", "resp\n')
                return False
            case "stall" if fault.until is not None:
                await fault.until.wait()
                return False
            case _:
                await exchange.stall()
        return True

    def _happened(self) -> None:
        self._changed.unpark_all()


@asynccontextmanager
async def fake_ollama(
    models: Iterable[str | FakeModel] = DEFAULT_MODELS, port: int = 0, **options: Any
) -> AsyncIterator[FakeOllama]:
    """Serve a simulated Ollama for the length of the block, on a free port of this machine unless one is given.

    `options` are those of `FakeOllama`. Raises OSError when the port is taken.
    """
    fake = FakeOllama(models, **options)
    async with serve_http(fake.handle, port) as server:
        fake.url, fake.port = server.url, server.port
        yield fake


def _body(request: HttpRequest) -> Json:
    try:
        body = request.json()
    except ValueError as error:
        raise _Refusal(refused(400, str(error))) from None
    if not isinstance(body, dict):
        raise _Refusal(refused(400, "json: cannot unmarshal this into an object"))
    return body


def _check_capabilities(path: str, model: FakeModel, body: Mapping[str, Any]) -> None:
    needed = "embedding" if path == "/api/embed" else "completion"
    if needed not in model.capabilities:
        words = "does not support embeddings" if needed == "embedding" else f"does not support {path[5:]}"
        raise _Refusal(refused(400, f'"{model.name}" {words}'))
    for name, capability in _NEEDS.items():
        if body.get(name) and capability not in model.capabilities:
            raise _Refusal(refused(400, f'"{model.name}" does not support {capability}'))


def _listed(model: FakeModel) -> Json:
    return {
        "name": model.full_name,
        "model": model.full_name,
        "modified_at": _now(),
        "size": model.size,
        "digest": model.digest,
        "details": model.details,
    }


def _in_memory(model: FakeModel) -> Json:
    return {"expires_at": _now(), "size_vram": model.size, "context_length": 4096}


def _shown(model: FakeModel) -> Json:
    return {
        "modelfile": f"# {model.name} is simulated\nFROM {model.name}\n",
        "parameters": "",
        "template": "{{ .Prompt }}",
        "details": model.details,
        "model_info": {"general.architecture": "simulated", "general.parameter_count": 0},
        "capabilities": list(model.capabilities),
        "modified_at": _now(),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
