"""`python -m oq` is `oq`."""

from oq.cli.main import run

run()
