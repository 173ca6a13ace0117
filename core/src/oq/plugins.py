"""Finds plugins through entry points, validates them, and gives typed access to what they bring."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from inspect import iscoroutinefunction
from typing import Any, TypeVar

import pluggy
from attrs import frozen

from oq import hookspecs
from oq._version import __version__
from oq.config import Settings
from oq.errors import DuplicateExecutor, OqError, PluginLoadError
from oq.executor import Executor
from oq.hookspecs import PROJECT, CliCommand, StoreFactory

GROUP = "oq"
"""The entry-point group of plugins."""

BUILT_IN = {"lmdb": "oq.store.lmdb", "memory": "oq.store.memory"}
"""What oq itself brings, through the same hooks as everybody else."""

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


@frozen(kw_only=True)
class PluginInfo:
    """Who a plugin is."""

    name: str
    distribution: str
    version: str
    enabled: bool = True


class Plugins:
    """The loaded plugins. What they bring is asked for anew with each call."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._infos: dict[str, PluginInfo] = {}

    def load(self, found: Iterable[EntryPoint], disabled: Collection[str]) -> None:
        """Load these entry points, but for the disabled ones.

        Raises PluginLoadError for one that cannot be imported, has no valid hook, or has an unknown or an async one.
        """
        for entry in sorted(found, key=lambda entry: entry.name):
            distribution = entry.dist.name if entry.dist else "unknown"
            version = entry.dist.version if entry.dist else "?"
            info = PluginInfo(
                name=entry.name, distribution=distribution, version=version, enabled=entry.name not in disabled
            )
            if not info.enabled:
                self._infos.setdefault(info.name, info)  # an enabled one of this name is oq's own
                continue
            self.add(info, entry.load)

    def add(self, info: PluginInfo, load: Callable[[], object]) -> None:
        """Load one plugin; raises PluginLoadError."""
        if info.name in self._infos:
            raise _load_error(info, f"a plugin of this name comes from {self._infos[info.name].distribution} as well")
        try:
            plugin = load()
            self._manager.register(plugin, info.name)
            self._manager.check_pending()
        except Exception as error:
            raise _load_error(info, _one_line(error)) from error
        hooks = self._manager.get_hookcallers(plugin)
        if not hooks:
            raise _load_error(info, "it implements no hook of oq")
        for hook in hooks:
            if any(impl.plugin is plugin and iscoroutinefunction(impl.function) for impl in hook.get_hookimpls()):
                raise _load_error(info, f"its {hook.name} is async, so nobody would await it")
        self._infos[info.name] = info

    def infos(self) -> list[PluginInfo]:
        """Every plugin found, disabled ones included."""
        return list(self._infos.values())

    def executors(self, settings: Settings) -> list[Executor]:
        """The executors of all plugins, in the order of the plugins' names; raises DuplicateExecutor."""
        executors: dict[str, Executor] = {}
        for _, pairs in self._ask("oq_executors", _names, settings=settings):
            for name, executor in pairs:
                if name in executors:
                    raise DuplicateExecutor(name)
                executors[name] = executor
        return list(executors.values())

    def stores(self) -> dict[str, StoreFactory]:
        """Store factories by URL scheme; raises PluginLoadError for a scheme that comes twice."""
        return self._merge("oq_stores", "the store scheme", _schemes)

    def cli_commands(self) -> dict[tuple[str, ...], CliCommand]:
        """Commands by path; raises PluginLoadError for a path that comes twice."""
        return self._merge("oq_cli_commands", "the command", _paths)

    def _merge(self, hook: str, what: str, read: Callable[[Any], list[tuple[K, V]]]) -> dict[K, V]:
        merged: dict[K, V] = {}
        for info, pairs in self._ask(hook, read):
            for key, value in pairs:
                if key in merged:
                    name = " ".join(key) if isinstance(key, tuple) else key
                    raise _load_error(info, f"{what} {name!r} is taken already")
                merged[key] = value
        return merged

    def _ask(self, hook: str, read: Callable[[Any], T], **arguments: object) -> list[tuple[PluginInfo, T]]:
        """What `read` makes of each plugin's answer; one by one, so that a failing plugin can be named."""
        answers: list[tuple[PluginInfo, T]] = []
        for name in sorted(self._infos):
            info = self._infos[name]
            plugin = self._manager.get_plugin(name)
            if not info.enabled or plugin is None:
                continue
            others = [other for _, other in self._manager.list_name_plugin() if other is not plugin]
            caller = self._manager.subset_hook_caller(hook, others)
            try:
                answers += [(info, read(answer)) for answer in caller(**arguments)]
            except OqError:
                raise
            except Exception as error:
                raise _load_error(info, f"{hook}: {_one_line(error)}") from error
        return answers


def load_plugins(disabled: Collection[str] = ()) -> Plugins:
    """What oq brings itself and every installed plugin that is not disabled; raises PluginLoadError."""
    plugins = built_in_plugins()
    plugins.load(entry_points(group=GROUP), disabled)
    return plugins


def built_in_plugins() -> Plugins:
    """Only what oq brings itself."""
    plugins = Plugins()
    for name, module in BUILT_IN.items():
        info = PluginInfo(name=name, distribution="oq-core", version=__version__)
        plugins.add(info, partial(import_module, module))
    return plugins


def _names(brought: Sequence[Executor]) -> list[tuple[str, Executor]]:
    return [(executor.name, executor) for executor in brought]


def _schemes(brought: Mapping[str, StoreFactory]) -> list[tuple[str, StoreFactory]]:
    return list(brought.items())


def _paths(brought: Sequence[CliCommand]) -> list[tuple[tuple[str, ...], CliCommand]]:
    return [(command.path, command) for command in brought]


def _load_error(info: PluginInfo, reason: str) -> PluginLoadError:
    return PluginLoadError(info.name, info.distribution, info.version, reason)


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
