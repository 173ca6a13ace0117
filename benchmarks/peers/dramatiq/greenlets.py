"""Sets up the drain before dramatiq is imported: greenlets for threads, and how many messages to fetch ahead."""

from __future__ import annotations

import os
import sys

PREFETCH = 500

if "drain" in sys.argv:
    from gevent import monkey

    monkey.patch_all()  # as the command `dramatiq-gevent` does; it drains faster than threads
    os.environ.update(dramatiq_queue_prefetch=str(PREFETCH))
