"""The users of the login, as administrators manage them over HTTP."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tornado_members.auth.login import is_username, normalize_username
from tornado_members.auth.passwords import MAX_PASSWORD_LENGTH, MIN_PASSWORD_LENGTH, Passwords
from tornado_members.errors import Fault, InvalidUser, UsernameTaken, UserNotFound
from tornado_members.model.member import MAX_MEMBER_ID
from tornado_members.model.strict_json import has_lone_surrogate, integer_of, json_pointer
from tornado_members.storage.users import User, UserChange, UserStore

MAX_RIGHTS: Final = 3
_DOTS: Final = frozenset({".", ".."})  # segments of a path that have a meaning (RFC 3986 §3.3)


@dataclass(frozen=True, slots=True)
class UserDraft:
    """A user to create."""

    username: str
    password: str
    access_rights: int
    member_id: int | None


class UserAccounts:
    """Manages users. Methods raise DependencyUnavailable if MongoDB does not reply in time."""

    def __init__(self, users: UserStore, passwords: Passwords, keep_seconds: float) -> None:
        """`keep_seconds` is the longest time for which a token is valid."""
        self._users = users
        self._passwords = passwords
        self._keep_seconds = keep_seconds

    async def page(self, *, after: str, limit: int) -> list[User]:
        """Return at most `limit` users in the order of their names, beginning after `after`."""
        return await self._users.list_users(after=after, limit=limit)

    async def find(self, username: str) -> User:
        """Return a user. Raises UserNotFound."""
        user = await self._users.find_user(normalize_username(username))
        if user is None:
            raise UserNotFound
        return user

    async def add(self, draft: UserDraft) -> User:
        """Store a new user. Raises UsernameTaken."""
        hashed = await self._passwords.hash(draft.password)
        if not await self._users.add(draft.username, hashed, draft.access_rights, draft.member_id):
            raise UsernameTaken
        return await self.find(draft.username)

    async def change(self, username: str, patch: Mapping[str, Any]) -> User:
        """Apply a patch that parse_patch() returned. Raises UserNotFound."""
        user = await self.find(username)  # before a password is hashed
        password = patch.get("password")
        change = UserChange(
            access_rights=patch.get("accessRights"),
            password_hash=await self._passwords.hash(password) if password is not None else None,
            member_id=patch.get("memberId"),
            # Setting the member that a user already has would end its tokens needlessly.
            changes_member="memberId" in patch and patch["memberId"] != user.member_id,
        )
        if not await self._users.change(user.username, change):
            raise UserNotFound
        return await self.find(user.username)

    async def remove(self, username: str) -> None:
        """Remove a user and end its tokens. Raises UserNotFound."""
        if not await self._users.remove(normalize_username(username), keep=self._keep_seconds):
            raise UserNotFound


def to_dict(user: User) -> dict[str, Any]:
    """Return a user in the form that clients receive."""
    return {
        "username": user.username,
        "accessRights": user.access_rights,
        "memberId": user.member_id,
    }


def parse_user(body: Mapping[str, Any]) -> UserDraft:
    """Return the user that a body describes. Raises InvalidUser with all faults."""
    values = _validated(body, required=("username", "password", "accessRights"))
    return UserDraft(
        values["username"], values["password"], values["accessRights"], values.get("memberId")
    )


def parse_patch(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes that a merge patch describes. Raises InvalidUser with all faults."""
    if "username" in body:
        raise InvalidUser([Fault("/username", "cannot be changed")])
    return _validated(body)


def _validated(body: Mapping[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    unknown = [name for name in body if name not in _CHECKS]
    shown = unknown[: InvalidUser.most_faults]
    faults = [Fault(json_pointer(name), "is not a field of a user") for name in shown]
    faults += [Fault(f"/{name}", "is missing") for name in required if name not in body]
    values: dict[str, Any] = {}
    for name, check in _CHECKS.items():
        if name not in body:
            continue
        try:
            values[name] = check(body[name])
        except ValueError as error:
            faults.append(Fault(f"/{name}", str(error)))
    if faults:
        raise InvalidUser(faults, unlisted=len(unknown) - len(shown))
    return values


def _check_username(value: object) -> str:
    name = normalize_username(value) if isinstance(value, str) else ""
    if not is_username(name):
        raise ValueError("must have 1 to 255 printable characters")
    if name in _DOTS:
        raise ValueError(f'is "{name}", which clients remove from URLs')
    return name


def _check_password(value: object) -> str:
    if not isinstance(value, str) or has_lone_surrogate(value):
        raise ValueError("must be a string")
    if not MIN_PASSWORD_LENGTH <= len(value) <= MAX_PASSWORD_LENGTH:
        raise ValueError(f"must have {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters")
    return value


def _check_rights(value: object) -> int:
    rights = integer_of(value)
    if rights is None or not 0 <= rights <= MAX_RIGHTS:
        raise ValueError(f"must be an integer from 0 to {MAX_RIGHTS}")
    return rights


def _check_member_id(value: object) -> int | None:
    if value is None:
        return None
    member_id = integer_of(value)
    if member_id is None or not 1 <= member_id <= MAX_MEMBER_ID:
        raise ValueError("must be the id of a member, or null")
    return member_id


_CHECKS: Final[Mapping[str, Callable[[object], Any]]] = {
    "username": _check_username,
    "password": _check_password,
    "accessRights": _check_rights,
    "memberId": _check_member_id,
}
