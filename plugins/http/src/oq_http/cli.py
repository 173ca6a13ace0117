"""`oq submit http`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import click

from oq.cli.submitting import DURATION, SubmitOptions, submit_options
from oq_http import specs
from oq_http.payload import SUCCESS

_EXAMPLES = """\b
Examples:
  oq submit http --url http://localhost:8080/health --wait
  oq submit http --url http://localhost:8080/jobs --json '{"name": "report"}'
  oq submit http --method PUT --url http://localhost:8080/a.txt --data - < a.txt
"""

Pairs = dict[str, tuple[str, ...]]


def _pairs(separator: str, form: str) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], Pairs]:
    """Reads texts such as NAME=VALUE; a name may come several times."""

    def read(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> Pairs:
        pairs: Pairs = {}
        for text in given:
            name, found, value = text.partition(separator)
            if not (name.strip() and found):
                raise click.BadParameter(f"{text!r} is not {form}")
            pairs[name.strip()] = (*pairs.get(name.strip(), ()), value.lstrip() if separator == ":" else value)
        return pairs

    return read


def _value(_context: click.Context, _parameter: click.Parameter, given: str | None) -> Any:
    if given is None:
        return None
    try:
        return json.loads(_piped() if given == "-" else given)
    except ValueError as error:
        raise click.BadParameter(f"is no JSON: {error}") from None


def _data(_context: click.Context, _parameter: click.Parameter, given: str | None) -> str | bytes | None:
    if given != "-":
        return given
    data = _piped()
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _statuses(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part.strip() for text in given for part in text.split(","))


def _task(_context: click.Context, _parameter: click.Parameter, given: str | None) -> dict[str, Any] | None:
    if given is None:
        return None
    try:
        task = json.loads(_piped() if given == "-" else Path(given).read_bytes())
    except OSError as error:
        raise click.BadParameter(f"{given} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise click.BadParameter(f"{given} is no JSON: {error}") from None
    if not isinstance(task, dict):
        raise click.BadParameter(f"{given} must hold one JSON object")
    return task


def _piped() -> bytes:
    return sys.stdin.buffer.read()


@click.command("http", epilog=_EXAMPLES)
@click.option("--method", metavar="NAME", help="GET, POST, …  [default: POST with a body, else GET]")
@click.option("--url", metavar="URL", help="Where to.")
@click.option(
    "--header",
    "headers",
    metavar="'NAME: VALUE'",
    multiple=True,
    callback=_pairs(":", "NAME: VALUE"),
    help="Repeatable.",
)
@click.option(
    "--param",
    "params",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_pairs("=", "NAME=VALUE"),
    help="Added to the query of the URL. Repeatable.",
)
@click.option("--json", metavar="JSON", callback=_value, help="The body, as JSON; - reads what is piped in.")
@click.option("--data", "body", metavar="TEXT", callback=_data, help="The body as it is; - reads what is piped in.")
@click.option(
    "--form",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_pairs("=", "NAME=VALUE"),
    help="A field of a form, as the body. Repeatable.",
)
@click.option("--auth", metavar="NAME", help="The secret of [http.auth.NAME] in the settings.")
@click.option(
    "--expect", metavar="STATUS", multiple=True, callback=_statuses, help="What means success: 204, 200-299, 2xx."
)
@click.option("--redirects", type=int, metavar="NUMBER", help="How many redirects are followed.")
@click.option("--connect-timeout", type=DURATION, help="How long it may take to connect.")
@click.option("--read-timeout", type=DURATION, help="How long the server may say nothing.")
@click.option("--write-timeout", type=DURATION, help="How long the server may take nothing of the request.")
@click.option("--gopherq", metavar="FILE", callback=_task, help="A task of GoPherQ as JSON, in place of all these.")
@submit_options
def http(
    *,
    options: SubmitOptions,
    method: str | None,
    url: str | None,
    json: Any,
    body: str | bytes | None,
    form: Pairs,
    expect: tuple[str, ...],
    gopherq: dict[str, Any] | None,
    **fields: Any,
) -> None:
    """Make an HTTP request."""
    if gopherq is not None:
        if url is not None:
            raise click.UsageError("give either --url or --gopherq")
        spec = specs.gopherq(gopherq)
        options = options if options.id else attrs.evolve(options, id=spec.id)
        options.submit(spec)
        return
    if url is None:
        raise click.UsageError("give --url")
    has_body = json is not None or body is not None or bool(form)
    options.submit(
        specs.request(
            method or ("POST" if has_body else "GET"),
            url,
            json=json,
            body=body,
            form=form or None,
            expect=expect or SUCCESS,
            stream=options.stream,
            **fields,
        )
    )
