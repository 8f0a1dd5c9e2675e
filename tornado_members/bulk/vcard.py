"""Contacts as vCards (RFC 6350, and the older versions 2.1 and 3.0)."""

import quopri
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from tornado_members.bulk.decoding import TextDecoder, find_encoding
from tornado_members.bulk.mapping import parse_values
from tornado_members.bulk.options import FileInfo, FileOptions
from tornado_members.bulk.rows import Refusal, Row
from tornado_members.bulk.text_lines import unfold
from tornado_members.model.fields import FieldTable

_PROPERTY: Final = re.compile(r'(?:[\w-]+\.)?([\w-]+)((?:;(?:"[^"]*"|[^":;])*)*):(.*)', re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_COMPONENTS: Final = re.compile(r"(?<!\\);")
_PREFERRED: Final = re.compile(r"\bPREF\b", re.IGNORECASE)
_QUOTED_PRINTABLE: Final = re.compile(r"QUOTED-PRINTABLE", re.IGNORECASE)
_CHARSET: Final = re.compile(r"CHARSET=([\w-]+)", re.IGNORECASE)
_KINDS: Final = frozenset({"KIND", "X-ABSHOWAS"})  # the latter is Apple's
_MOST_VALUES: Final = 100  # of one property of a card


@dataclass(slots=True)
class _Card:
    """The properties of a card that become fields of a member."""

    line: int
    name: str = ""  # FN, formatted
    structured: str = ""  # N, joined
    emails: list[str] = field(default_factory=list)  # a preferred one first
    phones: list[str] = field(default_factory=list)
    is_person: bool = True


def read_vcards(
    pieces: Iterable[bytes], options: FileOptions, info: FileInfo
) -> Iterator[Row | None]:
    """Yield a row for each card."""
    decoder = TextDecoder(options.encoding)
    card: _Card | None = None
    depth = 0
    for found in unfold(decoder.decode(pieces), _is_quoted_printable):
        if found is None:
            yield None
            continue
        line, text = found
        marker = text.strip().upper()
        if marker == "BEGIN:VCARD":
            depth += 1
            card = card or _Card(line)
        elif marker == "END:VCARD" and card:
            depth -= 1
            if not depth:
                if row := _finish(card, decoder, info, options.fields):
                    yield row
                card = None
        elif card and depth == 1:
            _take(card, text)
    if card:
        detail = "the card is not complete: END:VCARD is missing"
        yield Row(card.line, (), Refusal.of_row("not a vCard", detail))


def _is_quoted_printable(line: str) -> bool:
    return _QUOTED_PRINTABLE.search(line.partition(":")[0]) is not None


def _take(card: _Card, text: str) -> None:
    """Add the property of a line to its card."""
    found = _PROPERTY.match(text)
    if found is None:
        return
    name, parameters, value = found[1].upper(), found[2], found[3]
    if _QUOTED_PRINTABLE.search(parameters):
        value = _decode_quoted_printable(value, parameters)
    if name == "FN":
        card.name = card.name or _unescape(value)
    elif name == "N" and not card.structured:
        last, first, middle, *_ = [_unescape(v) for v in _COMPONENTS.split(value)] + ["", "", ""]
        card.structured = " ".join(filter(None, (first, middle, last)))
    elif name in ("EMAIL", "TEL"):
        values = card.emails if name == "EMAIL" else card.phones
        if len(values) < _MOST_VALUES and (plain := _unescape(value)):
            values.insert(0 if _PREFERRED.search(parameters) else len(values), plain)
    elif name in _KINDS and value.strip().lower() not in ("individual", ""):
        card.is_person = False


def _finish(card: _Card, decoder: TextDecoder, info: FileInfo, fields: FieldTable) -> Row | None:
    """Return the row of a card; None for a group, an organisation or a place."""
    if not card.is_person:
        info.skipped_entries += 1
        return None
    name = card.name or card.structured
    values = {
        "name": name or None,
        "email": card.emails[0].removeprefix("mailto:") if card.emails else None,
        "phone": card.phones[0] if card.phones else None,
    }
    cells = tuple(value or "" for value in values.values())
    if bad := next((cell for cell in cells if decoder.undecoded.search(cell)), None):
        detail = decoder.describe_undecoded(bad)
        return Row(card.line, cells, Refusal.of_row("wrong encoding", detail))
    further = {"email": card.emails[1:], "phone": card.phones[1:]}
    unused = {key: rest for key, rest in further.items() if rest}
    return Row(card.line, cells, parse_values(values, fields), unused=unused)


def _unescape(value: str) -> str:
    return _ESCAPE.sub(lambda m: "\n" if m[1] in "nN" else m[1], value).strip()


def _decode_quoted_printable(value: str, parameters: str) -> str:
    charset = _CHARSET.search(parameters)
    encoding = find_encoding(charset[1]) if charset else "utf-8"
    data = quopri.decodestring(value.encode("utf-8", "surrogateescape"))
    return data.decode(encoding or "utf-8", "surrogateescape")
