"""The checks that a request passes before its handler runs, and before its body is read.

All of them need the head only: the method, the caller, the query and the Accept header.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tornado.httputil import HTTPHeaders, HTTPServerRequest

from tornado_members.auth.caller import Caller
from tornado_members.auth.rate_limit import RateLimit
from tornado_members.auth.tokens import TokenVerifier, VerifiedToken
from tornado_members.errors import (
    BadParameter,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    TokenMissing,
)
from tornado_members.http.negotiation import choose
from tornado_members.http1.exchange import Exchange
from tornado_members.model.fields import FieldTable
from tornado_members.model.member import MEMBER_FIELDS
from tornado_members.openapi.operation import JSON, Operation, OwnRequest
from tornado_members.settings import Permission


class Admission(NamedTuple):
    """A request that passed: its operation, its caller and the media type of its response."""

    operation: Operation | None = None  # None for OPTIONS
    caller: Caller | None = None  # None if the operation needs no token
    media_type: str = JSON
    own_member_id: int | None = None  # set if the caller may access this member only
    max_body_bytes: int = 0  # 0 if the operation takes no body


class AdmissionControl:
    """Checks requests against the operations of their path."""

    def __init__(
        self,
        tokens: TokenVerifier,
        rate_limit: RateLimit | None,
        fields: FieldTable = MEMBER_FIELDS,
    ) -> None:
        """`rate_limit` is None if callers are not limited. `fields` are those of members."""
        self._fields = fields
        self._tokens = tokens
        self._rate_limit = rate_limit

    async def admit(
        self, request: HTTPServerRequest, operations: Mapping[str, Operation]
    ) -> Admission:
        """Check a request and count it against its caller's rate limit. Raises Problem."""
        if not request.path.isascii():  # RFC 3986 §2.1; Tornado would read it as Latin-1
            raise BadRequest("The path has characters that are not percent-encoded.")
        method = request.method or ""
        if method == "OPTIONS":
            return Admission()
        operation = operations.get(method)
        if operation is None:
            raise MethodNotAllowed(method, allowed_methods(operations))
        caller, own_member_id = None, None
        if operation.permission is not None or operation.requires_token:
            caller = await self._caller(request)
            vars(request)["caller"] = caller
            if self._rate_limit:
                await self._rate_limit.check(caller)
        permission = operation.permission
        if caller and permission is not None and permission not in caller.permissions:
            own_member_id = _own_member(caller, permission, operation.is_own, request)
        if request.query:
            check_query(request.query_arguments, operation, self._fields)
        media_type: str | None = operation.media_types[0]
        if "Accept" in request.headers:
            media_type = choose(request.headers["Accept"], operation.media_types)
        if media_type is None:
            raise NotAcceptable(" or ".join(operation.media_types))
        max_bytes = operation.body.limit(self._fields) if operation.body else 0
        return Admission(operation, caller, media_type, own_member_id, max_bytes)

    async def _caller(self, request: HTTPServerRequest) -> Caller:
        """Return the caller that the token identifies. Raises Problem."""
        connection, tokens = request.connection, self._tokens
        cache = connection.head.cache if isinstance(connection, Exchange) else {}
        verified: VerifiedToken | None = cache.get(VerifiedToken)
        caller = tokens.current_caller(verified) if verified else None
        if caller is None:
            token = _token(request.headers)
            caller = await tokens.verify(token)
            cache[VerifiedToken] = tokens.get_cached(token)
        else:
            tokens.counts.remembered += 1
        return caller


def _own_member(
    caller: Caller, permission: Permission, is_own: OwnRequest | None, request: HTTPServerRequest
) -> int:
    """Return the id of the only member that the caller may access.

    Raises PermissionMissing, without looking up any member.
    """
    member_id = caller.member_id
    if member_id is None or is_own is None or not caller.has_own(permission):
        raise caller.missing(permission)
    if not is_own(request, member_id):
        raise caller.missing(permission)
    return member_id


def caller_of(request: HTTPServerRequest) -> Caller | None:
    """Return the caller of a request, even if it was refused; None without a valid token."""
    caller: Caller | None = vars(request).get("caller")
    return caller


def note_admission(request: HTTPServerRequest, outcome: Admission | Exception) -> None:
    """Record the admission of a request, or the problem for which it was refused."""
    vars(request)["admission"] = outcome


def admission_of(request: HTTPServerRequest) -> Admission | None:
    """Return the admission recorded at the head; None if the request has no body.

    Raises the Problem for which the request was refused.
    """
    outcome: Admission | Exception | None = vars(request).get("admission")
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def allowed_methods(operations: Mapping[str, Operation]) -> str:
    """Return the value of the Allow header (RFC 9110 §10.2.1)."""
    return ", ".join([*operations, "OPTIONS"])


def bearer_token(headers: HTTPHeaders) -> str | None:
    """Return the bearer token of a request (RFC 6750 §2.1); None if it has none."""
    if "Authorization" not in headers:
        return None
    scheme, _, token = headers["Authorization"].strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _token(headers: HTTPHeaders) -> str:
    token = bearer_token(headers)
    if token is None:
        raise TokenMissing
    return token


def check_query(
    arguments: Mapping[str, Sequence[bytes]], operation: Operation, fields: FieldTable
) -> None:
    """Raise BadParameter for a parameter that is unknown or given twice."""
    parameters = operation.parameters(fields)
    for name, values in arguments.items():
        if name not in parameters:
            shown = name[:50].encode("latin-1").decode("utf-8", "replace")  # as Tornado decodes it
            if operation.filters_attributes and name in fields.attributes.by_path:
                indexed = _listed(
                    [name for name in parameters if name in fields.attributes.by_path]
                )
                raise BadParameter(
                    shown, f"is not indexed, so lists have no filter by it; {indexed}"
                )
            raise BadParameter(shown, f"is not a parameter; {_listed([*parameters])}")
        if len(values) > 1 and not parameters[name].is_repeatable:
            raise BadParameter(name, "is given more than once")


def _listed(names: Sequence[str]) -> str:
    if len(names) < 2:
        return f"the only one is {names[0]}" if names else "this operation has none"
    return f"parameters are {', '.join(names[:-1])} and {names[-1]}"
