"""Every problem a client can be told of, as RFC 9457 problem details.

    Problem
    ├── BadRequest               400  bad-request
    │   ├── MalformedBody        400  malformed-body
    │   └── BadParameter         400  bad-parameter
    ├── Unauthorized
    │   ├── TokenMissing         401  token-missing
    │   ├── TokenInvalid         401  token-invalid
    │   └── LoginFailed          401  login-failed
    ├── PermissionMissing        403  permission-missing
    ├── UserBlocked              403  user-blocked
    ├── NotFound                 404  not-found
    │   └── MemberNotFound       404  member-not-found
    ├── MethodNotAllowed         405  method-not-allowed
    ├── NotAcceptable            406  not-acceptable
    ├── RequestTooSlow           408  request-too-slow
    ├── NameTaken                409  name-taken
    ├── PreconditionFailed       412  precondition-failed
    ├── BodyTooLarge             413  body-too-large
    ├── TargetTooLong            414  target-too-long
    ├── UnsupportedMediaType     415  unsupported-media-type
    ├── FaultyBody
    │   ├── NotAMember           422  not-a-member
    │   └── NotALogin            422  not-a-login
    ├── FileUnusable             422  file-unusable
    ├── PreconditionRequired     428  precondition-required
    ├── TooManyAttempts          429  too-many-attempts
    ├── HeadersTooLarge          431  headers-too-large
    ├── TooManyRequests          429  too-many-requests
    ├── InternalError            500  internal-error
    ├── Contended                503  contended
    ├── DependencyAway           503  dependency-away
    ├── Overloaded               503  overloaded
    ├── TooSlow                  503  too-slow
    └── VersionNotSupported      505  version-not-supported

They are raised where they happen and rendered once, in handlers/base.py. What each one means to a
caller, and what to do about it, is in docs/errors.md. OperatorError is apart: no client sees it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

TYPE_PREFIX = "urn:tornado-members:problem:"


class OperatorError(Exception):
    """What keeps a command from its work, for whoever called it: the text says what, and why."""


@dataclass(frozen=True, slots=True)
class Extension:
    """A further member of a problem object: its JSON schema, and whether it is always there."""

    schema: Mapping[str, Any]
    always: bool = True


class Problem(Exception):
    """An error with an HTTP status, a stable code, and a sentence for whoever made the request.

    `headers` go on the response; `extensions` are further members of the problem object
    (RFC 9457 §3.2). What callers may expect of both is said in the class, for /openapi.json.
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

    def to_dict(self, request_id: str) -> dict[str, Any]:
        """The problem object (RFC 9457 §3.1)."""
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


class Unauthorized(Problem):
    status = 401
    always_headers = ("WWW-Authenticate",)


class TokenMissing(Unauthorized):
    """No credentials at all: the challenge then carries no error code (RFC 6750 §3.1)."""

    code = "token-missing"
    title = "A token is needed"

    def __init__(self) -> None:
        super().__init__(
            "Send a bearer token: Authorization: Bearer <token>.",
            headers={"WWW-Authenticate": 'Bearer realm="members"'},
        )


class TokenInvalid(Unauthorized):
    code = "token-invalid"
    title = "The token is not valid"

    def __init__(self, reason: str, kind: str = "claims") -> None:
        """`reason` goes into a quoted-string to the caller: plain words, nothing of the token.

        `kind` is one word of a few, by which refusals are counted.
        """
        self.kind = kind
        challenge = f'Bearer realm="members", error="invalid_token", error_description="{reason}"'
        super().__init__(f"The token {reason}.", headers={"WWW-Authenticate": challenge})


class LoginFailed(Unauthorized):
    """Nobody is told whether it was the name or the password."""

    code = "login-failed"
    title = "The login failed"

    def __init__(self) -> None:
        super().__init__(
            "There is no user of this name with this password.",
            headers={"WWW-Authenticate": 'Bearer realm="members"'},
        )


class PermissionMissing(Problem):
    status = 403
    code = "permission-missing"
    title = "The token does not permit this"
    always_headers = ("WWW-Authenticate",)
    extended_by = {"permission": Extension({"type": "string"})}

    def __init__(self, permission: str, *, of_none: bool = False) -> None:
        """`of_none`: the token grants nothing at all, as that of a blocked user does."""
        challenge = f'Bearer realm="members", error="insufficient_scope", scope="{permission}"'
        super().__init__(
            f"This needs the permission {permission}, which the token does not grant"
            f"{'; it grants nothing (any more)' if of_none else ''}.",
            headers={"WWW-Authenticate": challenge},
            extensions={"permission": permission},
        )


class UserBlocked(Problem):
    status = 403
    code = "user-blocked"
    title = "The user is blocked"

    def __init__(self) -> None:
        super().__init__("The password is right, and the user is blocked.")


class NotFound(Problem):
    status = 404
    code = "not-found"
    title = "Not found"

    def __init__(self, detail: str = "There is nothing at this path.") -> None:
        super().__init__(detail)


class MemberNotFound(NotFound):
    code = "member-not-found"
    title = "No such member"
    may_have_headers = ("Cache-Status",)

    def __init__(self, which: str, *, cache_status: str | None = None) -> None:
        """`cache_status` says how it was found out, in the words of RFC 9211."""
        super().__init__(f"There is no member {which}.")
        self.cache_status = cache_status


class MethodNotAllowed(Problem):
    status = 405
    code = "method-not-allowed"
    title = "Method not allowed"
    always_headers = ("Allow",)

    def __init__(self, method: str, allow: str) -> None:
        super().__init__(
            f"{method} is not for this path; it takes {allow}.", headers={"Allow": allow}
        )


class NotAcceptable(Problem):
    status = 406
    code = "not-acceptable"
    title = "Not acceptable"

    def __init__(self, media_type: str) -> None:
        super().__init__(f"This is to be had as {media_type}, which the Accept header rules out.")


class RequestTooSlow(Problem):
    status = 408
    code = "request-too-slow"
    title = "The request took too long to come"


class NameTaken(Problem):
    """The unique index refused a write; `member_id` has the name, where that is known."""

    status = 409
    code = "name-taken"
    title = "The name is taken"
    extended_by = {"member": Extension({"type": "string", "format": "uri-reference"}, always=False)}

    def __init__(self, member_id: int | None) -> None:
        owner = f"member {member_id}" if member_id is not None else "another member"
        super().__init__(
            f"The name is taken by {owner}.",
            extensions={"member": f"/members/{member_id}"} if member_id is not None else None,
        )
        self.member_id = member_id


class PreconditionFailed(Problem):
    status = 412
    code = "precondition-failed"
    title = "Precondition failed"

    def __init__(self) -> None:
        super().__init__("The member is not as the request demands. Read it again, and decide.")


class BodyTooLarge(Problem):
    status = 413
    code = "body-too-large"
    title = "The body is too large"

    def __init__(self, limit: int) -> None:
        """`limit` in bytes."""
        super().__init__(f"A body may have at most {limit} bytes here.")


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
        """`accept_header` is the one that tells what is taken (RFC 5789 §3.1, LDP §7.1)."""
        super().__init__(
            f"The body must be {' or '.join(expected)}, in UTF-8; say so in Content-Type.",
            headers={accept_header: ", ".join(expected)} if accept_header else None,
        )


class EncodedBody(UnsupportedMediaType):
    """A Content-Encoding that is not undone here (RFC 9110 §8.4, §15.5.16)."""

    def __init__(self) -> None:
        Problem.__init__(
            self,
            "The body must be sent as it is, without a Content-Encoding.",
            headers={"Accept-Encoding": "identity"},
        )


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a body: a JSON pointer (RFC 6901) and what is wrong there."""

    pointer: str
    detail: str


class FaultyBody(Problem):
    """Well-formed JSON that is not what is wanted; lists every fault at once."""

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

    # A body can hold a hundred thousand unknown fields; the answer need not repeat them all.
    most_faults = 100

    def __init__(self, faults: Sequence[Fault], *, unlisted: int = 0) -> None:
        """`unlisted` faults are counted on top of those that are given."""
        shown = faults[: self.most_faults]
        total = len(faults) + unlisted
        count = "1 fault" if total == 1 else f"{total} faults"
        more = f", the first {len(shown)} of which are listed" if len(shown) < total else ""
        super().__init__(
            f"The body has {count}{more}.",
            extensions={"errors": [{"pointer": f.pointer, "detail": f.detail} for f in shown]},
        )
        self.faults = tuple(faults)


class NotAMember(FaultyBody):
    code = "not-a-member"
    title = "Not a member"


class NotALogin(FaultyBody):
    code = "not-a-login"
    title = "Not a login"


class FileUnusable(Problem):
    """A file of which no row can be read, such as one whose header has no column for the name."""

    status = 422
    code = "file-unusable"
    title = "No row of the file can be read"


class PreconditionRequired(Problem):
    """By settings: nobody overwrites what they have not seen (RFC 6585 §3)."""

    status = 428
    code = "precondition-required"
    title = "Precondition required"

    def __init__(self) -> None:
        super().__init__("Say which version is meant: If-Match with the ETag that you have read.")


class TooManyAttempts(Problem):
    """`retry_after` in seconds."""

    status = 429
    code = "too-many-attempts"
    title = "Too many attempts"
    always_headers = ("Retry-After",)

    def __init__(self, retry_after: int) -> None:
        super().__init__(
            f"Too many logins have failed. Try again in {retry_after} seconds.",
            headers={"Retry-After": str(retry_after)},
        )


class TooManyRequests(Problem):
    """By settings: one subject asks more often than it may. `retry_after` in seconds."""

    status = 429
    code = "too-many-requests"
    title = "Too many requests"
    always_headers = ("Retry-After",)

    def __init__(self, limit: int, retry_after: int) -> None:
        """`limit` is a number of requests in a minute."""
        super().__init__(
            f"{limit} requests a minute are allowed. Try again in {retry_after} seconds.",
            headers={"Retry-After": str(retry_after)},
        )


class HeadersTooLarge(Problem):
    status = 431
    code = "headers-too-large"
    title = "The headers are too large"


class InternalError(Problem):
    """Whatever was not foreseen. The log has it under the request id; the answer says nothing."""

    status = 500
    code = "internal-error"
    title = "Internal error"

    def __init__(self) -> None:
        super().__init__("Something went wrong here. The log has it under this request id.")


class Contended(Problem):
    """Others changed the member each time that it was to be changed."""

    status = 503
    code = "contended"
    title = "Try again later"
    always_headers = ("Retry-After",)

    def __init__(self) -> None:
        super().__init__(
            "The member is being changed by many others.", headers={"Retry-After": "1"}
        )


class DependencyAway(Problem):
    """Something this service stands on does not answer. `retry_after` in seconds."""

    status = 503
    code = "dependency-away"
    title = "Try again later"
    always_headers = ("Retry-After",)

    def __init__(self, detail: str = "The database does not answer.", retry_after: int = 1) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class Overloaded(Problem):
    """More requests are in flight than this process takes. Nothing was done for this one."""

    status = 503
    code = "overloaded"
    title = "Try again later"
    always_headers = ("Retry-After",)

    def __init__(self) -> None:
        super().__init__(
            "Too many requests are in flight here. Nothing was done for this one.",
            headers={"Retry-After": "1"},
        )


class TooSlow(Problem):
    """An answer that did not begin in time. Whether anything was done is not known."""

    status = 503
    code = "too-slow"
    title = "Try again later"
    always_headers = ("Retry-After",)

    def __init__(self) -> None:
        super().__init__("The answer took too long.", headers={"Retry-After": "1"})


class VersionNotSupported(Problem):
    status = 505
    code = "version-not-supported"
    title = "The version of HTTP is not supported"
