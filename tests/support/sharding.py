"""Predicts the routes of commands on a collection `members` that is sharded by `_id`.

No router runs in the tests. These are MongoDB 6.0's rules, from its manual:

- "Sharded Collections" of findAndModify, updateOne, replaceOne and deleteOne: the filter has to
  contain an equality condition on the shard key, and so has that of an upsert. 7.1 and later accept
  more. https://www.mongodb.com/docs/v6.0/reference/method/db.collection.findAndModify/
- "Unique Indexes in Sharded Collections": a unique index has to begin with the shard key.
  https://www.mongodb.com/docs/v6.0/core/index-unique/
- "Targeted Operations vs. Broadcast Operations": a filter without the shard key is sent to all
  shards. https://www.mongodb.com/docs/v6.0/core/sharded-cluster-query-router/
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, ClassVar

from pymongo import monitoring

from tornado_members.storage.operations import SendingListener

SHARDED = "members"


class Route(StrEnum):
    """The destination of a command behind a router."""

    TARGETED = "targeted"  # to the shards that have the ids
    SCATTERED = "scattered"  # to all shards
    REFUSED = "refused"


def routes(command: str, body: Mapping[str, Any]) -> Iterator[Route]:
    """Yield the route of each part of a command; nothing if it is not on the sharded collection."""
    if body.get(command) != SHARDED:
        return
    if command == "insert":
        yield Route.TARGETED
    elif command == "findAndModify":
        yield _of_one(body["query"])
    elif command == "update":
        for update in body["updates"]:
            yield _of_many(update["q"]) if update.get("multi") else _of_one(update["q"])
    elif command == "delete":
        for delete in body["deletes"]:
            yield _of_one(delete["q"]) if delete["limit"] else _of_many(delete["q"])
    elif command == "find":
        yield _of_many(body.get("filter", {}))
    elif command == "count":
        yield _of_many(body.get("query", {}))
    elif command == "aggregate":
        first: Mapping[str, Any] = next(iter(body["pipeline"]), {})
        yield _of_many(first.get("$match", {}))
    elif command == "createIndexes":
        for index in body["indexes"]:
            is_refused = index.get("unique") and next(iter(index["key"])) != "_id"
            yield Route.REFUSED if is_refused else Route.SCATTERED


def _of_one(query: Mapping[str, Any]) -> Route:
    """Return the route of a write of one document: `_id` comes first, outside of any $and."""
    if next(iter(query), None) != "_id":
        return Route.REFUSED
    condition = query["_id"]
    is_equality = not isinstance(condition, Mapping) or set(condition) == {"$eq"}
    return Route.TARGETED if is_equality else Route.REFUSED


def _of_many(query: Mapping[str, Any]) -> Route:
    condition = query.get("_id", {})
    is_named = not isinstance(condition, Mapping) or bool({"$eq", "$in"} & set(condition))
    return Route.TARGETED if is_named else Route.SCATTERED


class RoutedCommands(SendingListener):
    """Notes the routes of the commands that the service sends; replaces SendingListener."""

    seen: ClassVar[list[tuple[str, Route, Mapping[str, Any]]]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Note the routes of a command."""
        super().started(event)
        for route in routes(event.command_name, event.command):
            RoutedCommands.seen.append((event.command_name, route, event.command))

    @classmethod
    def refused(cls) -> list[Mapping[str, Any]]:
        """Return the commands that a router would refuse, but for the unique index of names."""
        return [
            body
            for command, route, body in cls.seen
            if route is Route.REFUSED and command != "createIndexes"
        ]
