"""Contacts as vCards and LDIF."""

import pytest

from tornado_members.bulk.member_file import read_members
from tornado_members.bulk.options import FileInfo, FileOptions
from tornado_members.bulk.rows import Refusal

Member = tuple[str | None, ...]


def read(text: str, size: int = 1000, encoding: str = "utf-8") -> tuple[list[Member | str], int]:
    """Return the members or the kinds of refusals, and the number of skipped entries."""
    data, info = text.encode(encoding), FileInfo()
    pieces = (data[start : start + size] for start in range(0, len(data), size))
    found: list[Member | str] = []
    for row in read_members(pieces, FileOptions(), info):
        if row is None:
            continue
        if isinstance(row.content, Refusal):
            found.append(row.content.kind)
        else:
            found.append(tuple(row.content.values.values()))
    return found, info.skipped_entries


PHOTO = "PHOTO;ENCODING=b;TYPE=JPEG:" + "\r\n ".join(["QUJD" * 18] * 2000)


@pytest.mark.parametrize("size", [1, 50, 100_000])
@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("FN:Ada\r\nN:Example;Ada;;;", ("Ada", None, None)),
        ("N:Example;Ada;Augusta;Dr.;", ("Ada Augusta Example", None, None)),
        ("FN:Ada\\, Countess\r\nTEL;VALUE=uri:tel:+44-20", ("Ada, Countess", None, "+44-20")),
        ("fn:Ada Ex\r\n ample\r\nitem1.EMAIL;type=pref:a@b.org", ("Ada Example", "a@b.org", None)),
        (
            "FN:Ada\r\nEMAIL:second@b.org\r\nEMAIL;TYPE=INTERNET,PREF:first@b.org",
            ("Ada", "first@b.org", None),
        ),
        (
            "FN;ENCODING=QUOTED-PRINTABLE;CHARSET=UTF-8:J=C3=BCrgen=\r\n Gro=C3=9F",
            ("Jürgen Groß", None, None),
        ),
        ("FN;ENCODING=QUOTED-PRINTABLE:J=C3=BCr=\r\ngen=\r\n", ("Jürgen", None, None)),
        (f"{PHOTO}\r\nFN:Ada", ("Ada", None, None)),
        ("FN:Ada\r\nBEGIN:VCARD\r\nFN:Inner\r\nEND:VCARD", ("Ada", None, None)),
        ("EMAIL:a@b.org", "no name"),
        ("FN:Ada\r\nEMAIL:nobody", "bad email"),
    ],
)
def test_card_is_a_member_or_refused(card: str, expected: Member | str, size: int) -> None:
    text = f"BEGIN:VCARD\r\nVERSION:3.0\r\n{card}\r\nEND:VCARD\r\n"
    last = "BEGIN:VCARD\nFN:Last\nEND:VCARD\n"
    assert read(text + last, size)[0] == [expected, ("Last", None, None)]


def test_cards_that_are_not_people_are_skipped() -> None:
    text = "BEGIN:VCARD\nVERSION:4.0\nKIND:{}\nFN:Some\nEND:VCARD\n"
    assert read(text.format("group") + text.format("individual")) == ([("Some", None, None)], 1)
    apple = text.replace("KIND:{}", "X-ABShowAs:COMPANY")
    assert read(apple + text.format("")) == ([("Some", None, None)], 1)


def test_incomplete_card_is_refused() -> None:
    assert read("BEGIN:VCARD\nFN:Ada\n")[0] == ["not a vCard"]


def test_card_in_another_encoding_is_refused() -> None:
    assert read("BEGIN:VCARD\nFN:José\nEND:VCARD\n", encoding="cp1252")[0] == ["wrong encoding"]


@pytest.mark.parametrize("size", [1, 50, 100_000])
def test_ldif_entries_of_people_are_members(size: int) -> None:
    text = """version: 1

# a comment
dn: cn=Ada,dc=example
objectclass: top
objectclass: mozillaAbPersonAlpha
givenName: Ada
sn: Example
mail: ada@
 example.org
mail: second@example.org
mobile: +44 20

dn:: Y249Sm9zw6k=
cn:: Sm9zw6k=

dn: cn=Friends,dc=example
objectclass: groupOfNames
cn: Friends

dn: cn=Gone,dc=example
changetype: delete

dn: ou=People,dc=example
objectClass: organizationalUnit
ou: People
"""
    expected = [("Ada Example", "ada@example.org", "+44 20"), ("José", None, None)]
    assert read(text, size) == (expected, 3)
