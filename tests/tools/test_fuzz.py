"""A short run of schemathesis; scripts/fuzz runs longer."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.fuzzing import ATTRIBUTES, EVERYTHING, fuzz
from tests.support.service import Command
from tornado_members.embedded.private_servers import PrivateServers

OPTIONS = ("--seed", "7", "--max-examples", "1")


@pytest.mark.exhaustive
@pytest.mark.parametrize("attributes", [{}, ATTRIBUTES], ids=["plain", "attributes"])
@pytest.mark.parametrize("phase", ["stateful", "coverage"])
def test_responses_match_the_description(
    folder: Path,
    servers: PrivateServers,
    database_name: str,
    phase: str,
    attributes: dict[str, dict[str, Any]],
) -> None:
    settings: dict[str, Any] = {
        "mongodb": {"uri": servers.mongodb_uri, "database": database_name},
        "cache": {"servers": servers.cache_servers},
        "members": {"attributes": attributes},
        **EVERYTHING,
    }
    command = Command(folder, settings)
    with command.serving() as service:
        token = command.token("--rights", "3")
        done = fuzz(service.url, token, folder, *OPTIONS, "--phases", phase, seconds=300)
    assert done.returncode == 0, done.stdout
    _, _, error = command.log().partition(" ERROR ")
    assert not error, error[:5000]
