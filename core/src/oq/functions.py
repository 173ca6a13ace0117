"""The `python` executor: named async functions as tasks, their arguments checked by their annotations at submit."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Generic, ParamSpec, TypeVar

import attrs

from oq._version import __version__
from oq.codec import storable_types
from oq.errors import InvalidTask
from oq.executor import Action, Context, LanePools
from oq.task import Task, TaskSpec

EXECUTOR_NAME = "python"

P = ParamSpec("P")
R = TypeVar("R")


_PLAIN = (inspect.Parameter.POSITIONAL_OR_KEYWORD,)


class TaskFunction(Generic[P, R]):
    """An async function that can be called as ever, or made into a task with `spec`."""

    def __init__(self, function: Callable[P, Awaitable[R]], name: str, payload: type[Any], result: Any) -> None:
        self.name = name
        self._function = function
        self._signature = inspect.signature(function)
        self._payload = payload
        self._names = tuple(self._signature.parameters)
        self._is_plain = all(p.kind in _PLAIN for p in self._signature.parameters.values())
        """Whether every argument has a name of its own, so that calls need not be bound the slow way."""
        self.action = Action(
            payload=payload,
            summary=(inspect.getdoc(function) or f"the function {name}").partition("\n")[0],
            streams=False,
            result=result,
            describe=self._describe,
        )
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task function {self.name}{self._signature}>"

    def spec(self, *args: P.args, **kwargs: P.kwargs) -> TaskSpec:
        """The task of calling the function with these arguments; use `attrs.evolve` to give it a priority and so on.

        Raises InvalidTask when the arguments do not fit the signature; their types are checked at submit.
        """
        try:
            if self._is_plain and len(args) <= len(self._names):
                payload = self._payload(**dict(zip(self._names, args, strict=False)), **kwargs)
            else:
                payload = self._payload(**self._signature.bind(*args, **kwargs).arguments)
        except TypeError:
            raise InvalidTask(f"{self.name}: {self._misfit(args, kwargs)}", "payload") from None
        return TaskSpec(executor=EXECUTOR_NAME, action=self.name, payload=payload)

    async def run(self, payload: Any) -> R:
        """Call the function with a payload's arguments."""
        if self._is_plain:
            return await self._function(*[getattr(payload, name) for name in self._names])  # type: ignore[call-arg]
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for parameter in self._signature.parameters.values():
            value = getattr(payload, parameter.name)
            match parameter.kind:
                case inspect.Parameter.VAR_POSITIONAL:
                    args += value
                case inspect.Parameter.VAR_KEYWORD:
                    kwargs |= value
                case inspect.Parameter.KEYWORD_ONLY:
                    kwargs[parameter.name] = value
                case _:
                    args.append(value)
        return await self._function(*args, **kwargs)

    def _misfit(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Why the arguments do not fit the signature."""
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            return str(error)
        return "the arguments do not fit"

    def _describe(self, payload: Any) -> str:
        shown = ", ".join([f"{name}={getattr(payload, name)!r:.60}" for name in self._names])
        return f"{self.name}({shown})"


class Functions:
    """The executor `python`; its actions are the functions given to `task`."""

    name = EXECUTOR_NAME
    version = __version__
    description = "Python functions of this application"

    def __init__(self) -> None:
        self._functions: dict[str, TaskFunction[..., Any]] = {}
        self._actions: dict[str, Action] = {}
        self._tell: Callable[[], None] = lambda: None

    @property
    def actions(self) -> Mapping[str, Action]:
        return MappingProxyType(self._actions)

    def task(self, *, name: str | None = None) -> Callable[[Callable[P, Awaitable[R]]], TaskFunction[P, R]]:
        """Make an async function a task function, under its own name or `name`.

        Arguments and result are typed by the annotations; what has none may be anything that can be stored. Raises
        ValueError when the name is taken or has a slash, or the function is not async, and TypeError when a type cannot
        be stored.
        """

        def decorate(function: Callable[P, Awaitable[R]]) -> TaskFunction[P, R]:
            chosen = name or function.__name__
            if chosen in self._functions:
                raise ValueError(f"there is a task function named {chosen!r} already; give this one another name")
            if "/" in chosen:
                raise ValueError(f"{chosen!r} has a slash in it, which ends the function's name in the name of a lane")
            if not inspect.iscoroutinefunction(function):
                raise ValueError(f"{chosen!r} is not an async function")
            hints = typing.get_type_hints(function)
            payload = _payload_class(chosen, inspect.signature(function), hints)
            result = hints.get("return", Any)
            for what, cls in (("an argument", payload), ("a result", result)):
                try:
                    storable_types(cls)
                except TypeError as error:
                    raise TypeError(f"{chosen!r} has {what} that cannot be stored: {error}") from None
            made = TaskFunction(function, chosen, payload, result)
            self._functions[chosen] = made
            self._actions[chosen] = made.action
            self._tell()
            return made

        return decorate

    def lane(self, action: str, payload: Any, wanted: str | None) -> str:  # noqa: ARG002  # the protocol's signature
        """Each function has lanes of its own, so that tasks of one that is not known here just wait."""
        return action if wanted is None else f"{action}/{wanted}"

    def pools(self) -> Mapping[str, int]:
        """None but those of oq."""
        return {}

    def lane_pools(self, lane: str) -> LanePools | None:
        """Whether the lane's function is known here."""
        return LanePools() if lane.partition("/")[0] in self._functions else None

    def on_pools_change(self, tell: Callable[[], None]) -> None:
        """Call `tell` when another function becomes known."""
        self._tell = tell

    async def execute(self, task: Task, ctx: Context) -> Any:  # noqa: ARG002  # the protocol's signature
        """Call the function that the task names."""
        return await self._functions[task.action].run(task.payload)


def _payload_class(name: str, signature: inspect.Signature, hints: Mapping[str, Any]) -> type[Any]:
    """An attrs class with a field for each parameter, so that calls are checked and stored like payloads."""
    fields: dict[str, Any] = {}
    for parameter in signature.parameters.values():
        hint = hints.get(parameter.name, Any)
        match parameter.kind:
            case inspect.Parameter.VAR_POSITIONAL:
                fields[parameter.name] = attrs.field(type=tuple[hint, ...], default=(), alias=parameter.name)  # type: ignore[valid-type]  # made at run time
            case inspect.Parameter.VAR_KEYWORD:
                fields[parameter.name] = attrs.field(type=dict[str, hint], factory=dict, alias=parameter.name)  # type: ignore[valid-type]  # made at run time
            case _ if parameter.default is inspect.Parameter.empty:
                fields[parameter.name] = attrs.field(type=hint, alias=parameter.name)
            case _:
                fields[parameter.name] = attrs.field(type=hint, default=parameter.default, alias=parameter.name)
    return attrs.make_class(name, fields, frozen=True, kw_only=True)
