"""The service on its own HTTP server, as a process."""

import json
from pathlib import Path
from urllib.parse import urlsplit

from tests.http1.conftest import Run
from tests.support.http1 import GET, exchange, parse_responses
from tests.support.service import Command
from tornado_members.embedded.private_servers import PrivateServers

ORIGIN = "https://app.example.org"
HEAD = b" HTTP/1.1\r\nHost: x\r\nOrigin: https://app.example.org\r\n"
CHUNKED = b"PUT /members" + HEAD + b"Transfer-Encoding: chunked\r\n"
REFUSED = [
    (b"GET /" + HEAD + b"Host: y\r\n\r\n" + GET, 400, "bad-request"),
    (CHUNKED + b"Content-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400, "bad-request"),
    (CHUNKED + b"\r\nnonsense\r\n", 400, "bad-request"),
    (b"GET /" + b"x" * 9000 + HEAD + b"\r\n", 414, "target-too-long"),
    (b"GET /" + HEAD + b"A: b\r\n" * 200 + b"\r\n", 431, "headers-too-large"),
    (b"PUT /members" + HEAD + b"Content-Length: 99999999\r\n\r\n", 401, "token-missing"),
    (b"POST /login" + HEAD + b"Content-Length: 99999999\r\n\r\n", 413, "body-too-large"),
    (b"GET / HTTP/2.0\r\nORIGIN:https://app.example.org\r\n\r\n", 505, "version-not-supported"),
]


def test_service_serves_refuses_with_problems_and_stops(
    folder: Path, servers: PrivateServers, database_name: str
) -> None:
    settings = {
        "server": {"port": 0, "transport": "http1"},
        "mongodb": {"uri": servers.mongodb_uri, "database": database_name},
        "cache": {"servers": servers.cache_servers},
        "cors": {"origins": ["http://localhost:3000", ORIGIN]},
    }
    command = Command(folder, settings)
    with command.serving() as service:
        assert service("PUT", "/members", {"name": "Ada"})[0] == 201
        assert service("GET", "/members/1")[1]["name"] == "Ada"
        where = urlsplit(service.url)
        for request, status, code in REFUSED:
            (response,) = parse_responses(
                Run.on_asyncio(exchange((where.hostname, where.port), request))
            )
            assert (response.status, response.headers["connection"]) == (status, "close"), request
            assert response.headers["content-type"] == "application/problem+json"
            problem = json.loads(response.body)
            assert (problem["status"], problem["code"]) == (status, code)
            assert problem["requestId"] == response.headers["x-request-id"]
            # A script sees the problem instead of a network error.
            assert response.headers["access-control-allow-origin"] == ORIGIN, request
            assert "origin" in response.headers["vary"].lower()
        assert service.stop() == 0
    refusals = [line for line in command.log().splitlines() if problem["requestId"] in line]
    assert "client_address=127.0.0.1" in refusals[0]
    assert "broken off" not in command.log()
