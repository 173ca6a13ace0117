"""Tasks of this executor, made in one call."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from oq import InvalidTask, Problem, TaskSpec
from oq_http.executor import ACTION_NAME, EXECUTOR_NAME
from oq_http.payload import SUCCESS, RequestPayload, Value

Values = Mapping[str, Value | Sequence[Value]]

_GOPHERQ_FIELDS = ("id", "method", "url", "header", "body")
_GOPHERQ_TYPE = "application/json; charset=utf-8"
"""What a body is there when no header says."""


def request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str | Sequence[str]] | None = None,
    params: Values | None = None,
    json: Any = None,
    body: str | bytes | None = None,
    form: Values | None = None,
    auth: str | None = None,
    expect: int | str | Iterable[int | str] = SUCCESS,
    redirects: int | None = None,
    connect_timeout: float | None = None,
    read_timeout: float | None = None,
    write_timeout: float | None = None,
    stream: bool = False,
    **options: Any,
) -> TaskSpec:
    """The task of making a request: `request("POST", "https://example.com/x", json={"a": 1}, priority="high")`.

    `options` are those of `oq.TaskSpec`. Whether the settings allow it is checked at submit.
    """
    payload = RequestPayload(
        method=method,
        url=url,
        headers={name: _several(value) for name, value in (headers or {}).items()},
        params={name: _several(value) for name, value in (params or {}).items()},
        json=json,
        body=body if isinstance(body, str) else None,
        body_base64=base64.b64encode(body).decode() if isinstance(body, bytes) else None,
        form=None if form is None else {name: _several(value) for name, value in form.items()},
        auth=auth,
        expect=(expect,) if isinstance(expect, int | str) else tuple(expect),
        redirects=redirects,
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        write_timeout=write_timeout,
        stream=stream,
    )
    return TaskSpec(executor=EXECUTOR_NAME, action=ACTION_NAME, payload=payload, **options)


def gopherq(task: Mapping[str, Any], **options: Any) -> TaskSpec:
    """The task that GoPherQ writes as `{"id", "method", "url", "header", "body"}`, under the same id.

    As there, an empty body is none, and one without a `Content-Type` is sent as JSON. `options` are those of
    `oq.TaskSpec`. Raises InvalidTask when it is no such task.
    """
    problems = [Problem(str(name), "is no field of a GoPherQ task") for name in task if name not in _GOPHERQ_FIELDS]
    problems += [
        Problem(name, "must be a text")
        for name in ("id", "method", "url", "body")
        if not isinstance(task.get(name) or "", str)
    ]
    header = task.get("header") or {}
    if not isinstance(header, Mapping):
        problems.append(Problem("header", "must be an object"))
    if not task.get("url"):
        problems.append(Problem("url", "is required"))
    if problems:
        raise InvalidTask(problems)
    header = dict(header)
    if task.get("body") and "content-type" not in map(str.lower, header):
        header["Content-Type"] = _GOPHERQ_TYPE
    options = {"id": task.get("id") or None, **options}
    return request(task.get("method") or "GET", task["url"], headers=header, body=task.get("body") or None, **options)


def _several(value: Any) -> Any:
    """A list as the tuple that payloads have."""
    return value if isinstance(value, str) or not isinstance(value, Iterable) else tuple(value)
