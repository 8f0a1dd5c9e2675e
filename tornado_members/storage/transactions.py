"""Transactions, on both drivers."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from contextvars import Context
from typing import TypeVar
from weakref import WeakValueDictionary

import pymongo
from pymongo.errors import ConfigurationError, PyMongoError

from tornado_members.errors import DependencyUnavailable, WriteConflict
from tornado_members.storage.abandoned_transactions import AbandonedTransactions
from tornado_members.storage.mongo import Mongo, Session, open_session, start_transaction
from tornado_members.storage.operations import ignore_wait
from tornado_members.storage.outages import is_outage
from tornado_members.storage.write_window import WriteHeldUp

T = TypeVar("T")
Work = Callable[[Session], Awaitable[T | None]]

_TRANSIENT = "TransientTransactionError"  # nothing was written, and another attempt may succeed
_UNKNOWN = "UnknownTransactionCommitResult"

# Seconds. Other transactions commit within some milliseconds.
_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.05


class Transactions:
    """Runs transactions. Those of this process that change the same member run one at a time.

    MongoDB does not let a transaction wait for a document that another one has changed: it refuses
    the write. So a transaction that conflicts with another process is tried again after a random
    pause. Without the pause, fifty writers of one member would all fail.
    """

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo
        self._abandoned = AbandonedTransactions(mongo)
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    async def run(
        self,
        work: Work[T],
        *,
        key: Hashable = None,
        deadline: float | None = None,
    ) -> T | None:
        """Run `work` in a transaction, after earlier transactions with the same `key`.

        `work` may run several times. If it returns None, nothing is committed. Exceptions of `work`
        are raised, and mean that nothing was written. So does WriteConflict: other writers
        conflicted with every attempt. After DependencyUnavailable the outcome is unknown.

        Nothing is committed after the deadline, on the clock of time.monotonic(). The default is
        the timeout of one operation.
        """
        deadline = time.monotonic() + self.mongo.timeout if deadline is None else deadline
        # Motor's thread continues when its task is cancelled. If the transaction was aborted then,
        # the statement would run outside of it. So the task is shielded.
        return await self.mongo.shielded(self._run(work, key, deadline))

    async def _run(self, work: Work[T], key: Hashable, deadline: float) -> T | None:
        ignore_wait()  # many writers of one member are not an overload
        lock = asyncio.Lock() if key is None else self._locks.setdefault(key, asyncio.Lock())
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await lock.acquire()
        except TimeoutError:
            raise WriteConflict from None
        try:
            return await self._attempt(work, deadline)
        finally:
            lock.release()

    async def _attempt(self, work: Work[T], deadline: float) -> T | None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise WriteConflict
        session = await open_session(self.mongo)
        in_doubt = False
        try:
            with pymongo.timeout(left):  # for all statements together
                return await _repeat(session, work, deadline, self._abandoned)
        except (
            DependencyUnavailable,
            WriteHeldUp,
        ):  # the second may stop a commit that is repeated
            in_doubt = True
            raise
        finally:
            # Abort an open transaction, which would block other writers for up to a minute. The
            # caller need not wait for it. The timeout of this context may be over.
            ending = asyncio.create_task(self._end(session, in_doubt), context=Context())
            self.mongo.detach(ending)

    async def _end(self, session: Session, in_doubt: bool) -> None:
        with suppress(PyMongoError):
            if in_doubt:  # the commit may not have arrived, and the driver sends no abort
                admin = self.mongo.client.get_database("admin")
                await admin.command("killSessions", [session.session_id])
            await session.end_session()


async def _repeat(
    session: Session, work: Work[T], deadline: float, abandoned: AbandonedTransactions
) -> T | None:
    """Attempt the transaction until it commits. Raises WriteConflict."""
    longest_pause, conflicted = _FIRST_PAUSE, False
    while True:
        try:
            await start_transaction(session)
            result = await work(session)
            if result is not None:
                await _commit(session, deadline)
        except PyMongoError as error:  # nothing was committed
            is_transient, is_unavailable = error.has_error_label(_TRANSIENT), is_outage(error)
            conflicted = conflicted or (is_transient and not is_unavailable)
            pause = random.uniform(0, longest_pause)  # noqa: S311  # jitter
            if not is_transient or time.monotonic() + pause > deadline:
                if conflicted and (is_transient or is_unavailable):
                    raise WriteConflict from error
                raise
        else:
            return result
        if session.in_transaction:
            await session.abort_transaction()
        if conflicted:
            await abandoned.end()
        await asyncio.sleep(pause)
        longest_pause = min(longest_pause * 1.5, _LONGEST_PAUSE)


async def _commit(session: Session, deadline: float) -> None:
    """Commit, and retry while the outcome is unknown.

    Raises DependencyUnavailable if it stays unknown: an attempt that the server refuses does not
    say that an earlier one failed. Other exceptions mean that nothing was committed.
    """
    in_doubt = False
    while True:
        try:
            await session.commit_transaction()
        except PyMongoError as error:
            # The driver may have sent it to a server before it chose one that has no sessions yet.
            is_unknown = error.has_error_label(_UNKNOWN) or isinstance(error, ConfigurationError)
            in_doubt = in_doubt or is_unknown
            if not in_doubt or error.has_error_label(_TRANSIENT):  # no such transaction
                raise
            if not is_unknown or time.monotonic() + _LONGEST_PAUSE > deadline:
                raise DependencyUnavailable from error
        else:
            return
        await asyncio.sleep(_LONGEST_PAUSE)
