"""Passwords and their hashes, with the parameters of production."""

from functools import partial

import pytest
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from tornado_members.auth import passwords
from tornado_members.auth.passwords import Passwords, hash_password
from tornado_members.errors import DependencyUnavailable


async def test_password_matches_its_hash() -> None:
    hashed = hash_password("caf\u00e9 au lait")
    assert hashed.startswith("$argon2id$v=19$m=65536,t=3,p=4$")  # RFC 9106 §4
    made = Passwords()
    assert await made.verify("cafe\u0301 au lait", hashed)
    assert not await made.verify("Cafe au lait", hashed)
    assert not await made.verify("nobody's", None)
    for nonsense in ("", "x", "$argon2id$", "$2b$12$abcdefghijklmnopqrstuv"):
        assert not await made.verify("caf\u00e9 au lait", nonsense)
    assert await made.rehash("caf\u00e9 au lait", hashed) is None
    made.close()


def test_hash_of_unknown_users_has_the_same_parameters() -> None:
    """The hash is also ready: no start of a service computes it."""
    assert not PasswordHasher().check_needs_rehash(passwords._DUMMY_HASH)
    made = Passwords()
    assert made._dummy_hash.result(timeout=0) == passwords._DUMMY_HASH
    made.close()


async def test_hash_of_unknown_users_follows_other_parameters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    little = partial(PasswordHasher, time_cost=1, memory_cost=1024, parallelism=1)
    monkeypatch.setattr(passwords, "PasswordHasher", little)
    made = Passwords()
    assert not await made.verify("nobody's", None)
    assert not little().check_needs_rehash(made._dummy_hash.result())
    made.close()


async def test_lack_of_memory_is_not_reported_as_a_wrong_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> bool:
        raise VerificationError("Memory allocation error")

    made = Passwords()
    monkeypatch.setattr(PasswordHasher, "verify", fail)
    with pytest.raises(DependencyUnavailable):
        await made.verify("password", "hash")
    made.close()
