"""Requests leave no objects behind that only the garbage collector can free."""

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.api import Api
from tests.support.wire import AnyServer, bare_connection

# Tornado's own server leaves some.
only_http1 = pytest.mark.parametrize("transport", ["http1"])
ADA = {"name": "Ada Lovelace", "email": "ada@example.org", "phone": "+44 20 7946 0018"}


@contextmanager
def counted_cycles() -> Iterator[Counter[str]]:
    """Count the package's objects that only the garbage collector can free, by type."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        found.update(
            type(garbage).__qualname__
            for garbage in gc.garbage
            if type(garbage).__module__.startswith("tornado_members.")
        )
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@only_http1
async def test_requests_leave_no_reference_cycle(api: Api) -> None:
    await api.create(**ADA)
    conditional, page = {"If-Match": "*"}, "/members?limit=50"
    with counted_cycles() as cycles:
        for _ in range(3):  # a miss, hits by the fast path, handlers, lists and errors
            assert (await api("GET", "/members/1")).code == 200
            assert (await api("GET", "/members/1", headers=conditional)).code == 200
            assert (await api("GET", "/members/2")).code == 404
            assert (await api("GET", page)).code == 200
            assert (await api("PUT", "/members/1", {**ADA, "name": "Ada"})).code == 200
            assert (await api("POST", "/members/lookup", {"memberIds": [1, 2]})).code == 200
            assert (await api("GET", "/members/1", rights=None)).code == 401
    assert cycles == {}


@only_http1
async def test_closed_connection_leaves_no_reference_cycle(http_server: AnyServer) -> None:
    with counted_cycles() as cycles:
        for request in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\nHo", b"\x00"):
            async with bare_connection(http_server) as (reader, writer):
                writer.write(request)
                writer.write_eof()
                await reader.read()
    assert cycles == {}
