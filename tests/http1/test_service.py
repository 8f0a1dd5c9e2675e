"""The service on its own HTTP server, as a process."""

import json
from pathlib import Path
from urllib.parse import urlsplit

from tests.http1.conftest import Run
from tests.support.http1 import GET, answers, ask
from tests.support.service import Command
from tornado_members.embedded.private_servers import PrivateServers


def test_it_serves_refuses_with_problems_and_stops(
    folder: Path, servers: PrivateServers, database_name: str
) -> None:
    settings = {
        "server": {"port": 0, "transport": "http1"},
        "mongodb": {"uri": servers.mongodb_uri, "database": database_name},
        "cache": {"servers": servers.cache_servers},
    }
    command = Command(folder, settings)
    with command.serving() as service:
        assert service("PUT", "/members", {"name": "Ada"})[0] == 201
        assert service("GET", "/members/1")[1]["name"] == "Ada"
        where = urlsplit(service.url)
        refused = b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"
        (answer,) = answers(Run.on_asyncio(ask((where.hostname, where.port), refused + GET)))
        assert answer.headers["content-type"] == "application/problem+json"
        problem = json.loads(answer.body)
        assert (answer.status, problem["code"]) == (400, "bad-request")
        assert problem["requestId"] == answer.headers["x-request-id"]
        assert service.stop() == 0
    assert problem["requestId"] in command.log()
    assert "broken off" not in command.log()
