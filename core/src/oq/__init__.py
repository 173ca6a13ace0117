"""oq: a durable, priority-ordered task queue for trio."""

from oq._version import __version__
from oq.errors import (
    OqError,
)

__all__ = [
    "OqError",
    "__version__",
]
