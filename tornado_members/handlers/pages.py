"""Pages of lists, for the handler and for the fast path."""

from typing import NamedTuple

from tornado.httputil import HTTPHeaders

from tornado_members.handlers.paging import next_path
from tornado_members.http.responses import MemberResponse, build_response, page_response
from tornado_members.model.list_query import ListQuery
from tornado_members.services import Services


class Page(NamedTuple):
    """The JSON of the members on a page, and the address of the next page, if there is one."""

    items: bytes
    following: str | None

    async def respond(self, request_headers: HTTPHeaders) -> MemberResponse:
        """Build the response to a request with these headers."""

        def build() -> MemberResponse:
            return page_response(self.items, self.following, request_headers=request_headers)

        return await build_response(build, len(self.items))


async def read_page(services: Services, query: ListQuery) -> Page:
    """Read a page of members from MongoDB, and determine whether another one follows.

    Raises ListTooWide, ListsBeingPrepared, DependencyUnavailable.
    """
    page = await services.directory.page_json(query)
    following = None
    if page.has_more:
        following = f"{services.base_path}{next_path(query, page.keys[-1])}"
    return Page(page.items, following)
