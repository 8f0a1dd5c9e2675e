"""Passwords and their hashes, with the care that is taken in production."""

import pytest
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from tornado_members.auth.passwords import Passwords, hash_password
from tornado_members.errors import DependencyAway


async def test_a_password_is_known_by_its_hash() -> None:
    hashed = hash_password("caf\u00e9 au lait")
    assert hashed.startswith("$argon2id$v=19$m=65536,t=3,p=4$")  # RFC 9106 §4
    passwords = Passwords()
    assert await passwords.verify("cafe\u0301 au lait", hashed)
    assert not await passwords.verify("Cafe au lait", hashed)
    assert not await passwords.verify("nobody's", None)
    for nonsense in ("", "x", "$argon2id$", "$2b$12$abcdefghijklmnopqrstuv"):
        assert not await passwords.verify("caf\u00e9 au lait", nonsense)
    assert await passwords.rehash("caf\u00e9 au lait", hashed) is None
    passwords.close()


async def test_without_memory_nobody_is_told_that_the_password_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> bool:
        raise VerificationError("Memory allocation error")

    passwords = Passwords()
    monkeypatch.setattr(PasswordHasher, "verify", fail)
    with pytest.raises(DependencyAway):
        await passwords.verify("password", "hash")
    passwords.close()
