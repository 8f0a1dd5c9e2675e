"""Replies of a hostile Memcached or proxy, on the connection itself, without a network.

Commands of all kinds are sent one after another, and their true replies are changed before they
arrive, in pieces of any size. Each command then has its true result, or it fails.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_members.lease_cache.commands import Command, Gets, Held, Put, PutMany
from tornado_members.lease_cache.connection import MemcachedConnection
from tornado_members.lease_cache.errors import NodeUnavailable
from tornado_members.lease_cache.get_commands import Get, GetEntries, entry_lines_in
from tornado_members.lease_cache.key_list import KeyList
from tornado_members.lease_cache.simple_commands import Increments, OneLine

ENTRY = b"4 V a e\nx\n1 t"  # as GetEntries expects it


class Exchange(NamedTuple):
    """A command, its true reply, and its true result."""

    command: Callable[[], Command[Any]]
    reply: bytes
    result: Any


def _values(found: dict[bytes, bytes]) -> bytes:
    return b"".join(b"VALUE %b 0 %d\r\n%b\r\n" % (k, len(v), v) for k, v in found.items())


EXCHANGES = [
    Exchange(lambda: Get([b"a", b"b"]), b"END\r\n", {}),
    *(
        Exchange(lambda: Get([b"a", b"b"]), _values(found) + b"END\r\n", found)
        for found in ({b"a": b"1"}, {b"a": b"END\r\n", b"b": b"NF O1\r\n"}, {b"b": b""})
    ),
    Exchange(
        lambda: GetEntries(KeyList.of(b"", [b"a"])),
        _values({b"a": ENTRY}) + b"END\r\n",
        entry_lines_in(_values({b"a": ENTRY}) + b"END\r\n", 1),
    ),
    Exchange(lambda: Gets([b"a", b"b"]), b"MN\r\n", {}),
    Exchange(
        lambda: Gets([b"a", b"b"]),
        b"VA 4 ka c7 f0 t9\r\nMN\r\n\r\nVA 1 kb c8 f0 t-1\r\n2\r\nMN\r\n",
        {b"a": Held(b"MN\r\n", 7, 9), b"b": Held(b"2", 8, None)},
    ),
    Exchange(
        lambda: PutMany([Put(b"a", b"1", 60), Put(b"b", b"", 0, 7)]), b"STORED\r\nNF\r\n", [1, 0]
    ),
    Exchange(
        lambda: PutMany([Put(b"a", b"1", 60, wants_token=True), Put(b"b", b"2", 60)]),
        b"STORED\r\nVA 1 ka c9 f0 t60\r\n1\r\nMN\r\nNOT_STORED\r\n",
        [9, 0],
    ),
    Exchange(
        lambda: PutMany([Put(b"a", b"1", 60)]),
        b"SERVER_ERROR out of memory storing object\r\n",
        [None],
    ),
    Exchange(
        lambda: Increments({b"a": 1, b"b": 1, b"c": 1}, 60),
        b"VA 1\r\n7\r\nCLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
        b"VA 2\r\n10\r\n",
        {b"a": 7, b"c": 10},
    ),
    Exchange(lambda: OneLine(b"delete a\r\n"), b"DELETED\r\n", b"DELETED"),
    Exchange(lambda: OneLine(b"delete a\r\n"), b"NOT_FOUND\r\n", b"NOT_FOUND"),
    Exchange(lambda: OneLine(b"version\r\n"), b"VERSION 1.6.18\r\n", b"VERSION 1.6.18"),
]


class _Server:
    address, host_port, timeout = "model:1", ("model", 1), 3600.0
    last_reply_at, failures, longest_gap = float("-inf"), 0, float("inf")

    def on_return(self, _sent_at: float) -> None: ...
    def connection_broken(self, _error: NodeUnavailable, _sent_at: float) -> None: ...


class _Transport(asyncio.Transport):
    def write(self, data: Any) -> None: ...
    def abort(self) -> None: ...


class _Connection(MemcachedConnection):
    async def _connect(self) -> None: ...


async def _results(
    exchanges: Sequence[Exchange], received: bytes, cuts: Sequence[int]
) -> list[Any]:
    """Send the commands, and receive these bytes; return the results, or the exceptions.

    Last is True if the bytes ended the connection.
    """
    connection = _Connection(_Server())
    connection.connection_made(_Transport())
    sent = []
    for exchange in exchanges:
        sent.append((connection.send(command := exchange.command()), command))
        connection._flush()
    at = 0
    for cut in (*cuts, len(received)):
        connection.data_received(received[at : at + cut])
        at += cut
    has_ended = connection.is_closed
    connection.close()
    results = await asyncio.gather(*(future for future, _ in sent), return_exceptions=True)
    await asyncio.sleep(0)
    for result in results:
        assert not isinstance(result, BaseException) or type(result) is NodeUnavailable
    return [*results, has_ended]


def _true_lines(exchanges: Sequence[Exchange]) -> list[list[bytes]]:
    """Return the pieces of each reply between which another reply may be inserted."""
    return [
        [*exchange.reply.splitlines(keepends=True), b"NF O%d\r\n" % number]
        for number, exchange in enumerate(exchanges)
    ]


_exchanges = st.lists(st.sampled_from(EXCHANGES), min_size=1, max_size=5)
_cuts = st.lists(st.integers(1, 40), max_size=12)


def _check(exchanges: Sequence[Exchange], results: Sequence[Any]) -> None:
    """Require true results, which only failures follow."""
    failed = False
    for exchange, result in zip(exchanges, results, strict=True):
        failed = failed or isinstance(result, NodeUnavailable)
        assert isinstance(result, NodeUnavailable) if failed else result == exchange.result


@given(_exchanges, _cuts)
def test_true_replies_are_read_in_any_pieces(exchanges: list[Exchange], cuts: list[int]) -> None:
    received = b"".join(line for lines in _true_lines(exchanges) for line in lines)
    results = asyncio.run(_results(exchanges, received, cuts))
    assert results == [*(exchange.result for exchange in exchanges), False]


@given(_exchanges, _cuts, st.data())
def test_reply_too_many_anywhere_changes_no_result(
    exchanges: list[Exchange], cuts: list[int], data: st.DataObject
) -> None:
    """A proxy repeats or invents a reply, with or without the number after it."""
    lines = _true_lines(exchanges)
    flat = [line for reply in lines for line in reply]
    too_many = data.draw(
        st.one_of(
            st.sampled_from(lines).map(b"".join),
            st.sampled_from([exchange.reply for exchange in EXCHANGES]),
            st.integers(0, 999).map(lambda number: b"NF O%d\r\n" % number),
        )
    )
    at = data.draw(st.integers(0, len(flat)))
    received = b"".join([*flat[:at], too_many, *flat[at:]])
    *results, has_ended = asyncio.run(_results(exchanges, received, cuts))
    _check(exchanges, results)
    assert has_ended


@given(_exchanges, _cuts, st.data())
def test_reply_that_is_cut_or_missing_changes_no_result(
    exchanges: list[Exchange], cuts: list[int], data: st.DataObject
) -> None:
    lines = _true_lines(exchanges)
    whole = [b"".join(reply) for reply in lines]
    del whole[data.draw(st.integers(0, len(whole) - 1))]
    received = b"".join(whole)
    received = received[: data.draw(st.integers(0, len(received)))]
    *results, _ = asyncio.run(_results(exchanges, received, cuts))
    _check(exchanges, results)


HOSTILE = [
    b"VA \r\n", b"VA 1", b"VA 99999999 ka c1 f0 t1\r\n", b"VA 99999999999999999999 ka c1 f0 t1\r\n",
    b"VA -1 ka c1 f0 t1\r\n", b"VA 1 kb c1 f0\r\nx\r\n", b"VA 1 k\x00 c1 f0 t1\r\nx\r\n",
    b"VA 1 ka c99999999999999999999999 f0 t1\r\nx\r\n", b"VA 1 ka c1 f0 t1\r\nxx\r\n",
    b"VALUE a 0 1048577\r\n", b"VALUE b 0 99999999\r\n", b"VALUE a 0 1 7\r\n",
    b"VALUE a 0 -1\r\n\r\n", b"VALUE c 0 1\r\nx\r\n", b"VA 2\r\n7\r\n",
    b"VALUE  0 1\r\nx\r\n", b"\x00" * 9, b"\r\n", b"\n", b"x" * 3000, b"NF O", b"NF O1000\r\n",
    b"VA 2\r\n-1\r\n", b"VA 1\r\n\xb2\r\n", b"VA 20\r\n99999999999999999999\r\n", b"VA 0\r\n\r\n",
    b"ERROR\r\n", b"SERVER_ERROR \r\n", b"CLIENT_ERROR bad data chunk\r\n", b"HD O1\r\n", b"EN\r\n",
]  # fmt: skip


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda exchange: exchange.reply[:20].decode())
def test_hostile_reply_fails_its_command_and_those_behind_it(exchange: Exchange) -> None:
    for hostile in HOSTILE:
        received = hostile + exchange.reply + b"NF O0\r\nEND\r\nNF O1\r\n"
        *results, has_ended = asyncio.run(_results([exchange, EXCHANGES[0]], received, []))
        assert [type(result) for result in results] == 2 * [NodeUnavailable], hostile
        assert has_ended, hostile


@given(_exchanges, _cuts, st.data())
def test_any_bytes_raise_nothing_but_node_unavailable(
    exchanges: list[Exchange], cuts: list[int], data: st.DataObject
) -> None:
    received = bytearray(b"".join(line for lines in _true_lines(exchanges) for line in lines))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(received) - 1))
        received[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=6))
    asyncio.run(_results(exchanges, bytes(received), cuts))
