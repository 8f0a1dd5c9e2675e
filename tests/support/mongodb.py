"""Makes MongoDB fail chosen commands, or refuse writes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymongo

from tornado_members.storage.documents import MemberCodec
from tornado_members.storage.list_preparation import ListPreparation
from tornado_members.storage.members import MemberStore

Admin = pymongo.MongoClient[dict[str, Any]]


@contextmanager
def failing(admin: Admin, times: int | None, **how: Any) -> Iterator[None]:
    """Make the next `times` commands of the service fail; None means all of them.

    A command that the service sends in the background counts, too.
    """
    data = {"appName": "tornado_members", **how}
    mode = "alwaysOn" if times is None else {"times": times}
    admin.admin.command("configureFailPoint", "failCommand", mode=mode, data=data)
    try:
        yield
    finally:
        admin.admin.command("configureFailPoint", "failCommand", mode="off")


def open_streams(admin: Admin, database_name: str) -> int:
    """Return the number of change streams of the members that MongoDB has open."""
    operations = admin.admin.aggregate(
        [
            {"$currentOp": {"idleCursors": True, "allUsers": True}},
            {"$match": {"ns": f"{database_name}.members"}},
        ]
    )
    commands = [
        operation.get("cursor", {}).get("originatingCommand", {}) or operation.get("command", {})
        for operation in operations
    ]
    return sum("$changeStream" in str(command.get("pipeline")) for command in commands)


@contextmanager
def read_only(admin: Admin) -> Iterator[None]:
    """Have MongoDB refuse all writes, as before a migration to another cluster."""
    admin.admin.command({"setUserWriteBlockMode": 1, "global": True})
    try:
        yield
    finally:
        admin.admin.command({"setUserWriteBlockMode": 1, "global": False})


@contextmanager
def locked(admin: Admin) -> Iterator[None]:
    """Lock the files for a backup: writes wait."""
    admin.admin.command("fsync", 1, lock=True)
    try:
        yield
    finally:
        admin.admin.command("fsyncUnlock", 1)


async def prepare_all(store: MemberStore) -> None:
    """Prepare writes and lists, as the start of a service on few members does."""
    await store.prepare()
    await ListPreparation(store.mongo, MemberCodec(store.fields)).prepare()
