"""The rules of a member."""

import json
import unicodedata
from typing import Any, Literal

import pytest
from email_validator import validate_email
from hypothesis import given
from hypothesis import strategies as st

from tornado_members.errors import NotAMember
from tornado_members.member import (
    Member,
    MemberDraft,
    is_plain_email,
    normalize_name,
    parse_draft,
)


def faults(body: dict[str, Any], **stated: Any) -> dict[str, str]:
    """What is wrong with a body: pointer to detail."""
    with pytest.raises(NotAMember) as refused:
        parse_draft(body, **stated)
    return {fault.pointer: fault.detail for fault in refused.value.faults}


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("Ada", "Ada"),
        ("  Ada Lovelace\t", "Ada Lovelace"),
        ("Jose\u0301", "José"),
        ("x" * 255, "x" * 255),
        ("😀" * 255, "😀" * 255),
        (" " + "x" * 255 + " ", "x" * 255),
        ("a\u200db", "a\u200db"),
        ("$where", "$where"),
    ],
)
def test_a_name_is_normalized_and_kept(given_name: str, kept: str) -> None:
    assert parse_draft({"name": given_name}).name == kept


@pytest.mark.parametrize(
    "name", ["", " ", "\u00a0", "x" * 256, "a\0b", "a\x1bb", "a\x85b", "a\nb", "a\u2028b", "\udc00"]
)
def test_what_is_no_name(name: str) -> None:
    assert list(faults({"name": name})) == ["/name"]


@pytest.mark.parametrize(
    "email",
    [
        "ada@example.org",
        "Ada.Lovelace+news@Sub.Example.ORG",
        "o'brien@example.co.uk",
        "ada@intern.local",
        "ada@service.test",
        "用户@例子.公司",
        "a@" + "b" * 60 + ".org",
    ],
)
def test_an_email_is_kept_as_written(email: str) -> None:
    assert parse_draft({"name": "Ada", "email": email}).email == email


@pytest.mark.parametrize(
    "email",
    [
        "",
        "ada",
        "ada@",
        "@example.org",
        "ada@example",
        "a da@example.org",
        "ada@exa mple.org",
        "ada@@example.org",
        "ada@example..org",
        ".ada@example.org",
        "ada@-example.org",
        " ada@example.org",
        "ada@example.org\n",
        "Ada <ada@example.org>",
        "ada@example.org, b@example.org",
        "a@" + "b" * 250 + ".org",
        "ada@[127.0.0.1]",
        "x" * 65 + "@example.org",
    ],
)
def test_what_is_no_email(email: str) -> None:
    assert list(faults({"name": "Ada", "email": email})) == ["/email"]


@pytest.mark.parametrize(
    "phone",
    [
        "123",
        "+44 20 7946 0018",
        "(907) 465-3875 ext. 12",
        "555-1234 x7",
        "1/2/3",
        "#31#123",
        "*123",
    ],
)
def test_a_phone_is_kept_as_written(phone: str) -> None:
    assert parse_draft({"name": "Ada", "phone": phone}).phone == phone


@pytest.mark.parametrize(
    "phone",
    ["", "12", "call me", "123abc", "123\n", "123\t4", "1" * 256, "١٢٣", "n/a", "ext", "x" * 9],
)
def test_what_is_no_phone(phone: str) -> None:
    assert list(faults({"name": "Ada", "phone": phone})) == ["/phone"]


def test_no_text_is_normalized_that_is_too_long_for_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reordering combining marks takes time that grows with the square of their number."""
    lengths = []
    normalize = unicodedata.normalize

    def measuring(form: Literal["NFC"], text: str) -> str:
        lengths.append(len(text))
        return normalize(form, text)

    monkeypatch.setattr(unicodedata, "normalize", measuring)
    marks = "a" + "\u0301\u0323" * 50_000
    assert "/name" in faults({"name": marks})
    assert "/name" in faults({"name": marks}, name="Ada")
    assert "/name" in faults({}, name=marks)
    assert normalize_name("\u1fb7" * 255) == "\u1fb7" * 255
    assert parse_draft({"name": "\u03b1\u0342\u0345" * 255}).name == "\u1fb7" * 255
    assert max(lengths) <= 4 * 255


def test_what_is_optional_may_be_null_or_left_out() -> None:
    draft = MemberDraft(name="Ada")
    assert parse_draft({"name": "Ada", "email": None, "phone": None}) == draft
    assert parse_draft({"name": "Ada"}) == draft


@pytest.mark.parametrize("value", [5, 1.5, True, [], {}, ["x"], {"$gt": ""}])
def test_only_strings_are_strings(value: Any) -> None:
    found = faults({"name": value, "email": value, "phone": value})
    assert found == {
        "/name": "must be a string",
        "/email": "must be a string or null",
        "/phone": "must be a string or null",
    }


def test_pointers_are_escaped_and_short() -> None:
    found = faults({"name": "Ada", "a/b~c": 1, "k" * 9999: 1, "\ud800": 1, "": 1})
    assert found.pop("/a~1b~0c")
    assert all(len(pointer) < 300 for pointer in found)
    json.dumps(list(found)).encode("utf-8")
    assert all(pointer.encode("utf-8") for pointer in found)


def test_a_body_may_repeat_its_address_but_not_contradict_it() -> None:
    assert parse_draft({"memberId": 7, "name": "Ada"}, member_id=7).name == "Ada"
    assert parse_draft({}, name=" Ada ").name == "Ada"
    assert parse_draft({"name": "Jose\u0301"}, name="José").name == "José"
    assert "/memberId" in faults({"memberId": 8, "name": "Ada"}, member_id=7)
    assert "/memberId" in faults({"memberId": "7", "name": "Ada"}, member_id=7)
    assert "/memberId" in faults({"memberId": 7.0, "name": "Ada"}, member_id=7)
    assert "/memberId" in faults({"memberId": 7, "name": "Ada"})
    assert "/name" in faults({"name": "Grace"}, name="Ada")
    assert "/name" in faults({"name": 5}, name="Ada")


@given(st.dictionaries(st.text(max_size=20), st.none() | st.integers() | st.text()))
def test_any_object_is_a_member_or_is_told_why_not(body: dict[str, Any]) -> None:
    try:
        draft = parse_draft(body)
    except NotAMember as error:
        found = error.faults
    else:
        found = ()
        assert parse_draft(draft.model_dump()) == draft
    assert all(fault.pointer.encode("utf-8") and fault.detail for fault in found)


@given(st.text())
def test_normalizing_twice_changes_nothing_more(name: str) -> None:
    once = normalize_name(name)
    assert normalize_name(once) == once


def test_a_member_over_the_wire() -> None:
    member = Member.from_draft(42, MemberDraft(name="Zoë", phone="555-0100"))
    assert member.version == 1
    assert member.to_json().decode() == (
        '{"memberId":42,"name":"Zoë","email":null,"phone":"555-0100"}'
    )
    assert member.agrees_with(MemberDraft(name="Zoë", phone="555-0100"))
    assert not member.agrees_with(MemberDraft(name="Zoë"))


LABELS = [
    "a",
    "b-",
    "-c",
    "com",
    "org",
    "1",
    "xn--",
    "xn--bcher-kva",
    "_",
    "test",
    "",
    "ä",
    "a" * 63,
]


@given(st.text("aZ09.-_+!'=@ äN#", max_size=70), st.lists(st.sampled_from(LABELS), max_size=5))
def test_what_is_taken_for_a_plain_address_is_one(local: str, labels: list[str]) -> None:
    """The quick way admits nothing that the library would not."""
    email = f"{local}@{'.'.join(labels)}"
    if is_plain_email(email):
        validate_email(email, check_deliverability=False, strict=True)


@pytest.mark.parametrize("local", [1, 63, 64, 65])
@pytest.mark.parametrize("domain", [180, 188, 189, 190, 191, 252, 253])
def test_the_quick_way_keeps_to_the_lengths(local: int, domain: int) -> None:
    email = "x" * local + "@" + ".".join(["a" * 60] * 5)[: domain - 4] + ".com"
    assert is_plain_email(email) is (local <= 64 and len(email) <= 254)
