"""The code that the handlers of members share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from tornado_members.auth.permissions import READ
from tornado_members.errors import (
    NameTaken,
    Overloaded,
    PermissionMissing,
    PreconditionRequired,
    Problem,
)
from tornado_members.handlers.base import BaseHandler
from tornado_members.http.conditional import parse_precondition
from tornado_members.http.prefer import parse_preferences
from tornado_members.http.request_body import json_object
from tornado_members.http.responses import (
    build_response,
    json_response,
    member_response,
)
from tornado_members.member_entries import Representation
from tornado_members.model.history import Actor
from tornado_members.model.precondition import Precondition


class MemberResourceHandler(BaseHandler):
    """Base of the handlers of members."""

    def json_body(self) -> dict[str, Any]:
        """Return the JSON object in the body. Raises UnsupportedMediaType, MalformedBody."""
        return json_object(self.request, self.operation)

    def permission_missing(self) -> PermissionMissing:
        """Return the problem of a caller without the permission for the member."""
        permission = self.operation.permission
        if self.caller is None or permission is None:
            raise TypeError(f"{self.operation.name} requires no permission")
        return self.caller.missing(permission)

    def problem_of(self, status_code: int, error: BaseException | None) -> Problem:
        """Return the problem to send; it names no member that the caller may not read."""
        if isinstance(error, NameTaken) and not self._may_read_members():
            return NameTaken(None)
        return super().problem_of(status_code, error)

    def _may_read_members(self) -> bool:
        if self.own_member_id is None or self.caller is None:
            return True
        return READ in self.caller.permissions

    def precondition(self) -> Precondition:
        """Return the precondition of a write (RFC 9110 §13.1).

        Raises BadRequest, and PreconditionRequired with members.require_if_match.
        """
        condition = parse_precondition(self.request.headers)
        is_conditional = condition.must_exist or condition.must_not_exist
        if self.services.rules.require_if_match and not is_conditional:
            raise PreconditionRequired
        return condition

    def actor(self) -> Actor | None:
        """Return the author of a change, for the history."""
        caller = self.caller
        return Actor(caller.issuer, caller.subject, self.request_id) if caller else None

    @asynccontextmanager
    async def reading(self, members: int) -> AsyncIterator[None]:
        """Enter the block when this request may read and send this many members.

        Raises Overloaded if the response has timed out, or if the client has disconnected.
        """
        async with self.services.large_reads.turn(members):
            if self.response_finished or self.client_disconnected:
                raise Overloaded
            yield

    def send_member(
        self, member: Representation, status: int = 200, *, is_located: bool = False
    ) -> None:
        """Send a member; after a write, only its headers if the caller prefers that.

        Raises PreconditionFailed if a read has a condition that fails.
        """
        is_read = self.request.method in ("GET", "HEAD")
        response = member_response(
            member,
            status=status,
            request_headers=self.request.headers if is_read else None,
            address=self.member_address(member.member_id) if is_located else None,
        )
        self.cache_status = member.cache_status
        if not is_read and self._prefers_minimal():
            response = response._replace(status=204, body=b"")
            self.set_header("Preference-Applied", "return=minimal")
        self.send_response(response)

    def _prefers_minimal(self) -> bool:
        """True if the caller prefers no body after a write (RFC 7240 §4.2)."""
        preferences = parse_preferences(self.request.headers.get_list("Prefer"))
        return preferences.get("return") == "minimal"

    def member_address(self, member_id: int) -> str:
        """Return the address of a member by its id."""
        return self.address(f"/members/{member_id}")

    def send_created(self, member: Representation) -> None:
        """Send a new member with its address (RFC 9110 §15.3.2)."""
        self.set_header("Location", self.member_address(member.member_id))
        self.send_member(member, 201)

    async def send_json(self, body: bytes) -> None:
        """Send a body about members, compressed if the caller accepts gzip; it has no ETag."""
        build = partial(json_response, body, request_headers=self.request.headers)
        self.send_response(await build_response(build, len(body)))
