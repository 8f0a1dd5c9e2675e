"""schemathesis finds nothing wrong in the little time it has; scripts/fuzz gives it more."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.fuzzing import fuzz
from tests.support.service import Command
from tornado_members.embedded.private_servers import PrivateServers

# HEAD and OPTIONS double the time, and scripts/fuzz has them; so it has examples and random values.
OPTIONS = (
    *("--seed", "7", "--max-examples", "1"),
    *("--exclude-method", "HEAD", "--exclude-method", "OPTIONS"),
)


@pytest.mark.exhaustive
@pytest.mark.parametrize("phase", ["stateful", "coverage"])
def test_every_answer_is_as_the_document_says(
    folder: Path, servers: PrivateServers, database_name: str, phase: str
) -> None:
    settings: dict[str, Any] = {
        "mongodb": {"uri": servers.mongodb_uri, "database": database_name},
        "cache": {"servers": servers.cache_servers},
        "audit": {"enabled": True},
    }
    command = Command(folder, settings)
    with command.serving() as service:
        token = command.token("--rights", "3")
        done = fuzz(service.url, token, folder, *OPTIONS, "--phases", phase, seconds=300)
    assert done.returncode == 0, done.stdout
    _, _, error = command.log().partition(" ERROR ")
    assert not error, error[:5000]
