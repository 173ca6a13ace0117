"""`python -m oq_ollama.testing`: a simulated Ollama, for programs that are tried out without a model."""

from __future__ import annotations

import argparse
import sys

from oq.testing.http import run_http
from oq_ollama.testing.server import DEFAULT_MODELS, FakeOllama


def main() -> None:
    """Serve until Ctrl-C; the first line on stdout is the URL."""
    parser = argparse.ArgumentParser(
        prog="python -m oq_ollama.testing",
        description="Serve a simulated Ollama. Its answers are made up by a few lines of Python; no model is run.",
    )
    parser.add_argument("--port", type=int, default=0, help="a free one when not given; Ollama's own is 11434")
    parser.add_argument("--model", action="append", metavar="NAME", help="one that it has; may be given several times")
    parser.add_argument("--pullable", action="append", default=[], metavar="NAME", help="one that can be pulled")
    parser.add_argument("--pace", type=float, default=0.05, help="seconds between two words")
    parser.add_argument("--load-time", type=float, default=0.0, help="seconds to load a model")
    parser.add_argument("--parallel", type=int, default=1, help="how many requests a model works on at once")
    parser.add_argument("--max-queue", type=int, default=512, help="how many requests may wait")
    given = parser.parse_args()
    fake = FakeOllama(
        given.model or DEFAULT_MODELS,
        pullable=given.pullable,
        pace=given.pace,
        load_time=given.load_time,
        parallel=given.parallel,
        max_queue=given.max_queue,
        remember=0,
    )
    names = ", ".join(model.name for model in fake.models.values())
    sys.stderr.write(f"A SIMULATED Ollama with {names}: its answers are made up, no model is run. Ctrl-C ends it.\n")
    sys.stderr.flush()
    try:
        run_http(fake.handle, given.port)
    except OSError as error:
        sys.exit(f"cannot serve on port {given.port}: {error.strerror or error}; choose another --port")


if __name__ == "__main__":
    main()
