"""The rules of a member."""

import json
import re
import unicodedata
from collections.abc import Callable
from typing import Any, Literal

import pytest
from email_validator import validate_email
from hypothesis import given
from hypothesis import strategies as st

from tests.support.members import make_draft
from tests.support.processor_time import costs_at_most
from tornado_members.errors import InvalidMember
from tornado_members.model import characters
from tornado_members.model.emails import is_plain_email
from tornado_members.model.member import Member, parse_draft
from tornado_members.model.names import NAME_PATTERN, normalize_name
from tornado_members.model.phones import PHONE_PATTERN


def faults(body: dict[str, Any], **stated: Any) -> dict[str, str]:
    """Return the faults of a body, by pointer."""
    with pytest.raises(InvalidMember) as refused:
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
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),
        ("\ufeffBom \ufeffIn\ufeffside\u200b", "Bom Inside"),
        ("\u200f Zed\u200b Width\u00ad", "Zed Width"),
        ("\u202aAda Lovelace\u202c", "Ada Lovelace"),
        ("Jose\ufeff\u0301", "José"),
        ("$where", "$where"),
    ],
)
def test_name_is_normalized(given_name: str, kept: str) -> None:
    assert parse_draft({"name": given_name}).name == kept


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "\u00a0", "x" * 256, "a\0b", "a\x1bb", "a\x85b", "a\nb", "a\u2028b", "\udc00"),
        *("\u200b", "\ufeff \u2060", "\u3164", "\u2800\ufe0f"),
        *("\u202etxt.exe", "a\u2067b", "A\u202d"),
    ],
)
def test_name_is_refused(name: str) -> None:
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
def test_email_is_stored_as_written(email: str) -> None:
    assert parse_draft({"name": "Ada", "email": email}).values["email"] == email


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
        "Ada <ada@example.org>",
        "ada@example.org, b@example.org",
        "a@" + "b" * 250 + ".org",
        "ada@[127.0.0.1]",
        "x" * 65 + "@example.org",
    ],
)
def test_email_is_refused(email: str) -> None:
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
def test_phone_is_stored_as_written(phone: str) -> None:
    assert parse_draft({"name": "Ada", "phone": phone}).values["phone"] == phone


@pytest.mark.parametrize(
    ("phone", "kept"),
    [
        ("\u202d+44 20 7946 0018\u202c", "+44 20 7946 0018"),
        ("+44\u201120\u20137946\u22120018", "+44-20-7946-0018"),
        ("+44\u00a020\u20097946\u202f0018", "+44 20 7946 0018"),
        ("tel:+1-212-555-0100", "+1-212-555-0100"),
        ("Tel. 030 123456", "030 123456"),
        ("+1 (212) 555-0100;ext=4", "+1 (212) 555-0100 ext 4"),
        ("020 7946 0018 Ext: 12", "020 7946 0018 ext 12"),
        ("020 7946 0018 extension 12", "020 7946 0018 ext 12"),
    ],
)
def test_phone_is_stored_in_plain_characters(phone: str, kept: str) -> None:
    assert parse_draft({"name": "Ada", "phone": phone}).values["phone"] == kept
    assert parse_draft({"name": "Ada", "phone": kept}).values["phone"] == kept


@pytest.mark.parametrize(
    ("phone", "words"),
    [
        ("+44\u202d20 7946", "U+202D LEFT-TO-RIGHT OVERRIDE"),
        ("447912345678.0", "as a spreadsheet stores it"),
        ("4.47912E+11", "as a spreadsheet stores it"),
        ("4,47912E+11", "as a spreadsheet stores it"),
    ],
)
def test_refused_phone_has_a_reason(phone: str, words: str) -> None:
    assert words in faults({"name": "Ada", "phone": phone})["/phone"]


@pytest.mark.parametrize(
    "around", [" ", "\t", "\r\n", "\u00a0", "\u3000", " \ufeff ", "\u200b \u202a"]
)
def test_white_space_around_every_field_is_removed(around: str) -> None:
    fields = {"name": "Ada", "email": "ada@example.org", "phone": "+44 20 7946"}
    body = {name: f"{around}{value}{around}" for name, value in fields.items()}
    assert parse_draft(body).values == fields
    with pytest.raises(InvalidMember):
        parse_draft({"name": "Ada", "email": around})


def test_trim_is_linear_in_the_length_of_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """No expression is searched for in text that is too long for a field."""
    searched: list[int] = []

    class Recording:
        def sub(self, _replacement: str, text: str) -> str:
            searched.append(len(text))
            return text

    monkeypatch.setattr(characters, "_MEANINGLESS", Recording())
    inner = "\u00e9" + " " * 60_000 + "\u00e9"
    assert characters.trim(f"\ufeff {inner} \u200b") == inner
    assert characters.trim_with_overrides(f"\u202e{inner}\u200b") == inner
    assert characters.trim(f" {'x' * 100}\u00e9 ") == "x" * 100 + "\u00e9"
    assert searched == [101]


@pytest.mark.parametrize("inside", ["\u200b", "\u200b\ufeff", "\xad\u2060"])
def test_invisible_characters_cost_no_more_than_others(inside: str) -> None:
    text, control = f"A{inside * (4000 // len(inside))}x", f"A{' é' * 2000}x"

    def trim(one: str) -> Callable[[], object]:
        return lambda: characters.trim(one)

    assert costs_at_most(20, trim(text), trim(control), slack=0.005)


@given(st.text(st.sampled_from("ab \t\u3000\u200b\u2060\ufeff\xad"), max_size=12))
def test_trimming_is_idempotent(text: str) -> None:
    trimmed = characters.trim(text)
    assert characters.trim(trimmed) == trimmed


def test_email_is_stored_without_invisible_characters_at_its_ends() -> None:
    draft = parse_draft({"name": "Ada", "email": "\ufeffada@example.org\u200b"})
    assert draft.values["email"] == "ada@example.org"


@given(
    st.text(
        st.characters() | st.sampled_from("\u200b\u200d\u202e\u2066\ufeff\u3164 \xad"), max_size=8
    )
)
def test_name_pattern_admits_only_names(name: str) -> None:
    """The pattern has no flag `u` in Python: code points are characters there already."""
    if re.search(NAME_PATTERN, name) and not re.search("[\ud800-\udfff]", name):
        assert parse_draft({"name": name}).name


@given(st.text("0123456789 ext=:.;-\u2011\xa0E", max_size=14))
def test_phone_pattern_admits_only_phones(phone: str) -> None:
    if re.search(PHONE_PATTERN, phone):
        assert parse_draft({"name": "Ada", "phone": phone}).values["phone"]


@given(st.text("0123456789()+-. eExt", max_size=20), st.sampled_from(["name", "email", "phone"]))
def test_values_that_pass_the_quick_tests_are_those_that_pass_all_rules(text: str, at: str) -> None:
    """White space before a value makes it fail the quick tests."""
    text = f"{text}@example.org" if at == "email" else text
    results: list[Any] = []
    for value in (text, f"\t{text}"):
        try:
            results.append(parse_draft({"name": "Ada", at: value}))
        except InvalidMember as error:
            results.append(error.faults)
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "phone",
    ["", "12", "call me", "123abc", "1\n23", "123\t4", "1" * 256, "١٢٣", "n/a", "ext", "x" * 9],
)
def test_phone_is_refused(phone: str) -> None:
    assert list(faults({"name": "Ada", "phone": phone})) == ["/phone"]


def test_too_long_text_is_not_normalized(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_optional_fields_may_be_null_or_absent() -> None:
    draft = make_draft(name="Ada")
    assert parse_draft({"name": "Ada", "email": None, "phone": None}) == draft
    assert parse_draft({"name": "Ada"}) == draft


@pytest.mark.parametrize("value", [5, 1.5, True, [], {}, ["x"], {"$gt": ""}])
def test_fields_must_be_strings(value: Any) -> None:
    found = faults({"name": value, "email": value, "phone": value})
    assert found == {
        "/name": "must be a string",
        "/email": "must be a string or null",
        "/phone": "must be a string or null",
    }


def test_json_pointers_are_escaped_and_short() -> None:
    found = faults({"name": "Ada", "a/b~c": 1, "k" * 9999: 1, "\ud800": 1, "": 1})
    assert found.pop("/a~1b~0c")
    assert all(len(pointer) < 300 for pointer in found)
    json.dumps(list(found)).encode("utf-8")
    assert all(pointer.encode("utf-8") for pointer in found)


def test_body_may_repeat_its_address_but_not_contradict_it() -> None:
    assert parse_draft({"memberId": 7, "name": "Ada"}, member_id=7).name == "Ada"
    assert parse_draft({}, name=" Ada ").name == "Ada"
    assert parse_draft({"name": "Jose\u0301"}, name="José").name == "José"
    assert "/memberId" in faults({"memberId": 8, "name": "Ada"}, member_id=7)
    assert "/memberId" in faults({"memberId": "7", "name": "Ada"}, member_id=7)
    assert "/memberId" in faults({"memberId": 7.5, "name": "Ada"}, member_id=7)
    assert "/memberId" in faults({"memberId": 7, "name": "Ada"})
    assert "/name" in faults({"name": "Grace"}, name="Ada")
    assert "/name" in faults({"name": 5}, name="Ada")


@given(st.dictionaries(st.text(max_size=20), st.none() | st.integers() | st.text()))
def test_parse_draft_returns_a_draft_or_lists_faults(body: dict[str, Any]) -> None:
    try:
        draft = parse_draft(body)
    except InvalidMember as error:
        found = error.faults
    else:
        found = ()
        assert parse_draft(draft.values) == draft
    assert all(fault.pointer.encode("utf-8") and fault.detail for fault in found)


@given(st.text())
def test_normalize_name_is_idempotent(name: str) -> None:
    once = normalize_name(name)
    assert normalize_name(once) == once


def test_member_is_encoded_in_the_order_of_its_fields() -> None:
    member = Member.from_draft(42, make_draft(name="Zoë", phone="555-0100"))
    assert member.version == 1
    assert member.to_json().decode() == (
        '{"memberId":42,"name":"Zoë","email":null,"phone":"555-0100"}'
    )
    assert member.agrees_with(make_draft(name="Zoë", phone="555-0100"))
    assert not member.agrees_with(make_draft(name="Zoë"))


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
def test_is_plain_email_admits_only_valid_addresses(local: str, labels: list[str]) -> None:
    """The quick way admits nothing that the library would not."""
    email = f"{local}@{'.'.join(labels)}"
    if is_plain_email(email):
        validate_email(email, check_deliverability=False, strict=True)


@pytest.mark.parametrize("local", [1, 63, 64, 65])
@pytest.mark.parametrize("domain", [180, 188, 189, 190, 191, 252, 253])
def test_is_plain_email_limits_lengths(local: int, domain: int) -> None:
    email = "x" * local + "@" + ".".join(["a" * 60] * 5)[: domain - 4] + ".com"
    assert is_plain_email(email) is (local <= 64 and len(email) <= 254)
