"""Users in MongoDB: their names, password hashes, and the rights of their tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import Int64
from pymongo import ASCENDING, IndexModel
from pymongo.errors import DuplicateKeyError

from tornado_members.model.member import MAX_MEMBER_ID
from tornado_members.storage.mongo import Document, Mongo
from tornado_members.storage.operations import translate_outages

_CLOCK_SLACK = timedelta(hours=1)  # that this machine's clock may differ from MongoDB's
_GENERATION = {"$ifNull": ["$generation", Int64(1)]}
_RAISED = {"$add": [_GENERATION, Int64(1)]}


@dataclass(frozen=True, slots=True)
class User:
    """A user of the login.

    `generation` is raised by every change that revokes issued tokens: fewer rights, another
    password, another member, removal. A token carries the generation of its issue.
    """

    username: str
    password_hash: str
    access_rights: int
    generation: int
    member_id: int | None = None  # the user's own member

    @property
    def is_blocked(self) -> bool:
        """True if the user has no permissions."""
        return self.access_rights == 0 and self.member_id is None


@dataclass(frozen=True, slots=True, kw_only=True)
class UserChange:
    """A change of a user; None leaves a value unchanged."""

    access_rights: int | None = None
    password_hash: str | None = None
    member_id: int | None = None
    changes_member: bool = False  # if True, `member_id` is set, also to None

    def to_stage(self) -> Document:
        """Return the fields of a `$set` stage. It revokes issued tokens where needed."""
        fields: Document = {}
        revokes: Any = False
        if self.access_rights is not None:
            fields["access_rights"] = self.access_rights
            revokes = {"$lt": [self.access_rights, "$access_rights"]}
        if self.password_hash is not None:
            # $literal: a hash begins with a dollar sign and would be read as a field path.
            fields["password_hash"] = {"$literal": self.password_hash}
            revokes = True
        if self.changes_member:
            fields["member_id"] = _stored(self.member_id)
            revokes = True
        fields["generation"] = {"$cond": [revokes, _RAISED, _GENERATION]}
        fields["revoked_at"] = {"$cond": [revokes, "$$NOW", "$revoked_at"]}
        return fields


@dataclass(frozen=True, slots=True)
class UserState:
    """The current rights of a user whose tokens may be revoked."""

    access_rights: int
    generation: int
    member_id: int | None = None

    @property
    def is_blocked(self) -> bool:
        """True if the user has no permissions."""
        return self.access_rights == 0 and self.member_id is None


class UserStore:
    """The users of the login. Methods raise DependencyUnavailable during an outage of MongoDB.

    The name of a removed user is kept without rights until all of its tokens have expired.
    """

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo
        self._users = mongo.database["users"]

    @translate_outages
    async def prepare(self) -> None:
        """Create the unique index of names, and the indexes that find revoked tokens."""
        await self._users.create_indexes(
            [
                IndexModel([("username", ASCENDING)], unique=True),
                IndexModel([("access_rights", ASCENDING), ("revoked_at", ASCENDING)]),
                IndexModel([("revoked_at", ASCENDING)], sparse=True),
                IndexModel([("expires_at", ASCENDING)], sparse=True, expireAfterSeconds=0),
            ]
        )

    @translate_outages
    async def find_user(self, username: str) -> User | None:
        """Return the user with this name."""
        return _to_user(await self._users.find_one(_present(username)))

    @translate_outages
    async def list_users(self, *, after: str = "", limit: int = 0) -> list[User]:
        """Return users in the order of names, after `after`; at most `limit`, or all if it is 0."""
        present = {"expires_at": None, "username": {"$type": "string", "$gt": after}}
        cursor = self._users.find(present, sort=[("username", ASCENDING)], limit=limit)
        users = map(_to_user, await cursor.to_list(None))
        return [user for user in users if user is not None]

    @translate_outages
    async def add(
        self, username: str, password_hash: str, access_rights: int, member_id: int | None = None
    ) -> bool:
        """Store a new user; False if the name is taken. `member_id` is the user's own member."""
        now = datetime.now(UTC)
        removed = {"username": username, "expires_at": {"$ne": None}}
        fields = {
            "password_hash": password_hash,
            "access_rights": access_rights,
            "member_id": _stored(member_id),
        }
        back = {"$set": fields, "$unset": {"expires_at": 1}}
        revived = await self._users.update_one(removed, back)
        if revived.matched_count:
            return True
        try:
            await self._users.insert_one(
                {"username": username, **fields, "generation": Int64(1), "revoked_at": now}
            )
        except DuplicateKeyError:
            return False
        return True

    async def set_rights(self, username: str, access_rights: int) -> bool:
        """Change what a user may do; fewer rights end the tokens already issued."""
        return await self.change(username, UserChange(access_rights=access_rights))

    async def set_member(self, username: str, member_id: int | None) -> bool:
        """Bind a user to a member, or to none, which revokes the tokens already issued."""
        return await self.change(username, UserChange(member_id=member_id, changes_member=True))

    async def set_password(self, username: str, password_hash: str) -> bool:
        """Change a user's password, which ends the tokens already issued."""
        return await self.change(username, UserChange(password_hash=password_hash))

    async def change(self, username: str, change: "UserChange") -> bool:
        """Change several values of a user at once; False if no user has this name."""
        return await self._change(username, change.to_stage())

    @translate_outages
    async def renew_hash(self, user: User, password_hash: str) -> None:
        """Store a new hash of the same password, unless the password was changed meanwhile."""
        matching = {"username": user.username, "password_hash": user.password_hash}
        await self._users.update_one(matching, {"$set": {"password_hash": password_hash}})

    async def remove(self, username: str, keep: float) -> bool:
        """Remove a user. The name is kept for `keep` seconds, the longest that a token may live."""
        return await self._change(
            username,
            {
                "password_hash": "",
                "access_rights": 0,
                "member_id": None,
                "generation": _RAISED,
                "revoked_at": "$$NOW",
                "expires_at": {"$add": ["$$NOW", Int64(keep * 1000)]},
            },
        )

    @translate_outages
    async def find_revoked(self, seconds: float) -> dict[str, UserState]:
        """Return the users whose tokens were revoked in the last `seconds`.

        Tokens that were revoked before have expired. Users without rights are included if the time
        is unknown, because another program blocked them.
        """
        since = datetime.now(UTC) - timedelta(seconds=seconds) - _CLOCK_SLACK
        blocked = {"access_rights": {"$in": [0, None]}, "revoked_at": None}
        cursor = self._users.find(
            {"username": {"$type": "string"}, "$or": [blocked, {"revoked_at": {"$gt": since}}]},
            {"username": 1, "access_rights": 1, "generation": 1, "member_id": 1},
        )
        return {
            user.username: UserState(user.access_rights, user.generation, user.member_id)
            for user in map(_to_user, await cursor.to_list(None))
            if user is not None
        }

    @translate_outages
    async def _change(self, username: str, fields: Mapping[str, Any]) -> bool:
        """Change a user. False if no user has this name."""
        result = await self._users.update_one(_present(username), [{"$set": dict(fields)}])
        return result.matched_count == 1


def _present(username: str) -> Document:
    return {"username": username, "expires_at": None}


def _to_user(document: Mapping[str, Any] | None) -> User | None:
    """Return the user in a document; None without a document, or if its name is not a string.

    In documents of other programs, fields may be missing or have other types. A filter for a name
    also finds a list with that name in it.
    """
    if document is None or not isinstance(document.get("username"), str):
        return None
    password_hash = document.get("password_hash")
    member_id = _whole(document.get("member_id"), otherwise=0)
    return User(
        username=document["username"],
        password_hash=password_hash if isinstance(password_hash, str) else "",
        access_rights=_whole(document.get("access_rights"), otherwise=0),
        generation=_whole(document.get("generation"), otherwise=1),
        member_id=member_id if 1 <= member_id <= MAX_MEMBER_ID else None,
    )


def _stored(member_id: int | None) -> Int64 | None:
    return None if member_id is None else Int64(member_id)


def _whole(value: object, otherwise: int) -> int:
    """Return a whole number, which some shells store as a float."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        return int(value)
    return otherwise
