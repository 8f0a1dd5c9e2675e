"""No output contains a secret, not even at the log level debug."""

import json
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pymongo

from tests.support.service import Command
from tornado_members.embedded.private_servers import PrivateServers

SHARED = "planted-shared-secret-that-has-more-than-32-bytes"
PASSWORD = "planted-password"
WRONG = "planted-wrong-password"
NAME = "Planted-Name"


def post(url: str, body: Any) -> dict[str, Any]:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return dict(json.load(response))
    except urllib.error.HTTPError as error:
        with error:
            return dict(json.load(error))


def send_malformed(url: str, token: str) -> bytes:
    """A request with an unreadable header that contains a valid token."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        header = f"Authorization: Bearer {token}\x01"
        connection.sendall(f"GET /members/1 HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode())
        return connection.recv(65536)


def send_forged(url: str) -> bytes:
    """A request that tries to forge a log line, and to control a terminal."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = "GET /x%0d%0a{}\x0b\x1b[31m\x85\u2028{forged} HTTP/1.1\r\nHost: x\r\n"
        trace = "traceparent: 00-\x1b\r\nX-Request-Id: \x1b[31m\r\n\r\n"
        connection.sendall((head + trace).encode())
        return connection.recv(65536)


def test_no_planted_secret_is_found_in_any_output(
    folder: Path,
    servers: PrivateServers,
    database_name: str,
    admin: pymongo.MongoClient[dict[str, Any]],
) -> None:
    issuers = [
        {"issuer": "tornado-members", "audience": "members"},
        {"issuer": "x", "audience": "members", "algorithms": ["HS256"], "secret": SHARED},
    ]
    mongodb = {"uri": servers.mongodb_uri, "database": database_name}
    settings = {
        "log": {"level": "debug"},
        "mongodb": mongodb,
        "cache": {"servers": servers.cache_servers},
        "auth": {"issuers": issuers},
    }
    command = Command(folder, settings)
    with command.start("users", "add", "ada", "--rights", "3", stdin=-1) as adding:
        output, errors = adding.communicate(PASSWORD + "\n", timeout=60)
    assert adding.returncode == 0, errors
    with command.serving() as service:
        token = post(f"{service.url}/login", {"username": "ada", "password": PASSWORD})
        post(f"{service.url}/login", {"username": "ada", "password": WRONG})
        post(f"{service.url}/login", {"username": WRONG, "password": PASSWORD, "x": PASSWORD})
        own = service._token
        assert service("PUT", "/members", {"name": NAME})[0] == 201
        for bad in (own[:-4], own.replace(".", ""), token["access_token"] + "x", SHARED):
            service._token = bad
            assert service("GET", "/members/1")[0] == 401
        service._token = own
        for path in (f"/members/by-name/{NAME}", f"/members/{NAME}", f"/members/by%2Dname/{NAME}"):
            service("GET", f"{path}?after={NAME}")
        assert send_forged(service.url).startswith(b"HTTP/1.1 4")
        metrics = service.admin("/metrics")[1] + service.admin("/readyz")[1]
        assert send_malformed(service.url, own).startswith(b"HTTP/1.1 400")
    log = command.log()
    assert "POST /login" in log
    assert '"level": "debug"' in log
    assert all(json.loads(line)["message"] for line in log.splitlines())
    assert log.isascii()
    assert ("refused with 400" if Command.transport == "http1" else "Malformed HTTP message") in log
    user = admin["test"]["users"].find_one({"username": "ada"})
    assert user
    secrets = [SHARED, PASSWORD, WRONG, user["password_hash"], own, token["access_token"]]
    # A part of a token is secret, too: everything after its header, which is public.
    secrets += [part for t in (own, token["access_token"]) for part in t.split(".")[1:]]
    secrets += [(command.data / "keys" / "signing.pem").read_text().splitlines()[1]]
    for secret in [*secrets, NAME]:
        for text in (log, output, errors, metrics):
            assert secret not in text
