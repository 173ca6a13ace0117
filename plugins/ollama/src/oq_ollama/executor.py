"""The executor `ollama`: what it can do, where it does it, and what it refuses."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Self

import trio
from attrs import define

from oq import (
    Action,
    Call,
    ChatResult,
    Chunk,
    Context,
    EmbedResult,
    Endpoints,
    GenerateResult,
    InvalidTask,
    Lane,
    LanePools,
    PermanentError,
    Problem,
    Task,
)
from oq_ollama import rules
from oq_ollama._version import __version__
from oq_ollama.delegation import delegate
from oq_ollama.payload import (
    ChatPayload,
    EmbedPayload,
    GeneratePayload,
    Payload,
    describe_chat,
    describe_embed,
    describe_generate,
    show_chat,
    show_embed,
    show_generate,
)
from oq_ollama.settings import OllamaEndpoint, OllamaSettings
from oq_ollama.specs import EXECUTOR_NAME
from oq_ollama.wire import PROGRESS, Answer, body_of, embed_result, path_of

if TYPE_CHECKING:
    from oq_ollama.client import OllamaClient
    from oq_ollama.pulls import Progress, Pulls


@define
class _Session:
    """What the executor holds while it is open; the client is made when it is needed first."""

    nursery: trio.Nursery
    client: OllamaClient | None = None
    pulls: Pulls | None = None

    async def close(self) -> None:
        if self.client is not None:
            await self.client.close()


class OllamaExecutor:
    """Asks models of Ollama servers."""

    name = EXECUTOR_NAME
    version = __version__
    description = "Language models of Ollama servers"
    actions: Mapping[str, Action] = MappingProxyType(
        {
            "chat": Action(
                payload=ChatPayload,
                summary="Answer in a conversation",
                streams=True,
                result=ChatResult,
                describe=describe_chat,
                show=show_chat,
            ),
            "generate": Action(
                payload=GeneratePayload,
                summary="Complete a prompt",
                streams=True,
                result=GenerateResult,
                describe=describe_generate,
                show=show_generate,
            ),
            "embed": Action(
                payload=EmbedPayload,
                summary="Make vectors of texts",
                result=EmbedResult,
                describe=describe_embed,
                show=show_embed,
            ),
        }
    )

    def __init__(self, settings: OllamaSettings | None = None, environ: Mapping[str, str] | None = None) -> None:
        """`environ` is asked for what the settings leave to the environment; raises InvalidSettings."""
        self._settings = settings or OllamaSettings()
        self._environ = os.environ if environ is None else environ
        self.endpoints: Endpoints[OllamaEndpoint] = Endpoints(
            EXECUTOR_NAME,
            self._settings.servers(self._environ),
            routing=self._settings.routing,
            rest=self._settings.rest,
            pool=_pool,
        )
        """The servers, and how they are doing."""
        self._session: _Session | None = None
        self._open = AsyncExitStack()

    # Where tasks go

    def check(self, action: str, payload: Payload) -> None:  # noqa: ARG002  # the payload's class tells the action
        """Raise InvalidTask when the payload makes no sense, or no endpoint serves its model."""
        problems = rules.problems(payload)
        if not problems and not self.endpoints.serving(payload.model):
            problems = [Problem("payload.model", self._nobody_serves(payload.model))]
        elif not problems and not self.endpoints.can_serve(_lane(payload)):
            reason = f"no remote endpoint serves {payload.model!r}, and fallback_to_local is false"
            problems = [Problem("payload.remote_execution", reason)]
        if problems:
            raise InvalidTask(problems)

    def lane(self, action: str, payload: Payload, wanted: str | None) -> str:  # noqa: ARG002  # as the protocol has it
        """Tasks of one model wait together, apart from those that ask for a remote endpoint."""
        return str(_lane(payload, wanted))

    def pools(self) -> Mapping[str, int]:
        """A pool for each endpoint, `ollama:NAME`."""
        return self.endpoints.pools()

    def lane_pools(self, lane: str) -> LanePools | None:
        """The endpoints that tasks of the lane may go to at present."""
        return self.endpoints.lane_pools(lane)

    def on_pools_change(self, tell: Callable[[], None]) -> None:
        """Call `tell` when an endpoint has failed or has come back."""
        self.endpoints.on_pools_change(tell)

    # Resources

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            nursery = await stack.enter_async_context(trio.open_nursery())
            stack.callback(nursery.cancel_scope.cancel)
            session = self._session = _Session(nursery)
            stack.push_async_callback(session.close)
            await stack.enter_async_context(self.endpoints.watched(self._look, self._settings.health_check_interval))
            self._open = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._open.aclose()
        finally:
            self._session = None

    def _client(self) -> OllamaClient:
        session = self._opened()
        if session.client is None:
            from oq_ollama.client import OllamaClient  # here, as httpx takes a while and `oq list` has no use for it

            session.client = OllamaClient.make(
                self._settings.pace,
                self._environ,
                connect_timeout=self._settings.connect_timeout,
                trust_env=self._settings.trust_env,
            )
        return session.client

    def _pulls(self) -> Pulls:
        session = self._opened()
        if session.pulls is None:
            from oq_ollama.pulls import Pulls

            session.pulls = Pulls(self._client(), session.nursery, self._settings.pace)
        return session.pulls

    def _opened(self) -> _Session:
        if self._session is None:
            raise RuntimeError("the executor is not open; enter the registry first: async with registry.opened()")
        return self._session

    async def _look(self, endpoint: OllamaEndpoint) -> None:
        """Raise an exception when nobody answers at the endpoint."""
        if endpoint.kind == "ollama":  # the other executor looks after its own
            await self._client().check(endpoint, self._settings.connect_timeout)

    # Running

    async def execute(self, task: Task, ctx: Context) -> ChatResult | GenerateResult | EmbedResult:
        """Ask an endpoint that serves the model, and another one if it fails before it has begun to answer.

        Raises PermanentError when no retry mends it, and RetryableError or RetryLater otherwise.
        """

        async def attempt(call: Call[OllamaEndpoint]) -> ChatResult | GenerateResult | EmbedResult:
            return await self._ask(task.payload, ctx, call)

        return await self.endpoints.call(task, ctx, attempt)

    async def _ask(
        self, payload: Payload, ctx: Context, call: Call[OllamaEndpoint]
    ) -> ChatResult | GenerateResult | EmbedResult:
        if call.endpoint.kind == "openai":
            result: ChatResult | GenerateResult | EmbedResult = await delegate(call.endpoint, payload, ctx)
            return result
        client = self._client()
        from oq_ollama.faults import Asked, Refused, is_missing_model, told_apart

        answer = Answer(payload.model)
        try:
            with told_apart(Asked(endpoint=call.endpoint, model=payload.model, answer=answer)):
                try:
                    return await self._answer(client, payload, ctx, call, answer)
                except Refused as error:
                    if not (self._settings.pull_missing and is_missing_model(error)):
                        raise
                await self._pull(self._pulls(), payload, ctx, call.endpoint)
                return await self._answer(client, payload, ctx, call, answer)
        except PermanentError:
            call.answered()  # it refuses the request, and is well
            raise

    async def _answer(
        self, client: OllamaClient, payload: Payload, ctx: Context, call: Call[OllamaEndpoint], answer: Answer
    ) -> ChatResult | GenerateResult | EmbedResult:
        from oq_ollama.faults import BrokenOff

        path, body = path_of(payload), body_of(payload)
        if isinstance(payload, EmbedPayload):
            return embed_result(payload.model, await client.answer(call.endpoint, path, body, call.answered))
        async with client.frames(call.endpoint, path, body, call.answered) as frames:
            async for frame in frames:
                for chunk in answer.take(frame):
                    await ctx.emit(chunk)
                if answer.final is not None:
                    break
            else:
                raise BrokenOff
        return answer.chat_result() if isinstance(payload, ChatPayload) else answer.generate_result()

    async def _pull(self, pulls: Pulls, payload: Payload, ctx: Context, endpoint: OllamaEndpoint) -> None:
        async def tell(progress: Progress) -> None:
            if not isinstance(payload, EmbedPayload):  # which promised not to stream
                told = {"status": progress.status, "completed": progress.completed, "total": progress.total}
                await ctx.emit(Chunk(text=f"{payload.model}: {progress}", kind=PROGRESS, data=told))

        await pulls.pull(endpoint, payload.model, tell)

    def _nobody_serves(self, model: str) -> str:
        have = "; ".join(
            f"{endpoint.name}: {', '.join(endpoint.models) or 'all'}"
            for endpoint in self._settings.endpoints
            if endpoint.enabled
        )
        return f"no endpoint serves {model!r} (there are: {have or 'no endpoints that are enabled'})"


def _lane(payload: Payload, own: str | None = None) -> Lane:
    return Lane(payload.model, remote=payload.remote_execution, own=own)


def _pool(endpoint: OllamaEndpoint) -> str:
    """The pool whose units are the endpoint's; the other executor keeps those of its own."""
    return f"{EXECUTOR_NAME}:{endpoint.name}" if endpoint.kind == "ollama" else f"openai:{endpoint.endpoint}"
