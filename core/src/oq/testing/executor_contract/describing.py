"""The contract of what an executor says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest

from oq.config import Settings
from oq.executor import Action
from oq.plugins import load_plugins
from oq.registry import Registry
from oq.testing.executor_contract.base import ExecutorFrame, Subject, on_trio, one_line


class Describing(ExecutorFrame):
    """It says who it is."""

    @on_trio
    async def test_its_name_is_one_that_specs_can_say(self, subject: Subject) -> None:
        """The name is lower-case letters, digits, `_` and `-`, and whoever looks it up finds the executor."""
        assert Registry([subject.executor]).get(subject.executor.name) is subject.executor

    @on_trio
    async def test_it_says_its_version_and_what_it_is(self, subject: Subject) -> None:
        """Version and description are a line each, for `oq plugins`."""
        assert one_line(subject.executor.version), f"{subject.executor.version!r} is no version"
        assert one_line(subject.executor.description), f"{subject.executor.description!r} is no line for people"

    @on_trio
    async def test_each_action_says_what_it_does(self, subject: Subject) -> None:
        """The actions are a mapping of names to `Action`, each with a line for people and an attrs class."""
        assert isinstance(subject.executor.actions, Mapping)
        assert subject.executor.actions, "it can do nothing"
        for name, action in subject.executor.actions.items():
            assert one_line(name), f"{name!r} is no name of an action"
            assert isinstance(action, Action)
            assert one_line(action.summary), f"the summary of {name!r} is {action.summary!r}, which is no line"
            assert attrs.has(action.payload), f"the payload of {name!r} is of no attrs class"
            assert isinstance(action.streams, bool)

    @on_trio
    async def test_each_action_has_an_example(self, subject: Subject) -> None:
        """The examples show each action at work, and how it streams where it does."""
        name, actions, examples = subject.executor.name, subject.executor.actions, subject.examples
        assert {spec.executor for spec in examples.good} == {name}, "an example is for another executor"
        unshown = set(actions) - {spec.action for spec in examples.completing}
        assert not unshown, f"no example that completes shows {', '.join(sorted(unshown))}"
        unknown = {spec.action for spec in examples.good} | {bad[0] for bad in examples.bad_payloads} - set(actions)
        assert unknown <= set(actions), f"examples speak of other actions than {', '.join(sorted(actions))}"
        if any(action.streams for action in actions.values()):
            assert examples.streaming is not None, "an action streams, but there is no example of that"
            assert subject.action_of(examples.streaming).streams, "the streaming example is of an action that does not"

    @on_trio
    async def test_it_says_the_same_of_itself_each_time(self, subject: Subject) -> None:
        """Another one that is made in the same way has the same name and version, and can do the same."""
        another = subject.make_another()
        told = [(one.name, one.version, one.description, sorted(one.actions)) for one in (subject.executor, another)]
        assert told[0] == told[1]

    def test_oq_finds_it_where_its_plugin_is_installed(self, tmp_path: Path) -> None:
        """The entry point of the plugin brings the executor, with no settings given, and `oq plugins` shows both."""
        if self.entry_point is None:
            pytest.skip("no entry point is named")
        plugins, executor = load_plugins(), self.make_executor(tmp_path)
        assert self.entry_point in [info.name for info in plugins.infos() if info.enabled]
        found = {one.name: one for one in plugins.executors(Settings())}
        assert executor.name in found, f"the entry point {self.entry_point!r} brings no {executor.name!r}"
        assert type(found[executor.name]) is type(executor)
        assert found[executor.name].version == executor.version
