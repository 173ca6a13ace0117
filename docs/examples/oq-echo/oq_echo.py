"""oq-echo: an executor that says it again, as an outsider would write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from attrs import field, frozen
from attrs.validators import ge, le

import oq


@frozen(kw_only=True)
class Echo:
    """The payload: what a task needs, checked when it is submitted."""

    text: str
    times: int = field(default=1, validator=[ge(1), le(1_000)])


@frozen(kw_only=True)
class EchoSettings:
    """The table `[echo]` of the settings."""

    separator: str = "\n"


class EchoExecutor:
    """Says a text again, once or several times."""

    name = "echo"
    version = "1.0"
    description = "Says it again"
    actions: Mapping[str, oq.Action] = MappingProxyType(
        {"say": oq.Action(payload=Echo, summary="Repeat a text", streams=True, result=str, describe=lambda p: p.text)}
    )

    def __init__(self, settings: EchoSettings) -> None:
        self._separator = settings.separator

    async def execute(self, task: oq.Task, ctx: oq.Context) -> str:
        """Emit the text as often as it is wanted; the result is all of it."""
        for _ in range(task.payload.times):
            await ctx.emit(task.payload.text + self._separator)
        return self._separator.join([task.payload.text] * task.payload.times)


@oq.hookimpl
def oq_executors(settings: oq.Settings) -> Sequence[oq.Executor]:
    """Tell oq what this package brings."""
    return [EchoExecutor(settings.section("echo", EchoSettings))]
