"""Several members by their ids: /members?memberId=7,42,3 and /members/lookup."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from tornado_members.auth.permissions import READ
from tornado_members.errors import (
    BadParameter,
    DependencyUnavailable,
    Fault,
    InvalidLookup,
    NotAcceptable,
)
from tornado_members.handlers.declarations import MEMBER_HEADERS
from tornado_members.handlers.member import MEMBER_ID
from tornado_members.handlers.member_resource import MemberResourceHandler
from tornado_members.http.cache_control import has_no_cache
from tornado_members.http.negotiation import accepts
from tornado_members.http.own_record import is_checked_by_handler
from tornado_members.http.responses import batch_response, build_response
from tornado_members.model.member import MAX_MEMBER_ID
from tornado_members.model.strict_json import integer_of, json_pointer
from tornado_members.openapi.examples import example_batch
from tornado_members.openapi.operation import JSON, Body, Operation, Parameter, Response
from tornado_members.openapi.schemas import MAX_LOOKUP, reference

MAX_IN_QUERY: Final = 200
_MOST_SHOWN: Final = 10  # malformed ids in the detail of a problem
_LONGEST_SHOWN: Final = 40  # characters
_RULE: Final = f"ids are whole numbers from 1 to {MAX_MEMBER_ID}"

MEMBER_IDS: Final = Parameter(
    f"Only the members with these ids, up to {MAX_IN_QUERY}, separated by commas: in this order, "
    "each once. `missing` lists the ids that no member has. It cannot be combined with other "
    "parameters.",
    # Not an array: many client generators repeat the parameter for each item, which is a 400.
    {"type": "string", "pattern": r"^[1-9][0-9]{0,15}(,[1-9][0-9]{0,15})*$"},
)
LOOK_UP_MEMBERS: Final = Operation(
    name="lookUpMembers",
    summary="Read several members by their ids",
    tag="members",
    permission=READ,
    is_own=is_checked_by_handler,
    headers=("Cache-Control",),
    # A thousand ids of 16 digits, each on a line of its own.
    body=Body({JSON: reference("MemberLookup")}, {JSON: {"memberIds": [42]}}, max_bytes=32 * 1024),
    responses={
        200: Response(
            "The members in the order requested, each once",
            {JSON: reference("MemberBatch")},
            {JSON: example_batch},
            headers=(*MEMBER_HEADERS, "Cache-Status"),
            may_have=("Content-Encoding",),
        )
    },
    problems=(InvalidLookup, DependencyUnavailable),
    description=f"For up to {MAX_LOOKUP} ids. Although it is a POST, it only reads, so it is safe "
    "to repeat.",
)


class BatchHandler(MemberResourceHandler):
    """Base of the handlers that send several members."""

    async def send_batch(self, member_ids: Sequence[int]) -> None:
        """Send the members with these ids, which are valid and distinct."""
        headers = self.request.headers
        no_cache = "Cache-Control" in headers and has_no_cache(headers["Cache-Control"])
        async with self.reading(len(member_ids)):
            batch = await self.services.directory.get_many(member_ids, no_cache=no_cache)
            self.cache_status = batch.cache_status
            build = partial(batch_response, batch, request_headers=self.request.headers)
            self.send_response(await build_response(build, sum(map(len, batch.bodies))))

    async def send_batch_of_query(self) -> None:
        """Send the members that the query lists. Raises BadParameter, NotAcceptable."""
        member_ids = parse_member_ids(self.request.query_arguments)
        # The type was negotiated among those of lists, which include exports.
        if not accepts(self.request.headers.get("Accept", ""), JSON):
            raise NotAcceptable(JSON)
        await self.send_batch(member_ids)


class LookupHandler(BatchHandler):
    """/members/lookup"""

    route = "/members/lookup"
    operations = {"POST": LOOK_UP_MEMBERS}

    async def post(self) -> None:
        """Send the members that the body lists."""
        member_ids = parse_lookup(self.json_body())
        if self.own_member_id is not None and set(member_ids) - {self.own_member_id}:
            raise self.permission_missing()
        await self.send_batch(member_ids)


def parse_member_ids(arguments: Mapping[str, Sequence[bytes]]) -> list[int]:
    """Return the distinct ids of a query, in their order. Raises BadParameter."""
    others = [name for name in arguments if name != "memberId"]
    if others:
        raise BadParameter("memberId", f"cannot be combined with {', '.join(others)}")
    member_ids = parse_id_list(arguments["memberId"])
    if len(member_ids) > MAX_IN_QUERY:
        raise BadParameter(
            "memberId",
            f"has {len(member_ids)} ids; at most {MAX_IN_QUERY} are allowed. Send more in the body "
            "of POST /members/lookup.",
        )
    return member_ids


def parse_id_list(values: Sequence[bytes]) -> list[int]:
    """Return the distinct ids in a parameter `memberId`, in their order. Raises BadParameter."""
    texts = values[0].decode("utf-8", "replace").split(",")
    malformed = [text for text in texts if not _is_id(text)]
    if malformed:
        raise BadParameter("memberId", f"{_quoted(malformed)}: {_RULE}, separated by commas")
    return list(dict.fromkeys(map(int, texts)))


def parse_lookup(body: Mapping[str, Any]) -> list[int]:
    """Return the distinct ids of a body, in their order. Raises InvalidLookup with every fault."""
    unknown = [name for name in body if name != "memberIds"]
    faults = [
        Fault(json_pointer(name), "is not a field of a lookup")
        for name in unknown[: InvalidLookup.most_faults]
    ]
    found = body.get("memberIds")
    if "memberIds" not in body:
        faults.append(Fault("/memberIds", "is missing"))
    elif not isinstance(found, list):
        faults.append(Fault("/memberIds", "must be a list of ids"))
    else:
        if {*map(type, found)} != {int}:
            found = [*map(integer_of, found)]
        faults += _faults_of_ids(found)
    if faults or not isinstance(found, list):
        unlisted = max(0, len(unknown) - InvalidLookup.most_faults)
        raise InvalidLookup(faults, unlisted=unlisted)
    return list(dict.fromkeys(found))


def _faults_of_ids(found: Sequence[int | None]) -> list[Fault]:
    """Return the faults of integers; None stands for any other value."""
    distinct = {0 if member_id is None else member_id for member_id in found}
    if distinct and (min(distinct) < 1 or max(distinct) > MAX_MEMBER_ID):
        return [
            Fault(f"/memberIds/{index}", f"is not an id: {_RULE}")
            for index, member_id in enumerate(found)
            if member_id is None or not 1 <= member_id <= MAX_MEMBER_ID
        ]
    if len(distinct) > MAX_LOOKUP:
        return [Fault("/memberIds", f"has {len(distinct)} ids; at most {MAX_LOOKUP} are allowed")]
    return []


def _is_id(text: str) -> bool:
    return MEMBER_ID.fullmatch(text) is not None and int(text) <= MAX_MEMBER_ID


def _quoted(malformed: Sequence[str]) -> str:
    """Return the malformed ids for the detail of a problem, shortened."""
    shown = [json.dumps(text[:_LONGEST_SHOWN]) for text in malformed[:_MOST_SHOWN]]
    more = len(malformed) - len(shown)
    listed = ", ".join(shown) + (f" and {more} more" if more else "")
    return f"{listed} {'is not an id' if len(malformed) == 1 else 'are not ids'}"
