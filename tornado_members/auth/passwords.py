"""Password rules and hashing (argon2id, RFC 9106), outside the event loop."""

import asyncio
import unicodedata
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from tornado_members.errors import DependencyUnavailable

MIN_PASSWORD_LENGTH = 8  # characters (NIST SP 800-63B §5.1.1.2)
MAX_PASSWORD_LENGTH = 1024  # characters
# The hash of an unknown password, with the current parameters.
_DUMMY_HASH = (
    "$argon2id$v=19$m=65536,t=3,p=4$vo9vzNCzpLKr8xFVqqaBGQ$"
    "pyjDBd6HxHgAkUScbNaNpRmHlVY1axyajPSJ++a3+ms"
)
_NO_MEMORY = "Memory allocation error"  # the message of libargon2


class Passwords:
    """Verifies and hashes passwords, one at a time.

    One hash takes 64 MiB and up to four cores, for about a tenth of a second (RFC 9106 §4, second
    recommended option).
    """

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="passwords")
        # The password of an unknown user is compared with it, which takes as long as for a known
        # user. Computing it takes a third of a second of processor time, so it is not done at the
        # start.
        self._dummy_hash: Future[str] = Future()
        if self._hasher.check_needs_rehash(_DUMMY_HASH):
            self._dummy_hash = self._thread.submit(self._hasher.hash, "dummy")
        else:
            self._dummy_hash.set_result(_DUMMY_HASH)

    def close(self) -> None:
        """Stop the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def verify(self, password: str, hashed: str | None) -> bool:
        """True if a password matches a hash; False if `hashed` is None, after the same time.

        Raises DependencyUnavailable if the memory for hashing is not available.
        """
        work = partial(self._verify, normalize_password(password), hashed)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def rehash(self, password: str, hashed: str) -> str | None:
        """Return a new hash if the old one has other parameters than the current ones."""
        if not self._hasher.check_needs_rehash(hashed):
            return None
        return await self.hash(password)

    async def hash(self, password: str) -> str:
        """Return a hash of a new password."""
        work = partial(hash_password, password)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _verify(self, password: str, hashed: str | None) -> bool:
        try:
            self._hasher.verify(hashed or self._dummy_hash.result(), password)
        except InvalidHashError:
            return False
        except VerificationError as error:  # no match, or not a hash
            if str(error) != _NO_MEMORY:
                return False
            raise DependencyUnavailable("Too little memory to verify a password.") from error
        return bool(hashed)


def hash_password(password: str) -> str:
    """Return a hash; takes about a tenth of a second."""
    return PasswordHasher().hash(normalize_password(password))


def normalize_password(password: str) -> str:
    """Return a password in NFC (RFC 8265 §4.2.2)."""
    # Composing takes time quadratic in the length.
    return unicodedata.normalize("NFC", password[: MAX_PASSWORD_LENGTH + 1])
