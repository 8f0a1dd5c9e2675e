"""No request delays others: a bystander's latency beside hostile input to every parser."""

import base64
import json
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pymongo
import pytest

from tests.support.bystander import Bystander, event_loop_clock
from tests.support.memcached import flush_cache
from tests.support.namespace import namespace_of
from tests.support.service import Command, Service
from tornado_members.embedded.private_servers import PrivateServers

MOST_SECONDS = 0.020
REPEATS = 5  # the best one counts: a real delay occurs each time
HEAD_BYTES = 15 * 1024  # of a hostile header; a header section may have 16 KiB

TOKEN = "{token}"


@dataclass(frozen=True)
class Attack:
    """Bytes to send on a connection."""

    name: str
    request: bytes


def request(
    line: str, headers: dict[str, str] | None = None, body: bytes = b"", *, token: bool = True
) -> bytes:
    """A request that closes its connection, with the token of a writer."""
    fields = {"Host": "members", "Connection": "close", **(headers or {})}
    if token:
        fields.setdefault("Authorization", f"Bearer {TOKEN}")
    if body:
        fields.setdefault("Content-Length", str(len(body)))
        fields.setdefault("Content-Type", "application/json")
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{line} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


def filled(piece: str, size: int, before: str = "") -> str:
    """Return `before`, then `piece` repeated, up to `size` characters."""
    return (before + piece * (size // len(piece)))[:size].rstrip()


PIECES = (",", "a;q=1,")
MORE_PIECES = (
    *('\\"', '"x",'),
    *(";", '"', "1.", " "),
    *("=", "\t;", ",,;", "a,", "a;", "a=", "a/b;", "a/b;q=0.1,", "*/*,", 'W/"', 'W/"1",', '"1" '),
    *("a=b;c,", 'a="\\', 'a="', ".", "0", "-", "(", ":", "1.1.1.1,", "::1,", "[::1]:1,", "é"),
)
# Each header that the service parses, with a request that makes it do so.
HEADERS = {
    "Accept": ("GET /members", ""),
    "Accept-Encoding": ("GET /members", ""),
    "Authorization": ("GET /members", "Bearer "),
    "Cache-Control": ("GET /members/1", ""),
    "Content-Encoding": ("PUT /members/1", ""),
    "Content-Type": ("POST /login", 'application/json; a="'),
    "Cookie": ("GET /members/1", ""),
    "Expect": ("PUT /members/1", ""),
    "Host": ("GET /members/1", ""),
    "If-Match": ("PUT /members/1", '"1", '),
    "If-Modified-Since": ("GET /members/1", "Fri, 27 Nov 2026 "),
    "If-None-Match": ("GET /members/1", '"1", '),
    "If-Unmodified-Since": ("PUT /members/1", "Fri, "),
    "Last-Event-ID": ("GET /members", ""),
    "Origin": ("GET /members/1", "https://"),
    "Prefer": ("GET /members", "count=exact; "),
    "Range": ("GET /docs/swagger-ui-bundle.js", "bytes="),
    "Transfer-Encoding": ("PUT /members/1", "chunked, "),
    "X-Forwarded-For": ("POST /login", ""),
    "X-Request-Id": ("GET /members/1", ""),
    "traceparent": ("GET /members/1", "00-"),
    "tracestate": ("GET /members/1", ""),
}


def header_attacks(pieces: Sequence[str]) -> Iterator[Attack]:
    for name, (line, before) in HEADERS.items():
        body = b"{}" if line.startswith(("PUT", "POST")) else b""
        for piece in pieces:
            value = filled(piece, HEAD_BYTES, before)
            yield Attack(f"{name}: {piece}", request(line, {name: value}, body))
        lines = f"{name}: {filled(pieces[0], 100)}\r\n" * 95
        head = request(line, {"X-Replaced": ""}, body).replace(b"X-Replaced: \r\n", lines.encode())
        yield Attack(f"95 lines of {name}", head)


def chunked(pieces: Sequence[bytes], end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


def framing_attacks() -> Iterator[Attack]:
    """Request lines, header sections, bodies and trailers."""
    close = b"Host: x\r\nConnection: close\r\n\r\n"
    for name, line in {
        "long path": b"GET /" + b"a" * 8000,
        "slashes": b"GET " + b"/" * 8000,
        "escapes": b"GET /members/by-name/" + b"%41" * 2600,
        "marks": b"GET /members/by-name/a" + b"%CC%88%CC%A8" * 650,
        "digits": b"GET /members/" + b"9" * 8000,
        "parameters": b"GET /members?" + b"a&" * 4000,
        "values": b"GET /members?" + b"a=%41&" * 1300,
        "method": b"A" * 8000 + b" /",
        "absolute": b"GET http://" + b"a." * 4000,
        "spaces": b"GET " + b" " * 8000,
    }.items():
        yield Attack(f"request line: {name}", line + b" HTTP/1.1\r\n" + close)
    yield Attack("empty lines", b"\r\n" * 250_000 + request("GET /members"))
    yield Attack("bare line feeds", b"\n" * 100_000)
    yield Attack("4,000 headers", b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 4000 + b"\r\n")
    yield Attack("folded", b"GET / HTTP/1.1\r\nHost: x\r\na: b\r\n" + b" c\r\n" * 3000 + b"\r\n")
    head = request("PUT /members", {"Transfer-Encoding": "chunked"})
    anonymous = request("PUT /members", {"Transfer-Encoding": "chunked"}, token=False)
    login = request("POST /login", {"Transfer-Encoding": "chunked"}, token=False)
    for name, body in {
        "CRLF content": chunked([b"\r\n" * 125_000]),
        "CRLF content in small chunks": chunked([b"\r\n\r\n"] * 10_000),
        "chunks of one byte": chunked([b"x"] * 10_000),
        "long extensions": chunked([b"x"]).replace(b"1\r\n", b"1;" + b"a=b;" * 4000 + b"\r\n"),
        "4 MiB": chunked([b"x" * 65536] * 64),
        "trailers": chunked([b"{}"], b"0\r\n" + b"a: b\r\n" * 2500 + b"\r\n"),
        "endless trailer": chunked([b"{}"], b"0\r\na: " + b"b" * 250_000),
        "leading zeros": b"0" * 250_000,
    }.items():
        yield Attack(f"chunked, {name}", head + body)
        yield Attack(f"chunked, {name}, without a token", anonymous + body)
        yield Attack(f"chunked, {name}, to /login", login + body)
    big = b"\r\n\r\n" * 500_000
    yield Attack("sized, 2 MB", request("PUT /members", body=big))
    yield Attack("sized, 2 MB, without a token", request("PUT /members", body=big, token=False))
    yield Attack("sized, where none is taken", request("GET /members", body=big, token=False))
    yield Attack("pipelined", request("GET /nothing").replace(b"close", b"keep-alive") * 50)


BODY_BYTES = 16 * 1024
OTHER_FIELDS = ("email", "phone")  # checked for less than a name


def json_bodies(fields: Sequence[str] = ("name",)) -> Iterator[tuple[str, bytes]]:
    """Yield hostile bodies: each text as a whole body, and in each of these fields."""
    size = BODY_BYTES - 100
    for name, text in {
        "small values": "[" + "0," * (size // 2) + "0]",
        "small objects": "[" + "{}," * (size // 3) + "0]",
        "nesting": "[" * size,
        "nested objects": '{"a":' * (size // 5),
        "a number": "1" * size,
        "an exponent": "1e" + "9" * size,
        "a fraction": "0." + "3" * size,
        "white space": " " * size,
        "an unclosed string": '"' + "a" * size,
        "escapes": '"' + "\\u0041" * (size // 6) + '"',
        "surrogates": '"' + "\\ud800" * (size // 6) + '"',
        "marks": '"a' + "\u0308\u0328" * (size // 4) + '"',
    }.items():
        yield name, text.encode()
        for field in fields:
            yield f"{field}: {name}", f'{{"{field}": {text[: size - 20]}}}'.encode()
    keys = ",".join(f'"{number}":0' for number in range(size // 9))
    yield "many keys", f"{{{keys}}}".encode()
    for email in (
        "a@" + "x." * 120 + "org",
        "a@" + "ü." * 60 + "org",
        "a@" + "xn--a." * 40 + "org",
        '"' + '\\"' * 100 + '"@example.org',
        "a" * 200 + "@[" + "1." * 20 + "]",
        "(" * 120 + "a@example.org",
    ):
        yield f"email {email[:12]}", json.dumps({"name": "A", "email": email}).encode()
    yield "phone", json.dumps({"name": "A", "phone": "1 x" * 85}).encode()
    yield "name", json.dumps({"name": "a" + "\u0308\u0328" * 500}).encode()


def body_attacks() -> Iterator[Attack]:
    for name, body in json_bodies():
        yield Attack(f"PUT /members: {name}", request("PUT /members", body=body))
    # /login reads its body with the same parser, and fewer fields of it.
    for name, body in [*json_bodies(["username"])][1::4]:
        yield Attack(f"POST /login: {name}", request("POST /login", body=body, token=False))
    patch = {"Content-Type": "application/merge-patch+json"}
    for name, body in [*json_bodies()][1:12:2]:
        yield Attack(f"PATCH: {name}", request("PATCH /members/1", patch, body))


def query_attacks() -> Iterator[Attack]:
    texts = {
        "marks": "a" + "%CC%88%CC%A8" * 600,
        "letters": "s" * 7000,
        "accents": "%C3%9F" * 1000,
        "quotes": "%22" * 2000,
        "short": "fi",
        "digits": "9" * 6000,
    }
    for parameter in ("name", "name_prefix", "email", "phone", "limit", "sort", "after", "q"):
        for name, text in texts.items():
            yield Attack(f"?{parameter}: {name}", request(f"GET /members?{parameter}={text}"))
    for name, content in {
        "nesting": "[" * 5500,
        "digits": "[" + "9" * 5000 + "]",
        "values": "[" + "0," * 2500 + "0]",
        "name": '["name","' + "a" * 12 + '","' + "\u0308" * 2500 + '"]',
    }.items():
        cursor = base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")[:8000]
        yield Attack(f"cursor: {name}", request(f"GET /members?after={cursor}"))
        yield Attack(f"history: {name}", request(f"GET /members/1/history?after={cursor}"))
    ids = ",".join(str(number) for number in range(1, 1500))
    yield Attack("ids", request(f"GET /members?memberId={ids}"))


def import_attacks() -> Iterator[Attack]:
    line = "POST /members/import?dry_run=true"
    domains = "".join(f"N{n},a@{'ü' * 20}{n}.example\n" for n in range(500))
    for name, text in {
        "domains": "name,email\n" + domains,
        "columns": ",".join(["name", *(f"c{n}" for n in range(2000))]) + "\na\n" * 10,
        "commas": "name\n" + "," * 30_000 + "\n",
        "quotes": "name\n" + '"' * 100_000 + "\n",
        "empty lines": "name\n" + "\n" * 100_000,
        "rows": "name\n" + "a\n" * 3000,
        "one line": "name\n" + "a" * 200_000,
        "marks": "name\na" + "\u0308\u0328" * 15_000 + "\n",
    }.items():
        for encoding in ("utf-8", "utf-16"):
            body = text.encode(encoding)
            yield Attack(
                f"CSV, {name}, {encoding}", request(line, {"Content-Type": "text/csv"}, body)
            )
    for name, text in {
        "values": ("[" + "0," * 30_000 + "0]\n") * 5,
        "nesting": "[" * 60_000 + "\n",
        "keys": "{" + ",".join(f'"{n}":0' for n in range(6000)) + "}\n",
        "lines": "{}\n" * 3000,
        "empty lines": "\n" * 100_000,
        "domains": "".join(
            json.dumps({"name": f"N{n}", "email": f"a@{'ü' * 20}{n}.example"}) + "\n"
            for n in range(500)
        ),
    }.items():
        headers = {"Content-Type": "application/x-ndjson"}
        yield Attack(f"NDJSON, {name}", request(line, headers, text.encode()))


KINDS: dict[str, Callable[[], Iterator[Attack]]] = {
    "headers": lambda: header_attacks(PIECES),
    "framing": framing_attacks,
    "bodies": body_attacks,
    "queries": query_attacks,
}


def benign() -> Iterator[Attack]:
    for _ in range(5):
        yield Attack("benign", request("GET /members"))
        yield Attack("benign", request("PUT /members", body=b'{"name": "Ada"}'))


class Target:
    """A running service of one worker."""

    def __init__(self, service: Service) -> None:
        self.port = int(service.url.rpartition(":")[2])
        self.processor_time = event_loop_clock(psutil.Process(service.process.pid))
        self._token = service._token.encode()

    def bystander(self, clock: Callable[[], float]) -> Bystander:
        headers = {"Authorization": f"Bearer {self._token.decode()}"}
        return Bystander(self.port, "/members/1", headers, clock)

    def attack(self, attack: Attack) -> None:
        """Send the bytes, and read any response."""
        answer = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            with suppress(ConnectionError):  # the server refused it before the end
                connection.sendall(attack.request.replace(TOKEN.encode(), self._token))
                connection.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError):
                while piece := connection.recv(65536):
                    answer = answer or piece
        assert not answer.startswith(b"HTTP/1.1 500 "), f"{attack.name}: {answer!r}"


@pytest.fixture(scope="module")
def target(servers: PrivateServers, admin: pymongo.MongoClient[dict[str, Any]]) -> Iterator[Target]:
    settings = {
        "mongodb": {"uri": servers.mongodb_uri, "database": "hostile"},
        "cache": {"servers": servers.cache_servers},
        "server": {"port": 0, "trusted_proxies": ["127.0.0.1"]},
        "audit": {"enabled": True},
    }
    # Reads of a quarantined node need a driver's thread, which waits for the interpreter's lock.
    flush_cache(servers.cache_servers[0], namespace_of(admin["hostile"]))
    with tempfile.TemporaryDirectory(prefix="tornado-members-test-") as name:
        with Command(Path(name), settings).serving() as service:
            assert service("PUT", "/members", {"name": "Somebody"})[0] == 201
            yield Target(service)
        admin.drop_database("hostile")


def latency(target: Target, attack: Attack, bystander: Bystander, limit: float) -> float:
    """Return a bystander's worst latency during an attack, in seconds.

    One above the limit is measured again: what a request causes, it causes each time.
    """
    best = float("inf")
    for _ in range(REPEATS):
        bystander.reset()
        target.attack(attack)
        best = min(best, bystander.worst())
        if best < limit:
            break
    return best


def control(target: Target, clock: Callable[[], float]) -> float:
    """Return a bystander's worst latency beside requests that are not hostile, in seconds."""
    with target.bystander(clock) as bystander:
        return max(latency(target, attack, bystander, 0) for attack in benign())


def check_latencies(
    target: Target, attacks: Iterator[Attack], usual: float, clock: Callable[[], float]
) -> None:
    """`usual` is the control by the same clock."""
    limit = MOST_SECONDS + usual
    with target.bystander(clock) as bystander:
        found = {attack.name: latency(target, attack, bystander, limit) for attack in attacks}
    slow = {name: seconds for name, seconds in found.items() if seconds >= limit}
    assert not slow, f"the control took {usual:.4f} s: {slow}"


@pytest.fixture(scope="module")
def usual(target: Target) -> float:
    """The control of all tests that measure processor time."""
    return control(target, target.processor_time)


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_input_does_not_delay_others(target: Target, usual: float, kind: str) -> None:
    check_latencies(target, KINDS[kind](), usual, target.processor_time)


@pytest.mark.exhaustive
def test_more_hostile_headers_do_not_delay_others(target: Target, usual: float) -> None:
    check_latencies(target, header_attacks(MORE_PIECES), usual, target.processor_time)


@pytest.mark.exhaustive
def test_hostile_texts_in_other_fields_do_not_delay_others(target: Target, usual: float) -> None:
    attacks = (
        Attack(f"PUT /members: {name}", request("PUT /members", body=body))
        for name, body in json_bodies(OTHER_FIELDS)
    )
    check_latencies(target, attacks, usual, target.processor_time)


@pytest.mark.exhaustive
@pytest.mark.xfail(strict=False, reason="an NDJSON object of 64 KiB takes longer than a slice")
def test_hostile_imports_do_not_delay_others(target: Target, usual: float) -> None:
    check_latencies(target, import_attacks(), usual, target.processor_time)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_input_does_not_delay_others_by_the_clock(target: Target, kind: str) -> None:
    """On a quiet machine only."""
    usual = control(target, time.perf_counter)
    check_latencies(target, KINDS[kind](), usual, time.perf_counter)
