"""The specification of an executor, as tests that run over any executor."""

from __future__ import annotations

from oq.testing.executor_contract.accepting import Accepting
from oq.testing.executor_contract.base import ExecutorExamples
from oq.testing.executor_contract.describing import Describing
from oq.testing.executor_contract.ending import Ending
from oq.testing.executor_contract.outlasting import Outlasting
from oq.testing.executor_contract.placing import Placing
from oq.testing.executor_contract.running import Running

__all__ = ["ExecutorContract", "ExecutorExamples"]


class ExecutorContract(Outlasting, Ending, Running, Placing, Accepting, Describing):  # pytest begins with the last
    """What every executor does. Its author subclasses it, says how it is made and what it can run, and passes all::

        class TestEcho(oq.testing.ExecutorContract):
            def make_executor(self, directory):
                return EchoExecutor()

            def examples(self, directory):
                return ExecutorExamples(
                    quick=TaskSpec(executor="echo", action="say", payload=Echo(text="hi")),
                    bad_payloads=[("say", {"text": 7}, "payload.text")],
                )

    What both need outside, such as a server, is made by `surroundings`. The tests are plain functions which run trio by
    themselves, so no plugin of pytest is needed. Time is real: seconds are those of `trio.current_time()`.
    """
