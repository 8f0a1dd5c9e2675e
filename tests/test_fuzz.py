"""schemathesis finds nothing wrong in the little time it has; scripts/fuzz gives it more."""

from pathlib import Path
from typing import Any

from tests.support.fuzzing import fuzz
from tests.support.service import Command
from tornado_members.embedded.private_servers import PrivateServers

# HEAD and OPTIONS double the time, and scripts/fuzz has them; so it has made-up values at random.
OPTIONS = (
    *("--seed", "7", "--phases", "examples,coverage,stateful", "--max-examples", "2"),
    *("--exclude-method", "HEAD", "--exclude-method", "OPTIONS"),
)


def test_every_answer_is_as_the_document_says(
    folder: Path, servers: PrivateServers, database_name: str
) -> None:
    settings: dict[str, Any] = {
        "mongodb": {"uri": servers.mongodb_uri, "database": database_name},
        "cache": {"servers": servers.cache_servers},
    }
    command = Command(folder, settings)
    with command.serving() as service:
        token = command.token("--rights", "3")
        done = fuzz(service.url, token, folder, *OPTIONS, seconds=300)
    assert done.returncode == 0, done.stdout
    assert " ERROR " not in command.log()
