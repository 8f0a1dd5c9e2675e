"""The one base handler: who is calling, what they sent, how an answer and an error are given."""

import json
from asyncio import Future
from collections.abc import Mapping
from logging import getLogger
from typing import Any, ClassVar, NoReturn

from tornado.httputil import HTTPHeaders
from tornado.web import HTTPError, RequestHandler

from tornado_members.auth.caller import Caller
from tornado_members.directory import Representation
from tornado_members.errors import (
    BadRequest,
    EncodedBody,
    InternalError,
    MalformedBody,
    MemberNotFound,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    PreconditionFailed,
    PreconditionRequired,
    Problem,
    ResponseTimeout,
    UnsupportedMediaType,
)
from tornado_members.http.admission import allowed_methods
from tornado_members.http.body_limit import admission_of, leaves_body_unread
from tornado_members.http.conditional import parse_precondition
from tornado_members.http.content_type import parse_content_type
from tornado_members.http.cors import cross_origin_headers, preflight_headers
from tornado_members.http.encoding import accepts_gzip, compressed
from tornado_members.http.responses import (
    PRIVATE,
    SECURITY_HEADERS,
    VARY,
    cache_status,
    is_known,
    validators,
)
from tornado_members.model.history import Actor
from tornado_members.model.precondition import Precondition
from tornado_members.model.strict_json import parse_object
from tornado_members.openapi.operation import JSON, Operation
from tornado_members.services import Services
from tornado_members.telemetry.access_log import AccessLogRecord
from tornado_members.telemetry.logs import fields
from tornado_members.telemetry.tracing import RequestSpan

log = getLogger(__name__)


class BaseHandler(RequestHandler):
    """A handler says what each of its methods takes and gives, and writes those methods."""

    operations: ClassVar[Mapping[str, Operation]] = {}
    has_deadline: ClassVar[bool] = True  # whether its answers have to begin in time
    route: ClassVar[str] = "other"  # the pattern of its path, for logs and metrics

    services: Services
    operation: Operation  # of this request, once prepare() has let it through
    caller: Caller | None = None
    request_id: str | None = None
    chosen_type: str = "application/json"  # of those that are offered, the one that is wanted
    is_gone: bool = False  # whoever asked
    was_given_up = False
    cache_status: str | None = None
    problem_code: str | None = None
    span: RequestSpan | None = None

    def initialize(self, services: Services) -> None:
        self.services = services
        self.request_id = services.request_ids.of(self.request.headers)
        self.set_header("X-Request-Id", self.request_id)
        services.requests.request_started()
        if services.tracer is not None:
            self.span = services.tracer.start(self.request)
        if self.has_deadline:
            services.deadlines.begin(self)
        self._allow_cross_origin()
        # Tornado would read forms before anybody is asked who is calling. Nobody here takes any.
        self.request._parse_body = _leave_unread  # type: ignore[method-assign]

    def set_default_headers(self) -> None:
        """Tornado calls this before `initialize`, and again before it renders an error."""
        self.clear_header("Server")
        self.set_header("X-Request-Id", self.request_id or "")
        self._set_headers(SECURITY_HEADERS)

    async def prepare(self) -> None:
        """Let the request through only if its method is for this path and its caller may use it."""
        if self.services.requests.in_flight > self.services.most_requests:
            raise Overloaded
        admission = admission_of(self.request)
        if admission is None:
            admission = await self.services.admission.admit(self.request, self.operations)
        self.caller = admission.caller
        self.chosen_type = admission.media_type
        if admission.operation is not None:
            self.operation = admission.operation

    def options(self, *_: str) -> None:
        """Which methods the path has (RFC 9110 §9.3.7)."""
        self.set_status(204)
        self.set_header("Allow", self.allowed_methods())
        headers = self.request.headers
        if "Access-Control-Request-Method" in headers:
            rules, methods = self.services.cors, self.allowed_methods()
            self._set_headers(preflight_headers(rules, headers.get("Origin"), methods))

    def allowed_methods(self) -> str:
        """Return the value of the Allow header (RFC 9110 §10.2.1)."""
        return allowed_methods(self.operations)

    def caller_address(self) -> str:
        """From where the request came, as far as anybody trustworthy tells."""
        return self.services.proxies.caller(self.request.remote_ip or "", self.request.headers)

    def wants_no_cache(self) -> bool:
        """Whether the caller wants the database to be asked (RFC 9111 §5.2.1.4)."""
        directives = ",".join(self.request.headers.get_list("Cache-Control"))
        return "no-cache" in [word.strip().lower() for word in directives.split(",")]

    def json_body(self) -> dict[str, Any]:
        """The object that the body holds. Raises UnsupportedMediaType, MalformedBody."""
        if self.operation.body is None:
            raise TypeError(f"{self.operation.name} declares no body")
        self.check_body_type(self.operation.body.media_type)
        try:
            return parse_object(self.request.body)
        except ValueError as error:
            raise MalformedBody(f"The body {error}.") from None

    def check_body_type(self, default: str = "") -> str:
        """Which of the operation's media types the body has, `default` where it does not say.

        Raises UnsupportedMediaType.
        """
        if self.operation.body is None:
            raise TypeError(f"{self.operation.name} declares no body")
        if self.request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise EncodedBody
        content_type = parse_content_type(self.request.headers.get("Content-Type", default))
        taken = [*self.operation.body.content]
        if (
            content_type is None
            or content_type.media_type not in taken
            or content_type.charset not in ("utf-8", "us-ascii")
        ):
            accept = {"POST": "Accept-Post", "PATCH": "Accept-Patch"}.get(self.request.method or "")
            raise UnsupportedMediaType(taken, accept_header=accept)
        return content_type.media_type

    def answer_member(self, member: Representation, status: int = 200) -> None:
        """A member, with its version as the ETag (RFC 9110 §8.8.3)."""
        headers = self.request.headers
        is_read = self.request.method in ("GET", "HEAD")
        if is_read and not _allows_read(headers, member):
            raise PreconditionFailed
        for name, value in validators(member):
            self.set_header(name, value)
        self.tell_cache_status(member.cache_status)
        if is_read and is_known(headers, member):
            self.answer_bytes(b"", 304)
        else:
            self.answer_bytes(member.body, status)

    def precondition(self) -> Precondition:
        """What a write demands (RFC 9110 §13.1). Raises BadRequest, PreconditionRequired."""
        condition = parse_precondition(self.request.headers)
        is_said = condition.must_exist or condition.must_not_exist
        if self.services.rules.require_if_match and not is_said:
            raise PreconditionRequired
        return condition

    def actor(self) -> Actor | None:
        """Who makes a change, for the record."""
        caller = self.caller
        return Actor(caller.issuer, caller.subject, self.request_id) if caller else None

    def tell_cache_status(self, status: str | None) -> None:
        """How the cache served a read (RFC 9211)."""
        self.cache_status = status
        if status is not None:
            self.set_header("Cache-Status", cache_status(status))

    def answer_created(self, member: Representation) -> None:
        """A member that is new, and where it is from now on (RFC 9110 §15.3.2)."""
        self.set_header("Location", f"/members/{member.member_id}")
        self.answer_member(member, 201)

    def answer_bytes(self, body: bytes, status: int = 200) -> None:
        """A JSON body about members, which a shared cache may not keep."""
        self.set_status(status)
        self.set_header("Cache-Control", PRIVATE)
        self.add_header("Vary", VARY)
        if status == 304:
            self.finish()
        else:
            self.set_header("Content-Type", JSON)
            self.finish(body)

    def answer_compressible(self, body: bytes) -> None:
        """The same for a body that may be long, and has no ETag: that would be another one."""
        self.add_header("Vary", "Accept-Encoding")
        accepted = ",".join(self.request.headers.get_list("Accept-Encoding"))
        shorter = compressed(body) if accepts_gzip(accepted) else None
        if shorter is not None:
            self.set_header("Content-Encoding", "gzip")
        self.answer_bytes(shorter or body)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer any error, ours or Tornado's, with a problem (RFC 9457)."""
        problem = self._problem(status_code, kwargs.get("exc_info", (None, None, None))[1])
        self.finish(self.render_problem(problem))

    @property
    def has_begun(self) -> bool:
        """Whether a part of the answer is out, so that its status cannot change any more."""
        return bool(self._headers_written)

    @property
    def is_finished(self) -> bool:
        """Whether the answer is complete, or never will be."""
        return bool(self._finished)

    def render_problem(self, problem: Problem) -> bytes:
        """The body of an answer that is a problem; its status and headers are set."""
        self._allow_cross_origin()  # once more: Tornado has begun the answer anew
        self.problem_code = problem.code
        self.set_status(problem.status)
        self._set_headers(problem.headers)
        if isinstance(problem, MemberNotFound):
            self.tell_cache_status(problem.cache_status)
        self.set_header("Content-Type", "application/problem+json")
        self.set_header("Cache-Control", "no-store")
        if leaves_body_unread(self.request):
            self.set_header("Connection", "close")
        text = json.dumps(problem.to_dict(self.request_id or ""), ensure_ascii=False)
        # What a caller sent may stand in it: a lone surrogate there has no UTF-8.
        return text.encode("utf-8", "replace")

    def _problem(self, status_code: int, error: BaseException | None) -> Problem:
        if isinstance(error, Problem):
            return error
        if status_code == 405:
            return MethodNotAllowed(self.request.method or "", self.allowed_methods())
        if status_code == 404:
            return NotFound()
        if 400 <= status_code < 500:
            return BadRequest("The request is malformed.")
        return InternalError()

    def log_exception(self, _type: Any, value: BaseException | None, _traceback: Any) -> None:
        """A traceback for what was not foreseen; what a problem has to say is in its answer."""
        if self.was_given_up and not isinstance(value, ResponseTimeout):
            # Also Tornado's complaint that the answer has been given.
            log.debug("%s ended after it was given up: %r", self.request_id, value)
        elif isinstance(value, Problem):
            if value.status >= 500:
                cause = str(value.__cause__)[:200] if value.__cause__ else None
                said = fields(request_id=self.request_id, code=value.code, cause=cause)
                log.warning("%s", value, extra=said)
        elif isinstance(value, HTTPError) and value.status_code < 500:
            log.debug("%s", value, extra=fields(request_id=self.request_id))
        else:
            said = fields(request_id=self.request_id, route=self.route)
            log.error("a request failed", exc_info=value, extra=said)

    def check_etag_header(self) -> bool:
        """No: conditions were looked at already, where the answer has a version."""
        return False

    def compute_etag(self) -> None:
        """No: an ETag here is a version, never a digest of the bytes."""

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> "Future[None]":
        """Complete the response, which frees the request's place among those in progress.

        What the client does not read is the HTTP server's to bound. A client that reads slowly
        would otherwise take a place from others.
        """
        sent = super().finish(chunk)
        sent.add_done_callback(_ignore_disconnect)
        self.services.requests.request_finished()
        self.services.deadlines.end(self)
        return sent

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self.is_gone = True

    def tell(self) -> None:
        """Tell the log what became of the request."""
        request, status = self.request, self.get_status()
        seconds = request.request_time()
        if self.span is not None:
            self.span.end(self, status, seconds)
        self.services.requests.record(
            AccessLogRecord(
                method=request.method or "",
                route=self.route,
                path=request.path,
                status=status,
                seconds=seconds,
                request_id=self.request_id,
                subject=self.caller.subject if self.caller else None,
                cache=self.cache_status,
                code=self.problem_code,
                traceparent=request.headers.get("traceparent"),
                span=self.span.ids if self.span else None,
            )
        )

    def _allow_cross_origin(self) -> None:
        rules = self.services.cors
        if not rules.origins:
            return
        if "*" not in rules.origins:
            self.add_header("Vary", "Origin")
        self._set_headers(cross_origin_headers(rules, self.request.headers.get("Origin")))

    def _set_headers(self, headers: Mapping[str, str]) -> None:
        for name, value in headers.items():
            self.set_header(name, value)

    def give_up(self) -> None:
        """Answer that it took too long, unless the answer has begun; what it does goes on."""
        if not self._finished and not self._headers_written:
            self.was_given_up = True
            late = ResponseTimeout()
            self.log_exception(ResponseTimeout, late, None)
            self.send_error(late.status, exc_info=(ResponseTimeout, late, None))


def _allows_read(headers: HTTPHeaders, member: Representation) -> bool:
    if "If-Match" not in headers and "If-Unmodified-Since" not in headers:
        return True
    return parse_precondition(headers, of_read=True).allows_read(member.version, member.updated_at)


def _leave_unread() -> None:
    """In the place of HTTPServerRequest._parse_body."""


def _ignore_disconnect(sent: "Future[None]") -> None:
    """Retrieve the exception of a response that its client does not read."""
    if not sent.cancelled():
        sent.exception()


class NotFoundHandler(BaseHandler):
    """Every path that no route has."""

    route = "none"

    async def prepare(self) -> NoReturn:
        raise NotFound

    def _problem(self, status_code: int, error: BaseException | None) -> Problem:
        """Not found, also for a method that Tornado does not know and refuses before prepare()."""
        return NotFound() if status_code == 405 else super()._problem(status_code, error)
