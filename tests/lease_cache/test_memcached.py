"""The adapter, against a real Memcached and against servers that misbehave on purpose."""

import asyncio
import itertools
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest
import uvloop

from tests.support.memcached import send_to_memcached, start_memcached
from tests.support.waiting import until
from tornado_members.embedded.programs import free_port
from tornado_members.lease_cache.commands import MAX_TTL, Put
from tornado_members.lease_cache.errors import NodeUnavailable
from tornado_members.lease_cache.get_commands import (
    EntryLines,
    Get,
    GetEntries,
    entry_lines_in,
    parse_values,
    values_in,
)
from tornado_members.lease_cache.key_list import KeyList
from tornado_members.lease_cache.memcached import MemcachedNode

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def opened(address: str, **options: Any) -> AsyncIterator[MemcachedNode]:
    node = MemcachedNode(address, **{"timeout": 1.0, **options})
    try:
        yield node
    finally:
        await node.close()


@asynccontextmanager
async def server_that(talk: Talk) -> AsyncIterator[str]:
    """A server that runs `talk` on each connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await talk(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def outcomes(node: MemcachedNode, puts: Sequence[Put]) -> list[bool | None]:
    """Put values; return for each whether it was stored, or None if the server refuses it."""
    return [None if token is None else token > 0 for token in await node.put_many(puts)]


class Frozen(BaseException):
    """The event loop is frozen."""


@contextmanager
def no_freeze() -> Iterator[None]:
    """Interrupt a frozen event loop, which no time-out of its own could do."""

    def fail(_number: int, _frame: object) -> None:
        raise Frozen

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, 15, 0.2)  # repeatedly, since each task may spin
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


async def test_node_supports_every_command(address: str) -> None:
    async with opened(address) as node:
        assert await node.get_many([b"a", b"b"]) == {}
        assert await node.gets_many([b"a"]) == {}
        await node.set(b"a", b"1", 60)
        added = [Put(b"a", b"2", 60), Put(b"b", b"\r\nEND\r\n", 60)]
        assert await outcomes(node, added) == [False, True]
        assert await node.get_many([b"a", b"b", b"c", b"a"]) == {b"a": b"1", b"b": b"\r\nEND\r\n"}
        value, token, seconds_left = (await node.gets_many([b"a"]))[b"a"]
        assert (value, seconds_left) in [(b"1", 60), (b"1", 59)]
        assert await outcomes(node, [Put(b"a", b"3", 60, token)]) == [True]
        assert await outcomes(node, [Put(b"a", b"4", 60, token)]) == [False]
        assert await node.delete(b"a") is True
        assert await node.delete(b"a") is False
        assert await outcomes(node, [Put(b"a", b"5", 60, token)]) == [False]
        assert await node.get_many([]) == {}
        assert await node.increment_many({b"n": 1}, 60) == {b"n": 1}
        assert await node.increment_many({b"n": 5, b"m": 2}, 60) == {b"n": 6, b"m": 2}


async def test_get_ignores_a_value_with_foreign_flags(address: str) -> None:
    assert send_to_memcached(address, b"set flagged 7 60 4\r\njunk\r\n") == b"STORED\r\n"
    async with opened(address) as node:
        for _ in range(5):
            assert await node.get_many([b"flagged", b"a"]) == {b"flagged": b""}
        value, token, _ = (await node.gets_many([b"flagged"]))[b"flagged"]
        assert value == b""
        assert await outcomes(node, [Put(b"flagged", b"ours", 60, token)]) == [True]
        assert await node.get_many([b"flagged"]) == {b"flagged": b"ours"}
        assert not node.is_unavailable


async def test_deadline_excludes_lag_of_the_event_loop(address: str) -> None:
    async with opened(address, timeout=0.1) as node:
        for _ in range(4):
            command = asyncio.ensure_future(node.get_many([b"a"]))
            await asyncio.sleep(0)
            time.sleep(0.3)  # noqa: ASYNC251  # the loop is to be busy  # the reply arrives, but the loop is blocked
            assert await command == {}
        assert not node.is_unavailable


async def test_command_that_waits_for_the_replies_to_others_does_not_fail(address: str) -> None:
    async with opened(address, timeout=0.1) as node:
        values = await asyncio.gather(*(node.get_many([b"a"]) for _ in range(1000)))
        assert values == [{}] * 1000
        assert not node.is_unavailable


async def test_get_many_and_put_many_at_once(address: str) -> None:
    async with opened(address) as node:
        keys = [b"key%d" % i for i in range(1000)]
        assert await outcomes(node, [Put(key, b"1", 60) for key in keys]) == 1000 * [True]
        assert await outcomes(node, [Put(keys[0], b"2", 60), Put(b"new", b"2", None)]) == [
            False,
            True,
        ]
        found = await node.gets_many([*keys, b"unknown", keys[0]])
        assert list(found) == keys
        tokens = {key: held.token for key, held in found.items()}
        await node.set(keys[1], b"other", 60)
        puts = [
            Put(keys[0], b"\r\nEND\r\n", 60, tokens[keys[0]]),
            Put(keys[1], b"late", 60, tokens[keys[1]]),
            Put(keys[2], b"", 0, tokens[keys[2]]),
            Put(b"unknown", b"", 60, 7),
        ]
        assert await outcomes(node, puts) == [True, False, True, False]
        expected = {keys[0]: b"\r\nEND\r\n", keys[1]: b"other", keys[3]: b"1"}
        assert await node.get_many(keys[:4]) == expected
        assert await outcomes(node, [Put(keys[2], b"again", 60)]) == [True]
        assert await outcomes(node, []) == []
        assert await node.gets_many([]) == {}


async def test_batch_of_large_values_is_stored_and_read(address: str) -> None:
    values = {b"key-%d" % number: b"%d" % number * 6000 for number in range(1000)}  # 17 MB

    async def store_and_read() -> None:
        async with opened(address) as node:
            assert all(await outcomes(node, [Put(k, v, 60) for k, v in values.items()]))
            assert await node.get_many([*values]) == values

    # uvloop receives megabytes in one turn of the loop.
    await asyncio.to_thread(uvloop.run, store_and_read())


async def test_large_reply_may_take_longer_than_one_deadline() -> None:
    value = b"x" * 100_000
    items = [b"VALUE %d 0 100000\r\n%b\r\n" % (number, value) for number in range(10)]
    talk = await reply(b"".join(items) + b"END\r\n", size=100_000, pause=0.1)
    async with server_that(talk) as address, opened(address, timeout=0.3) as node:
        assert len(await node.get_many([b"%d" % number for number in range(10)])) == 10


async def test_put_that_the_server_refuses_is_not_a_failure(address: str) -> None:
    async with opened(address) as node:
        for _ in range(5):
            puts = [Put(b"a", b"x" * 2_000_000, 60), Put(b"b", b"1", 60)]
            assert (await node.put_many(puts))[0] is None
        assert await node.get_many([b"a", b"b"]) == {b"b": b"1"}
        assert not node.is_unavailable


@pytest.mark.parametrize("size", [60, 900_000])
async def test_command_that_a_full_server_refuses_is_not_a_failure(size: int) -> None:
    """A server with -M evicts nothing. It refuses a value of several chunks in other words."""
    process, address = await start_memcached(None, "-M", "-m", "2")
    try:
        async with opened(address) as node:
            numbers, stored = itertools.count(), True
            while stored:
                values = {b"%060d" % next(numbers): b"x" * size for _ in range(1 + 30_000 // size)}
                done = await outcomes(node, [Put(key, value, 60) for key, value in values.items()])
                assert False not in done
                stored = None not in done
            if size == 60:  # counters of as many bytes are in the same slab class
                counters = {b"%0115d" % number: 1 for number in range(3)}
                assert await node.increment_many(counters, 60) == {}
            assert b"%060d" % 0 in await node.get_many([b"%060d" % 0])
            assert node.failures == 0
    finally:
        process.kill()
        process.wait()


async def test_increment_of_a_value_that_is_not_a_number_is_not_a_failure(address: str) -> None:
    async with opened(address) as node:
        await node.set(b"text", b"text", 60)
        await node.set(b"flagged", b"", 60)
        for count in (1, 2, 3, 4):
            amounts = {b"a": 1, b"text": 1, b"b": 1, b"flagged": 1}
            assert await node.increment_many(amounts, 60) == {b"a": count, b"b": count}
        assert node.failures == 0


async def test_put_that_the_server_refuses_leaves_the_value_of_another_client(
    address: str,
) -> None:
    large = b"x" * 2_000_000
    async with opened(address) as node:
        await node.set(b"a", b"tombstone", 60)
        token = (await node.gets_many([b"a"]))[b"a"].token
        puts = [Put(b"a", large, 60), Put(b"a", large, 60, token), Put(b"a", large, 60, token - 1)]
        for put in (*puts, *(put._replace(wants_token=True) for put in puts)):
            assert await node.put_many([put]) == [None]
            assert await node.get_many([b"a"]) == {b"a": b"tombstone"}


async def test_put_returns_the_token_that_replaces_its_value(address: str) -> None:
    async with opened(address) as node:
        (token,) = await node.put_many([Put(b"a", b"1", 60, wants_token=True)])
        assert token == (await node.gets_many([b"a"]))[b"a"].token
        (second,) = await node.put_many([Put(b"a", b"2", 60, token, wants_token=True)])
        assert second not in (0, token)
        assert await node.put_many([Put(b"a", b"3", 60, token, wants_token=True)]) == [0]
        assert await node.put_many([Put(b"a", b"3", 60, wants_token=True)]) == [0]
        assert await outcomes(node, [Put(b"a", b"", 0, second)]) == [True]


async def test_put_returns_no_token_of_the_value_of_another_client() -> None:
    """Another client replaced the value before the server reached the question for the token."""
    answers = b"STORED\r\nVA 9 ka c7 f0 t9\r\ntombstone\r\nMN\r\n", b"STORED\r\nMN\r\n"
    for answer in answers:
        talk = await reply(answer, then=3)
        async with server_that(talk) as address, opened(address) as node:
            assert await node.put_many([Put(b"a", b"lease", 60, wants_token=True)]) == [0]


async def test_gets_reports_no_seconds_left_without_a_time_to_live(address: str) -> None:
    async with opened(address) as node:
        assert await outcomes(node, [Put(b"a", b"1", None)]) == [True]
        assert (await node.gets_many([b"a"]))[b"a"].seconds_left is None


@pytest.mark.parametrize(
    "put",
    [
        Put(b"a b", b"", 60),
        Put(b"a", b"", 0),
        Put(b"a", b"", -1, 7),
        Put(b"a\r\n", b"", 0, 7),
        Put(b"a", b"", MAX_TTL + 1, 7),
    ],
)
async def test_put_that_is_invalid_never_reaches_the_server(address: str, put: Put) -> None:
    async with opened(address) as node:
        with pytest.raises(ValueError, match="is not a valid"):
            await node.put_many([put])


async def test_entries_live_as_long_as_their_time_to_live(address: str) -> None:
    async with opened(address) as node:
        await node.set(b"short", b"1", 1)
        await node.set(b"long", b"1", MAX_TTL)
        await asyncio.sleep(2.1)
        assert await node.get_many([b"short", b"long"]) == {b"long": b"1"}


@pytest.mark.parametrize(
    "key", [b"", b"a b", b"a\r\nflush_all", b"a\n", b"a\x00", "ä".encode(), b"k" * 251]
)
async def test_invalid_key_never_reaches_the_server(address: str, key: bytes) -> None:
    async with opened(address) as node:
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: node.get_many([key]),
            lambda: node.gets_many([key]),
            lambda: node.set(key, b"", 1),
            lambda: node.put_many([Put(key, b"", 1)]),
            lambda: node.put_many([Put(key, b"", 1, 1)]),
            lambda: node.increment_many({key: 1}, 1),
            lambda: node.delete(key),
        ]
        for call in calls:
            with pytest.raises(ValueError, match="is not a valid key"):
                await call()


@pytest.mark.parametrize("ttl", [0, -1, MAX_TTL + 1, 1_800_000_000])
async def test_invalid_time_to_live_is_refused(address: str, ttl: int) -> None:
    async with opened(address) as node:
        with pytest.raises(ValueError, match="not a valid time to live"):
            await node.set(b"a", b"", ttl)


async def test_set_that_the_server_refuses_is_an_error(address: str) -> None:
    async with opened(address) as node:
        with pytest.raises(NodeUnavailable):
            await node.set(b"a", b"x" * 2_000_000, 60)
        await node.set(b"a", b"y", 60)
        assert await node.get_many([b"a"]) == {b"a": b"y"}


@pytest.mark.parametrize("rounds", [250, pytest.param(1000, marks=pytest.mark.exhaustive)])
async def test_cancelled_command_never_leaves_its_reply_to_others(
    address: str, rounds: int
) -> None:
    """The next command must not receive the reply to a command whose caller was cancelled."""
    chance = random.Random(7)
    async with opened(address) as node:
        keys = [b"key%d" % i for i in range(50)]
        for key in keys:
            await node.set(key, b"value of " + key, 60)

        async def one(key: bytes) -> None:
            value = b"value of " + key
            match chance.randrange(4):
                case 0:
                    assert (await node.get_many([key]))[key] == value
                case 1:
                    assert (await node.gets_many([key]))[key][0] == value
                case 2:  # of a lock that another client holds, and of one that is free
                    puts = [Put(key, b"", 60), Put(b"%x" % chance.getrandbits(64), b"", 60)]
                    assert await outcomes(node, puts) == [False, True]
                case 3:
                    counter = b"%x" % chance.getrandbits(64)
                    assert await node.increment_many({counter: 7}, 60) == {counter: 7}

        cancelled = done = 0
        for _ in range(rounds):
            tasks = [asyncio.create_task(one(chance.choice(keys))) for _ in range(20)]
            for _ in range(4):  # turns of the event loop: before the request, and before the reply
                await asyncio.sleep(0)
                for task in chance.sample(tasks, 2):
                    task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                assert result is None or isinstance(result, asyncio.CancelledError), result
                cancelled += result is not None
                done += result is None
        assert cancelled > rounds
        assert done > 10 * rounds
        assert not node.is_unavailable


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.exhaustive)])
async def test_server_killed_under_load_does_not_freeze_the_loop(times: int) -> None:
    """At the end of the stream, a command must fail instead of waiting for the rest of a reply."""
    for kill in (signal.SIGKILL, signal.SIGTERM) * times:
        async with AsyncExitStack() as stack:
            process, address = await start_memcached()
            stack.callback(process.wait)
            stack.callback(process.kill)
            node = await stack.enter_async_context(opened(address, timeout=0.5))
            value = b"x" * 100_000

            async def write(i: int, node: MemcachedNode = node, value: bytes = value) -> None:
                with suppress(NodeUnavailable):
                    while True:
                        await node.set(b"key%d" % i, value, 60)

            stack.enter_context(no_freeze())
            writers = asyncio.gather(*(write(i) for i in range(16)))
            await asyncio.sleep(0.1)
            process.send_signal(kill)
            await writers


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return the next request, and the echo that belongs after its reply."""
    request = b""
    while echo := await reader.readline():
        if echo.startswith(b"md lease_cache:echo "):
            return request, b"NF " + echo.split()[2] + b"\r\n"
        request += echo
    raise ConnectionError("the client has disconnected")


async def reply(
    content: bytes | None, *, size: int = 1_000_000, pause: float = 0.0, then: float = 0.0
) -> Talk:
    """Answer any command with these bytes, in pieces of `size` bytes, then hang up."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, echo = await read_request(reader)
        whole = b"" if content is None else content + echo
        for start in range(0, len(whole), size):
            writer.write(whole[start : start + size])
            await writer.drain()
            await asyncio.sleep(pause)
        await asyncio.sleep(then)

    return talk


NONSENSE: list[bytes] = [
    b"",
    b"\r\n",
    b"VA",
    b"VA\r\n",
    b"VA 1\r\nx\r\n",
    b"VA -5 ka c1 f0 t9\r\n",
    b"VA 10 ka c1 f0 t9\r\nshort\r\n",
    b"VA 99999999999 ka c1 f0 t9\r\nx\r\n",
    b"VALUE",
    b"VALUE\r\n",
    b"VALUE a\r\n",
    b"VALUE a 0\r\n",
    b"VALUE a 0 1 1\r\nx\r\nEND\r\n",
    b"VALUE a 0 x\r\n",
    b"VALUE a 0 -5\r\nEND\r\n",
    b"VALUE a 0 1\r\nlonger than that\r\nEND\r\n",
    b"VALUE a 0 10\r\nshort\r\nEND\r\n",
    b"VALUE a 0 99999999999\r\nx\r\nEND\r\n",
    b"VALUE a 0 1\r\nx\r\nVALUE a 0 1\r\ny\r\nEND\r\n",
    b"VALUE a 0 1\r\nx\r\n",
    b"END",
    b"ERROR\r\n",
    b"SERVER_ERROR out of memory\r\n",
    b"\xff\xfe\x00\x01\r\n",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"x" * 100_000 + b"\r\n",
    b"x" * 3_000_000,
]


def test_values_of_a_reply_are_parsed_in_one_pass_whichever_keys_have_one() -> None:
    keys = [b"a", b"ab", b"abc", b"b", b"bc"]
    for present in itertools.product([False, True], repeat=len(keys)):
        values = {key: key * 3 for key, has_value in zip(keys, present, strict=True) if has_value}
        items = [b"VALUE %b 0 %d\r\n%b\r\n" % (key, len(one), one) for key, one in values.items()]
        assert values_in(b"".join(items) + b"END\r\n", keys) == values
        assert len(items) < 2 or values_in(b"".join([*items[::-1], b"END\r\n"]), keys) is None
        for i, item in enumerate(items):
            for wrong in (
                item.replace(b" 0 ", b" 1 "),  # a value of another program
                item.replace(b" 0 ", b" 0 1"),
                item.replace(b"VALUE", b"VALUES"),
                item.replace(b"VALUE ", b"VALUE x"),
                item[:-1],
                item + item,
                item + b"END\r\n",
            ):
                malformed = b"".join([*items[:i], wrong, *items[i + 1 :], b"END\r\n"])
                assert values_in(malformed, keys) is None, malformed


async def test_reply_is_divided_into_lines_if_it_has_three_for_each_value() -> None:
    values = {b"a1": b"one\n{}\nlast", b"a2": b"\n\n", b"a3": b"two\n4 \rx\n1 "}
    items = [b"VALUE %b 0 %d\r\n%b\r\n" % (key, len(one), one) for key, one in values.items()]
    reply = b"".join(items) + b"END\r\n"
    lines = entry_lines_in(reply, 3)
    assert lines is not None
    assert (lines.firsts, lines.seconds) == (b"one\n\ntwo\n", [b"{}", b"", b"4 \rx"])
    assert lines.lasts == [b"last\r", b"\r", b"1 \r"]
    assert [*lines.values()] == [*values.values()]
    assert parse_values(reply, KeyList.of(b"a", [b"1", b"2", b"3"])) == values
    assert entry_lines_in(reply, 2) is entry_lines_in(reply, 4) is None
    for i, item in enumerate(items):
        for wrong in (
            b"",
            item.replace(b"\n", b" ", 2),
            item[:-1],
            item + item,
            item + b"END\r\n",
        ):
            malformed = b"".join([*items[:i], wrong, *items[i + 1 :], b"END\r\n"])
            assert entry_lines_in(malformed, 3) is None, malformed


async def test_values_of_other_lengths_than_announced_are_malformed() -> None:
    keys = KeyList.of(b"a", [b"1", b"2"])
    for first, second in (b"1\n2", b"3\n4\n5\n6"), (b"1", b"2"):
        for size in (1, 2, 50):
            reply = b"VALUE a1 0 %d\r\n%b\r\nVALUE a2 0 %d\r\n%b\r\nEND\r\n"
            if size != len(first):
                with pytest.raises(ConnectionError):
                    parse_values(reply % (size, first, len(second), second), keys)
        whole = reply % (len(first), first, len(second), second)
        assert parse_values(whole, keys) == {b"a1": first, b"a2": second}


@pytest.mark.parametrize("kind", [Get, lambda keys: GetEntries(KeyList.of(b"", keys[::2]))])
@pytest.mark.parametrize("value", [b"1\n2\n3", b"1", b"a\r\nEND\r\nb", b"", b"\r\nVALUE c 0 1\r\n"])
async def test_reply_is_read_in_any_two_pieces_and_ends_before_the_next_one(
    value: bytes, kind: Callable[[Sequence[bytes]], Get]
) -> None:
    item = b"VALUE %%b 0 %d\r\n%b\r\n" % (len(value), value)
    replies = item % b"a" + item % b"c" + b"END\r\n", b"STORED\r\nEND\r\n"
    data = b"".join(replies)
    for first in range(len(data)):
        get = kind([b"a", b"b", b"c"])
        parsed = get.read(data[:first], 0) if first else 0
        end = parsed if get.is_complete else parsed + get.read(data[parsed:], 0)
        values: Any = get.result
        if isinstance(values, EntryLines):
            values = dict(zip([b"a", b"c"], values.values(), strict=True))
        assert (end, values) == (len(replies[0]), {b"a": value, b"c": value}), first


@pytest.mark.parametrize("nonsense", NONSENSE)
async def test_malformed_reply_is_an_error_within_the_deadline(nonsense: bytes) -> None:
    talk = await reply(nonsense, then=3)
    async with server_that(talk) as address, opened(address, timeout=0.2) as node:
        for call in (
            node.get_many([b"a"]),
            node.delete(b"a"),
            node.increment_many({b"a": 1}, 60),
            node.gets_many([b"a"]),
            node.put_many([Put(b"a", b"", 60)]),
        ):
            async with asyncio.timeout(2.5):  # before the server hangs up
                with pytest.raises(NodeUnavailable):
                    await call


@pytest.mark.parametrize(
    "answered",
    [
        b"VALUE other 0 1\r\nx\r\nEND\r\n",
        b"VALUE a 0 1\r\nx\r\nVALUE other 0 1\r\nx\r\nEND\r\n",
        b"VALUE a 0 3\r\nxEND\r\n",
        b"VALUE a 0 1\r\nx\r\nVALUE a 0 1\r\ny\r\nEND\r\n",
    ],
)
async def test_reply_to_another_request_is_an_error(answered: bytes) -> None:
    talk = await reply(answered, then=1)
    async with server_that(talk) as address, opened(address, timeout=0.2) as node:
        with pytest.raises(NodeUnavailable):
            await node.get_many([b"a", b"b"])


async def test_values_that_look_like_replies_are_read_whole(address: str) -> None:
    values = {
        b"a": b"x\r\nEND\r\n",
        b"b": b"\r\nVALUE c 0 1\r\ny",
        b"c": b"END",
        b"d": b"",
        b"e": b"\r\n",
    }
    async with opened(address) as node:
        for key, value in values.items():
            await node.set(key, value, 60)
        for count in range(1, 6):
            keys = [b"unknown", *[*values][:count], b"unknown-too"]
            assert await node.get_many(keys) == {key: values[key] for key in [*values][:count]}
            assert await node.get_many([*reversed(keys)]) == await node.get_many(keys)


HELD_A = b"VA 4 ka c7 f0 t9\r\nMN\r\n\r\n"  # a value that contains a line end
HELD_B = b"VA 0 kb c8 f5 t-1\r\n\r\n"


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_replies_to_several_keys_may_come_in_pieces(size: int) -> None:
    async def result_of(reply_: bytes, call: Callable[[MemcachedNode], Awaitable[Any]]) -> Any:
        talk = await reply(reply_, size=size, then=1)
        async with server_that(talk) as address, opened(address) as node:
            return await call(node)

    keys = [b"a", b"b", b"c"]
    held = {b"a": (b"MN\r\n", 7, 9), b"b": (b"", 8, None)}
    answer = HELD_A + HELD_B + b"MN\r\n"
    assert await result_of(answer, lambda node: node.gets_many(keys)) == held
    puts = [Put(b"a", b"1", 60), Put(b"b", b"", 0, 7), Put(b"c", b"1", 60), Put(b"d", b"1", 9)]
    answer = b"STORED\r\nNF\r\nSERVER_ERROR out of memory storing object\r\nNOT_STORED\r\n"
    assert await result_of(answer, lambda node: node.put_many(puts)) == [1, 0, None, 0]


@pytest.mark.parametrize(
    "answered", [HELD_A * 2 + b"MN\r\n", HELD_B + b"MN\r\n", b"MN", HELD_A + b"EN\r\n"]
)
async def test_unexpected_held_values_are_an_error(answered: bytes) -> None:
    talk = await reply(answered, then=1)
    async with server_that(talk) as address, opened(address, timeout=0.2) as node:
        with pytest.raises(NodeUnavailable):
            await node.gets_many([b"a"])


@pytest.mark.parametrize("answered", [b"VA 1 kother c1 f0 t9", b"VA 1 ka c1 f0", b"HD ka c1 f0 t9"])
async def test_meta_reply_to_another_request_is_an_error(answered: bytes) -> None:
    talk = await reply(answered + b"\r\nx\r\nMN\r\n", then=1)
    async with server_that(talk) as address, opened(address, timeout=0.2) as node:
        with pytest.raises(NodeUnavailable):
            await node.gets_many([b"a"])


async def test_bytes_after_a_reply_close_the_connection() -> None:
    """The client would read unsolicited bytes as the reply to the next command."""
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            _, echo = await read_request(reader)
            writer.write(b"END\r\n" + echo + b"VALUE a 0 1\r\nx\r\nEND\r\n")

    async with server_that(talk) as address, opened(address) as node:
        for _ in range(3):
            assert await node.get_many([b"a"]) == {}
            await asyncio.sleep(0.01)
    assert connections == 3


@pytest.mark.parametrize(
    ("too_many", "command"),
    [
        (b"STORED\r\n", lambda node: node.put_many([Put(b"a", b"2", 60)])),
        (b"HD\r\n", lambda node: node.put_many([Put(b"a", b"", 0, 1)])),
        (b"END\r\n", lambda node: node.get_many([b"a"])),
        (b"VALUE a 0 3\r\nold\r\nEND\r\n", lambda node: node.get_many([b"a"])),
        (b"MN\r\n", lambda node: node.gets_many([b"a"])),
        (b"VA 1\r\n7\r\n", lambda node: node.increment_many({b"n": 1}, 60)),
        (b"NOT_FOUND\r\n", lambda node: node.delete(b"a")),
    ],
)
async def test_reply_too_many_is_given_to_no_command(
    address: str, too_many: bytes, command: Callable[[MemcachedNode], Awaitable[Any]]
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = address.partition(":")
        replies, requests = await asyncio.open_connection(host, int(port))
        request, echo = await read_request(reader)
        requests.write(request + echo.replace(b"NF", b"md lease_cache:echo"))
        writer.write(too_many + await replies.readuntil(echo))
        requests.close()

    assert send_to_memcached(address, b"set a 0 60 3\r\nnew\r\n") == b"STORED\r\n"
    async with server_that(talk) as proxy, opened(proxy) as node:
        with pytest.raises(NodeUnavailable):
            await command(node)


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
async def test_reply_is_read_wherever_the_network_cuts_it(size: int) -> None:
    values = {b"a": b"x", b"b": b"", b"c": b"VALUE a 0 1\r\nEND\r\n", b"d": b"y" * 300}
    whole = b"".join(b"VALUE %b 0 %d\r\n%b\r\n" % (k, len(v), v) for k, v in values.items())
    whole += b"END\r\n"
    talk = await reply(whole, size=size, then=3)
    async with server_that(talk) as address, opened(address) as node:
        assert await node.get_many([*values, b"e"]) == values


@pytest.mark.parametrize("pause", [0.15, 10.0])
async def test_server_that_dribbles_or_hangs_costs_one_deadline(pause: float) -> None:
    talk = await reply(b"END\r\n", size=1, pause=pause)
    async with server_that(talk) as address, opened(address, timeout=0.2) as node:
        calls = [node.get_many([b"a"]) for _ in range(20)]
        async with asyncio.timeout(3):  # one after the other, they would take four seconds
            results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, NodeUnavailable) for result in results)


async def test_failed_server_gets_no_commands_until_it_recovers() -> None:
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readline()
        writer.write(b"nonsense\r\n")

    async with server_that(talk) as address, opened(address, probe_interval=60) as node:
        for _ in range(100):
            with pytest.raises(NodeUnavailable):
                await node.get_many([b"a"])
    assert connections == 3


async def test_recovered_server_is_used_again() -> None:
    port = free_port()
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(opened(f"127.0.0.1:{port}", probe_interval=0.05))
        for _ in range(3):
            with pytest.raises(NodeUnavailable):
                await node.get_many([b"a"])
        await until(lambda: node.is_unavailable)
        process, _ = await start_memcached(port)
        stack.callback(process.wait)
        stack.callback(process.kill)
        await until(lambda: not node.is_unavailable)
        await node.set(b"a", b"1", 60)
        assert await node.get_many([b"a"]) == {b"a": b"1"}


async def test_server_that_replies_nonsense_to_a_probe_is_probed_again() -> None:
    replies = iter([b"nonsense\r\n"] * 3 + [b"STORED\r\n", b"NOT_FOUND\r\n"])

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request, echo = await read_request(reader)
            usual = b"VERSION 1.6.18\r\n" if request == b"version\r\n" else b"END\r\n"
            writer.write(next(replies, usual) + echo)

    async with server_that(talk) as address, opened(address, probe_interval=0.01) as node:
        for _ in range(3):
            with pytest.raises(NodeUnavailable):
                await node.get_many([b"a"])
        await until(lambda: not node.is_unavailable)
        assert await node.get_many([b"a"]) == {}


async def test_commands_share_a_connection_and_do_not_wait_for_each_other() -> None:
    connections = 0
    requests: list[bytes] = []
    echoes: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while len(requests) < 5:
            request, echo = await read_request(reader)
            requests.append(request)
            echoes.append(echo)
        # The first reply is sent after the last request.
        for request, echo in zip(requests, echoes, strict=True):
            for key in request.split()[1:]:
                writer.write(b"VALUE %b 0 %d\r\n%b\r\n" % (key, len(key), key))
            writer.write(b"END\r\n" + echo)
        await reader.readline()

    async with server_that(talk) as address, opened(address) as node:
        calls = []
        for number in range(5):
            calls += [node.get_many([b"%d" % number]), node.get_many([b"%d-too" % number])]
            await asyncio.sleep(0.05)
        found = await asyncio.gather(*calls)
        for number, (one, other) in enumerate(zip(found[::2], found[1::2], strict=True)):
            assert one == other == {key: key for key in (b"%d" % number, b"%d-too" % number)}
    assert connections == 1
    assert requests[0] == b"get 0 0-too\r\n"


async def test_equal_lists_of_one_turn_share_a_request() -> None:
    requests: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request, echo = await read_request(reader)
            requests.append(request)
            for number, key in enumerate(request.split()[1:]):
                entry = b"%b\n%d\nend" % (key, len(requests) + number)
                writer.write(b"VALUE %b 0 %d\r\n%b\r\n" % (key, len(entry), entry))
            writer.write(b"END\r\n" + echo)

    async with server_that(talk) as address, opened(address) as node:
        same, other = KeyList.of(b"a", [b"1", b"2"]), KeyList.of(b"a", [b"2", b"1"])
        lists = [same, same, other, same]
        calls = [asyncio.ensure_future(node.get_entries([b"e"], keys)) for keys in lists]
        await asyncio.sleep(0)
        calls[0].cancel()  # the others get the reply
        found = (await asyncio.gather(*calls, return_exceptions=True))[1:]
        seconds = [command[1].seconds for command in found]  # type: ignore[index, union-attr]
        assert seconds == [[b"2", b"3"], [b"3", b"4"], [b"2", b"3"]]
        assert requests == [b"get e\r\n", b"get a1 a2\r\n", b"get a2 a1\r\n"]
        await node.get_entries([b"e"], same)  # in a later turn
        assert len(requests) == 5


async def test_put_that_shares_a_request_returns_its_own_results(address: str) -> None:
    async with opened(address) as node:
        await node.set(b"b", b"1", 60)
        puts = [
            [Put(b"a", b"1", 60)],
            [Put(b"b", b"1", 60), Put(b"c", b"1", 60)],
            [Put(b"a", b"", 9)],
        ]
        calls = [node.put_many(some) for some in puts]
        asyncio.ensure_future(calls[1]).cancel()
        first, _, third = await asyncio.gather(*calls, return_exceptions=True)
        assert (first, third) == ([1], [0])
        assert await node.get_many([b"c"]) == {b"c": b"1"}


async def test_broken_reply_fails_the_commands_behind_it_too() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        echoes = [(await read_request(reader))[1] for _ in range(3)]
        first, second, third = [b"VALUE %d 0 1\r\nx\r\nEND\r\n" % i for i in range(3)]
        writer.write(first + echoes[0] + b"nonsense\r\n" + second + echoes[1] + third + echoes[2])
        await reader.readline()

    async with server_that(talk) as address, opened(address) as node:
        calls = []
        for number in range(3):
            calls.append(node.get_many([b"%d" % number]))
            await asyncio.sleep(0.05)
        first, *others = await asyncio.gather(*calls, return_exceptions=True)
        assert first == {b"0": b"x"}
        assert all(isinstance(result, NodeUnavailable) for result in others)


async def test_close_ends_commands_in_flight() -> None:
    async with server_that(await reply(None, then=5)) as address:
        node = MemcachedNode(address, timeout=60)
        waiting = node.get_many([b"a"])
        await asyncio.sleep(0.05)
        await node.close()
        with pytest.raises(NodeUnavailable):
            await waiting
        with pytest.raises(NodeUnavailable):
            await node.get_many([b"a"])


async def stand_still(seconds: float) -> None:
    """Block one turn of the event loop, so that no reply is read in time."""
    time.sleep(seconds)  # noqa: ASYNC251  # the loop is to be busy
    await asyncio.sleep(0)


async def test_deadline_is_extended_by_lag_of_the_event_loop() -> None:
    may_reply = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, echo = await read_request(reader)
        await may_reply.wait()
        writer.write(b"END\r\n" + echo)

    async with server_that(talk) as address, opened(address, timeout=0.05) as node:
        command = node.get_many([b"a"])
        for _ in range(4):
            await stand_still(0.1)
        may_reply.set()
        assert await command == {}


async def test_endless_lag_does_not_hold_a_command_forever() -> None:
    async with (
        server_that(await reply(None, then=5)) as address,
        opened(address, timeout=0.02) as node,
    ):
        command = asyncio.ensure_future(node.get_many([b"a"]))
        for _ in range(30):
            await stand_still(0.03)
        assert isinstance(command.exception(), NodeUnavailable)


async def test_observer_is_called_for_each_failure_and_for_the_reply_after_it(address: str) -> None:
    """Also of a command that is refused after a probe has had its reply, but has not ended."""
    async with opened(address) as node:
        await node.get_many([b"a"])
        failed_at: list[float] = []
        returned_at: list[float] = []
        node.observe(60, on_return=returned_at.append, on_failure=failed_at.append)
        await node.get_many([b"a"])
        assert failed_at == returned_at == []
        node._probing, connection = asyncio.create_task(asyncio.sleep(0)), node._connection
        node._connection = None
        with pytest.raises(NodeUnavailable):
            await node.get_many([b"a"])
        node._probing, node._connection = None, connection
        for _ in range(2):
            await node.get_many([b"a"])
        assert len(failed_at) == len(returned_at) == 1
        assert failed_at < returned_at
