"""The processes that share a cache, and the list of cache servers that they use.

The collection `cache_processes` has one document per process. The document `cache-servers` of the
collection `cluster` is the list in force. docs/decisions/server-lists.md describes their purpose.
"""

from collections.abc import Sequence
from typing import Any

from pymongo.errors import DuplicateKeyError

from tornado_members.lease_cache.registry import Registration, ServerList
from tornado_members.storage.mongo import Document, Mongo
from tornado_members.storage.operations import translate_outages
from tornado_members.storage.pending_flushes import RECORD_SECONDS, as_shared_store

_KEY = "cache-servers"

# Documents that another program put there are not registrations.
_PROCESSES: Document = {
    "_id": {"$type": "string"},
    "wanted": {"$type": "array"},
    "nonce": {"$type": "string"},
    "writesEndAfter": {"$type": "number"},
}


class CacheRegistry:
    """The two collections.

    Every method raises StoreUnavailable if MongoDB does not reply in time.
    """

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo.with_timeout(RECORD_SECONDS)
        self._processes = mongo.database["cache_processes"]
        self._lists = mongo.database["cluster"]

    @as_shared_store
    @translate_outages
    async def register(self, registration: Registration) -> None:
        """Store a registration durably, in place of an earlier one of the process."""
        key = {"_id": registration.process}
        await self._processes.update_one(key, _update(registration), upsert=True)

    @as_shared_store
    @translate_outages
    async def renew(self, registration: Registration) -> bool:
        """Replace the registration of the process; False if it no longer has one."""
        key = {"_id": registration.process}
        done = await self._processes.update_one(key, _update(registration))
        return bool(done.matched_count)

    @as_shared_store
    @translate_outages
    async def remove(self, registration: Registration) -> None:
        """Remove a registration, unless it was renewed since it was read."""
        key = {"_id": registration.process, "nonce": registration.nonce}
        await self._processes.delete_one(key)

    @as_shared_store
    @translate_outages
    async def read(self) -> Sequence[Registration]:
        """Return the registrations of all processes."""
        return [
            Registration(
                each["_id"],
                tuple(map(str, each["wanted"])),
                each.get("listId"),
                each["nonce"],
                float(each["writesEndAfter"]),
            )
            for each in await self._processes.find(_PROCESSES).to_list(None)
        ]

    @as_shared_store
    @translate_outages
    async def list_in_force(self) -> ServerList | None:
        """Return the list in force; None if there has never been one."""
        found = await self._lists.find_one({"_id": _KEY})
        if found is None:
            return None
        replaces = found["replaces"]
        return ServerList(
            found["list"], tuple(found["servers"]), None if replaces is None else tuple(replaces)
        )

    @as_shared_store
    @translate_outages
    async def replace_list(self, new: ServerList, old: ServerList | None) -> bool:
        """Put a list into force; False if `old` is not in force any more."""
        try:
            if old is None:
                await self._lists.insert_one({"_id": _KEY, **_fields(new)})
                return True
        except DuplicateKeyError:
            return False
        done = await self._lists.replace_one({"_id": _KEY, **_fields(old)}, _fields(new))
        return bool(done.matched_count)


def _update(registration: Registration) -> list[Document]:
    fields: Document = {
        "wanted": list(registration.wanted),
        "listId": registration.list_id,
        "nonce": registration.nonce,
        "writesEndAfter": registration.writes_end_after,
        "renewedAt": "$$NOW",  # for operators; no decision depends on it
    }
    return [{"$set": fields}]


def _fields(server_list: ServerList) -> dict[str, Any]:
    return {
        "list": server_list.id,
        "servers": list(server_list.servers),
        "replaces": None if server_list.replaces is None else list(server_list.replaces),
    }
