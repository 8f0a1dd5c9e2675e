"""Reads the body of a request as its operation declares it."""

import codecs
from typing import Any

from tornado.httputil import HTTPServerRequest

from tornado_members.errors import EncodedBody, MalformedBody, UnsupportedMediaType
from tornado_members.http.content_type import parse_content_type
from tornado_members.model.strict_json import parse_object
from tornado_members.openapi.operation import Operation

_ACCEPT_HEADERS = {"POST": "Accept-Post", "PATCH": "Accept-Patch"}


def json_object(request: HTTPServerRequest, operation: Operation) -> dict[str, Any]:
    """Return the JSON object in the body. Raises UnsupportedMediaType, MalformedBody."""
    media_type_of(request, operation, default=operation.body.media_type if operation.body else "")
    try:
        # A byte order mark may be ignored (RFC 8259 §8.1); some editors and tools write one.
        return parse_object(request.body.removeprefix(codecs.BOM_UTF8))
    except ValueError as error:
        raise MalformedBody(f"The body {error}.") from None


def media_type_of(request: HTTPServerRequest, operation: Operation, *, default: str = "") -> str:
    """Return the body's media type, one of those that the operation declares.

    `default` is assumed for a request without Content-Type. Raises UnsupportedMediaType.
    """
    if operation.body is None:
        raise TypeError(f"{operation.name} declares no body")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise EncodedBody
    content_type = parse_content_type(request.headers.get("Content-Type", default))
    supported = [*operation.body.content]
    if (
        content_type is None
        or content_type.media_type not in supported
        or content_type.charset not in ("utf-8", "us-ascii")
    ):
        accept_header = _ACCEPT_HEADERS.get(request.method or "")
        raise UnsupportedMediaType(supported, accept_header=accept_header)
    return content_type.media_type
