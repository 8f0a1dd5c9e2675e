"""Users in a real MongoDB, through both drivers."""

from typing import Any

import pymongo
import pytest
from tornado.ioloop import IOLoop

from tests.storage.conftest import EITHER_DRIVER
from tornado_members.storage.mongo import Mongo
from tornado_members.storage.users import User, UserState, UserStore

pytestmark = EITHER_DRIVER

HASH = "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA"


@pytest.fixture
def users(io_loop: IOLoop, mongo: Mongo) -> UserStore:
    users = UserStore(mongo)
    io_loop.run_sync(users.prepare)
    return users


async def test_add_refuses_a_name_that_exists(users: UserStore) -> None:
    assert await users.add("ada", HASH, 2)
    assert not await users.add("ada", "other", 3)
    assert await users.find_user("ada") == User("ada", HASH, 2, 1)
    assert await users.find_user("Ada") is None
    assert await users.add("Ada", HASH, 1)
    assert [user.username for user in await users.list_users()] == ["Ada", "ada"]


async def test_fewer_rights_end_issued_tokens_and_more_do_not(users: UserStore) -> None:
    await users.add("ada", HASH, 2)
    assert await users.set_rights("ada", 3)
    assert await users.find_user("ada") == User("ada", HASH, 3, 1)
    assert await users.find_revoked(60) == {"ada": UserState(3, 1)}  # all of whose tokens count
    assert await users.set_rights("ada", 1)
    assert await users.find_user("ada") == User("ada", HASH, 1, 2)
    assert await users.find_revoked(60) == {"ada": UserState(1, 2)}
    assert not await users.set_rights("bob", 1)


async def test_another_password_ends_issued_tokens_and_the_same_hashed_anew_does_not(
    users: UserStore,
) -> None:
    await users.add("ada", HASH, 2)
    user = await users.find_user("ada")
    assert user
    await users.renew_hash(user, "$newer")
    assert await users.find_user("ada") == User("ada", "$newer", 2, 1)
    assert await users.set_password("ada", "$other")
    await users.renew_hash(user, "$late")  # the password was changed in the meantime
    assert await users.find_user("ada") == User("ada", "$other", 2, 2)
    assert await users.find_revoked(60) == {"ada": UserState(2, 2)}


async def test_removed_user_has_no_rights_and_tokens_stay_revoked(
    users: UserStore,
) -> None:
    await users.add("ada", HASH, 2)
    assert await users.remove("ada", keep=60)
    assert not await users.remove("ada", keep=60)
    assert await users.find_user("ada") is None
    assert await users.list_users() == []
    assert not await users.set_rights("ada", 3)
    assert await users.find_revoked(60) == {"ada": UserState(0, 2)}
    assert await users.add("ada", HASH, 1)
    assert await users.find_user("ada") == User("ada", HASH, 1, 2)
    assert await users.find_revoked(60) == {"ada": UserState(1, 2)}
    assert not await users.add("ada", HASH, 1)


async def test_find_revoked_returns_a_user_until_the_tokens_have_expired(
    users: UserStore, admin: pymongo.MongoClient[dict[str, Any]]
) -> None:
    for name in ("ada", "bob", "carl"):
        await users.add(name, HASH, 3)
    await users.set_rights("ada", 0)
    await users.set_rights("bob", 1)
    longer_ago = {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 2}}
    admin["test"]["users"].update_many({}, [{"$set": {"revoked_at": longer_ago}}])
    admin["test"]["users"].insert_one({"username": "dora", "access_rights": 0})
    assert await users.find_revoked(60) == {"dora": UserState(0, 1)}  # the time is unknown
    assert set(await users.find_revoked(3 * 86400)) == {"ada", "bob", "carl", "dora"}


async def test_user_of_another_program_may_lack_fields(
    users: UserStore, admin: pymongo.MongoClient[dict[str, Any]]
) -> None:
    admin["test"]["users"].insert_one({"username": "ada", "access_rights": 2})
    assert await users.find_user("ada") == User("ada", "", 2, 1)
    assert await users.set_rights("ada", 0)
    assert await users.find_revoked(60) == {"ada": UserState(0, 2)}


async def test_documents_that_are_not_users_hide_no_users(
    users: UserStore, admin: pymongo.MongoClient[dict[str, Any]]
) -> None:
    admin["test"]["users"].insert_many(
        [
            {"access_rights": 0},
            {"username": 5, "access_rights": 0},
            {"username": "odd", "access_rights": "many", "generation": "x", "password_hash": 5},
            {"username": "unset", "access_rights": None},
            {"username": ["list", "another"], "access_rights": 0},
            {"username": "mongosh", "access_rights": 2.0, "generation": 3.0},
        ]
    )
    await users.add("ada", HASH, 2)
    await users.set_rights("ada", 0)
    assert await users.find_revoked(60) == {"ada": UserState(0, 2), "unset": UserState(0, 1)}
    assert await users.find_user("list") is None
    assert await users.find_user("odd") == User("odd", "", 0, 1)
    assert await users.find_user("mongosh") == User("mongosh", "", 2, 3)
    assert {user.username for user in await users.list_users()} == {
        "ada",
        "mongosh",
        "odd",
        "unset",
    }


async def test_removed_names_expire_in_the_database(
    users: UserStore, admin: pymongo.MongoClient[dict[str, Any]]
) -> None:
    indexes = admin["test"]["users"].index_information()
    assert indexes["username_1"]["unique"]
    assert indexes["expires_at_1"]["expireAfterSeconds"] == 0
    await users.add("ada", HASH, 2)
    await users.remove("ada", keep=60)
    document = admin["test"]["users"].find_one({"username": "ada"})
    assert document
    assert (document["expires_at"] - document["revoked_at"]).total_seconds() == 60
    assert document["password_hash"] == ""
