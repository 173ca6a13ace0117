"""The executor `openai`: what it can do, where its tasks may go, and how a request becomes a result or a failure."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Self

import trio

from oq import (
    Action,
    Call,
    ChatResult,
    Context,
    EmbedResult,
    EndpointFault,
    Endpoints,
    GenerateResult,
    InvalidTask,
    Lane,
    LanePools,
    PermanentError,
    Steering,
    Task,
)
from oq_openai import rules
from oq_openai._version import __version__
from oq_openai.answers import Collected, Malformed, embedded
from oq_openai.body import body_of
from oq_openai.faults import Blame
from oq_openai.payload import (
    ChatPayload,
    EmbedPayload,
    GeneratePayload,
    Payload,
    describe_chat,
    describe_embed,
    describe_generate,
)
from oq_openai.secrets import MissingKey, Secrets, secrets_of
from oq_openai.settings import OpenAIEndpoint, OpenAISettings

if TYPE_CHECKING:
    import httpx

    from oq_openai.http import Answer

EXECUTOR_NAME: Final = "openai"
LOOK_TIMEOUT: Final = 15.0
"""Seconds that an endpoint has to say that it is there."""

_NO_SECRETS: Final = Secrets({}, ())

_PATHS: Mapping[type[Any], str] = MappingProxyType(
    {ChatPayload: "/chat/completions", GeneratePayload: "/completions", EmbedPayload: "/embeddings"}
)

Result = ChatResult | GenerateResult | EmbedResult


def show_chat(result: ChatResult) -> str:
    """The answer; where it wants tools called, which."""
    message = result.message
    calls = [f"{call.name}({call.raw or json.dumps(dict(call.arguments))})" for call in message.tool_calls]
    return "\n".join([message.content, *calls] if message.content else calls)


def show_generate(result: GenerateResult) -> str:
    """The text."""
    return result.text


def show_embed(result: EmbedResult) -> str:
    """How many vectors there are, and of which length."""
    sizes = sorted({len(vector) for vector in result.embeddings})
    vectors = "vector" if len(result.embeddings) == 1 else "vectors"
    return f"{len(result.embeddings)} {vectors} of {' or '.join(map(str, sizes))} dimensions"


class OpenAIExecutor:
    """Asks models by the OpenAI protocol."""

    name = EXECUTOR_NAME
    version = __version__
    description = "Language models behind OpenAI-compatible APIs"
    actions: Mapping[str, Action] = MappingProxyType(
        {
            "chat": Action(
                payload=ChatPayload,
                summary="Let a model answer a conversation",
                streams=True,
                result=ChatResult,
                describe=describe_chat,
                show=show_chat,
            ),
            "generate": Action(
                payload=GeneratePayload,
                summary="Let a model complete a text",
                streams=True,
                result=GenerateResult,
                describe=describe_generate,
                show=show_generate,
            ),
            "embed": Action(
                payload=EmbedPayload,
                summary="Turn texts into vectors",
                result=EmbedResult,
                describe=describe_embed,
                show=show_embed,
            ),
        }
    )

    def __init__(self, settings: OpenAISettings | None = None, environ: Mapping[str, str] | None = None) -> None:
        """`environ`, that of this process by default, has the keys; raises InvalidSettings."""
        environ = os.environ if environ is None else environ

        def secrets(endpoint: OpenAIEndpoint) -> Secrets:
            return secrets_of(endpoint, environ)

        self._settings = settings or OpenAISettings()
        self._secrets = secrets  # not the environment itself, which would be shown with whatever shows attributes
        self._servers = self._settings.servers(environ)
        self.endpoints: Endpoints[OpenAIEndpoint] = Endpoints(
            EXECUTOR_NAME, self._servers, routing=self._settings.routing, rest=self._settings.rest
        )
        """How the servers are doing."""
        self._resources: AsyncExitStack | None = None
        self._client: httpx.AsyncClient | None = None

    # What is asked at submit

    def check(self, action: str, payload: Payload) -> None:  # noqa: ARG002  # the payload's class says it
        """Raise InvalidTask for what cannot be sent, and where no endpoint takes it by the settings."""
        rules.check(payload, self._servers, self.endpoints.serving)
        if not self.endpoints.can_serve(_lane(payload, None)):
            reason = f"no remote endpoint serves {payload.model!r}, and fallback_to_local is false"
            raise InvalidTask(reason, "payload.remote_execution")

    def lane(self, action: str, payload: Payload, wanted: str | None) -> str:  # noqa: ARG002  # all actions share a lane
        """The tasks of one model wait together, but for those that want something else of their endpoint."""
        lane = _lane(payload, wanted)
        if Lane.parse(str(lane)) != lane:
            raise InvalidTask(f"a lane must not look like {wanted!r}", "lane")
        return str(lane)

    # What the scheduler asks

    def pools(self) -> Mapping[str, int]:
        """A pool for each endpoint; see `oq.Endpoints`."""
        return self.endpoints.pools()

    def lane_pools(self, lane: str) -> LanePools | None:
        """The endpoints that take the tasks of a lane."""
        return self.endpoints.lane_pools(lane)

    def on_pools_change(self, tell: Callable[[], None]) -> None:
        """Call `tell` when an endpoint's health has changed."""
        self.endpoints.on_pools_change(tell)

    # Resources

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.endpoints.watched(self._look, self._settings.health_check_interval))
            stack.push_async_callback(self._close_client)
            self._resources = stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        resources, self._resources = self._resources, None
        if resources is not None:
            await resources.aclose()

    # The work

    async def execute(self, task: Task, ctx: Context) -> Result:
        """Ask the endpoint that the run holds a unit of, or another one that can take over."""
        payload: Payload = task.payload
        return await self.endpoints.call(task, ctx, lambda call: self._ask(payload, ctx, call))

    async def _ask(self, payload: Payload, ctx: Context, call: Call[OpenAIEndpoint]) -> Result:
        """One request to one endpoint."""
        from oq_openai.http import ask

        endpoint = call.endpoint
        try:
            secrets = self._secrets(endpoint)
        except MissingKey as error:
            raise Blame(endpoint, payload.model, _NO_SECRETS).no_key(error) from None
        blame = Blame(endpoint, payload.model, secrets)
        body = body_of(payload, stream_options=endpoint.stream_options)
        path = _PATHS[type(payload)]
        began = trio.current_time()
        try:
            async with ask(
                self._http(), endpoint, path, body, secrets=secrets, pace=self._settings.pace, blame=blame
            ) as answer:
                if isinstance(payload, EmbedPayload):
                    whole = await answer.whole()
                    result = embedded(whole, payload.model, trio.current_time() - began)
                    call.answered()
                    return result
                collected = Collected(model=payload.model)
                first = await _collect(answer, collected, ctx, call)
        except PermanentError:
            call.answered()  # it refuses the request, and is well
            raise
        except Malformed as error:
            raise blame.broken("sent an answer that makes no sense", error) from None
        if not collected.is_complete:
            where = "in the middle of its answer" if collected.begun else "before its answer began; its log may say why"
            raise blame.broken(f"stopped {where}")
        for chunk in collected.end():
            await ctx.emit(chunk)
        usage = collected.usage(first=None if first is None else first - began, total=trio.current_time() - began)
        return collected.chat(usage) if isinstance(payload, ChatPayload) else collected.generate(usage)

    def _http(self) -> httpx.AsyncClient:
        """The client, made when it is needed first."""
        if self._client is None:
            if self._resources is None:
                raise RuntimeError("the executor 'openai' is not open; see Registry.opened")
            from oq_openai.http import make_client

            self._client = make_client(self._settings.connect_timeout, trust_env=self._settings.trust_env)
        return self._client

    async def _close_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _look(self, endpoint: OpenAIEndpoint) -> None:
        """Raise an exception when nobody answers."""
        from oq_openai.http import look

        try:
            headers = self._secrets(endpoint).headers
        except MissingKey:
            headers = {}  # to be turned away is an answer, too
        await look(self._http(), endpoint, headers, LOOK_TIMEOUT)


async def _collect(answer: Answer, collected: Collected, ctx: Context, call: Call[OpenAIEndpoint]) -> float | None:
    """Take the answer as it comes and pass it on; gives the moment of its first event, if it comes in events."""
    if answer.is_whole:
        for chunk in collected.take(await answer.whole()):
            await ctx.emit(chunk)
        collected.ended = True
        call.answered()
        return None
    first: float | None = None
    try:
        async with answer.events() as events:
            async for event in events:
                if event is None:
                    collected.ended = True
                    break
                if first is None:
                    first = trio.current_time()
                    call.answered()
                for chunk in collected.take(event):
                    await ctx.emit(chunk)
    except (EndpointFault, Steering):
        if collected.finish_reason is None:
            raise
        # else the answer is there, and just the count of its tokens is missing
    return first


def _lane(payload: Payload, own: str | None) -> Lane:
    return Lane(payload.model, payload.remote_execution, own, payload.endpoint)
