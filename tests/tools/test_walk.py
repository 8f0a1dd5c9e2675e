"""The number of times that a request goes from one file of the package to another."""

import logging
from pathlib import Path

import pytest

from tests.support.tokens import AUDIENCE, ISSUER, public_jwk
from tools.walk import changes, walk
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.settings import Settings
from tornado_members.telemetry.logs import ACCESS_LOGGER

# A few more than today, for timers of the service that fall into a walk.
MOST = {"fast path": 39, "handler": 57, "miss": 92, "write": 287}


async def test_request_changes_the_file_a_limited_number_of_times(
    tmp_path: Path,
    servers: PrivateServers,
    database_name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, ACCESS_LOGGER)  # a line changes the file a few times more
    issuer = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": {"keys": [public_jwk("RS256")]}}
    settings = Settings.model_validate(
        {
            "data_dir": str(tmp_path),
            "mongodb": {"database": database_name},
            "auth": {"issuers": [issuer]},
        }
    )
    counted = {kind: changes(calls) for kind, calls in (await walk(settings, servers)).items()}
    assert {kind: count for kind, count in counted.items() if count > MOST[kind]} == {}
