import os
import socket
from contextlib import asynccontextmanager
from importlib.metadata import entry_points

import pytest
import trio

from oq import Registry, Settings, load_plugins, open_queue
from oq.testing import serve_http
from oq_http import HttpExecutor, HttpSettings, request

OTHERS = sorted({found.name for found in entry_points(group="oq")} - {"http"})
"""Plugins that happen to be installed beside this one."""


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No settings of whoever runs the tests, and no other plugin."""
    for name in [name for name in os.environ if name.startswith("OQ_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OQ_DISABLED_PLUGINS", ",".join(OTHERS))


@asynccontextmanager
async def executor(**settings):
    """An open registry whose only executor is `http`, with these settings."""
    registry = Registry([HttpExecutor(HttpSettings(**settings))])
    async with registry.opened():
        yield registry


class Asking:
    """A client and a server: asks for a path of the server through the executor."""

    def __init__(self, registry, server):
        self.registry = registry
        self.server = server

    async def __call__(self, path="/", method="GET", **fields):
        return await self.registry.execute(request(method, self.server.url + path, **fields))


@pytest.fixture
def asking():
    """`async with asking(handler, **settings) as ask: await ask("/path")`."""

    @asynccontextmanager
    async def asking(handler, **settings):
        async with serve_http(handler) as server, executor(**settings) as registry:
            yield Asking(registry, server)

    return asking


@pytest.fixture
def opened():
    """`async with opened(**settings) as registry`."""
    return executor


class Names(trio.abc.HostnameResolver):
    """A directory of made-up hosts, which counts how often it is asked."""

    def __init__(self, addresses):
        self.addresses = addresses
        self.asked = []

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):
        name = host.decode() if isinstance(host, bytes) else host
        self.asked.append(name)
        found = self.addresses.get(name)
        found = found.pop(0) if found and isinstance(found[0], list) else found
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in found
        ]

    async def getnameinfo(self, sockaddr, flags):
        raise NotImplementedError


@pytest.fixture
async def names():
    """Make hosts known: `names({"example.test": ["127.0.0.1"]})`; a list of lists gives each answer once."""
    set_names = []

    def names(addresses):
        resolver = Names(addresses)
        trio.socket.set_custom_hostname_resolver(resolver)
        set_names.append(resolver)
        return resolver

    yield names
    trio.socket.set_custom_hostname_resolver(None)


@pytest.fixture
def queue_with():
    """`async with queue_with({"max_body": 10}) as queue`: a queue whose table `[http]` this is."""

    def queue_with(table=None, location="memory://", **options):
        settings = Settings(sections={"http": table or {}})
        return open_queue(location, settings=settings, plugins=load_plugins(OTHERS), workers=50, **options)

    return queue_with
