"""The members' resource."""

import json
import re
from dataclasses import replace
from functools import partial
from typing import Final

from tornado_members.directory import Representation
from tornado_members.errors import MemberNotFound
from tornado_members.handlers.base import BaseHandler
from tornado_members.handlers.export import export_members
from tornado_members.handlers.operations import (
    ADD_MEMBER,
    DELETE_MEMBER,
    FIND_BY_NAME,
    FIND_MEMBER,
    LIST_MEMBERS,
    PATCH_MEMBER,
    PUT_BY_NAME,
    REPLACE_MEMBER,
)
from tornado_members.handlers.paging import next_path, parse_export_query, parse_list_query
from tornado_members.http.prefer import parse_preferences
from tornado_members.model.list_query import Filters
from tornado_members.model.member import apply_merge_patch, parse_draft

JSON: Final = "application/json"
MEMBER_ID: Final = re.compile(r"[1-9][0-9]{0,15}")


class MembersHandler(BaseHandler):
    """/members"""

    route = "/members"
    operations = {
        "GET": LIST_MEMBERS,
        "HEAD": LIST_MEMBERS,
        "PUT": ADD_MEMBER,
        "POST": ADD_MEMBER,
    }

    async def get(self) -> None:
        """A page of members, or all of them as a stream."""
        if self.chosen_type != JSON:
            query, limit = parse_export_query(self.request.query_arguments)
            await self.tell_count(query.filters)
            await export_members(self, query, limit)
            return
        query = parse_list_query(self.request.query_arguments)
        directory = self.services.directory
        found = await directory.page(replace(query, limit=query.limit + 1))
        page = found[: query.limit]
        following = next_path(query, page) if len(found) > query.limit else None
        if following:
            self.set_header("Link", f'<{following}>; rel="next"')
        await self.tell_count(query.filters)
        body = {"items": [member.to_dict() for member in page], "next": following}
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        self.answer_compressible(text.encode())

    head = get

    async def tell_count(self, filters: Filters) -> None:
        """How many members the whole list has, for those who would like to know (RFC 7240)."""
        self.add_header("Vary", "Prefer")
        preferences = parse_preferences(self.request.headers.get_list("Prefer"))
        if preferences.get("count") == "exact":
            self.set_header("X-Total-Count", str(await self.services.directory.count(filters)))
            self.set_header("Preference-Applied", "count=exact")

    async def put(self) -> None:
        """Add a member."""
        draft = parse_draft(self.json_body())
        self.answer_created(await self.services.directory.create(draft, by=self.actor()))

    post = put


class MemberHandler(BaseHandler):
    """/members/{memberId}"""

    route = "/members/{memberId}"
    operations = {
        "GET": FIND_MEMBER,
        "HEAD": FIND_MEMBER,
        "PUT": REPLACE_MEMBER,
        "PATCH": PATCH_MEMBER,
        "DELETE": DELETE_MEMBER,
    }

    async def get(self, text: str) -> None:
        """The member with this id."""
        directory, no_cache = self.services.directory, self.wants_no_cache()
        self.answer_member(await directory.get(parse_member_id(text), no_cache=no_cache))

    head = get

    async def put(self, text: str) -> None:
        """Replace the contents of a member."""
        member_id = parse_member_id(text)
        draft = parse_draft(self.json_body(), member_id=member_id)
        condition, by = self.precondition(), self.actor()
        self.answer_member(
            await self.services.directory.replace(member_id, draft, condition, by=by)
        )

    async def patch(self, text: str) -> None:
        """Change what a merge patch names (RFC 7396)."""
        member_id = parse_member_id(text)
        merge_patch = self.json_body()
        change = partial(apply_merge_patch, merge_patch=merge_patch)
        condition, by = self.precondition(), self.actor()
        self.answer_member(await self.services.directory.patch(member_id, change, condition, by=by))

    async def delete(self, text: str) -> None:
        """Remove a member."""
        member_id, condition = parse_member_id(text), self.precondition()
        await self.services.directory.delete(member_id, condition, by=self.actor())
        self.set_status(204)


class MemberByNameHandler(BaseHandler):
    """/members/by-name/{name}"""

    route = "/members/by-name/{name}"
    operations = {"GET": FIND_BY_NAME, "HEAD": FIND_BY_NAME, "PUT": PUT_BY_NAME}

    async def get(self, name: str) -> None:
        """The member with this name."""
        directory, no_cache = self.services.directory, self.wants_no_cache()
        self.answer_named(await directory.get_by_name(name, no_cache=no_cache))

    head = get

    async def put(self, name: str) -> None:
        """Create the member with this name, or replace its contents."""
        body = self.json_body()
        draft = parse_draft(body, name=name)
        member, is_new = await self.services.directory.put_by_name(
            draft, body.get("memberId"), self.precondition(), by=self.actor()
        )
        if is_new:
            self.answer_created(member)
        else:
            self.answer_named(member)

    def answer_named(self, member: Representation) -> None:
        """A member, with the address that does not change with its name (RFC 9110 §8.7)."""
        self.set_header("Content-Location", f"/members/{member.member_id}")
        self.answer_member(member)


def parse_member_id(text: str) -> int:
    """The id in a path. One that no member can have is one that no member has."""
    if not MEMBER_ID.fullmatch(text):
        raise MemberNotFound("with such an id: ids are whole numbers from 1")
    return int(text)
