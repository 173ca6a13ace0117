"""`oq pause` and `oq resume`: whether tasks of a named queue, or of all, start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from oq.cli.session import Session, session_options

if TYPE_CHECKING:
    from oq.queue import Queue

_NAME = click.argument("name", metavar="[NAME]", required=False)


@click.command("pause")
@_NAME
@session_options
def pause(session: Session, name: str | None) -> None:
    """Start no more tasks of the named queue, or of any, until it is resumed; what runs goes on."""
    _change(session, name, paused=True)


@click.command("resume")
@_NAME
@session_options
def resume(session: Session, name: str | None) -> None:
    """Start tasks again; resuming all queues leaves those paused that were paused by name."""
    _change(session, name, paused=False)


def _change(session: Session, name: str | None, *, paused: bool) -> None:
    async def body(queue: Queue) -> list[str]:
        await (queue.pause(name) if paused else queue.resume(name))
        return list((await queue.stats()).paused)

    still = session.look(body)
    if session.as_json:
        session.emit({"paused": still})
        return
    session.say(f"{'paused' if paused else 'resumed'} {name or 'all queues'}")
    others = [other for other in still if not paused and other != "*"]
    if others:
        session.note(f"still paused: {', '.join(others)}")
