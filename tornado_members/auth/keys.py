"""Sources of an issuer's keys: the settings, or a file that may change."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Final, Protocol

from tornado_members.auth.key_set import KeySet, KeysUnusable, read_key_set

log = getLogger(__name__)

_CHECK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class KeyState:
    """The number of keys, their age, and the last failure to fetch or read them, for operators."""

    count: int
    age: float = 0.0  # seconds since they were last confirmed
    failures: int = 0  # failed attempts to fetch or read them, since the start
    problem: str | None = None  # why they cannot be fetched or read now
    left_out: str | None = None  # why some keys of the set are not used


class KeySource(Protocol):
    """The source of an issuer's keys. The same KeySet object means that nothing has changed."""

    def keys(self) -> KeySet:
        """Return the current keys. Raises DependencyUnavailable if they are not available."""

    async def refresh(self) -> None:
        """Refresh the keys, because a token names an unknown key, which may be new."""

    def state(self) -> KeyState:
        """Return the state of the keys."""


class FixedKeys:
    """Keys from the settings."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    def keys(self) -> KeySet:
        """Return the keys."""
        return self._keys

    async def refresh(self) -> None:
        """Do nothing: the keys do not change."""

    def state(self) -> KeyState:
        """Return their number, and why some are left out."""
        return KeyState(len(self._keys.keys), left_out=self._keys.summarize_left_out())


class FileKeys:
    """Keys of a JWKS file, read again when it changes; while it is broken, the last good ones."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises KeysUnusable. `clock` returns seconds."""
        self._file = file
        self._clock = clock
        self._checked_at = clock()
        self._read_at = self._checked_at  # when the file was last valid
        self._failures = 0
        self._problem: str | None = None
        self._stamp = self._read_stamp()
        self._keys = read_key_set(file)
        self._keys.log_left_out(str(file))

    def keys(self) -> KeySet:
        """Return the keys of the file, checked for changes at most once a second."""
        now = self._clock()
        if now - self._checked_at >= _CHECK_SECONDS:
            self._checked_at = now
            self._check()
        return self._keys

    async def refresh(self) -> None:
        """Do nothing: the file is checked often enough."""

    def state(self) -> KeyState:
        """Return the state; a broken file has a problem until it changes again."""
        keys = self.keys()
        age = self._clock() - self._read_at if self._problem else 0.0
        left_out = keys.summarize_left_out()
        return KeyState(len(keys.keys), age, self._failures, self._problem, left_out)

    def _check(self) -> None:
        stamp = self._read_stamp()
        if stamp == self._stamp:
            if self._problem is None:
                self._read_at = self._checked_at
            return
        self._stamp = stamp
        try:
            keys = read_key_set(self._file)
        except KeysUnusable as error:
            log.error("%s; keeping the previous keys", error)
            self._failures += 1
            self._problem = str(error)
            return
        self._problem, self._read_at = None, self._checked_at
        if keys.documents != self._keys.documents:
            log.info("%s has changed; it now holds %d keys", self._file, len(keys.keys))
            keys.log_left_out(str(self._file))
            self._keys = keys

    def _read_stamp(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(self._file)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino
