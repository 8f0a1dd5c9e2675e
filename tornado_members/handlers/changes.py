"""GET /members/changes: the changes of members, as they happen."""

import socket
from asyncio import Future
from contextlib import suppress
from typing import Final

from tornado_members.auth.permissions import READ
from tornado_members.errors import (
    BadParameter,
    ChangesLost,
    DependencyUnavailable,
    FeedUnavailable,
    Overloaded,
)
from tornado_members.feed.access import Access
from tornado_members.feed.cursors import MalformedCursor
from tornado_members.feed.events import Format
from tornado_members.feed.subscription import Subscription
from tornado_members.handlers.batches import MAX_IN_QUERY, parse_id_list
from tornado_members.handlers.member_resource import MemberResourceHandler
from tornado_members.handlers.parameters import text_of
from tornado_members.http.admission import bearer_token
from tornado_members.http.own_record import query_has_own_id_only
from tornado_members.http.responses import PRIVATE, VARY
from tornado_members.http.streaming import (
    close_connection,
    end_with_connection,
    ignore_disconnect,
)
from tornado_members.openapi.examples import example_event, example_ndjson_event
from tornado_members.openapi.operation import NDJSON, Operation, Parameter, Response
from tornado_members.openapi.schemas import TEXT_FILE

EVENT_STREAM: Final = "text/event-stream"
_FORMATS: Final = {EVENT_STREAM: Format.SSE, NDJSON: Format.NDJSON}
_VANISHED_MS: Final = 60_000  # after which a client that acknowledges nothing is disconnected
_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)

FOLLOW_CHANGES: Final = Operation(
    name="followChanges",
    summary="Follow the changes of members",
    tag="members",
    permission=READ,
    is_own=query_has_own_id_only,
    query={
        "after": Parameter(
            "Resume after this cursor: the id of an event, or Changes-After of an export. "
            "`Last-Event-ID` overrides it.",
            {"type": "string", "minLength": 1},
        ),
        "memberId": Parameter(
            f"Only changes of these members: at most {MAX_IN_QUERY} ids, separated by commas.",
            {"type": "string", "pattern": r"^[1-9][0-9]{0,15}(,[1-9][0-9]{0,15})*$"},
            "42",
        ),
        "fields": Parameter(
            "`none` leaves out the members: events have ids and versions only.",
            {"type": "string", "enum": ["none"]},
        ),
    },
    headers=("Last-Event-ID",),
    responses={
        200: Response(
            "A stream of events that does not end by itself. docs/feed.md describes it",
            {EVENT_STREAM: TEXT_FILE, NDJSON: TEXT_FILE},
            {EVENT_STREAM: example_event, NDJSON: example_ndjson_event},
            headers=("Cache-Control", "Vary"),
        )
    },
    problems=(ChangesLost, FeedUnavailable, DependencyUnavailable, Overloaded),
)


class ChangesHandler(MemberResourceHandler):
    """/members/changes"""

    route = "/members/changes"
    operations = {"GET": FOLLOW_CHANGES, "HEAD": FOLLOW_CHANGES}

    _subscription: Subscription | None = None

    async def get(self) -> None:
        """Subscribe, and send events until the stream ends."""
        feed, cursor = self.services.feed, self._cursor()
        subscription = Subscription(
            self,
            feed.cursors,
            feed.metrics,
            _FORMATS[self.media_type],
            with_member=self._with_member(),
            member_ids=self._member_ids(),
        )
        if self.request.method == "HEAD":
            try:
                await feed.check(cursor)
            except MalformedCursor:
                raise self._malformed() from None
            self._set_stream_headers()
            await self.flush()
            return
        token = bearer_token(self.request.headers) or ""
        subject = (self.caller.issuer, self.caller.subject) if self.caller else ("", "")
        access = Access(self.services.tokens, token, subject, self.own_member_id)
        self._subscription = subscription
        try:
            await feed.subscribe(subscription, access, cursor)
        except MalformedCursor:
            raise self._malformed() from None
        if self.client_disconnected or self.response_finished:
            subscription.end("client")
            return
        self._start(subscription, is_new=cursor is None)

    head = get

    def _start(self, subscription: Subscription, *, is_new: bool) -> None:
        self._auto_finish = False
        self.seconds_to_start = self.request.request_time()
        # Subscribers have limits of their own, and do not count as requests in flight.
        self.services.requests.request_finished()
        self.services.deadlines.end(self)
        self._watch_peer()
        self._set_stream_headers()
        self.flush().add_done_callback(ignore_disconnect)
        subscription.start(is_new=is_new)

    def _set_stream_headers(self) -> None:
        self.set_header("Content-Type", self.media_type)
        self.set_header("Cache-Control", f"{PRIVATE}, no-transform")
        self.set_header("X-Accel-Buffering", "no")  # nginx would hold events back
        self.add_vary(VARY)
        end_with_connection(self.request)

    def _watch_peer(self) -> None:
        """Make the kernel detect a client that has vanished without closing the connection."""
        get_info = getattr(self.request.connection, "get_extra_info", None)
        found = get_info("socket") if get_info else None
        if found is not None and _USER_TIMEOUT is not None:
            with suppress(OSError):  # a Unix socket
                found.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, _VANISHED_MS)

    # The subscription calls these.

    def send_events(self, data: bytes) -> "Future[None]":
        """Send events; the future is done when the system has taken them."""
        self.write(data)
        return self.flush()

    def end_events(self, reason: str) -> None:
        """Complete the response, if it has started."""
        subscription, self._subscription = self._subscription, None
        if subscription is None:
            return
        self.services.feed.leave(subscription)
        if self.seconds_to_start is None:
            return
        self.events, self.ended_by = subscription.events, reason
        self.services.requests.request_started()  # finish() counts it as finished
        self.finish()
        if self.request.version == "HTTP/1.0":
            close_connection(self.request)

    def abort_events(self, reason: str) -> None:
        """Close the connection of a client that does not read."""
        close_connection(self.request)
        self.end_events(reason)

    def on_connection_close(self) -> None:
        super().on_connection_close()
        if self._subscription is not None and self.seconds_to_start is not None:
            self._subscription.end("client")

    # The query.

    def _cursor(self) -> str | None:
        after = text_of(self.request.query_arguments, "after")
        header = self.request.headers.get("Last-Event-ID")
        if after == "":
            raise BadParameter("after", "is empty")
        return header or after

    def _malformed(self) -> BadParameter:
        name = "Last-Event-ID" if self.request.headers.get("Last-Event-ID") else "after"
        return BadParameter(name, "is not a cursor of this feed")

    def _with_member(self) -> bool:
        fields = text_of(self.request.query_arguments, "fields")
        if fields not in (None, "none"):
            raise BadParameter("fields", "should be none")
        return fields is None

    def _member_ids(self) -> frozenset[int] | None:
        if self.own_member_id is not None:
            return frozenset({self.own_member_id})
        named = self.request.query_arguments.get("memberId")
        if named is None:
            return None
        ids = parse_id_list(named)
        if len(ids) > MAX_IN_QUERY:
            detail = f"has {len(ids)} ids; at most {MAX_IN_QUERY} are allowed"
            raise BadParameter("memberId", detail)
        return frozenset(ids)
