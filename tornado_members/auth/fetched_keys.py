"""Keys that are fetched from a URL: before they expire, at most once per cool-down."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from logging import getLogger

from tornado_members.auth.jwks_client import Fetched
from tornado_members.auth.key_set import KeySet, KeysUnusable, parse_key_set
from tornado_members.auth.keys import KeyState
from tornado_members.errors import DependencyUnavailable
from tornado_members.settings import KeyFetching

log = getLogger(__name__)

_DEFAULT_LIFE = 300.0  # seconds until the next fetch, if the response has no max-age
_FIRST_PAUSE = 1.0  # seconds until the second attempt, while keys are missing
_MAX_WAIT = 2.0  # seconds that a request waits for the fetch that it caused


class FetchedKeys:
    """An issuer's keys, fetched at the start and again before they expire.

    Tokens with an unknown key cause a fetch as well, but at most one in a cool-down. There is one
    fetch at a time. While fetching fails, the last good keys are used for `keep_seconds`.
    """

    def __init__(
        self,
        issuer: str,
        fetch: Callable[[], Awaitable[Fetched]],
        settings: KeyFetching,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`fetch` raises KeysUnusable; `clock` returns seconds."""
        self._issuer = issuer
        self._fetch = fetch
        self._settings = settings
        self._clock = clock
        # Each of the two requests of a discovery has its own time limit; this one bounds both.
        self._max_seconds = 2 * settings.timeout_ms / 1000 + 1
        self._keys: KeySet | None = None
        self._fetched = 0.0  # time of the last success
        self._begun = float("-inf")  # time of the last attempt
        self._due = 0.0  # time of the next one
        self._failures = 0  # in a row
        self._all_failures = 0
        self._problem: str | None = None
        self._attempt: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Fetch the keys, and start refreshing them. A failure is not an error: it is retried."""
        await self._attempt_once()
        self._refreshing = asyncio.create_task(self._refresh_periodically())

    async def close(self) -> None:
        """Stop fetching."""
        tasks = [task for task in (self._refreshing, self._attempt) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def keys(self) -> KeySet:
        """Return the last good keys. Raises DependencyUnavailable if missing or too old."""
        if self._keys is None or self._clock() - self._fetched > self._settings.keep_seconds:
            wait = max(1, round(self._due - self._clock()))
            raise DependencyUnavailable(
                "The keys of the token's issuer are not available.", retry_after=wait
            )
        return self._keys

    async def refresh(self) -> None:
        """Fetch, unless the cool-down lasts. Wait for two seconds at most."""
        if self._attempt is None:
            if self._clock() - self._begun < self._settings.cooldown_seconds:
                return
            self._begin()
        if self._attempt:
            await asyncio.wait([self._attempt], timeout=_MAX_WAIT)

    def state(self) -> KeyState:
        """Return the state; keys count for `keep_seconds` after they were last confirmed."""
        age = self._clock() - self._fetched
        usable = self._keys is not None and age <= self._settings.keep_seconds
        count = len(self._keys.keys) if self._keys and usable else 0
        age = age if self._keys else 0.0
        left_out = self._keys.summarize_left_out() if self._keys and usable else None
        return KeyState(count, age, self._all_failures, self._problem, left_out)

    async def _refresh_periodically(self) -> None:
        while True:
            await asyncio.sleep(max(0.0, self._due - self._clock()))
            if self._clock() >= self._due:  # else a token caused a fetch meanwhile
                await self._attempt_once()

    async def _attempt_once(self) -> None:
        if self._attempt is None:
            self._begin()
        if self._attempt:
            await asyncio.wait([self._attempt])

    def _begin(self) -> None:
        self._begun = self._clock()
        # A task of its own: the request that waits for it may be cancelled.
        self._attempt = asyncio.create_task(self._run_attempt())

    async def _run_attempt(self) -> None:
        try:
            async with asyncio.timeout(self._max_seconds):
                fetched = await self._fetch()
            keys = await asyncio.to_thread(parse_key_set, fetched.documents, fetched.url)
        except TimeoutError:
            self._note_failure("did not respond in time")
        except KeysUnusable as error:
            self._note_failure(str(error))
        except Exception as error:
            log.exception("the keys of %s could not be fetched", self._issuer)
            self._note_failure(type(error).__name__)
        else:
            self._note_success(keys, fetched.max_age)
        finally:
            self._attempt = None

    def _note_success(self, keys: KeySet, max_age: float | None) -> None:
        if self._keys is None or keys.documents != self._keys.documents:
            log.info("the key set of %s has changed; keys: %d", self._issuer, len(keys.keys))
            keys.log_left_out(f"the key set of {self._issuer}")
            self._keys = keys  # the same object otherwise: verified tokens stay cached
        self._failures = 0
        self._problem = None
        self._fetched = self._clock()
        life = _DEFAULT_LIFE if max_age is None else max_age
        life *= random.uniform(0.8, 0.95)  # noqa: S311  # ahead of need, and spread
        settings = self._settings
        life = min(max(life, settings.min_refresh_seconds), settings.max_refresh_seconds)
        self._due = self._fetched + life

    def _note_failure(self, reason: str) -> None:
        pause = self._settings.cooldown_seconds
        if self._keys is None:
            pause = min(pause, _FIRST_PAUSE * 2 ** min(self._failures, 10))
        if self._failures == 0:
            meanwhile = "the old ones are used" if self._keys else "its tokens cannot be verified"
            log.error("the keys of %s cannot be fetched: %s; %s", self._issuer, reason, meanwhile)
        self._failures += 1
        self._all_failures += 1
        self._problem = reason
        self._due = self._clock() + pause
