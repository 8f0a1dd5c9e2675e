"""Places of the feed: opaque text for clients, and its relation to the change stream.

A place is the content of a resume token, which is hexadecimal, followed by eight characters that
identify the cluster and eight that are a checksum. So a place that was truncated or mistyped is
distinguished from one of another database.
"""

import re
from binascii import crc32
from hashlib import blake2b
from typing import Final

_PLACE: Final = re.compile(r"((?:[0-9A-Fa-f]{2}){8,2000})([0-9a-f]{8})([0-9a-f]{8})")


class MalformedPlace(ValueError):
    """The text is not a place of any feed."""


class ForeignPlace(ValueError):
    """The text is a place of the feed of another database."""


class Places:
    """Encodes and decodes the places of one cluster."""

    def __init__(self, namespace: str) -> None:
        """`namespace` is unique for each cluster."""
        self._cluster = blake2b(namespace.encode(), digest_size=4).hexdigest()

    def encode(self, token: str) -> str:
        """Return the place of a resume token."""
        text = token + self._cluster
        return f"{text}{crc32(text.encode()):08x}"

    def decode(self, place: str) -> str:
        """Return the resume token of a place. Raises MalformedPlace, ForeignPlace."""
        match = _PLACE.fullmatch(place)
        if match is None or int(match[3], 16) != crc32(f"{match[1]}{match[2]}".encode()):
            raise MalformedPlace
        if match[2] != self._cluster:
            raise ForeignPlace
        return match[1]
