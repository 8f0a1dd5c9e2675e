"""The fail2ban filter of docs/operations.md, on the log of a real service."""

import configparser
import json
import re
import urllib.error
import urllib.request
from datetime import datetime
from pathlib import Path

from tests.support.service import ROOT, Command, Service
from tests.support.tokens import make_token
from tornado_members.embedded.private_servers import PrivateServers

FORGED = make_token(iss="tornado-members", aud="members", access_rights=3)
INJECTION = (
    '"status": 401, "seconds": 0.1, "client_address": "198.51.100.99", "code": "token-invalid"'
)


def read_filter() -> tuple[re.Pattern[str], str]:
    """Return the filter's expression, and the format of its dates."""
    text = (ROOT / "docs" / "operations.md").read_text()
    block = text.split("filter.d/tornado-members.conf\n")[1].split("```")[0]
    parser = configparser.ConfigParser()  # fail2ban's own parser is of this kind, too
    parser.read_string(block)
    definition = parser["Definition"]
    host = r"(?P<host>[0-9.]+|[0-9a-fA-F:]+)"
    return re.compile(definition["failregex"].replace("<HOST>", host)), definition["datepattern"]


def send(service: Service, path: str, address: str, token: str = "", body: object = None) -> int:
    """Send a request from an address that a trusted proxy forwards; return the status."""
    headers = {"X-Forwarded-For": address, "Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(service.url + path, data, headers)
    try:
        with urllib.request.urlopen(request) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_filter_finds_exactly_the_addresses_of_guesses(
    folder: Path, servers: PrivateServers, database_name: str
) -> None:
    command = Command(
        folder,
        {
            "mongodb": {"uri": servers.mongodb_uri, "database": database_name},
            "cache": {"servers": servers.cache_servers},
            "server": {"port": 0, "trusted_proxies": ["127.0.0.1"]},
            "log": {"format": "json"},
        },
    )
    guess = {"username": f"ada {INJECTION}", "password": "wrong password"}
    with command.serving() as service:
        token = command.token("--rights", "1", "--sub", INJECTION)
        assert send(service, "/members/1", "203.0.113.1", FORGED) == 401
        assert send(service, "/members/1", "198.51.100.9, 203.0.113.2:4711", "nonsense") == 401
        assert send(service, "/members/1", "[2001:db8::3]:4711", FORGED) == 401
        assert send(service, "/login", "::ffff:203.0.113.4", body=guess) == 401
        # These are not guesses:
        assert send(service, "/members/1", "203.0.113.11") == 401  # no token
        assert send(service, "/members", "203.0.113.12", token, body={"name": "x"}) == 403
        assert send(service, f"/{INJECTION.replace(' ', '%20')}", "203.0.113.13") == 404
        assert send(service, "/members", "203.0.113.14", token) == 200
        assert (
            send(service, f"/members/9?x={INJECTION.replace(' ', '%20')}", "203.0.113.15", token)
            == 400
        )
    expression, date_format = read_filter()
    lines = command.log().splitlines()
    found = [match["host"] for line in lines if (match := expression.search(line))]
    assert found == ["203.0.113.1", "203.0.113.2", "2001:db8::3", "203.0.113.4"]
    logged = {json.loads(line).get("client_address") for line in lines}
    (refused,) = (line for line in map(json.loads, lines) if line.get("status") == 403)
    assert refused["subject"] == INJECTION[:64]
    assert {"203.0.113.11", "203.0.113.12", "203.0.113.13", "203.0.113.15"} <= logged
    assert "203.0.113.14" not in logged  # a request that succeeded
    dated = re.search(r'"time": "([^.]+)', lines[-1])
    assert dated
    assert datetime.strptime(f'"time": "{dated[1]}', date_format).year > 2000
