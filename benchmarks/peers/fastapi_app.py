"""The members' resource on FastAPI: PyMongo's async client, aiomcache, PyJWT in a dependency.

Reads use the cache, and on a miss MongoDB, and then fill the cache; writes remove the entry. The
cache contains the JSON of responses, so a hit is sent without building a model.
"""

import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import md5
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import aiomcache
import jwt
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field
from pymongo import AsyncMongoClient, ReturnDocument
from pymongo.errors import DuplicateKeyError

DATABASE = os.environ["PEER_DATABASE"]
ISSUER, AUDIENCE = os.environ["PEER_ISSUER"], os.environ["PEER_AUDIENCE"]
# Read once: PyJWT would parse the text of a key at each request.
PUBLIC_KEY = load_pem_public_key(os.environ["PEER_PUBLIC_KEY"].encode())
CACHE_SECONDS = 300


class MemberIn(BaseModel):
    """The fields of a member in a request."""

    name: str = Field(min_length=1, max_length=255)
    email: str | None = None
    phone: str | None = None


class MemberChange(BaseModel):
    """The fields of a member that a request changes."""

    name: str | None = Field(default=None, min_length=1, max_length=255)
    email: str | None = None
    phone: str | None = None


class Member(MemberIn):
    """A member."""

    memberId: int = Field(validation_alias="_id")


class Lookup(BaseModel):
    """The ids of members."""

    memberIds: list[int] = Field(max_length=1000)


class Page(BaseModel):
    """A page of a list."""

    items: list[Member]
    next: str | None


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the clients in the event loop that serves."""
    host, _, port = os.environ["PEER_MEMCACHED"].rpartition(":")
    app.state.mongo = AsyncMongoClient(os.environ["PEER_MONGODB_URI"])
    app.state.members = app.state.mongo[DATABASE].members
    # With the default pool of 2 connections, 32 concurrent requests would wait for each other.
    app.state.cache = aiomcache.Client(host, int(port), pool_size=32)
    yield
    await app.state.cache.close()
    await app.state.mongo.close()


app = FastAPI(lifespan=lifespan)
bearer = HTTPBearer()


def requires(permission: str) -> Callable[..., Awaitable[None]]:
    """Return a dependency that requires a valid token whose scope has the permission."""

    async def check(
        credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)],
    ) -> None:
        try:
            claims = jwt.decode(
                credentials.credentials,
                PUBLIC_KEY,
                algorithms=["RS256"],
                audience=AUDIENCE,
                issuer=ISSUER,
            )
        except jwt.InvalidTokenError as error:
            raise HTTPException(401, "The token is not valid") from error
        if permission not in claims.get("scope", "").split():
            raise HTTPException(403, "The token does not permit this")

    return check


def cache_key(member_id: int) -> bytes:
    """Return the cache key of a member."""
    return f"{DATABASE}:{member_id}".encode()


def respond(request: Request, body: bytes) -> Response:
    """Return the JSON with an ETag of its contents, or a 304 if the client has it."""
    etag = f'"{md5(body, usedforsecurity=False).hexdigest()}"'
    if request.headers.get("If-None-Match") == etag:
        return Response(status_code=304, headers={"ETag": etag})
    return Response(body, media_type="application/json", headers={"ETag": etag})


@app.get("/members/{member_id}", dependencies=[Depends(requires("members:read"))])
async def get_member(request: Request, member_id: int) -> Response:
    """Return a member, from the cache or else from MongoDB."""
    key = cache_key(member_id)
    body = await request.app.state.cache.get(key)
    if body is None:
        document = await request.app.state.members.find_one({"_id": member_id})
        if document is None:
            raise HTTPException(404, "There is no such member")
        body = Member.model_validate(document).model_dump_json().encode()
        await request.app.state.cache.set(key, body, exptime=CACHE_SECONDS)
    return respond(request, body)


@app.put("/members/{member_id}", dependencies=[Depends(requires("members:write"))])
async def put_member(request: Request, member_id: int, member: MemberIn) -> Response:
    """Replace the contents of a member."""
    return await update(request, member_id, member.model_dump())


@app.patch("/members/{member_id}", dependencies=[Depends(requires("members:write"))])
async def patch_member(request: Request, member_id: int, change: MemberChange) -> Response:
    """Change some fields of a member."""
    changed = change.model_dump(exclude_unset=True)
    if changed.get("name", "") is None:
        raise HTTPException(422, "The name cannot be removed")
    return await update(request, member_id, changed)


async def update(request: Request, member_id: int, changed: dict[str, Any]) -> Response:
    """Set fields of a member, and return the member."""
    if "name" in changed:
        changed["words"] = changed["name"].lower().split()
    try:
        document = await request.app.state.members.find_one_and_update(
            {"_id": member_id}, {"$set": changed}, return_document=ReturnDocument.AFTER
        )
    except DuplicateKeyError as error:
        raise HTTPException(409, "The name is taken") from error
    if document is None:
        raise HTTPException(404, "There is no such member")
    await request.app.state.cache.delete(cache_key(member_id))
    return respond(request, Member.model_validate(document).model_dump_json().encode())


@app.post("/members/lookup", dependencies=[Depends(requires("members:read"))])
async def look_up_members(request: Request, lookup: Lookup) -> Response:
    """Return the members with these ids."""
    return await get_batch(request, list(dict.fromkeys(lookup.memberIds)))


async def get_batch(request: Request, ids: list[int]) -> Response:
    """Return several members, from the cache or else from MongoDB by one query."""
    cache = request.app.state.cache
    bodies = dict(zip(ids, await cache.multi_get(*map(cache_key, ids)), strict=True))
    unknown = [member_id for member_id, body in bodies.items() if body is None]
    if unknown:
        async for document in request.app.state.members.find({"_id": {"$in": unknown}}):
            body = Member.model_validate(document).model_dump_json().encode()
            bodies[document["_id"]] = body
            await cache.set(cache_key(document["_id"]), body, exptime=CACHE_SECONDS)
    items = b",".join(body for body in bodies.values() if body is not None)
    missing = ",".join(str(member_id) for member_id, body in bodies.items() if body is None)
    content = b'{"items":[%b],"missing":[%b],"next":null}' % (items, missing.encode())
    return Response(content, media_type="application/json")


@app.get("/members", dependencies=[Depends(requires("members:read"))])
async def list_members(
    request: Request,
    *,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    after: str | None = None,
    sort: Literal["memberId", "name"] = "memberId",
    q: str | None = None,
    memberId: str | None = None,
) -> Response:
    """Return a page of all members or of those with a word, or the members with these ids."""
    if memberId is not None:
        try:
            ids = list(dict.fromkeys(map(int, memberId.split(","))))
        except ValueError as error:
            raise HTTPException(400, "The ids are not numbers") from error
        return await get_batch(request, ids)
    key = "_id" if sort == "memberId" else "name"
    query: dict[str, Any] = {"words": {"$regex": f"^{re.escape(q.lower())}"}} if q else {}
    if after is not None:
        query[key] = {"$gt": int(after) if key == "_id" else after}
    found = request.app.state.members.find(query).sort(key).limit(limit)
    members = [Member.model_validate(document) for document in await found.to_list()]
    following = None
    if len(members) == limit:
        words = {"q": q} if q else {}
        page = {"limit": limit, "sort": sort, **words, "after": getattr(members[-1], sort)}
        following = f"/members?{urlencode(page)}"
    page = Page(items=members, next=following)
    return Response(page.model_dump_json(), media_type="application/json")
