"""The fast path of lists: answers plain requests for a page without a request handler.

As on the fast path of single members, a request that needs more than a plain read, or that must be
refused, is passed on to the application: see docs/decisions/member-cache.md.
"""

import asyncio
import time
from typing import Final

from tornado.escape import parse_qs_bytes
from tornado.httputil import HTTPHeaders

from tornado_members.errors import BadParameter
from tornado_members.handlers.fast_path_request import FastPathRequest
from tornado_members.handlers.members import LIST_MEMBERS, MembersHandler
from tornado_members.handlers.pages import read_page
from tornado_members.handlers.paging import parse_list_query
from tornado_members.http.admission import check_query
from tornado_members.http.fast_path_errors import Query
from tornado_members.http.negotiation import choose
from tornado_members.http.responses import MemberResponse
from tornado_members.model.list_query import ListQuery
from tornado_members.openapi.operation import JSON
from tornado_members.services import Services

_READ_PAGE: Final = "MemberStore.page_json"  # as traces name it, also of a shared query


class PageReads:
    """Answers requests for pages, each in a task of its own."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._tasks: set[asyncio.Task[None]] = set()

    def query_in(self, target: str, headers: HTTPHeaders) -> ListQuery | None:
        """Return the query of a plain list; None if a handler must examine the request."""
        if "Prefer" in headers:
            return None
        if choose(headers.get("Accept", ""), LIST_MEMBERS.media_types) != JSON:
            return None
        fields = self._services.fields
        try:
            arguments = parse_qs_bytes(target.partition("?")[2], keep_blank_values=True)
            check_query(arguments, LIST_MEMBERS, fields)
            query = parse_list_query(arguments, fields)
        except (BadParameter, ValueError):
            return None
        if "memberId" in arguments or self._services.large_reads.take_turns(query.limit):
            return None
        return query

    def answer(self, request: FastPathRequest, query: ListQuery) -> None:
        """Answer a request that counts as in flight."""
        if self._services.load_shedder.refuses():
            try:
                request.pass_on()
            finally:
                self._services.requests.request_finished()
            return
        task = asyncio.ensure_future(self._answer(request, query))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: FastPathRequest, query: ListQuery) -> None:
        services = self._services
        response: MemberResponse | Exception
        try:
            try:
                response = await self._read(request, query)
                if services.rate_limit:
                    await services.rate_limit.check(request.caller)
            except Exception as error:  # noqa: BLE001  # the handler raises it
                response = error
            if isinstance(response, Exception):
                request.report(response)
            elif request.delegate is None:  # else it has timed out
                request.respond(response, route=MembersHandler.route)
        except Exception as error:  # noqa: BLE001  # fail() logs it
            request.fail(error)
        finally:
            if not request.is_answered:
                services.requests.request_finished()

    async def _read(self, request: FastPathRequest, query: ListQuery) -> MemberResponse:
        began = time.perf_counter()
        try:
            with self._services.deadlines.running((request,)):
                page = await read_page(self._services, query)
        finally:
            request.query = Query(_READ_PAGE, time.perf_counter() - began)
        return await page.respond(request.headers)
