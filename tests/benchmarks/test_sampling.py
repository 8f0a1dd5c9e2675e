"""The sampler recognizes stale responses, and responses that were never true."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pymongo
import pytest
from pymongo.read_concern import ReadConcern

from benchmarks.load.pages import Page
from benchmarks.load.sampling import Sample, Sampler
from benchmarks.load.scenarios import BY_NAME

STORED = {"_id": 1, "name": "Ada", "email": None, "phone": "+1-555-7"}
TRUE = {"memberId": 1, "name": "Ada", "email": None, "phone": "+1-555-7"}


class FixedResponse(BaseHTTPRequestHandler):
    """Sends the same response to every request."""

    protocol_version = "HTTP/1.1"

    def __init__(self, status: int, body: Any, *args: Any) -> None:
        self.status, self.body = status, json.dumps(body).encode() if body else b""
        super().__init__(*args)

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.send_header("Cache-Status", "memcached; hit")
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@contextmanager
def serving(status: int, body: Any) -> Iterator[int]:
    """Run a server, and yield its port."""
    with HTTPServer(("127.0.0.1", 0), partial(FixedResponse, status, body)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def sampled(scenario: str, port: int, admin: pymongo.MongoClient[Any], times: int = 3) -> Sample:
    """Return the result of comparing some responses."""
    members = admin["test"]["members"].with_options(read_concern=ReadConcern("majority"))
    lines = ['"a"'] * 100
    with Sampler(
        BY_NAME[scenario], port, "token", members, lines=lines, pages=[Page(0)]
    ) as sampler:
        while sampler.sample.compared < times:
            threading.Event().wait(0.01)
    return sampler.sample


@pytest.mark.usefixtures("database_name")
@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (200, TRUE, ""),
        (200, {**TRUE, "phone": "+1-555-6"}, "stale"),
        (200, {**TRUE, "phone": "+1-555-8"}, "wrong"),  # not written yet
        (200, {**TRUE, "name": "Eve"}, "wrong"),
        (200, None, "wrong"),
        (404, TRUE, "wrong"),
    ],
)
def test_response_is_true_stale_or_wrong(
    admin: pymongo.MongoClient[Any], status: int, body: Any, verdict: str
) -> None:
    admin["test"]["members"].insert_one(dict(STORED))
    with serving(status, body) as port:
        sample = sampled("hot", port, admin)
    assert ("stale" * bool(sample.stale) + "wrong" * bool(sample.wrong)) == verdict
    assert sample.hits >= 3
    assert sample.queries >= 6


@pytest.mark.usefixtures("database_name")
@pytest.mark.parametrize(
    ("scenario", "right", "wrong"),
    [
        ("unchanged", (304, None), (200, TRUE)),
        ("list", (200, {"items": [TRUE], "next": None}), (200, {"items": [], "next": None})),
    ],
)
def test_sampler_compares_lists_and_unchanged_members(
    admin: pymongo.MongoClient[Any], scenario: str, right: Any, wrong: Any
) -> None:
    admin["test"]["members"].insert_one(dict(STORED))
    with serving(*right) as port:
        assert not sampled(scenario, port, admin).wrong
    with serving(*wrong) as port:
        assert sampled(scenario, port, admin).wrong
