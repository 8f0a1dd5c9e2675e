"""Entries of a directory as LDIF (RFC 2849)."""

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from tornado_members.bulk.decoding import TextDecoder
from tornado_members.bulk.mapping import parse_values
from tornado_members.bulk.options import FileInfo, FileOptions
from tornado_members.bulk.rows import Refusal, Row
from tornado_members.bulk.text_lines import unfold
from tornado_members.model.fields import FieldTable

_NAMES: Final = ("displayname", "cn", "commonname")
_FIRST: Final = ("givenname", "gn")
_LAST: Final = ("sn", "surname")
_EMAILS: Final = ("mail", "rfc822mailbox", "email")
_PHONES: Final = ("telephonenumber", "phone", "mobile", "cellphone", "homephone")
_KNOWN: Final = frozenset(
    ("dn", "objectclass", "changetype", *_NAMES, *_FIRST, *_LAST, *_EMAILS, *_PHONES)
)
# Object classes of people; an entry that has others only is a group, a unit or a device.
_PEOPLE: Final = frozenset(
    (
        *("person", "organizationalperson", "inetorgperson", "residentialperson", "pilotperson"),
        *("newpilotperson", "mozillaabpersonalpha", "evolutionperson", "user", "contact"),
        *("posixaccount", "account"),
    )
)
_MOST_VALUES: Final = 100  # of one attribute

Entry = dict[str, list[str]]


def read_ldif(
    pieces: Iterable[bytes], options: FileOptions, info: FileInfo
) -> Iterator[Row | None]:
    """Yield a row for each entry of a person."""
    decoder = TextDecoder(options.encoding)
    entry: Entry = {}
    first_line = 0
    for found in unfold(decoder.decode(pieces)):
        if found is None:
            yield None
            continue
        line, text = found
        if text.strip():
            first_line = first_line or line
            _take(entry, text)
            continue
        if row := _finish(first_line, entry, decoder, info, options.fields):
            yield row
        entry, first_line = {}, 0
    if row := _finish(first_line, entry, decoder, info, options.fields):
        yield row


def _take(entry: Entry, text: str) -> None:
    """Add an attribute to its entry. Comments and other attributes are skipped."""
    name, colon, value = text.partition(":")
    key = name.partition(";")[0].strip().lower()  # without options such as ;lang-de
    if not colon or text.startswith("#") or key not in _KNOWN:
        return
    if value.startswith(":"):
        try:
            data = base64.b64decode(value[1:].strip(), validate=True)
        except binascii.Error:
            data = b"\xff"
        value = data.decode("utf-8", "surrogateescape")
    values = entry.setdefault(key, [])
    if len(values) < _MOST_VALUES and value.strip():
        values.append(value.strip())


def _finish(
    line: int, entry: Entry, decoder: TextDecoder, info: FileInfo, fields: FieldTable
) -> Row | None:
    """Return the row of an entry; None for one that is not a person."""
    if "dn" not in entry:  # the version, or nothing
        return None
    classes = {value.lower() for value in entry.get("objectclass", ())}
    is_change = "".join(entry.get("changetype", ("add",))).lower() != "add"
    if is_change or (classes - {"top"} and not classes - {"top"} & _PEOPLE):
        info.skipped_entries += 1
        return None
    emails, phones = _values(entry, _EMAILS), _values(entry, _PHONES)
    parts = [*_values(entry, _FIRST)[:1], *_values(entry, _LAST)[:1]]
    names = [*_values(entry, _NAMES), " ".join(parts)]
    values: Mapping[str, str | None] = {
        "name": names[0] or None,
        "email": emails[0] if emails else None,
        "phone": phones[0] if phones else None,
    }
    cells = tuple(value or "" for value in values.values())
    if bad := next((cell for cell in cells if decoder.undecoded.search(cell)), None):
        detail = decoder.describe_undecoded(bad)
        return Row(line, cells, Refusal.of_row("wrong encoding", detail))
    unused = {"email": emails[1:], "phone": phones[1:]}
    unused = {key: rest for key, rest in unused.items() if rest}
    return Row(line, cells, parse_values(values, fields), unused=unused)


def _values(entry: Entry, keys: Iterable[str]) -> list[str]:
    return [value for key in keys for value in entry.get(key, ())]
