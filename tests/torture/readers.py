"""A process that dies inside a read transaction: `python -m torture.readers PLACE`."""

from __future__ import annotations

import os
import signal
import sys

from oq.store.lmdb import LmdbStore


def main(place: str) -> None:
    store = LmdbStore(place)
    with store._environment.read():
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
