"""A member: the one table of its fields, drafts of members, and merge patches.

To add a field, add it to `MEMBER_FIELDS`. JSON, documents, histories, the cache, CSV, NDJSON, fake
members and /openapi.json take it from there.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, Self

import orjson

from tornado_members.errors import Fault, InvalidMember
from tornado_members.model.attribute_table import CheckedAttributes
from tornado_members.model.attributes import KEY as ATTRIBUTES
from tornado_members.model.emails import MAX_EMAIL_CHARACTERS, check_email, fold_email
from tornado_members.model.fields import Field, FieldTable
from tornado_members.model.names import NAME_PATTERN, check_name, normalize_name
from tornado_members.model.phones import PHONE_PATTERN, check_phone
from tornado_members.model.strict_json import integer_of, json_pointer
from tornado_members.model.text import MAX_CHARACTERS

MAX_MEMBER_ID = 2**53 - 1  # the largest integer that every JSON client reads exactly (RFC 8259 §6)

SortField = Literal["memberId", "name"]

MEMBER_FIELDS: Final = FieldTable(
    [
        Field(
            name="name",
            required=True,
            check=check_name,
            json_schema={"pattern": NAME_PATTERN},
            stored_schema={"minLength": 1, "maxLength": MAX_CHARACTERS},
            description="1 to 255 characters in Unicode NFC, without white space and invisible "
            "characters at the ends, which is how the name is stored; unique in exactly that form; "
            "no control characters and no bidirectional overrides",
            example="Ada Lovelace",
            csv_headings=("fullname",),
            case_folded=True,
            searched=True,
            fake=lambda person: str(person.full_name()),
        ),
        Field(
            name="email",
            check=check_email,
            json_schema={"format": "idn-email", "maxLength": MAX_EMAIL_CHARACTERS},
            description="the syntax of an address (RFC 5321, 6531); its existence is not checked",
            example="ada@example.org",
            csv_headings=("emailaddress", "mail"),
            filter="Only members with this e-mail address, in any case.",
            case_folded=True,
            searched=True,
            fold=fold_email,
            fake=lambda person: str(
                person.email(domains=["example.com", "example.net", "example.org"])
            ),
        ),
        Field(
            name="phone",
            check=check_phone,
            json_schema={"pattern": PHONE_PATTERN},
            description="at most 255 characters: at least three digits, else only "
            "+ ( ) - . / , ; # * and spaces, and ext or x before an extension; stored as it is "
            "written, with typographic hyphens and spaces replaced by plain ones and without a "
            "leading `tel:`",
            example="+44 20 7946 0018",
            csv_headings=("phonenumber", "telephone", "tel"),
            filter="Only members with this telephone number, as it is written.",
            fake=lambda person: str(person.phone_number(mask="+1-555-###-####")),
        ),
    ]
)

_encode_attributes: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(slots=True)  # not frozen: a frozen one takes twice as long to create
class MemberDraft:
    """The content of a member, as a client sets it: every field, but no id.

    `given` are the fields that the client named. The others are null. `left_out_attributes` are the
    attributes that it did not name. `kept_attributes` are those that a write leaves as MongoDB
    holds them.
    """

    values: Mapping[str, Any]  # in the order of the table
    given: frozenset[str] = dataclasses.field(default=frozenset(), compare=False)
    left_out_attributes: frozenset[str] = dataclasses.field(default=frozenset(), compare=False)
    kept_attributes: frozenset[str] = dataclasses.field(default=frozenset(), compare=False)

    @property
    def name(self) -> str:
        """The name, which every member has."""
        return str(self.values["name"])

    def completed_by(self, member: "Member") -> "MemberDraft":
        """Return a draft that keeps the values of a member that it does not name."""
        missing = self.values.keys() - self.given - {ATTRIBUTES}
        left_out = self.left_out_attributes
        if not missing and not left_out:
            return self
        values = {**self.values, **{name: member.values.get(name) for name in missing}}
        if left_out:
            theirs = member.values.get(ATTRIBUTES, {})
            kept = {name: value for name, value in theirs.items() if name in left_out}
            sent = {
                name: value for name, value in values[ATTRIBUTES].items() if name not in left_out
            }
            values[ATTRIBUTES] = {**kept, **sent}
        return dataclasses.replace(self, values=values, kept_attributes=left_out)


@dataclass(slots=True)  # not frozen: a frozen one takes twice as long to create
class Member:
    """A member as it is stored. Every change raises `version` by one; it is the ETag."""

    member_id: int
    values: Mapping[str, Any]  # of every field, in the order of the table
    version: int
    # None for documents of other programs without it.
    updated_at: datetime | None = dataclasses.field(default=None, compare=False)

    @classmethod
    def from_draft(cls, member_id: int, draft: MemberDraft, now: datetime | None = None) -> Self:
        """Return a new member, whose version is 1. `now` is current_time() by default."""
        return cls(member_id, draft.values, version=1, updated_at=now or current_time())

    @property
    def name(self) -> str:
        """The name, which every member has."""
        return str(self.values["name"])

    def agrees_with(self, draft: MemberDraft) -> bool:
        """True if storing the draft would change nothing."""
        return self.values == draft.values

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that clients receive."""
        return {"memberId": self.member_id, **self.values}

    def to_json(self) -> bytes:
        """Return the body of a response."""
        return encode_member(self.to_dict())


def encode_member(fields: dict[str, Any]) -> bytes:
    """Return the JSON of a member with these fields, for clients. Every member is encoded here.

    orjson encodes text as Python's json module does, but not numbers: it writes 1e16 instead of
    1e+16. Bodies in the cache have the form of json, so json encodes the attributes.
    """
    attributes = fields.get(ATTRIBUTES)
    if attributes is not None:
        fields = {**fields, ATTRIBUTES: orjson.Fragment(_encode_attributes(attributes))}
    return orjson.dumps(fields)


def current_time() -> datetime:
    """Return the current time as MongoDB stores it, in milliseconds."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def parse_draft(
    body: Mapping[str, Any],
    *,
    member_id: int | None = None,
    name: str | None = None,
    fields: FieldTable = MEMBER_FIELDS,
) -> MemberDraft:
    """Validate a body; `member_id` and `name` are those in the address of the request.

    The body may repeat them, so that clients can send back what they have read. It may not
    contradict the address. If the address has a name, the caller compares the id.

    Raises InvalidMember with all faults of the body.
    """
    checked = fields.attributes.validate(body.get(ATTRIBUTES, {})) if fields.attributes else None
    return _parse(body, checked, member_id=member_id, name=name, fields=fields)


def _parse(
    body: Mapping[str, Any],
    attributes: CheckedAttributes | None,
    *,
    member_id: int | None,
    name: str | None = None,
    fields: FieldTable,
) -> MemberDraft:
    """Validate a body whose attributes were checked; None if none are declared."""
    content = dict(body)
    faults: list[Fault] = []
    unknown: list[str] = []
    if "memberId" in content:
        faults += _check_id(content.pop("memberId"), member_id, by_name=name is not None)
    if name is not None:
        repeated = content.setdefault("name", name)
        if isinstance(repeated, str) and normalize_name(repeated) != normalize_name(name):
            faults.append(Fault("/name", "is not the name in the address"))
    if not fields.known_keys.issuperset(content):
        unknown = [key for key in content if key not in fields.known_keys]
        shown = unknown[: InvalidMember.most_faults]
        faults += [Fault(json_pointer(key), "is not a field of a member") for key in shown]
    values, invalid = fields.validate(content)
    invalid += attributes.faults if attributes else []
    if faults or invalid:
        unlisted = max(0, len(unknown) - InvalidMember.most_faults)
        raise InvalidMember(faults + invalid, unlisted=unlisted)
    if attributes is None:
        return MemberDraft(values, frozenset(content))
    values[ATTRIBUTES] = attributes.values
    return MemberDraft(values, frozenset(content), attributes.left_out)


def _check_id(value: object, member_id: int | None, *, by_name: bool) -> list[Fault]:
    if member_id is None and not by_name:
        return [Fault("/memberId", "is assigned by the service; omit it")]
    named = integer_of(value)
    if named is None:
        return [Fault("/memberId", "must be an integer")]
    if member_id is not None and named != member_id:
        return [Fault("/memberId", f"is not {member_id}, the id in the address")]
    return []


def apply_merge_patch(
    member: Member, merge_patch: Mapping[str, Any], *, fields: FieldTable = MEMBER_FIELDS
) -> MemberDraft:
    """Return a member with a patch applied (RFC 7396 §2); null removes an optional field.

    Raises InvalidMember with all faults of the result.
    """
    # No field but `attributes` holds an object. The id cannot be removed: its null stays in the
    # result, and is a fault.
    patched = {**member.to_dict(), **merge_patch}
    checked = None
    if fields.attributes:
        checked = fields.attributes.merge(
            member.values[ATTRIBUTES], merge_patch.get(ATTRIBUTES, {})
        )
    draft = _parse(patched, checked, member_id=member.member_id, fields=fields)
    return dataclasses.replace(draft, kept_attributes=draft.left_out_attributes)
