"""A replica set of one server, which change streams and transactions need."""

import time
from collections.abc import Callable
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

Client = pymongo.MongoClient[dict[str, Any]]

_POLL_SECONDS = 0.02


class ReplicaSetError(Exception):
    """The server cannot become a primary. The message gives the reason."""


def make_primary(host: str, name: str, *, timeout: float, check: Callable[[], None]) -> None:
    """Wait until a server responds, and make it the primary of a replica set of one.

    `timeout` is that of each step, in seconds. `check` is called repeatedly; its exceptions
    end the wait. Raises ReplicaSetError.
    """
    try:
        with Client(host, directConnection=True, timeoutMS=1000) as client:
            while not _responds(client):
                check()
            with pymongo.timeout(timeout):  # each step may be slow on a slow disk
                _configure(client, host, name)
                while not client.admin.command("hello").get("isWritablePrimary"):
                    check()
                    time.sleep(_POLL_SECONDS)
    except PyMongoError as error:
        raise ReplicaSetError(str(error)) from error


def _responds(client: Client) -> bool:
    try:
        client.admin.command("ping")
    except PyMongoError:
        return False
    return True


def _configure(client: Client, host: str, name: str) -> None:
    config = client.local["system.replset"].find_one()
    if config is None:
        members = [{"_id": 0, "host": host}]
        client.admin.command("replSetInitiate", {"_id": name, "members": members})
    elif config["members"][0]["host"] != host:  # the server has another port than before
        config["members"][0]["host"] = host
        config["version"] += 1
        client.admin.command("replSetReconfig", config, force=True)
