"""For authors of plugins: the contract that every store passes, and what helps to write such tests.

Needs the extra `testing` (`pip install oq-core[testing]`). Nothing in oq imports it.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    "oq.testing.audit",
    "oq.testing.driver",
    "oq.testing.executor_contract",
    "oq.testing.side_by_side",
    "oq.testing.store_contract",
    "oq.testing.store_machine",
)

from oq.testing.audit import audit  # noqa: E402  # after pytest knows whose asserts to explain
from oq.testing.builders import POOL, START, at, block, claim, failure, new_task, offer, pause  # noqa: E402
from oq.testing.clocks import VirtualClock, run_virtually, virtual_queue  # noqa: E402
from oq.testing.driver import StoreDriver, task_ids  # noqa: E402
from oq.testing.executor_contract import ExecutorContract, ExecutorExamples  # noqa: E402
from oq.testing.http import (  # noqa: E402
    HttpExchange,
    HttpHandler,
    HttpRequest,
    HttpServer,
    refused_url,
    run_http,
    serve_http,
)
from oq.testing.scripted import Scripted, ScriptedExecutor, ScriptedRun, SteeredStore  # noqa: E402
from oq.testing.side_by_side import Neighbour, Trouble, Unforeseen  # noqa: E402
from oq.testing.store_contract import StoreContract  # noqa: E402
from oq.testing.store_machine import store_machine  # noqa: E402

__all__ = [
    "POOL",
    "START",
    "ExecutorContract",
    "ExecutorExamples",
    "HttpExchange",
    "HttpHandler",
    "HttpRequest",
    "HttpServer",
    "Neighbour",
    "Scripted",
    "ScriptedExecutor",
    "ScriptedRun",
    "SteeredStore",
    "StoreContract",
    "StoreDriver",
    "Trouble",
    "Unforeseen",
    "VirtualClock",
    "at",
    "audit",
    "block",
    "claim",
    "failure",
    "new_task",
    "offer",
    "pause",
    "refused_url",
    "run_http",
    "run_virtually",
    "serve_http",
    "store_machine",
    "task_ids",
    "virtual_queue",
]
