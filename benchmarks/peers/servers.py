"""Starts Redis and PostgreSQL for one measurement, durable, reachable only by a socket in a private directory."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

START_TIMEOUT = 30.0
STOP_TIMEOUT = 15.0

REDIS = ("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--port", "0", "--daemonize", "no")
"""An fsync before each answer; no snapshots besides; no port at all."""
POSTGRES = {
    "listen_addresses": "",  # no port at all
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",  # no checkpoint for want of room in the middle of a measurement
    "jit": "off",  # it costs short statements more than it gives
}


class NoServer(Exception):
    """The server of a peer is missing or does not start; the reason is for people."""


@contextmanager
def served(kind: str, data: Path) -> Iterator[str]:
    """A fresh server that keeps its data in the directory; gives what drivers get as `--server`."""
    match kind:
        case "redis":
            with _sockets() as sockets, _redis(data, sockets) as address:
                yield address
        case "postgres":
            with _sockets() as sockets, _postgres(data, sockets) as address:
                yield address
        case _:
            yield ""


def describe(kind: str) -> str:
    """The server's version; raises NoServer where there is none."""
    match kind:
        case "redis":
            words = _output(_redis_program(), "--version").split()
            return f"Redis {words[2].removeprefix('v=')}"
        case "postgres":
            return f"PostgreSQL {_output(_postgres_program('postgres'), '--version').split()[2]}"
        case _:
            return ""


@contextmanager
def _sockets() -> Iterator[Path]:
    """A private directory with a short path, because a socket's path may have 107 bytes only."""
    with tempfile.TemporaryDirectory(prefix="oq-") as directory:
        yield Path(directory)


@contextmanager
def _redis(data: Path, sockets: Path) -> Iterator[str]:
    address = sockets / "redis"
    command = [_redis_program(), *REDIS, "--dir", str(data), "--unixsocket", str(address)]
    with _running(command, data, signal.SIGTERM, lambda: _redis_answers(address)):
        yield str(address)


def _redis_program() -> str:
    return shutil.which("redis-server") or _missing("redis-server")


def _redis_answers(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(address))
        except OSError:
            return False
        client.sendall(b"PING\r\n")
        return client.recv(16).startswith(b"+PONG")


@contextmanager
def _postgres(data: Path, sockets: Path) -> Iterator[str]:
    user = _postgres_user()
    if user:
        for directory in (data, sockets):
            shutil.chown(directory, user)
    cluster = data / "cluster"
    initdb = [
        _postgres_program("initdb"),
        "-D",
        str(cluster),
        "-U",
        "bench",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--no-locale",
    ]
    made = subprocess.run(initdb, user=user, cwd=sockets, capture_output=True, text=True, check=False)
    if made.returncode:
        raise NoServer(f"initdb: {made.stderr.strip().splitlines()[-1]} (does --data lie where it may go?)")
    settings = POSTGRES | {"unix_socket_directories": str(sockets)}
    command = [_postgres_program("postgres"), "-D", str(cluster)]
    command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    ready = [_postgres_program("pg_isready"), "-q", "-h", str(sockets)]
    # SIGINT is its "fast" shutdown, which does not wait for clients.
    with _running(command, data, signal.SIGINT, lambda: not subprocess.run(ready, check=False).returncode, user):
        yield str(sockets)


def _postgres_user() -> str | None:
    """PostgreSQL refuses to run as root; whom it runs as then."""
    if os.geteuid():
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise NoServer("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


def _postgres_program(name: str) -> str:
    """On the path, or where `pg_config` says; Debian keeps the server's programs off the path."""
    found = shutil.which(name)
    if not found and (asked := shutil.which("pg_config")):
        found = shutil.which(name, path=_output(asked, "--bindir"))
    if not found:
        beside = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))  # Debian's layout
        found = str(beside[-1]) if beside else None
    return found or _missing(f"PostgreSQL's {name}")


def _missing(program: str) -> str:
    raise NoServer(f"{program} is not installed")


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def _running(
    command: list[str], data: Path, stop: signal.Signals, answers: Callable[[], bool], user: str | None = None
) -> Iterator[None]:
    """Run the server for the length of the block, and end it by its process id."""
    log = data / "log"
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, user=user, cwd=data, process_group=0)
    try:
        end = time.monotonic() + START_TIMEOUT
        while not answers():
            if server.poll() is not None or time.monotonic() > end:
                lines = log.read_text().strip().splitlines() or ["no word"]
                raise NoServer(f"{Path(command[0]).name} does not start: {lines[-1]}")
            time.sleep(0.05)
        yield
    finally:
        server.send_signal(stop)
        try:
            server.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            server.send_signal(signal.SIGQUIT)  # for PostgreSQL: end the children too, and at once
            time.sleep(1)
            server.kill()
            server.wait()
