"""The members' resource on plain Tornado with Motor and aiomcache, written as in their guides.

Reads use the cache, and on a miss MongoDB, and then fill the cache; writes remove the entry.
Tornado itself gives each response an ETag of its contents, and sends a 304 to a client that has it.
"""

import asyncio
import json
import os
from typing import Any

import aiomcache
import jwt
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.process import fork_processes
from tornado.web import Application, HTTPError, RequestHandler

DATABASE = os.environ["PEER_DATABASE"]
ISSUER, AUDIENCE = os.environ["PEER_ISSUER"], os.environ["PEER_AUDIENCE"]
# Read once: PyJWT would parse the text of a key at each request.
PUBLIC_KEY = load_pem_public_key(os.environ["PEER_PUBLIC_KEY"].encode())
CACHE_SECONDS = 300


def cache_key(member_id: int) -> bytes:
    """Return the cache key of a member."""
    return f"{DATABASE}:{member_id}".encode()


def to_dict(document: dict[str, Any]) -> dict[str, Any]:
    """Return the member of a document, as responses contain it."""
    return {
        "memberId": document["_id"],
        "name": document["name"],
        "email": document["email"],
        "phone": document["phone"],
    }


class BaseHandler(RequestHandler):
    """The base of handlers: the caller and its permissions."""

    permissions = {
        "GET": "members:read",
        "PUT": "members:write",
        "PATCH": "members:write",
        "POST": "members:read",  # a lookup
    }

    def initialize(self, members: Any, cache: aiomcache.Client) -> None:
        self.members = members
        self.cache = cache

    def prepare(self) -> None:
        """Refuse the request unless its token is valid and has the permission."""
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise HTTPError(401)
        try:
            claims = jwt.decode(
                token, PUBLIC_KEY, algorithms=["RS256"], audience=AUDIENCE, issuer=ISSUER
            )
        except jwt.InvalidTokenError as error:
            raise HTTPError(401) from error
        if self.permissions[self.request.method] not in claims.get("scope", "").split():
            raise HTTPError(403)

    def set_default_headers(self) -> None:
        self.set_header("Content-Type", "application/json")


class MemberHandler(BaseHandler):
    """/members/{memberId}"""

    async def get(self, text: str) -> None:
        """Send a member, from the cache or else from MongoDB."""
        member_id = int(text)
        key = cache_key(member_id)
        body = await self.cache.get(key)
        if body is None:
            document = await self.members.find_one({"_id": member_id})
            if document is None:
                raise HTTPError(404)
            body = json.dumps(to_dict(document)).encode()
            await self.cache.set(key, body, exptime=CACHE_SECONDS)
        self.finish(body)

    async def put(self, text: str) -> None:
        """Replace the contents of a member."""
        try:
            body = json.loads(self.request.body)
            member = {"name": body["name"], "email": body.get("email"), "phone": body.get("phone")}
        except (ValueError, LookupError) as error:
            raise HTTPError(400) from error
        await self.update(int(text), member)

    async def patch(self, text: str) -> None:
        """Change some fields of a member."""
        try:
            body = json.loads(self.request.body)
            changed = {key: body[key] for key in ("name", "email", "phone") if key in body}
        except (ValueError, TypeError) as error:
            raise HTTPError(400) from error
        if not changed or changed.get("name", "") is None:
            raise HTTPError(400)
        await self.update(int(text), changed)

    async def update(self, member_id: int, changed: dict[str, Any]) -> None:
        """Set fields of a member, and send the member."""
        try:
            document = await self.members.find_one_and_update(
                {"_id": member_id}, {"$set": changed}, return_document=ReturnDocument.AFTER
            )
        except DuplicateKeyError as error:
            raise HTTPError(409) from error
        if document is None:
            raise HTTPError(404)
        await self.cache.delete(cache_key(member_id))
        self.finish(json.dumps(to_dict(document)))


class BatchHandler(BaseHandler):
    """The base of handlers of several members by their ids."""

    async def send_batch(self, ids: list[int]) -> None:
        """Send several members, from the cache or else from MongoDB by one query."""
        bodies = dict(zip(ids, await self.cache.multi_get(*map(cache_key, ids)), strict=True))
        unknown = [member_id for member_id, body in bodies.items() if body is None]
        if unknown:
            async for document in self.members.find({"_id": {"$in": unknown}}):
                body = json.dumps(to_dict(document)).encode()
                bodies[document["_id"]] = body
                await self.cache.set(cache_key(document["_id"]), body, exptime=CACHE_SECONDS)
        items = b",".join(body for body in bodies.values() if body is not None)
        missing = ",".join(str(member_id) for member_id, body in bodies.items() if body is None)
        self.finish(b'{"items":[%b],"missing":[%b],"next":null}' % (items, missing.encode()))


class LookupHandler(BatchHandler):
    """/members/lookup"""

    async def post(self) -> None:
        """Send the members with these ids."""
        try:
            ids = list(dict.fromkeys(map(int, json.loads(self.request.body)["memberIds"])))
        except (ValueError, LookupError, TypeError) as error:
            raise HTTPError(400) from error
        await self.send_batch(ids)


class MembersHandler(BatchHandler):
    """/members"""

    async def get(self) -> None:
        """Send the members with these ids, or a page of members in the order of their ids."""
        listed = self.get_query_argument("memberId", None)
        if listed is not None:
            try:
                ids = list(dict.fromkeys(map(int, listed.split(","))))
            except ValueError as error:
                raise HTTPError(400) from error
            await self.send_batch(ids)
            return
        limit = int(self.get_query_argument("limit", "50"))
        after = int(self.get_query_argument("after", "0"))
        found = self.members.find({"_id": {"$gt": after}}).sort("_id").limit(limit)
        items = [to_dict(document) for document in await found.to_list(limit)]
        full = len(items) == limit
        following = f"/members?limit={limit}&after={items[-1]['memberId']}" if full else None
        self.finish(json.dumps({"items": items, "next": following}))


def make_app() -> Application:
    """Return the application with its clients."""
    host, _, port = os.environ["PEER_MEMCACHED"].rpartition(":")
    services = {
        "members": AsyncIOMotorClient(os.environ["PEER_MONGODB_URI"])[DATABASE].members,
        # With the default pool of 2 connections, 32 concurrent requests would wait for each other.
        "cache": aiomcache.Client(host, int(port), pool_size=32),
    }
    return Application(
        [
            (r"/members/([0-9]+)", MemberHandler, services),
            (r"/members/lookup", LookupHandler, services),
            (r"/members", MembersHandler, services),
        ]
    )


async def main(sockets: list[Any]) -> None:
    """Serve until the process is killed."""
    HTTPServer(make_app()).add_sockets(sockets)
    await asyncio.Event().wait()


if __name__ == "__main__":
    listening = bind_sockets(int(os.environ["PEER_PORT"]), "127.0.0.1")
    processes = int(os.environ["PEER_PROCESSES"])
    if processes > 1:
        fork_processes(processes)  # before anything else, as in the guide
    asyncio.run(main(listening))
