"""Cursors of the feed: opaque text for clients, made from the resume tokens of the change stream.

A cursor is the content of a resume token, which is hexadecimal, followed by eight characters that
identify the cluster and eight of a checksum. So a cursor that was truncated or mistyped is
distinguished from one of another database.
"""

import re
from binascii import crc32
from hashlib import blake2b
from typing import Final

_CURSOR: Final = re.compile(r"((?:[0-9A-Fa-f]{2}){8,2000})([0-9a-f]{8})([0-9a-f]{8})")


class MalformedCursor(ValueError):
    """The text is not a cursor of any feed."""


class ForeignCursor(ValueError):
    """The text is a cursor of the feed of another database."""


class Cursors:
    """Encodes and decodes the cursors of one cluster."""

    def __init__(self, namespace: str) -> None:
        """`namespace` is unique for each cluster."""
        self._cluster = blake2b(namespace.encode(), digest_size=4).hexdigest()

    def encode(self, token: str) -> str:
        """Return the cursor of a resume token."""
        text = token + self._cluster
        return f"{text}{crc32(text.encode()):08x}"

    def decode(self, cursor: str) -> str:
        """Return the resume token of a cursor. Raises MalformedCursor, ForeignCursor."""
        match = _CURSOR.fullmatch(cursor)
        if match is None or int(match[3], 16) != crc32(f"{match[1]}{match[2]}".encode()):
            raise MalformedCursor
        if match[2] != self._cluster:
            raise ForeignCursor
        return match[1]
