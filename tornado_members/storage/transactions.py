"""Several writes that happen together or not at all, on either driver."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from contextvars import Context
from typing import TypeVar
from weakref import WeakValueDictionary

import pymongo
from pymongo.errors import PyMongoError

from tornado_members.errors import DependencyUnavailable, WriteConflict
from tornado_members.storage.mongo import Mongo, Session, open_session, start_transaction
from tornado_members.storage.outages import is_outage
from tornado_members.storage.write_window import WriteHeldUp

T = TypeVar("T")
Work = Callable[[Session], Awaitable[T | None]]

_PASSES = "TransientTransactionError"  # nothing was written, and another attempt may succeed
_UNKNOWN = "UnknownTransactionCommitResult"

# Who was in the way has committed after some milliseconds. Seconds.
_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.05


class Transactions:
    """Of those who change the same thing, one at a time here: they would be in each other's way.

    What other processes are in the way of is tried again. MongoDB has nobody wait for a document
    that another transaction has changed: it refuses, and fifty who try again at once get nowhere.
    """

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo
        self._turns: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    async def run(
        self,
        work: Work[T],
        *,
        of: Hashable = None,
        until: float | None = None,
    ) -> T | None:
        """Do `work` in a transaction, when it is its turn `of` what it changes.

        It may be done several times. Where it returns None there was nothing to write, and nothing
        is committed. What it raises passes through, and means that nothing was written, as does
        WriteConflict: other writers conflicted with every attempt. After DependencyUnavailable the
        outcome is not known.

        All of it is over at `until`, on the clock of time.monotonic(), or after what one operation
        may take. Later, nothing is committed.
        """
        until = time.monotonic() + self.mongo.timeout if until is None else until
        # Of a statement that is cancelled, Motor's thread goes on. If the transaction is aborted
        # meanwhile, it happens for itself, outside of it. So nobody disturbs this.
        return await self.mongo.shielded(self._run(work, of, until))

    async def _run(self, work: Work[T], of: Hashable, until: float) -> T | None:
        turn = asyncio.Lock() if of is None else self._turns.setdefault(of, asyncio.Lock())
        try:
            async with asyncio.timeout(until - time.monotonic()):
                await turn.acquire()
        except TimeoutError:
            raise WriteConflict from None
        try:
            return await self._attempt(work, until)
        finally:
            turn.release()

    async def _attempt(self, work: Work[T], until: float) -> T | None:
        left = until - time.monotonic()
        if left <= 0:
            raise WriteConflict
        session = await open_session(self.mongo)
        in_doubt = False
        try:
            with pymongo.timeout(left):  # counts for everything together
                return await _repeat(session, work, until)
        except (
            DependencyUnavailable,
            WriteHeldUp,
        ):  # the second may stop a commit that is repeated
            in_doubt = True
            raise
        finally:
            # Aborts what is open, which would keep others from the member for up to a minute.
            # Nobody need wait for it; and the time-out of this context may be over.
            ending = asyncio.create_task(self._end(session, in_doubt), context=Context())
            self.mongo.detach(ending)

    async def _end(self, session: Session, in_doubt: bool) -> None:
        with suppress(PyMongoError):
            if in_doubt:  # to the driver it has been committed, and the server may never have heard
                admin = self.mongo.client.get_database("admin")
                await admin.command("killSessions", [session.session_id])
            await session.end_session()


async def _repeat(session: Session, work: Work[T], until: float) -> T | None:
    """Raises WriteConflict."""
    longest_pause, hindered = _FIRST_PAUSE, False
    while True:
        try:
            await start_transaction(session)
            result = await work(session)
            if result is not None:
                await _commit(session, until)
        except PyMongoError as error:  # nothing was committed, for certain
            passes, is_away = error.has_error_label(_PASSES), is_outage(error)
            hindered = hindered or (passes and not is_away)
            pause = random.uniform(0, longest_pause)  # noqa: S311
            if not passes or time.monotonic() + pause > until:
                if hindered and (passes or is_away):
                    raise WriteConflict from error
                raise
        else:
            return result
        if session.in_transaction:
            await session.abort_transaction()
        await asyncio.sleep(pause)
        longest_pause = min(longest_pause * 1.5, _LONGEST_PAUSE)


async def _commit(session: Session, until: float) -> None:
    """Commit, and retry while the outcome is unknown. Raises DependencyUnavailable."""
    while True:
        try:
            await session.commit_transaction()
        except PyMongoError as error:
            if not error.has_error_label(_UNKNOWN):
                raise
            if time.monotonic() + _LONGEST_PAUSE > until:
                raise DependencyUnavailable from error
        else:
            return
        await asyncio.sleep(_LONGEST_PAUSE)
