"""The fast path: answers plain reads of members without a request handler.

Most requests are of this kind, and a RequestHandler costs more than all their other work. The
reads that arrive in one turn of the event loop are answered together, with one look-up in the
cache, and one query for the members that it does not have. http/responses.py builds the response,
as it does for the handlers. A request that needs more than a plain read, or that must be refused,
is passed on to the application: see docs/decisions/member-cache.md.
"""

import asyncio
import time
from collections.abc import Awaitable, Collection, Coroutine, Mapping, Sequence
from itertools import compress
from logging import getLogger
from typing import Any, Final

from tornado.httputil import HTTPConnection, HTTPMessageDelegate, HTTPServerConnectionDelegate

from tornado_members.cached_members import CachedMembers, CacheMiss, MemberSelector
from tornado_members.handlers.fast_path_request import FastPathRequest
from tornado_members.handlers.member import MemberHandler
from tornado_members.handlers.page_reads import PageReads
from tornado_members.handlers.plain_targets import route_of
from tornado_members.http.fast_path_errors import Query
from tornado_members.http.responses import takes_long
from tornado_members.member_entries import (
    CACHE_HIT,
    MemberBatch,
    MemberKeys,
    Representation,
    represent_loaded,
)
from tornado_members.services import Services

log = getLogger(__name__)

Found = Representation | MemberBatch
Outcome = Found | Exception | CacheMiss | None  # of a request; the last two pass it on to a handler

# Batches that are looked up at once. Each sends a command to Memcached, and one more with a rate
# limit. With more batches, each has fewer requests, and each request costs more.
_MAX_BATCHES: Final = 2
_FIND_MEMBER: Final = "MemberStore.find_member"  # the name in traces, also of a shared query


class MemberCacheApplication(HTTPServerConnectionDelegate):
    """Wraps an application; answers the requests that the cache can answer."""

    def __init__(self, application: HTTPServerConnectionDelegate, services: Services) -> None:
        self.application = application
        self.is_enabled = True  # False passes every request on
        self.services = services
        self._counts = services.directory.cache_counts
        self._pages = PageReads(services)
        self.page_query = self._pages.query_in
        self._pending: list[FastPathRequest] = []
        self._batches = 0  # that are being looked up
        self._tasks: set[asyncio.Task[None]] = set()

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        return FastPathRequest(self, server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        self.application.on_close(server_conn)

    def answer(self, request: FastPathRequest) -> None:
        """Answer a complete request; members, together with those of this turn of the loop."""
        if request.page is not None:
            self._pages.answer(request, request.page)
            return
        if isinstance(request.selector, MemberKeys):
            cached = self.services.directory.get_cached_batch(request.selector)
            self._start(self._answer_from(cached, (request,), (request.selector,)))
            return
        self._pending.append(request)
        if len(self._pending) == 1 and self._batches < _MAX_BATCHES:
            self._batches += 1
            self._start(self._answer_pending())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer_pending(self) -> None:
        """Answer batches until no request waits."""
        while self._pending:
            pending, self._pending = self._pending, []
            try:
                selectors = [one.selector for one in pending]
                cached = self.services.directory.get_cached(selectors)
                await self._answer_from(cached, pending, selectors)
            except Exception:  # the others wait for this task
                log.exception("a batch of requests failed")
        self._batches -= 1

    async def _answer_from(
        self,
        looking_up: Awaitable[CachedMembers],
        pending: Sequence[FastPathRequest],
        selectors: Sequence[MemberSelector],
    ) -> None:
        cached = CachedMembers()
        try:
            cached = await looking_up
        except Exception:
            log.exception("the cache could not be read")
        outcomes: dict[FastPathRequest, Outcome] = dict(
            zip(pending, map(cached.find, selectors), strict=True)
        )
        missed = {request: it for request, it in outcomes.items() if isinstance(it, CacheMiss)}
        for request in missed:
            del outcomes[request]
        await self._answer(outcomes, cached)
        if missed:
            self._start(self._load(missed, cached))

    async def _load(
        self, requests: Mapping[FastPathRequest, CacheMiss], cached: CachedMembers
    ) -> None:
        """Load members that are not cached, with one query, and answer.

        Under overload, the requests are passed on to be refused.
        """
        ids = {one: one.selector for one in requests if isinstance(one.selector, int)}
        misses = {member_id: requests[one] for one, member_id in ids.items()}
        outcomes: dict[FastPathRequest, Outcome] = dict.fromkeys(requests)
        if not self.services.load_shedder.refuses():
            began = time.perf_counter()
            with self.services.deadlines.running(requests):
                try:
                    found = await self.services.directory.load_missed(misses)
                    outcomes = {one: represent_loaded(ids[one], found) for one in ids}
                except Exception as error:  # noqa: BLE001  # the handlers raise it
                    outcomes = dict.fromkeys(requests, error)
            for request in requests:
                request.query = Query(_FIND_MEMBER, time.perf_counter() - began)
        await self._answer(outcomes, cached)

    async def _answer(
        self, outcomes: Mapping[FastPathRequest, Outcome], cached: CachedMembers
    ) -> None:
        """Send the members that were found; pass the other requests on."""
        found = {
            request: outcome
            for request, outcome in outcomes.items()
            if request.delegate is None
            and (
                isinstance(outcome, Representation)
                or (isinstance(outcome, MemberBatch) and not takes_long(outcome, request.headers))
            )
        }
        admitted: Collection[FastPathRequest] = ()
        try:
            admitted = await self._admit(found)
        except Exception:
            log.exception("requests could not be counted")
        for request, outcome in outcomes.items():
            try:
                if request in admitted:
                    self._respond(request, found[request])
                elif isinstance(outcome, Exception):
                    request.report(outcome)
                else:
                    request.pass_on(cached)
            except Exception as error:  # noqa: BLE001  # fail() logs it
                request.fail(error)
            finally:  # after pass_on(), so that the number in flight never drops in between
                if not request.is_answered:
                    self.services.requests.request_finished()

    async def _admit(self, requests: Collection[FastPathRequest]) -> Collection[FastPathRequest]:
        """Count requests against the limits of their callers; return those within the limits."""
        limit = self.services.rate_limit
        if limit is None or not requests:
            return requests
        return {*compress(requests, await limit.admit([one.caller for one in requests]))}

    def _respond(self, request: FastPathRequest, found: Found) -> None:
        if isinstance(found, MemberBatch):
            self._counts.hits += found.hits
        else:
            self._counts.hits += found.cache_status == CACHE_HIT
        selector, route = request.selector, MemberHandler.route
        if not isinstance(selector, int):
            route = route_of(selector, request.start_line.path)
        request.respond(found, route=route)
