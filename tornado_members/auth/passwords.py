"""Passwords: their rules, and their hashing (argon2id, RFC 9106), off the event loop."""

import asyncio
import unicodedata
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from tornado_members.errors import DependencyUnavailable

LEAST_PASSWORD = 8  # characters (NIST SP 800-63B §5.1.1.2)
MOST_PASSWORD = 1024  # characters
_MOST_WAITING = 32
# Of a password that nobody knows, made with the care that is taken now.
_NOBODYS = (
    "$argon2id$v=19$m=65536,t=3,p=4$vo9vzNCzpLKr8xFVqqaBGQ$"
    "pyjDBd6HxHgAkUScbNaNpRmHlVY1axyajPSJ++a3+ms"
)
_NO_MEMORY = "Memory allocation error"  # libargon2's words


class Passwords:
    """Verifies passwords, one at a time.

    Each takes 64 MiB and four cores for a moment (RFC 9106 §4, second choice).
    """

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="passwords")
        self._turns = asyncio.Semaphore(1)
        self._waiting = 0
        # To compare with where there is no user, so that it takes as long as where there is one. To
        # make it takes a third of a second of CPU, which no start should spend.
        self._nobodys: Future[str] = Future()
        if self._hasher.check_needs_rehash(_NOBODYS):
            self._nobodys = self._thread.submit(self._hasher.hash, "nobody's")
        else:
            self._nobodys.set_result(_NOBODYS)

    def close(self) -> None:
        """Let go of the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until it is one's turn. Raises DependencyUnavailable where too many wait already."""
        if self._waiting >= _MOST_WAITING:
            raise DependencyUnavailable("Too many log in at once.")
        self._waiting += 1
        try:
            async with self._turns:
                yield
        finally:
            self._waiting -= 1

    async def verify(self, password: str, hashed: str | None) -> bool:
        """Whether a password is the hashed one. With no hash it is not, which takes as long.

        Raises DependencyUnavailable where there is no memory to find out.
        """
        work = partial(self._verify, normalize_password(password), hashed)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def rehash(self, password: str, hashed: str) -> str | None:
        """A new hash, where the old one was made with other care than is taken now."""
        if not self._hasher.check_needs_rehash(hashed):
            return None
        work = partial(hash_password, password)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _verify(self, password: str, hashed: str | None) -> bool:
        try:
            self._hasher.verify(hashed or self._nobodys.result(), password)
        except InvalidHashError:
            return False
        except VerificationError as error:  # it does not match, or is no hash, or ...
            if str(error) != _NO_MEMORY:
                return False
            raise DependencyUnavailable("There is no memory to verify a password.") from error
        return bool(hashed)


def hash_password(password: str) -> str:
    """A hash; takes a tenth of a second, and more on a busy machine."""
    return PasswordHasher().hash(normalize_password(password))


def normalize_password(password: str) -> str:
    """A password however the keyboard composed it (RFC 8265 §4.2.2: NFC)."""
    # Composing takes time that grows with the square of the length.
    return unicodedata.normalize("NFC", password[: MOST_PASSWORD + 1])
