"""A member, and the rules of one."""

import dataclasses
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

import email_validator
from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from tornado_members.errors import Fault, InvalidMember
from tornado_members.model import characters
from tornado_members.model.strict_json import has_lone_surrogate, json_pointer

MAX_MEMBER_ID = 2**53 - 1  # the largest integer that every JSON client reads exactly (RFC 8259 §6)
MAX_CHARACTERS = 255

LONGEST_EMAIL = (
    254  # of any address: a path in SMTP has 256, with its brackets (RFC 5321 §4.5.3.1.3)
)

SortField = Literal["memberId", "name"]

_LONGEST_FORM = 4 * MAX_CHARACTERS  # NFC makes one character of four at the most (UAX #15)

# What may stand in a telephone number as people write it: digits, punctuation and an extension.
_PHONE = re.compile(r"(?:[0-9+()\-./,;#* ]|ext|x)*", re.IGNORECASE)
# A URI (RFC 3966) or a label before a number, and the ways to write an extension.
_PHONE_LABEL = re.compile(r"tel(?:\.:?|:)\s*", re.IGNORECASE)
_EXTENSION = re.compile(r"\s*;ext=\s*|\s*\bext(?:ension\b|[:=])[.:]?\s*", re.IGNORECASE)
# Spreadsheets store long numbers as floating point, and drop digits.
_SCIENTIFIC = re.compile(r"\s*[0-9]+(?:[.,][0-9]+)?E[+-]?[0-9]+\s*", re.IGNORECASE)
_DECIMAL = re.compile(r"\s*[0-9]{7,}\.0+\s*")
# A local part has at most 64 bytes (RFC 5321 §4.5.3.1.1).
_PLAIN_EMAIL = re.compile(
    r"(?=.{1,64}@)[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*@([\w.-]+)", re.ASCII
)
_LONGEST_PLAIN_EMAIL = 254  # §4.5.3.1.3, without the angle brackets
_DIGIT = re.compile(r"[0-9]")
# Control characters, line and paragraph separators: a name is one line.
_UNPRINTABLE = frozenset({"Cc", "Zl", "Zp"})


# The same rules for /openapi.json, as regular expressions of ECMA-262, for clients that validate
# before they send. Of names that begin with a shapeless letter they admit none.
_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
_EDGE = characters.SPACES + characters.FORMAT
_NOT_INSIDE = _CONTROL + characters.EMBEDDINGS + characters.OVERRIDES
_NO_DIGIT = (
    rf"(?:[-+()./,;#* {characters.TYPOGRAPHIC_HYPHENS}{characters.TYPOGRAPHIC_SPACES}xX]"
    r"|[eE][xX][tT](?:[eE][nN][sS][iI][oO][nN])?)*"
)
NAME_PATTERN = (
    rf"^[{_EDGE}]*[^{_EDGE}{_NOT_INSIDE}{characters.SHAPELESS}]"
    rf"(?:[^{_NOT_INSIDE}]{{0,{MAX_CHARACTERS - 2}}}[^{_EDGE}{_NOT_INSIDE}])?[{_EDGE}]*$"
)
PHONE_PATTERN = (
    rf"^(?=.{{3,{MAX_CHARACTERS}}}$)(?![0-9]+\.0+$)"
    rf"{_NO_DIGIT}(?:[0-9]{_NO_DIGIT}){{3,}}$"
)


# Addresses in .local or .test have the syntax of one, and are somebody's. Emptying this list is how
# the library's manual says that.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()


def normalize_name(name: str) -> str:
    """Return the form in which names are compared and stored.

    That is Unicode NFC, without white space and invisible characters at the ends. Text that is too
    long for a name in any form stays as it is: the time to normalize it grows with the square of
    the length of a run of combining marks.
    """
    name = characters.trim(name)
    if name.isascii() or len(name) > _LONGEST_FORM:
        return name
    return characters.trim(unicodedata.normalize("NFC", name))


def fold(text: str) -> str:
    """The form in which text is compared whatever its case, in NFC (after Unicode §3.13).

    Text that is too long for a name or an address is only lowered, as above.
    """
    if len(text) > _LONGEST_FORM:
        return text.casefold()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _fault(detail: str) -> PydanticCustomError:
    return PydanticCustomError("member", "{detail}", {"detail": detail})


def _check_text(text: str) -> str:
    if has_lone_surrogate(text):  # JSON can carry half a character; UTF-8 and BSON cannot
        raise _fault("contains a lone surrogate, which is no character")
    if len(text) > MAX_CHARACTERS:
        raise _fault(f"has {len(text)} characters; at most {MAX_CHARACTERS} are allowed")
    return text


def _check_name(name: str) -> str:
    name = _check_text(normalize_name(name))
    if not name:
        raise _fault("is empty")
    if name.isascii() and name.isprintable():
        return name
    if characters.is_invisible(name):
        raise _fault("has only invisible characters")
    if misleading := characters.reordering_character(name):
        raise _fault(f"contains {characters.describe(misleading)}, which changes how it is read")
    for character in name:
        if unicodedata.category(character) in _UNPRINTABLE:
            raise _fault(f"contains the control character U+{ord(character):04X}")
    return name


@lru_cache(4096)
def _is_domain(domain: str) -> bool:
    try:
        validate_email(f"x@{domain}", check_deliverability=False, strict=True)
    except EmailNotValidError:
        return False
    return True


def is_plain_email(email: str) -> bool:
    """Whether an address is an ordinary one (a dot-atom of RFC 5322 §3.2.3, at a known domain).

    Checking an address anew takes three times as long as all else that is checked of a member, and
    most of it goes into the domain, which many have in common.
    """
    plain = _PLAIN_EMAIL.fullmatch(email)
    return plain is not None and len(email) <= _LONGEST_PLAIN_EMAIL and _is_domain(plain[1])


def _check_email(email: str) -> str:
    email = characters.trim_format(_check_text(email), overrides=True)
    if is_plain_email(email):
        return email
    try:
        validate_email(email, check_deliverability=False, strict=True)
    except EmailNotValidError as error:
        raise _fault(f"is not an e-mail address: {error}") from None
    return email


def normalize_phone(phone: str) -> str:
    """Return a telephone number with plain hyphens and spaces, without a label before it."""
    phone = characters.plain_punctuation(characters.trim_format(phone, overrides=True))
    return _EXTENSION.sub(" ext ", _PHONE_LABEL.sub("", phone, count=1))


def _check_phone(phone: str) -> str:
    phone = normalize_phone(_check_text(phone))
    if _SCIENTIFIC.fullmatch(phone) or _DECIMAL.fullmatch(phone):
        raise _fault(
            "is a number as a spreadsheet stores it, which may have lost digits: "
            "format the column as text there, and enter the telephone number again"
        )
    if not _PHONE.fullmatch(phone):
        if hidden := characters.invisible_character(phone):
            raise _fault(f"contains {characters.describe(hidden)}, which is invisible")
        raise _fault(
            "is not a telephone number: only digits, + ( ) - . / , ; # * and spaces, "
            "and ext or x before an extension"
        )
    if len(_DIGIT.findall(phone)) < 3:
        raise _fault("is not a telephone number: it has fewer than three digits")
    return phone


class MemberDraft(BaseModel):
    """What a client may say of a member: everything but its id, which the service gives."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: Annotated[str, AfterValidator(_check_name)] = Field(
        description="1 to 255 characters in Unicode NFC, without white space and invisible "
        "characters at the ends, which is how the name is stored; unique in exactly that form; no "
        "control characters and no bidirectional overrides",
        examples=["Ada Lovelace"],
        json_schema_extra={"pattern": NAME_PATTERN},
    )
    email: (
        Annotated[
            str,
            AfterValidator(_check_email),
            Field(json_schema_extra={"format": "idn-email", "maxLength": LONGEST_EMAIL}),
        ]
        | None
    ) = Field(
        None,
        description="the syntax of an address (RFC 5321, 6531); nobody asks whether it exists",
        examples=["ada@example.org"],
    )
    phone: (
        Annotated[
            str,
            AfterValidator(_check_phone),
            Field(json_schema_extra={"pattern": PHONE_PATTERN}),
        ]
        | None
    ) = Field(
        None,
        description="at most 255 characters: at least three digits, else only + ( ) - . / , ; # * "
        "and spaces, and ext or x before an extension; stored as it is written, with typographic "
        "hyphens and spaces replaced by plain ones and without a leading `tel:`",
        examples=["+44 20 7946 0018"],
    )


@dataclass(frozen=True, slots=True)
class Member:
    """A member as it is stored. Every change raises `version` by one; it is the ETag."""

    member_id: int
    name: str
    email: str | None
    phone: str | None
    version: int
    # Of another program's document, nobody may have noted it.
    updated_at: datetime | None = dataclasses.field(default=None, compare=False)

    @classmethod
    def from_draft(cls, member_id: int, draft: MemberDraft) -> Self:
        """A member that is new: its version is 1."""
        # MongoDB keeps milliseconds.
        now = datetime.now(UTC)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        return cls(member_id, draft.name, draft.email, draft.phone, version=1, updated_at=now)

    def agrees_with(self, draft: MemberDraft) -> bool:
        """Whether storing `draft` would change nothing."""
        return (self.name, self.email, self.phone) == (draft.name, draft.email, draft.phone)

    def to_dict(self) -> dict[str, Any]:
        """The member as it goes over the wire."""
        return {
            "memberId": self.member_id,
            "name": self.name,
            "email": self.email,
            "phone": self.phone,
        }

    def to_json(self) -> bytes:
        """The body of a response: UTF-8, as RFC 8259 §8.1 has it."""
        return json.dumps(self.to_dict(), ensure_ascii=False, separators=(",", ":")).encode()


def parse_draft(
    body: Mapping[str, Any], *, member_id: int | None = None, name: str | None = None
) -> MemberDraft:
    """Check what a client sent; `member_id` and `name` are what the request's address already says.

    The body may repeat what the address says, so that what was read can be sent back, but not
    contradict it. Beside a name, an id in the body is left for the caller to compare.

    Raises InvalidMember with every fault of the body.
    """
    fields = dict(body)
    faults: list[Fault] = []
    if "memberId" in fields:
        given = fields.pop("memberId")
        if member_id is None and name is None:
            faults.append(Fault("/memberId", "is given by the service, not by its callers"))
        elif type(given) is not int:
            faults.append(Fault("/memberId", "must be an integer"))
        elif member_id is not None and given != member_id:
            faults.append(Fault("/memberId", f"is not {member_id}, as the address says"))
    if name is not None:
        given = fields.setdefault("name", name)
        if isinstance(given, str) and normalize_name(given) != normalize_name(name):
            faults.append(Fault("/name", "is not the name in the address"))
    unknown = [field for field in fields if field not in MemberDraft.model_fields]
    fields = {name: fields[name] for name in MemberDraft.model_fields if name in fields}
    shown = unknown[: InvalidMember.most_faults]
    faults += [Fault(json_pointer(field), "is not a field of a member") for field in shown]
    try:
        draft = MemberDraft.model_validate(fields)
    except ValidationError as error:
        faults += [_describe(e) for e in error.errors(include_url=False, include_context=False)]
    if faults:
        raise InvalidMember(faults, unlisted=len(unknown) - len(shown))
    return draft


def apply_merge_patch(member: Member, merge_patch: Mapping[str, Any]) -> MemberDraft:
    """What a member becomes by a patch (RFC 7396 §2); null takes an optional field away.

    Raises InvalidMember with every fault of the outcome.
    """
    # None of the fields holds an object, so nothing is merged at a deeper level. The id cannot be
    # taken away: its null stays, and is a fault.
    return parse_draft({**member.to_dict(), **merge_patch}, member_id=member.member_id)


def _describe(error: ErrorDetails) -> Fault:
    field = str(error["loc"][0])
    detail = error["msg"]
    if error["type"] == "missing":
        detail = "is missing"
    elif error["type"] == "string_type":
        detail = "must be a string" if field == "name" else "must be a string or null"
    return Fault(json_pointer(field), detail)
