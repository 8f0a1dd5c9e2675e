"""The remembered head of a connection does not change the meaning of the next one."""

import itertools
from typing import Any

from tornado.web import RequestHandler

from tests.http1.conftest import Run
from tests.support.http1 import (
    Response,
    application,
    connected,
    echo,
    exchange,
    parse_responses,
    serving,
)
from tornado_members.http1.heads import RequestHead
from tornado_members.http1.limits import Limits
from tornado_members.http1.refusals import Refused
from tornado_members.http1.request_reader import RequestReader

END = b"GET /end HTTP/1.1\r\nHost: end\r\nConnection: close\r\n\r\n"
AGENT = b"User-Agent: a\r\nAuthorization: Bearer x\r\n"
CHUNKS = b"3\r\nabc\r\n0\r\n\r\n"
# Complete requests; each is sent after every other one, and after itself.
REQUESTS = [
    b"GET /a HTTP/1.1\r\nHost: x\r\n%b\r\n" % AGENT,
    b"GET /b?c=d HTTP/1.1\r\nHost: x\r\n%b\r\n" % AGENT,
    b"HEAD /a HTTP/1.1\r\nHost: x\r\n%b\r\n" % AGENT,
    b"FOO /a HTTP/1.1\r\nHost: x\r\n%b\r\n" % AGENT,
    b"POST /a HTTP/1.1\r\nHost: x\r\n%b\r\n" % AGENT,
    b"GET /a HTTP/1.1\r\nHost: y\r\n%b\r\n" % AGENT,
    b"GET http://z/a HTTP/1.1\r\nHost: x\r\n%b\r\n" % AGENT,
    b"GET /\xc3\xa4 HTTP/1.1\r\nHost: x\r\n%b\r\n" % AGENT,
    b"GET /a HTTP/1.0\r\nHost: x\r\n%b\r\n" % AGENT,
    b"GET /a HTTP/1.0\r\nHost: x\r\n%bConnection: keep-alive\r\n\r\n" % AGENT,
    b"GET /a HTTP/1.1\r\nHost: x\r\nUser-Agent: a\r\nAuthorization: Bearer y\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: x\r\n%bUser-Agent: b\r\n\r\n" % AGENT,
    b"GET /a HTTP/1.1\r\nHost: x\r\n%bContent-Length: 3\r\n\r\nabc" % AGENT,
    b"GET /a HTTP/1.1\r\nHost: x\r\n%bContent-Length: 0\r\n\r\n" % AGENT,
    b"GET /a HTTP/1.1\r\nHost: x\r\n%bTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    % AGENT,
    b"GET /a HTTP/1.1\r\nHost: x\r\n%bExpect: 100-continue\r\n\r\n" % AGENT,
    b"GET /a HTTP/1.1\r\nHost: x\r\n%bUpgrade: h2c\r\nConnection: upgrade\r\n\r\n" % AGENT,
    b"GET  /a HTTP/1.1\r\nHost: x\r\n%b\r\n" % AGENT,
    b"GET /a HTTP/1.2\r\nHost: x\r\n%b\r\n" % AGENT,
    b"GET /a\x00 HTTP/1.1\r\nHost: x\r\n%b\r\n" % AGENT,
    b"GET /a HTTP/1.1\r\nHost: x\r\nHost: x\r\n%b\r\n" % AGENT,
    b"GET /a HTTP/1.1\r\n%b\r\n" % AGENT,
]


def shown(response: Response) -> Any:
    return response.status, response.body, {**response.headers, "date": ""}


async def responded(address: Any, *requests: bytes) -> list[Any]:
    """Return the responses to successive requests on one connection."""
    heads = {i for i, request in enumerate(requests) if request.startswith(b"HEAD")}
    async with connected(address) as client:
        found: list[Any] = []
        for i, request in enumerate(requests):
            client.received.clear()
            client.transport.write(request + (END if i == len(requests) - 1 else b""))
            if i < len(requests) - 1:
                await client.until(b"\r\n\r\n")
                (response,) = parse_responses(bytes(client.received), head=i in heads)
            else:
                data = await client.until_closed()
                if i in heads:
                    data = data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
                response = parse_responses(data, head=i in heads)[0]
            found.append(shown(response))
        return found


def test_head_means_the_same_as_on_its_own_connection(run: Run) -> None:
    async def main() -> None:
        async with serving(echo()) as (_, address):
            alone = {request: await responded(address, request) for request in REQUESTS}
            lasting = [r for r in REQUESTS if not r.startswith((b"HEAD", b"GET  "))]
            for first, second in itertools.product(lasting, REQUESTS):
                if alone[first][0][0] != 200 or _ends(first, alone[first][0]):
                    continue
                _, behind = await responded(address, first, second)
                assert [behind] == alone[second], (first, second)

    run(main())


def _ends(request: bytes, response: Any) -> bool:
    """Return True if the connection ends with this response."""
    return b"HTTP/1.0" in request and "keep-alive" not in response[2].get("connection", "").lower()


def test_changes_of_a_handler_to_its_headers_do_not_reach_the_next_request(run: Run) -> None:
    class Meddling(RequestHandler):
        def get(self) -> None:
            headers = self.request.headers
            seen = sorted(headers.get_all())
            headers["User-Agent"] = "meddled"
            headers.add("Authorization", "more")
            headers["X-New"] = "new"
            del headers["Host"]
            self.finish({"seen": seen})

    async def main() -> None:
        async with serving(application(Meddling)) as (_, address):
            data = await exchange(address, REQUESTS[0] * 3 + END)
            seen = [response.json()["seen"] for response in parse_responses(data)[:3]]
            assert seen == [[["Authorization", "Bearer x"], ["Host", "x"], ["User-Agent", "a"]]] * 3

    run(main())


def test_repeated_head_is_parsed_as_by_a_new_reader() -> None:
    """Also with a malformed or a long target, with a request behind it, and in two pieces."""
    rest = b" HTTP/1.1\r\nHost: x\r\n%b\r\n" % AGENT
    lines = [b"GET ", b"GET", b"GET /a", b"GET a", b"GET /a b", b"GET /a\r\n\r\nGET /b", b"get /a"]
    lines += [b"GET /%b" % (b"a" * size) for size in (8177, 8178, 8179, 8180)]
    requests = [line + rest for line in lines]
    requests += [b"GET /a" + rest[1:], b"GET /a\xff" + rest, b"GET /a\n" + rest, rest, rest[1:]]
    well_formed = [*REQUESTS[:6], *REQUESTS[8:12]]
    for first, second in itertools.product(well_formed, [*REQUESTS, *requests]):
        for data in (second, second + second):
            reused = RequestReader(Limits())
            head = reused.receive(first)
            if not isinstance(head, RequestHead) or head.has_body or not head.keep_alive:
                break  # another request does not follow at once
            reused.next_request()
            assert _outcome(reused, data) == _outcome(RequestReader(Limits()), data), (
                first,
                second,
            )


def test_limits_hold_for_a_repeated_head() -> None:
    first = b"GET /a HTTP/1.1\r\nHost: x\r\n%b\r\n" % AGENT
    limits = Limits(head_bytes=len(first) + 1)
    for longer in range(4):
        reused = RequestReader(limits)
        reused.receive(first)
        reused.next_request()
        second = first.replace(b"/a", b"/" + b"a" * (longer + 1))
        assert _outcome(reused, second) == _outcome(RequestReader(limits), second), longer


def test_repeated_head_may_arrive_in_pieces() -> None:
    request = REQUESTS[0]
    for cut in range(1, len(request)):
        reader = RequestReader(Limits())
        expected = _outcome(reader, request)
        reader.next_request()
        assert reader.receive(request[:cut]) is None
        assert _outcome(reader, request[cut:]) == expected


def _outcome(reader: RequestReader, data: bytes) -> Any:
    try:
        head = reader.receive(data)
    except Refused as refused:
        return refused.reason
    if not isinstance(head, RequestHead):
        return "no head"
    headers = list(head.headers.get_all())
    framing = (head.length, head.chunked, head.has_body, head.expects_continue, head.keep_alive)
    return head.start_line, headers, framing, reader.buffered
