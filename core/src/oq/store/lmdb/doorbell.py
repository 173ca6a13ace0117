"""Tells the other processes that use a directory that something changed: one datagram to each of their sockets.

A process listens on a socket of its own in `bells/` beside the data. A datagram says only "look": what changed is in
the store, so one that is lost while others wait in the socket's buffer is no loss.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

DIRECTORY = "bells"


class Doorbell:
    """A socket that others ring, and the means to ring theirs."""

    def __init__(self, directory: Path) -> None:
        """Hang up the bell; a warning says so where that is not possible."""
        self._directory = directory / DIRECTORY
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._handle: int | None = None
        """The directory, open."""
        self._socket: socket.socket | None = None
        try:
            self._hang_up()
        except OSError as error:  # the file system has no sockets, say
            log.warning("changes by other processes to %s are noticed late: %s", directory, error)
            self.close()

    def fileno(self) -> int | None:
        return None if self._socket is None else self._socket.fileno()

    def ring(self) -> None:
        """Tell every other process; those that are gone are forgotten."""
        if self._socket is None or self._handle is None:
            return
        try:
            names = os.listdir(self._handle)  # noqa: PTH208  # by handle: half the time of a path
        except OSError as error:  # this process has too many files open, say
            log.warning("other processes notice a change to %s late: %s", self._directory.parent, error)
            return
        for name in names:
            if name == self._name:
                continue
            try:
                self._socket.sendto(b"!", self._address(name))
            except BlockingIOError:
                pass  # its buffer is full, so it will look anyway
            except (ConnectionRefusedError, FileNotFoundError):
                self._forget(name)
            except OSError as error:
                log.debug("cannot ring %s: %s", name, error)

    def drain(self) -> None:
        """Take all datagrams that came."""
        if self._socket is None:
            return
        try:
            while True:
                self._socket.recv(16)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Take the bell down."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._forget(self._name)
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _hang_up(self) -> None:
        self._directory.mkdir(exist_ok=True)
        self._handle = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(self._address(self._name))

    def _forget(self, name: str) -> None:
        with suppress(OSError):  # it is gone already, or somebody else's
            os.unlink(name, dir_fd=self._handle)

    def _address(self, name: str) -> str:
        """A short path to a socket, since an address holds only about a hundred bytes."""
        direct = str(self._directory / name)
        if len(os.fsencode(direct)) < 100 or not Path("/proc/self/fd").exists():
            return direct
        return f"/proc/self/fd/{self._handle}/{name}"
