"""The elections of MongoDB's replica set: the terms by which the cache recognises old primaries.

The driver learns of elections from the replies to `hello`, in which a primary states its electionId
(Server Discovery and Monitoring, "electionId"): 0x7fffffff, followed by the term of Raft in eight
bytes. It uses no primary that is older than the newest one that it has seen. There are no elections
without a replica set, and a driver that is connected to mongos does not see those of the shards.
"""

import secrets
from typing import cast

from bson import ObjectId
from pymongo.topology_description import TopologyDescription

from tornado_members.storage.mongo import Mongo
from tornado_members.storage.operations import translate_outages
from tornado_members.storage.pending_flushes import SharedStoreUnavailable, as_shared_store

_OF_TERM = bytes.fromhex("7fffffff")  # begins the electionId


class Elections:
    """Implements Terms of the cache."""

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo
        self._documents = mongo.database["leader_locks"]
        self._description: TopologyDescription | None = None  # the last one seen
        self._term = 0  # in that
        self._has_rivals = True  # until a server states something else

    def current(self) -> int:
        """Return the term of the newest primary that the driver knows; 0 without elections."""
        self._read_description()
        return self._term

    def has_rivals(self) -> bool:
        """True unless the driver knows that the database has a single server, or is sharded."""
        self._read_description()
        return self._has_rivals

    def _read_description(self) -> None:
        description = cast(TopologyDescription, self.mongo.client.topology_description)
        if description is not self._description:
            self._description, self._term = description, _term_in(description)
            # A server that has just timed out states nothing, and changes nothing.
            servers = description.server_descriptions().values()
            known = [server for server in servers if server.is_server_type_known]
            if known:
                self._has_rivals = any(len(server.all_hosts) > 1 for server in known)

    @as_shared_store
    @translate_outages
    async def acknowledged(self) -> int:
        """Have a majority acknowledge a write; return its term, 0 without elections.

        It must be a change: MongoDB acknowledges one that changes nothing as soon as a majority has
        the last change, which a deposed primary also knows. Raises StoreUnavailable.
        """
        change = {"$set": {"nonce": secrets.token_hex(8)}}
        done = await self._documents.update_one({"_id": "election-probe"}, change, upsert=True)
        reply = done.raw_result
        if reply is None:
            raise SharedStoreUnavailable("The database has not acknowledged a write.")
        return _term_of(reply.get("electionId"))


def _term_in(description: TopologyDescription) -> int:
    """Return the highest term in the driver's view of the servers."""
    servers = description.server_descriptions().values()  # with directConnection, only they have it
    found = [description.max_election_id, *(server.election_id for server in servers)]
    return max(map(_term_of, found))


def _term_of(election_id: ObjectId | None) -> int:
    if election_id is None or not election_id.binary.startswith(_OF_TERM):
        return 0
    return int.from_bytes(election_id.binary[len(_OF_TERM) :], "big")
