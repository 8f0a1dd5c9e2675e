"""The Content-Type of a request (RFC 9110 §8.3)."""

import re
from typing import NamedTuple

from tornado_members.http.field_syntax import QUOTED_STRING, TOKEN, unquote

MAX_CONTENT_TYPE = 256  # characters

# Possessive quantifiers (*+, ++) throughout: a malformed value is rejected in linear time.
_MEDIA_TYPE = re.compile(rf"[ \t]*+({TOKEN}/{TOKEN})[ \t]*+")
# A parameter may be empty, and may have white space around its "=": some clients send both.
_PARAMETER = re.compile(
    rf";[ \t]*+(?:({TOKEN})[ \t]*+(?:=[ \t]*+({TOKEN}|{QUOTED_STRING}))?+[ \t]*+)?+"
)


class ContentType(NamedTuple):
    """A parsed Content-Type, in lower case; `charset` is utf-8 if the header does not name one."""

    media_type: str
    charset: str


def parse_content_type(text: str) -> ContentType | None:
    """Return the media type and charset; None if the value is malformed or too long.

    Of several charsets, the first is used. Other parameters are ignored.
    """
    found = _MEDIA_TYPE.match(text) if len(text) <= MAX_CONTENT_TYPE else None
    if found is None:
        return None
    media_type, charset, end = found[1].lower(), "", found.end()
    while end < len(text):
        parameter = _PARAMETER.match(text, end)
        if parameter is None:
            return None
        if (parameter[1] or "").lower() == "charset" and not charset:
            charset = unquote(parameter[2] or "").lower()
        end = parameter.end()
    return ContentType(media_type, charset or "utf-8")
