"""The members' resource on Flask, under gunicorn, with PyMongo and pymemcache.

Reads use the cache, and on a miss MongoDB, and then fill the cache; writes remove the entry. PyJWT
is called directly, with a key that was parsed once; an extension would do the same and more.
"""

import json
import os
from collections.abc import Callable
from functools import wraps
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from flask import Flask, Response, abort, request
from pymemcache.client.base import PooledClient
from pymongo import MongoClient, ReturnDocument
from pymongo.errors import DuplicateKeyError

DATABASE = os.environ["PEER_DATABASE"]
ISSUER, AUDIENCE = os.environ["PEER_ISSUER"], os.environ["PEER_AUDIENCE"]
# Read once: PyJWT would parse the text of a key at each request.
PUBLIC_KEY = load_pem_public_key(os.environ["PEER_PUBLIC_KEY"].encode())
CACHE_SECONDS = 300

app = Flask(__name__)
# gunicorn imports this in each worker, after the fork.
members = MongoClient(os.environ["PEER_MONGODB_URI"])[DATABASE].members
cache = PooledClient(os.environ["PEER_MEMCACHED"], no_delay=True)


def requires(permission: str) -> Callable[..., Any]:
    """Return a decorator of views that requires a valid token with the permission."""

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def checked(**arguments: Any) -> Any:
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            if scheme.lower() != "bearer":
                abort(401)
            try:
                claims = jwt.decode(
                    token, PUBLIC_KEY, algorithms=["RS256"], audience=AUDIENCE, issuer=ISSUER
                )
            except jwt.InvalidTokenError:
                abort(401)
            if permission not in claims.get("scope", "").split():
                abort(403)
            return view(**arguments)

        return checked

    return decorate


def to_dict(document: dict[str, Any]) -> dict[str, Any]:
    """Return the member of a document, as responses contain it."""
    return {
        "memberId": document["_id"],
        "name": document["name"],
        "email": document["email"],
        "phone": document["phone"],
    }


def respond(body: bytes) -> Response:
    """Return the JSON with Werkzeug's ETag of its contents, or a 304 if the client has it."""
    response = Response(body, mimetype="application/json")
    response.add_etag()
    return response.make_conditional(request)


@app.get("/members/<int:member_id>")
@requires("members:read")
def get_member(member_id: int) -> Response:
    """Return a member, from the cache or else from MongoDB."""
    key = f"{DATABASE}:{member_id}"
    body = cache.get(key)
    if body is None:
        document = members.find_one({"_id": member_id})
        if document is None:
            abort(404)
        body = json.dumps(to_dict(document)).encode()
        cache.set(key, body, expire=CACHE_SECONDS)
    return respond(body)


@app.put("/members/<int:member_id>")
@requires("members:write")
def put_member(member_id: int) -> Response:
    """Replace the contents of a member."""
    body = request.get_json()
    if not isinstance(body.get("name"), str):
        abort(400)
    member = {"name": body["name"], "email": body.get("email"), "phone": body.get("phone")}
    try:
        document = members.find_one_and_update(
            {"_id": member_id}, {"$set": member}, return_document=ReturnDocument.AFTER
        )
    except DuplicateKeyError:
        abort(409)
    if document is None:
        abort(404)
    cache.delete(f"{DATABASE}:{member_id}")
    return respond(json.dumps(to_dict(document)).encode())


@app.get("/members")
@requires("members:read")
def list_members() -> Response:
    """Return a page of members, in the order of their ids."""
    limit = request.args.get("limit", 50, type=int)
    after = request.args.get("after", 0, type=int)
    found = members.find({"_id": {"$gt": after}}).sort("_id").limit(limit)
    items = [to_dict(document) for document in found]
    full = len(items) == limit
    following = f"/members?limit={limit}&after={items[-1]['memberId']}" if full else None
    return Response(json.dumps({"items": items, "next": following}), mimetype="application/json")
