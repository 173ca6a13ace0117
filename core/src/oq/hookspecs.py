"""The hooks by which packages add to oq. They are synchronous and return descriptions; oq does the rest.

A plugin is a module (or object) named by an entry point in the group `oq`:

    [project.entry-points.oq]
    echo = "oq_echo"

with functions marked by `hookimpl`:

    import oq

    @oq.hookimpl
    def oq_executors(settings):
        return [EchoExecutor()]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import pluggy
from attrs import frozen

if TYPE_CHECKING:
    from oq.config import Settings
    from oq.executor import Executor
    from oq.store.base import Store

PROJECT = "oq"

F = TypeVar("F", bound=Callable[..., object])

_mark_spec = pluggy.HookspecMarker(PROJECT)
_mark_impl = pluggy.HookimplMarker(PROJECT)


def hookspec(function: F) -> F:
    """Mark a function of this module as a hook."""
    return _mark_spec(function)


def hookimpl(function: F) -> F:
    """Mark a plugin's function as the implementation of the hook of that name."""
    return _mark_impl(function)


@frozen(kw_only=True)
class CliCommand:
    """A command that a plugin adds to `oq`, imported only when it is used."""

    path: tuple[str, ...]
    """Where it goes: `("submit", "script")` is `oq submit script`."""
    summary: str
    """What `--help` of the group above says of it."""
    load: str
    """`module:attribute` of the click command."""


StoreFactory = Callable[[str, "Settings"], "Store"]
"""(location, settings) -> an open store. Raises StoreError with a sentence for people."""


@hookspec
def oq_executors(settings: Settings) -> Sequence[Executor]:
    """The executors that the plugin brings, made with its part of the settings.

    Example: `return [ScriptExecutor(settings.section("script", ScriptSettings))]`.
    Conflict: two executors of one name stop the start with `DuplicateExecutor`.
    """
    raise NotImplementedError


@hookspec
def oq_stores() -> Mapping[str, StoreFactory]:
    """Store factories by URL scheme.

    Example: `return {"redis": open_redis}` opens `redis://…`.
    Conflict: two factories of one scheme stop the start with `PluginLoadError`.
    """
    raise NotImplementedError


@hookspec
def oq_cli_commands() -> Sequence[CliCommand]:
    """Commands for `oq`.

    Example: `return [CliCommand(path=("submit", "echo"), summary="Say it again.", load="oq_echo.cli:echo")]`.
    Conflict: two commands of one path stop the start with `PluginLoadError`.
    """
    raise NotImplementedError
