"""Events of the feed, as bytes in its two formats."""

import json
from enum import IntEnum
from typing import Final

from tornado_members.storage.feed_source import MemberChange

_OVERHEAD: Final = 1400  # bytes of an event without its member, and of the objects that hold it


class Format(IntEnum):
    """The media types of the feed."""

    SSE = 0  # text/event-stream (HTML Living Standard §9.2)
    NDJSON = 1


KEEP_ALIVE: Final = {Format.SSE: b": keep-alive\n\n", Format.NDJSON: b"\n"}


def frame(form: Format, cursor: str, kind: str, data: bytes) -> bytes:
    """Return an event; `data` is JSON without line ends."""
    if form is Format.SSE:
        return b"id: %b\nevent: %b\ndata: %b\n\n" % (cursor.encode(), kind.encode(), data)
    return b'{"id":"%b","event":"%b","data":%b}\n' % (cursor.encode(), kind.encode(), data)


def notice(form: Format, cursor: str, kind: str, detail: str) -> bytes:
    """Return an event that concerns the stream itself instead of a member."""
    return frame(form, cursor, kind, json.dumps({"detail": detail}).encode())


def progress(form: Format, cursor: str) -> bytes:
    """Return bytes that advance the cursor of an EventSource without an event (§9.2.6)."""
    return b": keep-alive\nid: %b\n\n" % cursor.encode() if form is Format.SSE else b"\n"


class FeedEvent:
    """A change in the buffer. It is encoded for the first subscriber that needs it."""

    __slots__ = ("_change", "_cursor", "_encoded", "member_id", "size", "token")

    def __init__(self, change: MemberChange, cursor: str) -> None:
        """`cursor` is that of the change, for clients."""
        self.member_id = change.member_id
        self.token = change.token
        self._change = change
        self._cursor = cursor
        self._encoded: dict[tuple[Format, bool], bytes] = {}
        body = len(change.member.to_json()) if change.member else 0
        self.size = 4 * body + _OVERHEAD  # bytes, at most two encodings and the member

    def encode(self, form: Format, *, with_member: bool) -> bytes:
        """Return the bytes of the event."""
        known = self._encoded.get((form, with_member))
        if known is not None:
            return known
        change = self._change
        version = b"null" if change.version is None else b"%d" % change.version
        data = b'{"memberId":%d,"version":%b' % (change.member_id, version)
        if with_member:
            data += b',"member":%b' % (change.member.to_json() if change.member else b"null")
        encoded = frame(form, self._cursor, change.kind, data + b"}")
        self._encoded[form, with_member] = encoded
        return encoded
