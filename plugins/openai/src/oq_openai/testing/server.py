"""The fake OpenAI: it speaks the protocol over a real socket, and its answers are simulated."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from typing import Any

import trio
from attrs import frozen

from oq.testing import HttpExchange, HttpRequest, HttpServer, serve_http
from oq_openai.testing import simulation
from oq_openai.testing.faults import Exchange, Fault, refuse, wrong_key
from oq_openai.testing.simulation import CREATED, Reply, Simulated

_FIELDS = {
    "/v1/chat/completions": ("model", "messages"),
    "/v1/completions": ("model", "prompt"),
    "/v1/embeddings": ("model", "input"),
}
"""The routes that models answer, and what a request must have."""


@frozen(kw_only=True)
class RateLimit:
    """So many requests in so many seconds; more are answered with 429."""

    requests: int
    seconds: float = 60.0


class FakeOpenAI:
    """What the fake does; `fake_openai` lets it run."""

    def __init__(
        self,
        *,
        models: Sequence[str] = ("simulated",),
        api_key: str | None = None,
        pace: float = 0.0,
        rate_limit: RateLimit | None = None,
        knows_stream_options: bool = True,
    ) -> None:
        """`models` may be patterns (`*`); with an `api_key`, requests without it are answered with 401."""
        self.models = list(models)
        self.api_key = api_key
        self.pace = pace
        """Seconds before each event of a stream, and before an answer that is none."""
        self.rate_limit = rate_limit
        self.knows_stream_options = knows_stream_options
        self.always: Fault | None = None
        """What every request is answered with while it is set, those for `/v1/models` included."""
        self.server: HttpServer
        """Who listens: `requests`, `wait_requests`, `open_connections`, …"""
        self._script: deque[Fault | Reply | None] = deque()
        self._by_model: dict[str, Fault | Reply] = {}
        self._recent: deque[float] = deque()

    @property
    def url(self) -> str:
        """The base URL, with its `/v1`."""
        return f"{self.server.url}/v1"

    @property
    def asked(self) -> list[HttpRequest]:
        """The requests that were made of models, oldest first; each knows when and how it ended."""
        return [request for request in self.server.requests if request.path in _FIELDS]

    @property
    def bodies(self) -> list[Any]:
        """What they said."""
        return [request.json() for request in self.asked]

    async def wait_asked(self, number: int) -> list[HttpRequest]:
        """Return when models have been asked so often."""
        count = len(self.server.requests)
        while len(self.asked) < number:
            count += 1
            await self.server.wait_requests(count)
        return self.asked

    def script(self, *steps: Fault | Reply | None) -> None:
        """What the next requests are answered with, in this order; None for what would be made up."""
        self._script += steps

    def set_model(self, model: str, step: Fault | Reply | None) -> None:
        """What each request for this model is answered with from now on; None for what would be made up."""
        if step is None:
            self._by_model.pop(model, None)
        else:
            self._by_model[model] = step

    async def handle(self, request: HttpRequest, http: HttpExchange) -> None:
        """Answer one request."""
        nothing = Exchange(request=request, http=http, answer=Simulated(whole={}))
        if self.always is not None:
            await self.always(nothing)
        elif self.api_key is not None and request.headers.get("authorization") != f"Bearer {self.api_key}":
            told = "authorization" in request.headers
            await (wrong_key() if told else refuse(401, "You didn't provide an API key."))(nothing)
        elif request.method == "GET" and request.path.startswith("/v1/models"):
            await self._tell_models(nothing, request.path.removeprefix("/v1/models").strip("/"))
        elif request.method == "POST" and request.path in _FIELDS:
            await self._answer(nothing)
        else:
            await refuse(404, f"Invalid URL ({request.method} {request.path})")(nothing)

    async def _tell_models(self, exchange: Exchange, wanted: str) -> None:
        models = [{"id": name, "object": "model", "created": CREATED, "owned_by": "simulated"} for name in self.models]
        if not wanted:
            await exchange.http.respond_json(200, {"object": "list", "data": models})
        elif wanted in self.models:
            await exchange.http.respond_json(200, models[self.models.index(wanted)])
        else:
            await _no_model(wanted)(exchange)

    async def _answer(self, exchange: Exchange) -> None:
        request = exchange.request
        if (fault := self._limited()) is not None:
            await fault(exchange)
            return
        try:
            body = request.json()
        except ValueError:
            body = None
        fault = self._wrong(request.path, body)
        if fault is not None:
            await fault(exchange)
            return
        step = self._script.popleft() if self._script else self._by_model.get(body["model"])
        reply = step if isinstance(step, Reply) else None
        answer = self._simulated(request.path, body, reply)
        exchange = Exchange(request=request, http=exchange.http, answer=answer, pace=self.pace)
        if step is None or isinstance(step, Reply):
            await exchange.answer_well()
        else:
            await step(exchange)

    def _simulated(self, path: str, body: Mapping[str, Any], reply: Reply | None) -> Simulated:
        match path:
            case "/v1/chat/completions":
                return simulation.chat(body, reply)
            case "/v1/completions":
                return simulation.completion(body, reply)
            case _:
                return simulation.embeddings(body)

    def _wrong(self, path: str, body: Any) -> Fault | None:
        """What is wrong with a request."""
        if not isinstance(body, Mapping):
            return refuse(400, "We could not parse the JSON body of your request.")
        for name in _FIELDS[path]:
            if not body.get(name):
                return refuse(
                    400, f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter"
                )
        if not any(fnmatchcase(str(body["model"]), pattern) for pattern in self.models):
            return _no_model(str(body["model"]))
        if "stream_options" in body and not (body.get("stream") and self.knows_stream_options):
            return refuse(400, "Unrecognized request argument supplied: stream_options", param="stream_options")
        return None

    def _limited(self) -> Fault | None:
        """The answer to one request too many."""
        limit, now = self.rate_limit, trio.current_time()
        if limit is None:
            return None
        while self._recent and self._recent[0] <= now - limit.seconds:
            self._recent.popleft()
        if len(self._recent) < limit.requests:
            self._recent.append(now)
            return None
        wait = self._recent[0] + limit.seconds - now
        headers = {
            "Retry-After": f"{wait:.3f}",
            "x-ratelimit-limit-requests": str(limit.requests),
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": f"{wait:.3f}s",
        }
        return refuse(429, "Rate limit reached.", type="requests", code="rate_limit_exceeded", headers=headers)


@asynccontextmanager
async def fake_openai(port: int = 0, **options: Any) -> AsyncIterator[FakeOpenAI]:
    """Let a fake run for the length of the block, on a free port unless one is given. `options`: see FakeOpenAI."""
    fake = FakeOpenAI(**options)
    async with serve_http(fake.handle, port) as fake.server:
        yield fake


def _no_model(model: str) -> Fault:
    message = f"The model `{model}` does not exist or you do not have access to it."
    return refuse(404, message, code="model_not_found")
