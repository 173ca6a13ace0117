"""`python -m oq_openai.testing`: the fake OpenAI as a command."""

from __future__ import annotations

import argparse
import sys

from oq.testing import run_http
from oq_openai.testing.server import FakeOpenAI


def main() -> None:
    """Serve until Ctrl-C; the first line on stdout is the URL, to which /v1 belongs."""
    parser = argparse.ArgumentParser(
        prog="python -m oq_openai.testing",
        description="A fake OpenAI. No model runs behind it: its answers are simulated, and say so.",
    )
    parser.add_argument("--port", type=int, default=0, help="where to listen on 127.0.0.1; a free port by default")
    parser.add_argument("--model", action="append", help="a model that it has, or a pattern; any by default")
    parser.add_argument("--api-key", help="refuse requests that do not bring this key")
    parser.add_argument("--pace", type=float, default=0.05, help="seconds before each word of a stream (0.05)")
    given = parser.parse_args()
    sys.stderr.write("No model runs here: all answers are simulated. Add /v1 to the URL; Ctrl-C ends it.\n")
    fake = FakeOpenAI(models=given.model or ("*",), api_key=given.api_key, pace=given.pace)
    run_http(fake.handle, given.port)


if __name__ == "__main__":
    main()
