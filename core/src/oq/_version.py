"""The version of oq; all of its packages carry the same one."""

__version__ = "0.1.0"
