"""Services that several tests use one after the other, and the event loop of these tests.

Opening services takes 50 ms of processor time, here and in MongoDB.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

from tornado.ioloop import IOLoop

from tornado_members.auth.login_queue import LoginQueue
from tornado_members.auth.revocations import TokenRevocations
from tornado_members.auth.shared_counts import SharedCounts
from tornado_members.services import Services

Opening = Callable[[], AbstractAsyncContextManager[Services]]


class SharedServices:
    """Keeps the last services open for the next test, which may have the same settings."""

    def __init__(self) -> None:
        self._loop: IOLoop | None = None
        self._stack = AsyncExitStack()
        self._key: Any = None
        self._services: Services | None = None

    @property
    def loop(self) -> IOLoop:
        """The event loop."""
        if self._loop is None:
            self._loop = IOLoop(make_current=False)
        return self._loop

    @property
    def are_open(self) -> bool:
        """True while services are open."""
        return self._services is not None

    def get(self, key: Any, opening: Opening) -> Services:
        """Return the open services if they have this key; otherwise open new ones.

        Like new ones, they know no token and no name, so the fast path does not serve a first
        request, and the first look-up of a name asks the cache for its id. They know no user and no
        failed login either.
        """
        if self._services is None or key != self._key:
            self._close_services()
            self._services = self.loop.run_sync(lambda: self._stack.enter_async_context(opening()))
            self._key = key
        self._forget(self._services)
        return self._services

    def _forget(self, services: Services) -> None:
        services.tokens._verified_tokens.clear()
        services.directory._look_ups._ids.clear()
        if services.login:
            services.login._queue = LoginQueue()
            counts = services.login._throttle._counts
            assert isinstance(counts, SharedCounts)
            counts._own.clear()
        self.loop.run_sync(lambda: load_revocations(services))

    def close(self) -> None:
        """Close the services and the loop."""
        self._close_services()
        if self._loop is not None:
            self._loop.close(all_fds=True)
            self._loop = None

    def _close_services(self) -> None:
        if self._services is not None:
            self._services = None
            self.loop.run_sync(self._stack.aclose)


async def load_revocations(services: Services) -> TokenRevocations | None:
    """Load the revoked tokens now; return them, or None if the service issues no tokens."""
    revocations = services.tokens._revocations
    if revocations is None:
        return None
    assert isinstance(revocations, TokenRevocations)
    await revocations._load()
    return revocations
