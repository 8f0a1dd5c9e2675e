"""Checks that a request addresses only the caller's own member, for permissions `...:own`.

An operation that such callers may use names one of these functions. Each returns True if a request
addresses the member with this id and no other. No member is looked up, so that the refusal does not
reveal which members exist.
"""

from urllib.parse import unquote

from tornado.httputil import HTTPServerRequest


def path_has_own_id(request: HTTPServerRequest, member_id: int) -> bool:
    """True if the last segment of the path is the id; decoded once, as by routes."""
    return unquote(request.path.rpartition("/")[2]) == str(member_id)


def is_path_of_own_member(request: HTTPServerRequest, member_id: int) -> bool:  # noqa: ARG001  # as OwnRequest
    """True: the path is /members/me."""
    return True


def query_lists_own_id_only(request: HTTPServerRequest, member_id: int) -> bool:
    """True if the query lists this id and no other."""
    return _ids(request) == {str(member_id).encode()}


def query_has_own_id_only(request: HTTPServerRequest, member_id: int) -> bool:
    """True if the query lists no other id. Without `memberId`, the handler sends this one only."""
    return _ids(request) <= {str(member_id).encode()}


def _ids(request: HTTPServerRequest) -> set[bytes]:
    """Return the ids that the query lists, unchecked."""
    lists = request.query_arguments.get("memberId", [])
    return {text for values in lists for text in values.split(b",")}


def is_checked_by_handler(request: HTTPServerRequest, member_id: int) -> bool:  # noqa: ARG001  # as OwnRequest
    """True: the handler compares the name in the path, or the ids in the body, itself."""
    return True
