"""Parse a head: request line, headers, and how the body is framed (RFC 9112 §3, §5, §6).

A head is parsed when it is complete, so where the network cuts it makes no difference. llhttp
parses the headers and refuses most of what RFC 9112 does not allow. This module refuses the rest.
"""

import re
from functools import lru_cache
from http import HTTPStatus
from typing import NoReturn

from httptools import (
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserInvalidURLError,
    HttpParserUpgrade,
    HttpRequestParser,
)
from tornado.httputil import HTTPHeaders, RequestStartLine

from tornado_members.http1.heads import (
    TARGET_AT,
    VERSION,
    LastHead,
    RequestHead,
    RequestHeaders,
    SharedHeaders,
)
from tornado_members.http1.limits import Limits
from tornado_members.http1.refusals import Refused

END_OF_LINE = b"\r\n"
END_OF_HEAD = b"\r\n\r\n"
# Heads with other line ends, too: they have to reach llhttp, which refuses them.
_ANY_END_OF_HEAD = re.compile(rb"\n\r?\n")

# RFC 9112 §3; RFC 9110 §5.6.2 for the method. The application decides about bytes beyond ASCII.
_REQUEST = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [\x21-\x7e\x80-\xff]+ HTTP/"
_REQUEST_LINE = re.compile(_REQUEST + rb"1\.[01]")
_OTHER_VERSION = re.compile(_REQUEST + rb"[0-9]\.[0-9]")
_ABSOLUTE = re.compile(r"(?i:https?)://([^/?#@]+)([/?].*)?")
# The characters of RFC 3986 §3.2.2, except the comma, which could hide a second Host.
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+;=:\[\]]|%[0-9A-Fa-f]{2})*")
_LONGEST_LENGTH = 20  # digits
_MOST_REMEMBERED = 4096  # bytes per connection
_SOME_LINE = b"POST / HTTP/1.1"


def find_end_of_head(data: bytes, start: int = 0) -> int:
    """Return the length of the head; -1 if it does not end after `start`."""
    end = data.find(END_OF_HEAD, start)
    if end >= 0:
        return end + len(END_OF_HEAD)
    found = _ANY_END_OF_HEAD.search(data, start)
    return found.end() if found else -1


def skip_empty_line(data: bytes) -> bytes:
    """Return `data` without one empty line in front of a request (RFC 9112 §2.2).

    Some clients send one after a body. Raises Refused for more than one.
    """
    if not data.startswith(END_OF_LINE):
        return data
    if data.startswith(b"\r", len(END_OF_LINE)):
        raise Refused(HTTPStatus.BAD_REQUEST, "More than one empty line precedes the request.")
    return data[len(END_OF_LINE) :]


class _ParsedHeaders:
    """Receives headers from llhttp.

    llhttp refers to it. If it referred to its HeadParser, which refers to llhttp, the memory of
    each closed connection would wait for a garbage collection.
    """

    def __init__(self) -> None:
        self.headers = RequestHeaders()
        self.is_complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header. llhttp leaves white space at the end of its value."""
        key, text = name.decode("ascii"), value.decode("latin-1").rstrip(" \t")
        if key in self.headers:
            self.headers.add(key, text)
        else:
            self.headers[key] = text

    def on_headers_complete(self) -> None:
        """The head ends where HeadParser has found its end."""
        self.is_complete = True


class HeadParser:
    """Parses the heads of one connection."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._llhttp: HttpRequestParser | None = None
        self._parsed = _ParsedHeaders()
        self.last: LastHead | None = None  # clients mostly repeat their headers

    def parse(self, data: bytes) -> RequestHead:
        """Parse a head that ends with its empty line. Raises Refused."""
        limits = self._limits
        end_of_line = data.find(END_OF_LINE)
        if end_of_line > limits.request_line_bytes:
            raise Refused(HTTPStatus.REQUEST_URI_TOO_LONG, "The request line is too long.")
        if len(data) > limits.head_bytes:
            refuse_long_head()
        line = _REQUEST_LINE.fullmatch(data, 0, end_of_line)
        if line is None:
            _refuse_line(data[:end_of_line])
        rest = data[end_of_line - len(VERSION) :]
        if self.last and self.last.rest == rest and data.startswith(b"GET /"):
            return self.last.with_target(data[TARGET_AT : end_of_line - len(VERSION) - 1])
        # Each header has a line. Counting thousands costs less than parsing them.
        if data.count(b"\n", end_of_line) > limits.headers + 2:
            raise Refused(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"A request may have at most {limits.headers} headers.",
            )
        self._parse_headers(data, end_of_line)
        headers = self._parsed.headers
        method, target, version = line[0].decode("latin-1").split(" ")
        _check_host(headers, version)
        if target[0] != "/" or method == "CONNECT":
            target = _resolve_target(method, target, headers)
        head = RequestHead(RequestStartLine(method, target, version), headers, {})
        self._set_framing(head)
        # An absolute target has replaced the Host header, so it is not remembered.
        if data.startswith(b"GET /") and not (head.length or head.chunked):
            is_plain = not head.expects_continue and "Upgrade" not in headers
            if is_plain and len(rest) <= _MOST_REMEMBERED:
                head.headers = SharedHeaders(headers)
                self.last = LastHead(rest, version, headers, head.keep_alive, head.cache)
        return head

    def _parse_headers(self, data: bytes, end_of_line: int) -> None:
        parsed = self._parsed
        llhttp, self._llhttp = self._llhttp or HttpRequestParser(parsed), None
        parsed.headers = RequestHeaders()
        parsed.is_complete = False
        try:
            llhttp.feed_data(data)
            self._llhttp = llhttp
        except HttpParserUpgrade:
            pass  # it expects another protocol now, and is not used again
        except (HttpParserInvalidMethodError, HttpParserInvalidURLError):
            # llhttp has a list of methods, although any token is valid (RFC 9110 §9.1), and refuses
            # targets beyond ASCII. The request line has been checked: only the headers are parsed
            # again.
            self._parse_headers(_SOME_LINE + data[end_of_line:], len(_SOME_LINE))
        except HttpParserError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, f"The request is malformed: {error}.") from None
        if not parsed.is_complete:
            raise Refused(HTTPStatus.BAD_REQUEST, "The request is malformed.")

    def _set_framing(self, head: RequestHead) -> None:
        headers = head.headers
        if "Transfer-Encoding" in headers:
            if headers["Transfer-Encoding"].lower() != "chunked":
                raise Refused(HTTPStatus.BAD_REQUEST, "The only Transfer-Encoding is chunked.")
            if head.start_line.version == "HTTP/1.0":  # RFC 9112 §6.1: faulty
                raise Refused(HTTPStatus.BAD_REQUEST, "HTTP/1.0 has no Transfer-Encoding.")
            head.chunked = head.has_body = True
            self._llhttp = None  # it would expect a body
        elif "Content-Length" in headers:
            length = headers["Content-Length"]
            if len(length) > _LONGEST_LENGTH:
                raise Refused(HTTPStatus.BAD_REQUEST, "The Content-Length has too many digits.")
            head.length = int(length)
            head.has_body = head.length > 0
            self._llhttp = None
        if "Connection" in headers:
            options = {option.strip() for option in headers["Connection"].lower().split(",")}
            head.keep_alive = "close" not in options and (
                head.keep_alive or "keep-alive" in options
            )
        if head.start_line.method == "CONNECT":  # what follows may belong to a tunnel
            head.keep_alive = False
        if "Expect" in headers and head.start_line.version == "HTTP/1.1":
            head.expects_continue = headers["Expect"].lower() == "100-continue"


class PartialHeadCheck:
    """Checks a head that arrives in pieces, to refuse it as soon as it is malformed."""

    def __init__(self) -> None:
        self._llhttp: HttpRequestParser | None = HttpRequestParser(object())
        self._seen = 0

    def check(self, data: bytes) -> None:
        """Check what has arrived of the head. Raises Refused."""
        if self._llhttp is None:
            return
        new, self._seen = data[self._seen :], len(data)
        try:
            self._llhttp.feed_data(new)
        except (HttpParserInvalidMethodError, HttpParserInvalidURLError):
            self._llhttp = None  # the parser decides when the head is complete
        except HttpParserError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, f"The request is malformed: {error}.") from None


def refuse_long_head() -> NoReturn:
    """Raise Refused."""
    raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The headers are too long.")


def _refuse_line(line: bytes) -> NoReturn:
    if _OTHER_VERSION.fullmatch(line):
        raise Refused(
            HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "The server supports HTTP/1.1 and HTTP/1.0."
        )
    raise Refused(HTTPStatus.BAD_REQUEST, "The request line is malformed.")


@lru_cache(256)
def _is_authority(text: str) -> bool:
    return _AUTHORITY.fullmatch(text) is not None


def _check_host(headers: HTTPHeaders, version: str) -> None:
    """Require one valid Host header (RFC 9112 §3.2); HTTP/1.0 may omit it."""
    hosts = headers.get_list("Host")
    if len(hosts) == 1:
        if not _is_authority(hosts[0]):
            raise Refused(HTTPStatus.BAD_REQUEST, "The Host header is not a valid host.")
    elif hosts:
        raise Refused(HTTPStatus.BAD_REQUEST, "There is more than one Host header.")
    elif version == "HTTP/1.1":
        raise Refused(HTTPStatus.BAD_REQUEST, "The Host header is missing.")


def _resolve_target(method: str, target: str, headers: HTTPHeaders) -> str:
    """Return the path of a target that does not begin with a slash (RFC 9112 §3.2)."""
    if method == "CONNECT":
        if _is_authority(target) and ":" in target:
            return target
    elif target == "*":
        if method == "OPTIONS":
            return target
    elif found := _ABSOLUTE.fullmatch(target):
        authority, rest = found[1], found[2] or ""
        if _is_authority(authority):
            headers["Host"] = authority  # §3.2.2: it replaces the header
            if not rest and method == "OPTIONS":
                return "*"
            return rest if rest.startswith("/") else "/" + rest
    raise Refused(HTTPStatus.BAD_REQUEST, "The request target is not a path.")
