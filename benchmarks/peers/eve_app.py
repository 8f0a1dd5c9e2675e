"""The members' resource on Eve, under gunicorn: settings, and PyJWT in its class for tokens.

Eve has no cache, and none is added, as in most installations.
"""

import os
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from eve import Eve
from eve.auth import TokenAuth

ISSUER, AUDIENCE = os.environ["PEER_ISSUER"], os.environ["PEER_AUDIENCE"]
# Read once: PyJWT would parse the text of a key at each request.
PUBLIC_KEY = load_pem_public_key(os.environ["PEER_PUBLIC_KEY"].encode())
OWN_FIELDS = ("_updated", "_created", "_etag", "_status", "version")

SETTINGS = {
    "MONGO_URI": os.environ["PEER_MONGODB_URI"],
    "MONGO_DBNAME": os.environ["PEER_DATABASE"],
    "ITEMS": "items",
    "QUERY_MAX_RESULTS": "limit",
    "PAGINATION_LIMIT": 1000,
    "HATEOAS": False,
    "XML": False,
    "ENFORCE_IF_MATCH": False,
    "BANDWIDTH_SAVER": False,
    # By default, Eve does not wait until a majority has a write. All others here do.
    "MONGO_WRITE_CONCERN": {"w": "majority"},
    # By default, Eve counts the whole collection for each page.
    "OPTIMIZE_PAGINATION_FOR_SPEED": True,
    "DOMAIN": {
        "members": {
            "item_url": "int",
            "item_methods": ["GET", "PUT"],
            "resource_methods": ["GET"],
            "schema": {
                "_id": {"type": "integer"},
                "name": {
                    "type": "string",
                    "minlength": 1,
                    "maxlength": 255,
                    "required": True,
                    "unique": True,
                },
                "email": {"type": "string", "nullable": True},
                "phone": {"type": "string", "nullable": True},
            },
            "allowed_read_roles": ["members:read"],
            "allowed_item_read_roles": ["members:read"],
            "allowed_item_write_roles": ["members:write"],
        }
    },
}


class BearerAuth(TokenAuth):
    """Eve's roles are the words of the token's scope."""

    def check_auth(
        self,
        token: str,
        allowed_roles: list[str],
        resource: str,
        method: str,
    ) -> bool:
        """True if the token is valid and has one of the roles."""
        try:
            claims = jwt.decode(
                token, PUBLIC_KEY, algorithms=["RS256"], audience=AUDIENCE, issuer=ISSUER
            )
        except jwt.InvalidTokenError:
            return False
        return bool(set(allowed_roles) & set(claims.get("scope", "").split()))


def to_member(_resource: str, item: dict[str, Any]) -> None:
    """Give a member the fields that it has in the responses of the other services."""
    item["memberId"] = item.pop("_id")
    for field in OWN_FIELDS:
        item.pop(field, None)


def to_members(_resource: str, response: dict[str, Any]) -> None:
    """Do the same for a page."""
    for item in response["items"]:
        to_member("", item)


app = Eve(settings=SETTINGS, auth=BearerAuth)
app.on_fetched_item += to_member
app.on_fetched_resource += to_members
