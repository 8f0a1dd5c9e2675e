"""Send the same bytes, cut at random places, to http1 and to Tornado's HTTP server.

Both serve the same application, which responds with the request as it was parsed. Each difference
must be on the list `DIFFERENCES`, with a reason.

    python -m tools.differential --seconds 60 [--seed N]
"""

import argparse
import asyncio
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from logging import CRITICAL, getLogger
from typing import NamedTuple

from tests.support.http1 import (
    Address,
    Response,
    connected,
    echo,
    parse_responses,
    serving,
    serving_tornado,
    turns,
)

_QUIET_TURNS = 25  # turns of the loop without a byte, after which no more bytes are expected
_SPECIAL = [b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b",", b";", b"\x7f", b"\xff", b"0"]


class Generator:
    """Generates streams of requests: well-formed, odd and broken ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def stream(self) -> tuple[bytes, list[int]]:
        """Return some bytes, and the positions at which to cut them."""
        chance = self._random
        data = b"".join(self._request() for _ in range(chance.choice([1, 1, 2, 3, 5])))
        for _ in range(chance.choice([0, 0, 0, 1, 1, 2])):
            data = self._mutated(data)
        number = min(len(data), chance.choice([0, 1, 2, 5, 20]))
        return data, sorted(chance.sample(range(len(data)), number))

    def _request(self) -> bytes:
        chance = self._random
        methods = [b"GET"] * 4 + [b"POST", b"PUT", b"OPTIONS", b"FOO", b"DELETE"]
        method = self._mostly(methods, [b"get", b"PRI", b"F(O", b"", b"PROPFIND"])
        paths = [b"/", b"/a?b=c", b"/stream", b"/stream/d", b"/%41"]
        target = self._mostly(
            paths, [b"*", b"http://y/z", b"x", b"/\xc3\xa9", b"//", b"/#f", b"x:1"]
        )
        version = self._mostly([b"HTTP/1.1"] * 9 + [b"HTTP/1.0"], [b"HTTP/1.2", b"HTTP/2.0", b""])
        headers = [self._mostly([b"Host: x"], [b"Host: x:1", b"Host: x y", b"A: b", b"Host: x,y"])]
        others = [b"A: b", b"A:c", b"Connection: keep-alive", b"C:  d ", b"E:", b"F: \xe9"]
        headers += chance.choices(others, k=chance.choice([0, 1, 3]))
        headers += chance.choices(
            [b"Connection: close", b"Expect: 100-continue", b"Upgrade: x\r\nConnection: upgrade"],
            k=chance.random() < 0.15,
        )
        length_headers, body = self._body()
        headers += length_headers
        chance.shuffle(headers)
        end = self._mostly([b"\r\n"], [b"\n"], 0.02)
        return end.join([b" ".join([method, target, version]), *headers, b"", b""]) + body

    def _body(self) -> tuple[list[bytes], bytes]:
        chance = self._random
        content = chance.choice(
            [b"", b"hello", b"a\r\n\r\nb", b"GET / HTTP/1.1\r\n\r\n", b"x" * 500]
        )
        which = chance.random()
        if which < 0.5:
            return [], b""
        if which < 0.75:
            lengths = [b"%d" % len(content)]
            odd = [b"+5", b"5, 5", b"1", b"", b"0x5", b"-1", b"99999", b"05"]
            headers = [b"Content-Length: " + self._mostly(lengths, odd)]
            if chance.random() < 0.02:
                headers.append(b"Transfer-Encoding: chunked")
            return headers, content
        coding = self._mostly(
            [b"chunked", b"Chunked"], [b"gzip, chunked", b"identity", b"chunked,"]
        )
        return [b"Transfer-Encoding: " + coding], b"".join(self._chunks(content))

    def _chunks(self, content: bytes) -> Iterator[bytes]:
        chance = self._random
        while content:
            size = chance.randint(1, len(content))
            piece, content = content[:size], content[size:]
            extension = self._mostly([b""], [b";a=b", b" ", b";"], 0.05)
            yield b"%x%b\r\n%b\r\n" % (size, extension, piece)
        yield self._mostly(
            [b"0\r\n\r\n"], [b"0\r\nA: b\r\n\r\n", b"0\r\n", b"0\n\n", b"00\r\n\r\n"]
        )

    def _mostly(self, usual: list[bytes], odd: list[bytes], odds: float = 0.04) -> bytes:
        return self._random.choice(odd if self._random.random() < odds else usual)

    def _mutated(self, data: bytes) -> bytes:
        chance = self._random
        at = chance.randrange(len(data) + 1)
        size = chance.choice([0, 1, 1, 2, 10])
        piece = chance.choice([b"", chance.choice(_SPECIAL), bytes([chance.randrange(256)])])
        return data[:at] + piece + data[at + size :]


Outcome = list[tuple[str, object]]  # the result of each response, then the state of the connection
REFUSED = ("refused", None)
OPEN = ("open", None)
CLOSED = ("closed", None)
RESET = ("reset", None)


class Difference(NamedTuple):
    """A pattern that the bytes must match, and the reason for the difference."""

    pattern: bytes
    reason: str
    stricter: bool = True  # True if http1 refuses what Tornado accepts; False if it may do anything

    def explains(self, data: bytes, ours: Outcome, theirs: Outcome) -> bool:
        """Return True if this difference may explain the two outcomes."""
        if self.stricter and not _is_stricter(ours, theirs):
            return False
        return re.search(self.pattern, data, re.DOTALL | re.IGNORECASE) is not None


def _same(ours: Outcome, theirs: Outcome) -> bool:
    """Compare outcomes. If Tornado resets a connection, its last responses may be lost."""
    if theirs[-1] == RESET:
        return ours[-1] != OPEN and ours[: len(theirs) - 1] == theirs[:-1]
    return ours == theirs


def _is_stricter(ours: Outcome, theirs: Outcome) -> bool:
    return ours[-1] == REFUSED and ours[:-1] == theirs[: len(ours) - 1]


def _awaits_more(ours: Outcome, theirs: Outcome) -> bool:
    """True if one server refused a request, and the other one may still wait for its end.

    http1 refuses most faults before the request is complete.
    """
    if theirs[-1] == OPEN:
        return _is_stricter(ours, theirs)
    return theirs[-1] == REFUSED and ours == [*theirs[:-1], OPEN]


# Two refusals are equal, whatever their text.
DIFFERENCES: dict[str, Difference] = {
    "bare LF or CR": Difference(
        rb"(?<!\r)\n|\r(?!\n)", "lines end with CR LF (RFC 9112 §2.2); Tornado takes LF until 6.7"
    ),
    "no target": Difference(
        rb"(?:^|\n)[^\r\n :]* (?!/)[^ \r\n]+ HTTP/|(?:^|\n)CONNECT ",
        "an invalid target (RFC 9112 §3.2) is refused; Tornado routes by any text",
    ),
    "absolute targets": Difference(
        rb" https?://", "they are routed by their path (RFC 9112 §3.2.2)", stricter=False
    ),
    "versions": Difference(rb" HTTP/1\.[2-9]", "only HTTP/1.1 and HTTP/1.0 are spoken"),
    "PRI": Difference(rb"PRI ", "the preface of HTTP/2 is refused"),
    "chunked in 1.0": Difference(
        rb"HTTP/1\.0\r\n.*?transfer-encoding", "it is faulty (RFC 9112 §6.1)"
    ),
    "equal lengths": Difference(
        rb"content-length:[^\r\n]*,|content-length:[^\r\n]*\r\n.*content-length:",
        "a length given twice is refused (RFC 9112 §6.3 leaves the choice)",
    ),
    "extensions and trailers": Difference(
        rb"transfer-encoding: *chunked.*(?:[0-9a-f];[!-~]|\n0+\r\n[!-~])",
        "they are read over (RFC 9112 §7.1); Tornado has neither",
        stricter=False,
    ),
    "chunk sizes": Difference(
        rb"chunked\r\n(?:[^\r\n]+\r\n)*\r\n"  # the end of the head
        rb"(?:[0-9a-f]+\r\n[a-z]*\r\n)*[0-9a-f]+(?:[^0-9a-f;\r\n]|\r[^\n])",
        "a malformed size is refused; Tornado closes the connection after some of them",
    ),
    "keep-alive": Difference(
        rb"connection:[^\r\n]*,|connection:[^\r\n]*\r\n.*connection:|HTTP/1\.0.*keep-alive",
        "Connection is a list (RFC 9110 §7.6.1), and HTTP/1.0 is kept alive on request",
        stricter=False,
    ),
    "empty lines": Difference(
        rb"^[\r\n]|\r\n\r\n[\r\n]",
        "one is skipped before a request (RFC 9112 §2.2), and nothing else",
        stricter=False,
    ),
    "unknown methods": Difference(
        rb"(?:^|\n)(?!(?-i:GET|POST|PUT|OPTIONS|DELETE|FOO) )[^\r\n ]+ /stream",
        "refused by a handler before the body: Tornado closes also without a body",
        stricter=False,
    ),
}


def explained(data: bytes, ours: Outcome, theirs: Outcome) -> list[str]:
    """Return the names of the differences that may explain two outcomes."""
    return [name for name, it in DIFFERENCES.items() if it.explains(data, ours, theirs)]


async def outcome(address: Address, data: bytes, cuts: list[int]) -> Outcome:
    """Return what a server responds, and how the connection ends."""
    async with connected(address) as client:
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            if not client.lost.is_set():
                client.transport.write(data[start:end])
                await turns(3)
        seen, quiet = 0, 0
        while quiet < _QUIET_TURNS and not client.ended.is_set():
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(client.received) == seen else 0
            seen = len(client.received)
        found = [_comparable(response) for response in parse_responses(bytes(client.received))]
        ended, reset = client.ended.is_set(), client.reset
    if reset:
        return [*found, RESET]
    if ended and found and found[-1] == REFUSED:
        return found
    return [*found, CLOSED if ended else OPEN]


def _comparable(response: Response) -> tuple[str, object]:
    return ("served", response.body) if response.status == 200 else REFUSED


class Comparison:
    """Compares two servers on one event loop."""

    def __init__(self) -> None:
        self.cases = 0
        self.differing: Counter[str] = Counter()

    async def run(self, seed: int, go_on: Callable[[int], bool]) -> list[str]:
        """Compare while `go_on` returns True; return the differences without a reason."""
        generator = Generator(seed)
        unexplained: list[str] = []
        async with serving(echo()) as (_, own), serving_tornado(echo()) as tornados:
            while go_on(self.cases) and len(unexplained) < 5:
                data, cuts = generator.stream()
                self.cases += 1
                ours, theirs = await self._both(own, tornados, data, cuts)
                if not _same(ours, theirs) and _awaits_more(ours, theirs):
                    data += b"\r\n\r\n"
                    ours, theirs = await self._both(own, tornados, data, cuts)
                if _same(ours, theirs):
                    continue
                reasons = explained(data, ours, theirs)
                self.differing.update(reasons)
                if not reasons:
                    unexplained.append(f"{data!r}\n  own:     {ours}\n  Tornado: {theirs}")
        return unexplained

    async def _both(
        self, own: Address, tornados: Address, data: bytes, cuts: list[int]
    ) -> tuple[Outcome, Outcome]:
        return await asyncio.gather(outcome(own, data, cuts), outcome(tornados, data, cuts))


def compare(seed: int, go_on: Callable[[int], bool]) -> tuple[Comparison, list[str]]:
    """Run Comparison.run on a new event loop."""
    logs = [getLogger("tornado.general"), getLogger("tornado.application")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(CRITICAL)
    try:
        comparison = Comparison()
        return comparison, asyncio.run(comparison.run(seed, go_on))
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def main(argv: list[str]) -> int:
    """Run for the given seconds; return 1 if a difference is not on the list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args(argv)
    end = time.monotonic() + arguments.seconds
    comparison, unexplained = compare(arguments.seed, lambda _: time.monotonic() < end)
    print(f"seed {arguments.seed}: {comparison.cases} streams")
    for name, count in comparison.differing.most_common():
        print(f"  {count:6} {name}: {DIFFERENCES[name].reason}")
    for case in unexplained:
        print(f"a difference that is not on the list:\n  {case}")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
