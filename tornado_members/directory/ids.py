"""The ids that members can have."""

from tornado_members.errors import MemberNotFound
from tornado_members.model.member import MAX_MEMBER_ID


def check_id(member_id: int) -> None:
    """Raise MemberNotFound for an id that no member can have."""
    if not 1 <= member_id <= MAX_MEMBER_ID:
        raise MemberNotFound(str(member_id))
