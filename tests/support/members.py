"""Drafts and members in a short form for tests."""

from typing import Any

from tornado_members.model.member import MEMBER_FIELDS, Member, MemberDraft, parse_draft


def make_draft(**values: Any) -> MemberDraft:
    """Return a draft of these fields, which must be valid."""
    return parse_draft(values)


def make_member(member_id: int, version: int, **values: Any) -> Member:
    """Return a member whose other fields are null."""
    return Member(member_id, {**dict.fromkeys(MEMBER_FIELDS.names), **values}, version)


ADA = make_draft(name="Ada Lovelace", email="ada@example.org", phone="555-0100")
GRACE = make_draft(name="Grace Hopper")
