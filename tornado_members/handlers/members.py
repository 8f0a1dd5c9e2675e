"""The collection of all members: lists and creation."""

from typing import Final

from tornado_members.auth.permissions import READ, WRITE
from tornado_members.errors import (
    DependencyUnavailable,
    InvalidMember,
    ListsBeingPrepared,
    ListTooWide,
    NameTaken,
    WriteConflict,
)
from tornado_members.handlers.batches import MEMBER_IDS, BatchHandler
from tornado_members.handlers.declarations import (
    CREATED,
    MEMBER_DRAFT,
    MEMBER_HEADERS,
    WRITE_PREFERENCE,
    WRITTEN,
)
from tornado_members.handlers.export import export_members
from tornado_members.handlers.pages import read_page
from tornado_members.handlers.paging import LIST_PARAMETERS, parse_export_query, parse_list_query
from tornado_members.http.own_record import query_lists_own_id_only
from tornado_members.http.prefer import parse_preferences
from tornado_members.model.list_query import Filters, ListQuery
from tornado_members.model.member import parse_draft
from tornado_members.openapi.examples import example_csv, example_ndjson, example_page
from tornado_members.openapi.operation import CSV, JSON, NDJSON, Link, Operation, Response
from tornado_members.openapi.schemas import TEXT_FILE, reference

LIST_MEMBERS: Final = Operation(
    name="listMembers",
    summary="List the members that match",
    tag="members",
    permission=READ,
    is_own=query_lists_own_id_only,
    query={"memberId": MEMBER_IDS, **LIST_PARAMETERS},
    filters_attributes=True,
    headers=("Cache-Control", "Prefer"),
    responses={
        200: Response(
            "A page of members, or those of `memberId`. As text/csv or application/x-ndjson: a "
            "stream of all members that match, or of the first `limit` if `limit` is given",
            {JSON: reference("MemberPage"), CSV: TEXT_FILE, NDJSON: TEXT_FILE},
            {JSON: example_page, CSV: example_csv, NDJSON: example_ndjson},
            headers=MEMBER_HEADERS,
            may_have=(
                *("Cache-Status", "Link", "X-Total-Count", "Preference-Applied"),
                *("Content-Encoding", "Content-Disposition", "Changes-After"),
            ),
            links={
                "first": Link(
                    "findMember",
                    {"memberId": "$response.body#/items/0/memberId"},
                    "Read the first member.",
                )
            },
        )
    },
    problems=(ListTooWide, ListsBeingPrepared, DependencyUnavailable),
)
ADD_MEMBER: Final = Operation(
    name="addMember",
    summary="Create a member",
    tag="members",
    permission=WRITE,
    headers=WRITE_PREFERENCE,
    body=MEMBER_DRAFT,
    responses={201: CREATED, 204: WRITTEN},
    problems=(InvalidMember, NameTaken, WriteConflict, DependencyUnavailable),
)


class MembersHandler(BatchHandler):
    """/members"""

    route = "/members"
    operations = {
        "GET": LIST_MEMBERS,
        "HEAD": LIST_MEMBERS,
        "PUT": ADD_MEMBER,
        "POST": ADD_MEMBER,
    }

    async def get(self) -> None:
        """Send a page of members, those with the given ids, or all of them as a stream."""
        if "memberId" in self.request.query_arguments:
            await self.send_batch_of_query()
            return
        if self.media_type != JSON:
            query, limit = parse_export_query(self.request.query_arguments, self.services.fields)
            await self.send_count(query.filters)
            await export_members(self, query, limit)
            return
        query = parse_list_query(self.request.query_arguments, self.services.fields)
        async with self.reading(query.limit):
            await self.send_page(query)

    head = get

    async def send_page(self, query: ListQuery) -> None:
        """Send a page of members."""
        page = await read_page(self.services, query)
        await self.send_count(query.filters)
        self.send_response(await page.respond(self.request.headers))

    async def send_count(self, filters: Filters) -> None:
        """Send the number of members that match, if the caller prefers it (RFC 7240)."""
        preferences = parse_preferences(self.request.headers.get_list("Prefer"))
        if preferences.get("count") == "exact":
            self.set_header("X-Total-Count", str(await self.services.directory.count(filters)))
            self.set_header("Preference-Applied", "count=exact")

    async def put(self) -> None:
        """Create a member."""
        draft = parse_draft(self.json_body(), fields=self.services.fields)
        self.send_created(await self.services.directory.create(draft, by=self.actor()))

    post = put
