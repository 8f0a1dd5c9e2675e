"""Every problem that a client can receive, as RFC 9457 problem details.

The file is one table, in the order of the status codes. It is not split, so that a status or a code
is found in one place.

    Problem
    ├── BadRequest                   400  bad-request
    │   ├── MalformedBody            400  malformed-body
    │   ├── BadParameter             400  bad-parameter
    │   ├── AmbiguousAddress         400  ambiguous-address
    │   └── ListTooWide              400  list-too-wide
    ├── Unauthorized
    │   ├── TokenMissing             401  token-missing
    │   ├── TokenInvalid             401  token-invalid
    │   └── LoginFailed              401  login-failed
    ├── PermissionMissing            403  permission-missing
    ├── UserBlocked                  403  user-blocked
    ├── NotFound                     404  not-found
    │   ├── MemberNotFound           404  member-not-found
    │   └── UserNotFound             404  user-not-found
    ├── MethodNotAllowed             405  method-not-allowed
    ├── NotAcceptable                406  not-acceptable
    ├── RequestTooSlow               408  request-too-slow
    ├── NameTaken                    409  name-taken
    ├── UsernameTaken                409  username-taken
    ├── ChangesLost                  410  changes-lost
    ├── PreconditionFailed           412  precondition-failed
    ├── BodyTooLarge                 413  body-too-large
    ├── TargetTooLong                414  target-too-long
    ├── UnsupportedMediaType         415  unsupported-media-type
    │   └── EncodedBody              415  unsupported-media-type
    ├── FaultyBody
    │   ├── InvalidMember            422  invalid-member
    │   ├── InvalidLookup            422  invalid-lookup
    │   ├── InvalidCredentialsBody   422  invalid-credentials-body
    │   └── InvalidUser              422  invalid-user
    ├── UnreadableFile               422  unreadable-file
    ├── PreconditionRequired         428  precondition-required
    ├── TooManyAttempts              429  too-many-attempts
    ├── TooManyRequests              429  too-many-requests
    ├── HeadersTooLarge              431  headers-too-large
    ├── InternalError                500  internal-error
    ├── FeedUnavailable              501  changes-unavailable
    ├── WriteConflict                503  write-conflict
    ├── DependencyUnavailable        503  dependency-unavailable
    ├── ListsBeingPrepared           503  preparing
    ├── Overloaded                   503  overloaded
    ├── ResponseTimeout              503  response-timeout
    └── VersionNotSupported          505  version-not-supported

A problem is raised where it occurs, and rendered in handlers/response.py. http/refusals.py renders
those of requests that the HTTP server refuses, and handlers/shedding.py those of requests that are
refused under overload. docs/errors.md explains each problem. OperatorError is not a problem: it is
never sent to a client.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

TYPE_PREFIX = "urn:tornado-members:problem:"


class OperatorError(Exception):
    """An error that ends a command. Its message states what is wrong, for the operator."""


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension member of a problem object: its JSON schema, and if it is always present."""

    schema: Mapping[str, Any]
    always: bool = True


class Problem(Exception):
    """An error with an HTTP status, a stable code and a detail for the caller.

    `headers` are added to the response; `extensions` are further members of the problem object
    (RFC 9457 §3.2). The class declares both for /openapi.json.
    """

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]
    always_headers: ClassVar[tuple[str, ...]] = ()
    may_have_headers: ClassVar[tuple[str, ...]] = ()
    extended_by: ClassVar[Mapping[str, Extension]] = {}

    def __init__(
        self,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        extensions: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = dict(headers or {})
        self.extensions = dict(extensions or {})

    def to_dict(
        self,
        request_id: str,
        base_path: str = "",  # noqa: ARG002  # used by NameTaken
    ) -> dict[str, Any]:
        """Return the problem object (RFC 9457 §3.1); `base_path` is the prefix of its addresses."""
        return {
            "type": TYPE_PREFIX + self.code,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "requestId": request_id,
            **self.extensions,
        }


class BadRequest(Problem):
    status = 400
    code = "bad-request"
    title = "Bad request"


class MalformedBody(BadRequest):
    code = "malformed-body"
    title = "The body is not one JSON object"


class BadParameter(BadRequest):
    code = "bad-parameter"
    title = "Bad query parameter"
    extended_by = {"parameter": Extension({"type": "string"})}

    def __init__(self, parameter: str, detail: str) -> None:
        super().__init__(f"{parameter}: {detail}", extensions={"parameter": parameter})


class AmbiguousAddress(BadRequest):
    """A name that proxies change in a path: they resolve `..` and decode `%2F` (RFC 3986 §6.2)."""

    code = "ambiguous-address"
    title = "The address is ambiguous"

    def __init__(self) -> None:
        super().__init__(
            "A path cannot hold a name that contains / or \\, or is . or ..: proxies change such "
            "paths. Send the name in the query instead: .../by-name?name=NAME, percent-encoded."
        )


class ListTooWide(BadRequest):
    """A page of a list cannot be found in time. The same request would take as long again."""

    code = "list-too-wide"
    title = "The list is too wide"

    def __init__(self) -> None:
        super().__init__(
            "So many members match q or name_prefix that the page cannot be found in time. Add "
            "letters or words, or sort by name if you use name_prefix."
        )


class Unauthorized(Problem):
    status = 401
    always_headers = ("WWW-Authenticate",)


class TokenMissing(Unauthorized):
    """A request without credentials: its challenge has no error code (RFC 6750 §3.1)."""

    code = "token-missing"
    title = "A token is required"

    def __init__(self) -> None:
        super().__init__(
            "Send a bearer token: Authorization: Bearer <token>.",
            headers={"WWW-Authenticate": 'Bearer realm="members"'},
        )


class TokenInvalid(Unauthorized):
    code = "token-invalid"
    title = "The token is not valid"

    def __init__(self, reason: str, kind: str = "claims") -> None:
        """`reason` is sent in a quoted-string: it must hold no quotes and nothing of the token.

        `kind` is the label under which refusals are counted.
        """
        self.kind = kind
        challenge = f'Bearer realm="members", error="invalid_token", error_description="{reason}"'
        super().__init__(f"The token {reason}.", headers={"WWW-Authenticate": challenge})


class LoginFailed(Unauthorized):
    """The detail does not reveal whether the username or the password is wrong."""

    code = "login-failed"
    title = "The login failed"

    def __init__(self) -> None:
        super().__init__(
            "The username or the password is wrong. Check both.",
            headers={"WWW-Authenticate": 'Bearer realm="members"'},
        )


class PermissionMissing(Problem):
    status = 403
    code = "permission-missing"
    title = "The token does not grant this permission"
    always_headers = ("WWW-Authenticate",)
    extended_by = {"permission": Extension({"type": "string"})}

    def __init__(
        self,
        permission: str,
        *,
        granted: Sequence[str] = (),
        has_own: bool = False,
        own_member_id: int | None = None,
    ) -> None:
        """`granted` is empty for a blocked user. `has_own`: whether one of them ends in `:own`."""
        challenge = f'Bearer realm="members", error="insufficient_scope", scope="{permission}"'
        token = f"only {', '.join(granted)}" if granted else "no permission (any more)"
        own = ""
        if has_own:
            reach = "no member" if own_member_id is None else f"member {own_member_id} only"
            own = f" For this token, a permission that ends in :own covers {reach}."
        super().__init__(
            f"This request requires the permission {permission}. The token grants {token}.{own}",
            headers={"WWW-Authenticate": challenge},
            extensions={"permission": permission},
        )


class UserBlocked(Problem):
    status = 403
    code = "user-blocked"
    title = "The user is blocked"

    def __init__(self) -> None:
        super().__init__(
            "The password is correct, but the user is blocked. Ask an administrator to unblock it."
        )


class NotFound(Problem):
    status = 404
    code = "not-found"
    title = "Not found"

    def __init__(
        self, detail: str = "This path does not exist. GET /openapi.json lists the paths."
    ) -> None:
        super().__init__(detail)


class MemberNotFound(NotFound):
    code = "member-not-found"
    title = "No such member"
    may_have_headers = ("Cache-Status",)

    def __init__(self, which: str, *, cache_status: str | None = None) -> None:
        """`cache_status` is the value of Cache-Status (RFC 9211)."""
        super().__init__(f"There is no member {which}.")
        self.cache_status = cache_status


class UserNotFound(NotFound):
    code = "user-not-found"
    title = "No such user"

    def __init__(self) -> None:
        super().__init__("No user has this name. GET /users lists the users.")


class MethodNotAllowed(Problem):
    status = 405
    code = "method-not-allowed"
    title = "Method not allowed"
    always_headers = ("Allow",)

    def __init__(self, method: str, allow: str) -> None:
        super().__init__(
            f"This path does not support {method}. It supports {allow}.", headers={"Allow": allow}
        )


class NotAcceptable(Problem):
    status = 406
    code = "not-acceptable"
    title = "Not acceptable"

    def __init__(self, media_type: str) -> None:
        super().__init__(
            f"The Accept header excludes {media_type}, the type of this resource. Accept that type."
        )


class RequestTooSlow(Problem):
    status = 408
    code = "request-too-slow"
    title = "The request took too long to arrive"


class NameTaken(Problem):
    """The unique index refused a write."""

    status = 409
    code = "name-taken"
    title = "The name is taken"
    extended_by = {"member": Extension({"type": "string", "format": "uri-reference"}, always=False)}

    def __init__(self, member_id: int | None, *, by_member: bool = True) -> None:
        """`member_id` is the member that has the name, if it is known.

        `by_member` is false if the name is held by a document that is not a member. Only the
        program that stored that document can free the name.
        """
        holder = f"member {member_id}" if member_id is not None else "another member"
        if not by_member:
            holder = "a document in the database that is not a member"
        advice = (
            "Choose another name"
            if member_id is None
            else "Change that member, or choose another name"
        )
        super().__init__(f"The name is taken by {holder}. {advice}.")
        self.member_id = member_id
        self.by_member = by_member

    def to_dict(self, request_id: str, base_path: str = "") -> dict[str, Any]:
        """Return the problem object, with the address of the member that has the name."""
        problem = super().to_dict(request_id, base_path)
        if self.member_id is not None:
            problem["member"] = f"{base_path}/members/{self.member_id}"
        return problem


class UsernameTaken(Problem):
    status = 409
    code = "username-taken"
    title = "The username is taken"

    def __init__(self) -> None:
        super().__init__(
            "A user with this name already exists. Choose another name, or change that user."
        )


class ChangesLost(Problem):
    """The feed cannot resume after a cursor: MongoDB no longer has its event, or never had it."""

    status = 410
    code = "changes-lost"
    title = "The changes after this cursor are lost"

    def __init__(self) -> None:
        super().__init__(
            "The feed cannot resume after this cursor: MongoDB no longer has its event, or never "
            "had it. Take a new export, and follow the changes after its Changes-After."
        )


class PreconditionFailed(Problem):
    status = 412
    code = "precondition-failed"
    title = "Precondition failed"

    def __init__(self, *, weak_tag: str | None = None) -> None:
        """`weak_tag` is the only entity tag of If-Match, if that can never match."""
        super().__init__(
            f"If-Match contains {weak_tag}, and a weak ETag never matches. A proxy that compresses "
            "responses makes it weak: send the ETag without W/, or ask the operator to set "
            "server.proxied_etags."
            if weak_tag
            else "The member does not match the precondition. Fetch it again before retrying."
        )


class BodyTooLarge(Problem):
    status = 413
    code = "body-too-large"
    title = "The body is too large"

    def __init__(self, limit: int) -> None:
        """`limit` in bytes."""
        super().__init__(f"The body of this request may have at most {limit} bytes. Send less.")


class TargetTooLong(Problem):
    status = 414
    code = "target-too-long"
    title = "The address is too long"


class UnsupportedMediaType(Problem):
    status = 415
    code = "unsupported-media-type"
    title = "Unsupported media type"
    may_have_headers = ("Accept-Post", "Accept-Patch", "Accept-Encoding")

    def __init__(self, expected: Sequence[str], *, accept_header: str | None = None) -> None:
        """`accept_header` names the header that lists what is accepted (RFC 5789, LDP §7.1)."""
        super().__init__(
            f"The body must be {' or '.join(expected)}, in UTF-8. Set Content-Type accordingly.",
            headers={accept_header: ", ".join(expected)} if accept_header else None,
        )


class EncodedBody(UnsupportedMediaType):
    """A Content-Encoding that the service does not decode (RFC 9110 §8.4, §15.5.16)."""

    def __init__(self) -> None:
        Problem.__init__(
            self,
            "The body must be sent without a Content-Encoding.",
            headers={"Accept-Encoding": "identity"},
        )


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a body: a JSON pointer (RFC 6901) and a description."""

    pointer: str
    detail: str


class FaultyBody(Problem):
    """Well-formed JSON with invalid content; the problem lists every fault at once."""

    status = 422
    extended_by = {
        "errors": Extension(
            {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["pointer", "detail"],
                    "properties": {
                        "pointer": {"type": "string", "format": "json-pointer"},
                        "detail": {"type": "string"},
                    },
                },
            }
        )
    }

    # A body may have a hundred thousand unknown fields; the response does not list all of them.
    most_faults = 100

    def __init__(self, faults: Sequence[Fault], *, unlisted: int = 0) -> None:
        """`unlisted` is the number of faults beyond the given ones."""
        shown = faults[: self.most_faults]
        total = len(faults) + unlisted
        count = "1 fault" if total == 1 else f"{total} faults"
        more = f", the first {len(shown)} of which are listed" if len(shown) < total else ""
        super().__init__(
            f"The body has {count}{more}.",
            extensions={"errors": [{"pointer": f.pointer, "detail": f.detail} for f in shown]},
        )
        self.faults = tuple(faults)


class InvalidMember(FaultyBody):
    code = "invalid-member"
    title = "The member is not valid"


class InvalidLookup(FaultyBody):
    code = "invalid-lookup"
    title = "The list of ids is not valid"


class InvalidCredentialsBody(FaultyBody):
    code = "invalid-credentials-body"
    title = "The credentials are not valid"


class InvalidUser(FaultyBody):
    code = "invalid-user"
    title = "The user is not valid"


class UnreadableFile(Problem):
    """No row of a file can be read, for example because no column holds the name."""

    status = 422
    code = "unreadable-file"
    title = "No row of the file can be read"

    def __init__(self, reason: str) -> None:
        """`reason` is a clause, such as "the file is empty"."""
        super().__init__(f"{reason[:1].upper()}{reason[1:]}.")
        self.reason = reason


class PreconditionRequired(Problem):
    """With members.require_if_match, a write must name a version (RFC 6585 §3)."""

    status = 428
    code = "precondition-required"
    title = "Precondition required"

    def __init__(self) -> None:
        super().__init__("Send If-Match with the ETag of the version that you have read.")


class TooManyAttempts(Problem):
    """Too many logins with one username or from one address. `retry_after` in seconds."""

    status = 429
    code = "too-many-attempts"
    title = "Too many attempts"
    always_headers = ("Retry-After",)

    def __init__(self, retry_after: int) -> None:
        super().__init__(
            f"Too many login attempts. Try again in {_seconds(retry_after)}.",
            headers={"Retry-After": str(retry_after)},
        )


class TooManyRequests(Problem):
    """One subject exceeds rate_limit.requests_per_minute. `retry_after` in seconds."""

    status = 429
    code = "too-many-requests"
    title = "Too many requests"
    always_headers = ("Retry-After",)

    def __init__(self, limit: int, retry_after: int) -> None:
        """`limit` is a number of requests per minute."""
        super().__init__(
            f"At most {limit} requests per minute are allowed. "
            f"Try again in {_seconds(retry_after)}.",
            headers={"Retry-After": str(retry_after)},
        )


class HeadersTooLarge(Problem):
    status = 431
    code = "headers-too-large"
    title = "The headers are too large"


class InternalError(Problem):
    """An unexpected error. The log has the traceback under the request id."""

    status = 500
    code = "internal-error"
    title = "Internal error"

    def __init__(self) -> None:
        super().__init__(
            "An unexpected error occurred. Report this request id: the log has the error under it."
        )


class FeedUnavailable(Problem):
    """MongoDB has no change streams."""

    status = 501
    code = "changes-unavailable"
    title = "This service has no change feed"

    def __init__(self) -> None:
        super().__init__(
            "The change feed requires a replica set, and MongoDB is a single server. Ask the "
            "operator to make it a replica set."
        )


class WriteConflict(Problem):
    """Other writers changed the member at every attempt to write it. Nothing was written."""

    status = 503
    code = "write-conflict"
    title = "Try again later"
    always_headers = ("Retry-After",)

    def __init__(self) -> None:
        super().__init__(
            "Many writers are changing this member. Nothing was written. Send the request again.",
            headers={"Retry-After": "1"},
        )


class DependencyUnavailable(Problem):
    """A dependency of the service does not respond. `retry_after` in seconds."""

    status = 503
    code = "dependency-unavailable"
    title = "Try again later"
    always_headers = ("Retry-After",)

    def __init__(
        self, detail: str = "The database does not respond.", retry_after: int = 1
    ) -> None:
        """`detail` states which dependency fails, and how."""
        super().__init__(detail, headers={"Retry-After": str(retry_after)})
        self.detail = f"{detail} Try again in {_seconds(retry_after)}."  # logs have the first part


class ListsBeingPrepared(Problem):
    """A list by a filter whose indexes or fields the service is still creating."""

    status = 503
    code = "preparing"
    title = "Try again later"
    always_headers = ("Retry-After",)

    def __init__(self) -> None:
        super().__init__(
            "The service is preparing lists by this filter. Try again in 5 seconds. Lists without "
            "a filter, and requests for single members, already work.",
            headers={"Retry-After": "5"},
        )


class Overloaded(Problem):
    """More requests arrive than this process serves in time. The request had no effect."""

    status = 503
    code = "overloaded"
    title = "Try again later"
    always_headers = ("Retry-After",)

    def __init__(
        self,
        detail: str = "The service has more requests than it can serve in time. This one had no "
        "effect: send it again.",
    ) -> None:
        super().__init__(detail, headers={"Retry-After": "1"})


class ResponseTimeout(Problem):
    """The response did not start in time. Whether the request had an effect is unknown."""

    status = 503
    code = "response-timeout"
    title = "Try again later"
    always_headers = ("Retry-After",)

    def __init__(self) -> None:
        super().__init__(
            "The response took too long. A write may have taken effect: read the member before you "
            "send it again.",
            headers={"Retry-After": "1"},
        )


class VersionNotSupported(Problem):
    status = 505
    code = "version-not-supported"
    title = "The HTTP version is not supported"


def _seconds(count: int) -> str:
    return "1 second" if count == 1 else f"{count} seconds"
