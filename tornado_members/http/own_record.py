"""Requests that concern the caller's own member, which the permissions `...:own` allow.

An operation that such callers may use names one of these functions. Each returns True if a request
addresses the member with this id and no other. Nothing is looked up: the refusal for a member that
exists is the one for a member that does not.
"""

from urllib.parse import unquote

from tornado.httputil import HTTPServerRequest


def addresses_by_id(request: HTTPServerRequest, member_id: int) -> bool:
    """The id is the last segment of the path, decoded once, as routes decode it."""
    return unquote(request.path.rpartition("/")[2]) == str(member_id)


def addresses_itself(request: HTTPServerRequest, member_id: int) -> bool:  # noqa: ARG001
    """The path is /members/me."""
    return True


def lists_only_itself(request: HTTPServerRequest, member_id: int) -> bool:
    """The query lists no id but this one."""
    return _ids(request) == {str(member_id).encode()}


def follows_only(request: HTTPServerRequest, member_id: int) -> bool:
    """The query names no other member. Without `memberId`, the handler reports this one only."""
    return _ids(request) <= {str(member_id).encode()}


def _ids(request: HTTPServerRequest) -> set[bytes]:
    """Return the ids that the query lists, unchecked."""
    lists = request.query_arguments.get("memberId", [])
    return {text for values in lists for text in values.split(b",")}


def is_checked_by_handler(request: HTTPServerRequest, member_id: int) -> bool:  # noqa: ARG001
    """The path has a name, or the body has ids. The handler compares them."""
    return True
